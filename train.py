"""Trains a network, evaluates it on the test images and exports it.

python train.py --dataset celeba --data_dir DIR --out runs/celeba
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mcattn_tf.commands import command_line
from mcattn_tf.errors import UserError, choose
from mcattn_tf.settings.backbones import BACKBONES
from mcattn_tf.settings.config import PRECISIONS, Config, make_config, tuples
from mcattn_tf.settings.data import DATASETS, PLACES
from mcattn_tf.settings.presets import BEGUN_WITH, PRESETS, preset_for
from mcattn_tf.settings.systems import MODELS

if TYPE_CHECKING:
    from mcattn_tf.data import Data, Split
    from mcattn_tf.settings.data import DataConfig
    from mcattn_tf.training.distribution import Strategy

DATASET = flags.DEFINE_string("dataset", None, f"one of {', '.join(DATASETS)}")
DATA_DIR = flags.DEFINE_string("data_dir", None, "folder or zip with the data set's files")
MODEL = flags.DEFINE_string("model", None, f"one of {', '.join(MODELS)}")
SHARED_DECODER = flags.DEFINE_bool(
    "shared_decoder", None, "whether the classes of gcm share all of its decoder but the last layer"
)
NONNEGATIVE = flags.DEFINE_bool("nonnegative", None, "clip the contributions of gcm at zero")
BACKBONE = flags.DEFINE_string("backbone", None, f"of abn, one of {', '.join(BACKBONES)}")
STAGE = flags.DEFINE_string("stage", None, "of the backbone, the last before the branches of abn")
ATTENTION_MECHANISM = flags.DEFINE_string(
    "attention_mechanism", None, "of abn: residual, product, or none for the backbone alone"
)
MAP_KERNEL = flags.DEFINE_integer(
    "map_kernel", None, "size of the convolution that makes the attention map of abn, 3 or 1"
)
WEIGHTS = flags.DEFINE_string("weights", None, "imagenet: begin with those of keras.applications")
MAP_ACTIVATION = flags.DEFINE_string(
    "map_activation", None, "of the maps of multitask_abn: sigmoid or linear"
)
TASK_UNITS = flags.DEFINE_integer("task_units", None, "of each attribute of multitask_abn, 1 or 2")
TASK_SLICE = flags.DEFINE_integer(
    "task_slice", None, "attributes that multitask_abn computes together"
)
PRESET = flags.DEFINE_string("preset", "default", f"one of {', '.join(PRESETS)}")
OUT = flags.DEFINE_string("out", None, "run directory; runs/DATASET-MODEL-PRESET if left out")
EPOCHS = flags.DEFINE_integer("epochs", None, "passes over the training images")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "images per step")
IMAGE_SIZE = flags.DEFINE_list("image_size", None, "height,width in pixels")
LEARNING_RATE = flags.DEFINE_float("learning_rate", None, "peak of the schedule")
LABEL_SMOOTHING = flags.DEFINE_float(
    "label_smoothing", None, "share by which targets are moved towards an even guess"
)
EMA = flags.DEFINE_float(
    "ema", None, "evaluate moving averages of the weights: their momentum, such as 0.999"
)
PRECISION = flags.DEFINE_string("precision", None, f"one of {', '.join(PRECISIONS)}")
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", None, "the same seed gives the same weights to the last bit; slower"
)
SEED = flags.DEFINE_integer("seed", None, "of initial weights, data order and augmentation")
TRAIN_EXAMPLES = flags.DEFINE_integer("train_examples", None, "how many images to train on")
TRAIN_ON_VALIDATION = flags.DEFINE_bool(
    "train_on_validation",
    None,
    "train on the validation images too, as Kimura & Tanaka 2019 did on CelebA",
)
FLIP = flags.DEFINE_bool("flip", None, "mirror half of the training images")
PAD_AND_CROP = flags.DEFINE_integer("pad_and_crop", None, "pixels that training images shift by")
COLOR_JITTER = flags.DEFINE_float(
    "color_jitter", None, "by how much brightness, contrast and saturation change, below 1"
)
HOLD_OUT = flags.DEFINE_float(
    "hold_out",
    None,
    "share of the images for validation, and for the test, where data have no part for it",
)
HOLD_OUT_SEED = flags.DEFINE_integer("hold_out_seed", None, "of which images these are")
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "folder for decoded images")
NO_CACHE = flags.DEFINE_bool("no_cache", None, "decode images each time they are read")
SKIP_BAD_IMAGES = flags.DEFINE_bool("skip_bad_images", None, "leave out up to 1 % of bad images")
SET = flags.DEFINE_multi_string(
    "set", [], "SECTION.FIELD=VALUE, any setting of config.json, such as model.dilations=[1,2]"
)
STATISTICS = flags.DEFINE_bool("statistics", False, "prepare and count the data, and end")
RESUME = flags.DEFINE_bool("resume", False, "go on with the run in --out")
CHECKPOINT_MINUTES = flags.DEFINE_float(
    "checkpoint_minutes", None, "save within an epoch too, after so many minutes"
)
STRATEGY = flags.DEFINE_string(
    "strategy", "auto", "which devices compute: auto, none (one), mirrored (all) or multiworker"
)
PICTURES_EVERY = flags.DEFINE_integer(
    "pictures_every", 5, "epochs between pictures and curves in TensorBoard; 0 for none", 0
)
EXPORT = flags.DEFINE_bool("export", True, "write a SavedModel for TensorFlow Serving")

FIELDS = {
    ("data", "dataset"): DATASET,
    ("data", "data_dir"): DATA_DIR,
    ("data", "image_size"): IMAGE_SIZE,
    ("data", "train_examples"): TRAIN_EXAMPLES,
    ("data", "train_on_validation"): TRAIN_ON_VALIDATION,
    ("data", "cache_dir"): CACHE_DIR,
    ("data", "no_cache"): NO_CACHE,
    ("data", "skip_bad_images"): SKIP_BAD_IMAGES,
    ("data", "hold_out"): HOLD_OUT,
    ("data", "hold_out_seed"): HOLD_OUT_SEED,
    ("data", "flip"): FLIP,
    ("data", "pad_and_crop"): PAD_AND_CROP,
    ("data", "color_jitter"): COLOR_JITTER,
    ("model", "name"): MODEL,
    ("model", "shared_decoder"): SHARED_DECODER,
    ("model", "nonnegative"): NONNEGATIVE,
    ("model", "backbone"): BACKBONE,
    ("model", "stage"): STAGE,
    ("model", "attention_mechanism"): ATTENTION_MECHANISM,
    ("model", "map_kernel"): MAP_KERNEL,
    ("model", "weights"): WEIGHTS,
    ("model", "map_activation"): MAP_ACTIVATION,
    ("model", "task_units"): TASK_UNITS,
    ("model", "task_slice"): TASK_SLICE,
    ("training", "epochs"): EPOCHS,
    ("training", "batch_size"): BATCH_SIZE,
    ("training", "learning_rate"): LEARNING_RATE,
    ("training", "label_smoothing"): LABEL_SMOOTHING,
    ("training", "ema"): EMA,
    ("training", "precision"): PRECISION,
    ("training", "seed"): SEED,
    ("training", "deterministic"): DETERMINISTIC,
}


def flags_given() -> dict[str, dict]:
    """Returns the settings that flags name, {section: {field: value}}."""
    given: dict[str, dict] = {}
    for (section, field), flag in FIELDS.items():
        if flag.value is not None:
            given.setdefault(section, {})[field] = flag.value
    if IMAGE_SIZE.value is not None:
        try:
            given["data"]["image_size"] = tuple(int(side) for side in IMAGE_SIZE.value)
        except ValueError:
            raise UserError(
                f"--image_size must be height,width. Received: {','.join(IMAGE_SIZE.value)}"
            ) from None
    for setting in SET.value:
        section, dot, field = setting.partition("=")[0].partition(".")
        if not dot or "=" not in setting:
            raise UserError(f"--set must be SECTION.FIELD=VALUE. Received: {setting}")
        given.setdefault(section, {})[field] = _value_of(setting.partition("=")[2])
    for field in ("data_dir", "cache_dir"):
        place = given.get("data", {}).get(field)
        if place is not None and not isinstance(place, str):
            raise UserError(f"--set data.{field} must be a path. Received: {place}")
        if place is not None:
            given["data"][field] = str(Path(place).absolute())
    return given


def _value_of(text: str) -> object:
    """Returns what a setting is set to: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _flag_name(section: str, field: str) -> str:
    flag = FIELDS.get((section, field))
    return flag.name if flag is not None and flag.value is not None else f"set {section}.{field}"


def check_unchanged(
    config: Config, preset: dict[str, dict], given: dict[str, dict], directory: Path
) -> None:
    """Raises a UserError if a flag contradicts the settings of the run that is resumed."""
    for section in preset | given:
        fields = given.get(section, {})
        for field, value in (preset.get(section, {}) | fields).items():
            choose("section of config", section, [x.name for x in dataclasses.fields(config)])
            settings = getattr(config, section)
            known = [x.name for x in dataclasses.fields(settings)]
            stored = getattr(settings, choose(f"field of config.{section}", field, known))
            if tuples(value) != stored and field not in PLACES:
                flag = _flag_name(section, field) if field in fields else "preset"
                raise UserError(
                    f"--{flag} contradicts {directory}: its {field} is {stored}, not {value}; "
                    "leave the flag out, or start anew with another --out"
                )


def pictures(loaded: "Data", directory: Path, epochs: int, strategy: "Strategy") -> list:
    """Returns the callback that shows maps in TensorBoard, if it is wanted."""
    from mcattn_tf import runs
    from mcattn_tf.training import distribution
    from mcattn_tf.training import pictures as summaries

    # One of several workers cannot ask the network by itself.
    if not PICTURES_EVERY.value or distribution.of_several_workers(strategy):
        return []
    place, shown = directory / runs.TENSORBOARD, PICTURES_EVERY.value
    return [summaries.LogPictures(place, loaded.validation, loaded.attributes, shown, epochs)]


def main(arguments: list[str]) -> None:
    """Chains the stages: train, evaluate, export."""
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}; train.py takes flags only")
    if CHECKPOINT_MINUTES.value is not None and CHECKPOINT_MINUTES.value <= 0:
        raise UserError(
            f"--checkpoint_minutes must be positive. Received: {CHECKPOINT_MINUTES.value}"
        )
    given = flags_given()
    preset = preset_for(PRESET.value, given.get("model", {}).get("name"))
    if RESUME.value and OUT.value:
        directory = Path(OUT.value)  # its own settings hold
    else:
        begun_with = BEGUN_WITH.get(given.get("model", {}).get("name"), {})
        config = make_config({"model": begun_with}, preset, given)
        name = f"{config.data.dataset}-{config.model.name}-{PRESET.value}"
        directory = Path(OUT.value or f"runs/{name}")

    command_line.import_tensorflow_quietly()
    from mcattn_tf import data, runs
    from mcattn_tf.training import distribution, fit

    strategy = distribution.choose_strategy(STRATEGY.value)  # before anything is computed
    chief = distribution.is_chief(strategy)
    if RESUME.value:
        config = runs.read_config(directory)
        check_unchanged(config, preset, given, directory)
        config = config.located(**{key: given.get("data", {}).get(key) for key in PLACES})
    elif chief and not STATISTICS.value:
        runs.require_new(directory)
    loaded = data.load(config.data, config.found)
    if STATISTICS.value:
        print(data.format_statistics(loaded))
        return
    print(
        f"{config.model.name} on {config.data.dataset}: {loaded.train.count} training, "
        f"{loaded.validation.count} validation, {loaded.test.count} test images of "
        f"{config.data.image_size[0]}x{config.data.image_size[1]}; run directory {directory}"
    )
    among = distribution.describe(strategy)
    print(f"computing on {fit.device()}" + (f"; {among}" if among else ""))
    with data.naming_bad_images(loaded.train, loaded.validation, loaded.test):
        metrics = fit.train(
            config,
            loaded,
            directory,
            RESUME.value,
            checkpoint_minutes=CHECKPOINT_MINUTES.value,
            strategy=strategy,
            callbacks=pictures(loaded, directory, config.training.epochs, strategy),
        )
        if chief:
            finish(directory, metrics, loaded.test, config.data)
    distribution.wait_for_all(strategy)


def finish(directory: Path, metrics: dict, test: "Split", places: "DataConfig") -> None:
    """Evaluates the best network of a training on the test images and exports it.

    Args:
        directory: of the run.
        metrics: as `training.train` returns them.
        test: the images.
        places: where the data are.
    """
    from mcattn_tf import data, runs
    from mcattn_tf.evaluation import answers
    from mcattn_tf.explain.truth import measurement
    from mcattn_tf.export.exporting import export

    config, model = runs.read_config(directory), runs.load_model(directory)
    attributes = config.attributes
    print(f"best epoch {metrics['best_epoch']} of {metrics['epochs']}; on the test images:")
    result = answers.evaluate(model, test, attributes, config.training.batch_size)
    regions = data.load_regions(places, "test", split=test)
    result |= measurement.where_it_looks(model, attributes, regions)
    print(answers.format_table(result))
    runs.write_json(directory / runs.EVALUATION, result)
    metrics["test"] = {output: values["mean"] for output, values in result.items()}
    runs.write_json(directory / runs.METRICS, metrics)
    version = directory / runs.EXPORT / "1"
    if EXPORT.value and version.exists():
        print(
            f"{version} was there before and stays; python -m mcattn_tf.commands.export "
            f"--run {directory} --version 2 exports this network"
        )
    elif EXPORT.value:
        export(model, config, version)
        print(f"exported to {version}")


if __name__ == "__main__":
    command_line.run(main)
