import dataclasses
import functools
import gc
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf

from mcattn_tf import models
from mcattn_tf.data.split import Data, Split
from mcattn_tf.export.exporting import export
from mcattn_tf.settings.config import Config, make_config

# TensorFlow's graphs are many long-lived objects. Garbage collection took a tenth of the suite.
gc.set_threshold(200_000, 50, 100)

ROOT = Path(__file__).parent.parent
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
)
# Compiling takes most of the time of JAX's small networks.
QUICK_XLA = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
NAMES = ("Smiling", "Bald", "Eyeglasses")  # K = 3
# Settings of `model` with masks of their own, and with hidden units.
FULL_MASKS = (
    {"mask_rank": None},
    {"mask_rank": None, "channel_masks": False},
    {"mask_rank": None, "pooling_sharpness": 0.0},
)
MLP = {"mask_rank": None, "pooling_sharpness": 0.0, "head": "mlp", "head_units": 6}
# Files that one worker runs: their processes are forked from the same server, or they ask the same
# export. All others are by themselves.
FORKING = ("test_distribution", "test_resume", "test_determinism", "test_cache", "test_models")
SERVING = ("test_export", "test_serving", "test_client")
GROUPS = dict.fromkeys(FORKING, "forking") | dict.fromkeys(SERVING, "serving")
# Begun first, so that no worker is left with one of them when the others have ended.
LONGEST = (
    *(*FORKING, "test_scripts", *SERVING),
    *("test_training", "test_masked_sums", "test_abn", "test_old_run"),
)
# Small networks take longer to trace into a graph than to compute, so that in most tests Keras runs
# operations one by one. These rooms and files run graphs, as users do: test_export.py serves every
# network; processes of their own and tests marked `graphs` train and explain by every method.
GRAPHS = ("export", "house", "test_old_run")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONGEST)))
    for item in items:
        group = GROUPS.get(item.path.stem, str(item.path.relative_to(ROOT)))
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported stays


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> object:
    """Begins before the fixtures of a module."""
    with pytest.MonkeyPatch.context() as patch:
        of_graphs = bool({item.path.parent.name, item.path.stem} & {*GRAPHS})
        marked = {mark.name for mark in item.iter_markers()} & {"eager", "graphs"}
        if marked == {"eager"} or not (marked or of_graphs):
            always = property(lambda model: True, lambda model, value: None)
            patch.setattr(keras.Model, "run_eagerly", always)
        return (yield)


def tiny_config(**sections: dict) -> Config:
    """H = 12, W = 8, h = 6, w = 4, C = 5, K = 3, r = 2: no two sizes alike."""
    of_masks = {"mask_rank": 2, "mask_context": 3}
    name = sections.get("model", {}).get("name", "mcattn")
    return make_config(
        {
            "data": {"image_size": (12, 8)},
            "found": {"attributes": NAMES},
            "model": {
                "stem": ((4, 3, 1), (7, 3, 2)),
                "channels": 5,
                "dilations": (1, 2),
                "pointwise_layers": 1,
                **(of_masks if name == "mcattn" else {}),
            },
            "training": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01},
        },
        sections,
    )


def tiny_config_of(name: str, image_size: tuple[int, int] = (12, 8), **model: object) -> Config:
    """Settings of a network that has no extractor to be made tiny: `gcm` or `cnn`."""
    return make_config(
        {
            "data": {"image_size": image_size},
            "found": {"attributes": NAMES},
            "model": {"name": name, **model},
            "training": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01},
        }
    )


def split_of_arrays(images: np.ndarray, labels: np.ndarray) -> Split:
    """Images in memory, (N, H, W, 3), uint8, and labels (N, K), 0 or 1."""
    indices = np.arange(len(labels))
    return Split(images.__getitem__, labels, labels.shape[1], images.shape[1:3], indices)


def random_split(count: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 12, 8, 3)).astype(np.uint8)
    return split_of_arrays(images, random.integers(0, 2, (count, len(NAMES))).astype(np.uint8))


def split_of_classes(count: int, seed: int) -> Split:
    """Images that each have one of K = 3 classes."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 12, 8, 3)).astype(np.uint8)
    return Split(images.__getitem__, np.arange(count) % 3, 3, (12, 8), np.arange(count))


@pytest.fixture(autouse=True, scope="session")
def cache_of_its_own(tmp_path_factory):
    """Prepared images go into a folder of the tests, those of scripts too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).random((6, 12, 8, 3), dtype=np.float32)


@pytest.fixture
def tiny_data() -> Data:
    return Data(random_split(10, 0), random_split(6, 1), random_split(7, 2), NAMES)


@pytest.fixture
def tiny_classes() -> Data:
    splits = (split_of_classes(9, 0), split_of_classes(6, 1), split_of_classes(7, 2))
    return Data(*splits, NAMES, exclusive=True)


def randomise_weights(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives every weight, biases and batch statistics too, a value that is not its initial one."""
    random = np.random.default_rng(seed)
    model.set_weights(
        [
            random.uniform(0.5, 1.5, weight.shape)
            if "variance" in weight.path or "gamma" in weight.path
            else random.normal(0, 0.4, weight.shape)
            for weight in model.weights
        ]
    )
    return model


def he_weights(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives every weight a value that is not its initial one and keeps deep features near 1."""
    random = np.random.default_rng(seed)
    model.set_weights(
        [
            random.uniform(0.8, 1.2, weight.shape)
            if "variance" in weight.path or "gamma" in weight.path
            else random.normal(0, 0.2, weight.shape)
            if len(weight.shape) == 1
            else random.normal(0, (2 / np.prod(weight.shape[:-1])) ** 0.5, weight.shape)
            for weight in model.weights
        ]
    )
    return model


@dataclasses.dataclass(frozen=True)
class Exported:
    """A network in float32, its settings, and the directory of its SavedModel."""

    model: keras.Model
    config: Config
    directory: Path

    @functools.cached_property
    def signatures(self):
        return tf.saved_model.load(str(self.directory)).signatures

    def ask(self, endpoint: str, **inputs: object) -> dict[str, np.ndarray]:
        outputs = self.signatures[endpoint](**{k: tf.constant(v) for k, v in inputs.items()})
        return {name: values.numpy() for name, values in outputs.items()}


def exported(config: Config, folder: Path) -> Exported:
    """Exports a network of random weights in the precision of its settings, as version 2."""
    model = he_weights(models.build(config))
    export(model, config, folder / "2")
    return Exported(models.in_float32(model, config), config, folder / "2")


@pytest.fixture(scope="session")
def exported_mcattn(tmp_path_factory) -> Exported:
    config = tiny_config(training={"precision": "mixed_bfloat16"})
    return exported(config, tmp_path_factory.mktemp("mcattn") / "export")


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> Path:
    """A run of `processes.small_config`, in a process of its own."""
    import processes

    folder = tmp_path_factory.mktemp("uninterrupted")
    processes.finish(processes.start_training(folder / "log", folder / "run"), folder / "log")
    return folder / "run"


def start_script(*arguments: object) -> subprocess.Popen:
    environment = {
        name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"
    }
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_script(*arguments: object) -> str:
    """Runs a script to its end and returns what it printed."""
    return output_of(start_script(*arguments))


def output_of(process: subprocess.Popen) -> str:
    """Waits for the end of a process, which must be a good one, and returns what it printed."""
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output
