"""`import mcattn_tf` is cheap, offers the public names, and lets Keras load saved networks."""

import ast
import json
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from conftest import ROOT, he_weights, tiny_config

import mcattn_tf
from mcattn_tf import models, registration
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.training import fit

LOADED_ELSEWHERE = """
import sys
import mcattn_tf
assert not {"keras", "tensorflow", "numpy"} & set(sys.modules), "import mcattn_tf is not cheap"
import keras
import numpy as np
assert not any(name.startswith("mcattn_tf.layers") for name in sys.modules)
model = keras.models.load_model(sys.argv[1])
outputs = model.predict(np.load(sys.argv[2]), verbose=0)
np.savez(sys.argv[3], **outputs)
print(type(model.optimizer).__name__, type(model.loss["mask_l1"]).__name__)
"""


def network() -> keras.Model:
    """The default network in small, with a schedule and an optimizer of ours too."""
    training = {"optimizer": "sgd", "schedule": "one_cycle"}
    config = tiny_config(model={"dilations": (1, 8)}, training=training)
    model = he_weights(models.build(config))
    fit.compile_model(model, config, optimizer_of(config.training, 10))
    return model


def registered_classes() -> dict[str, str]:
    """{class: module} of every class that the package's source registers with Keras."""
    classes = {}
    for path in (ROOT / "mcattn_tf").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT / "mcattn_tf").with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                "register_keras_serializable" in ast.unparse(x) for x in node.decorator_list
            ):
                classes[node.name] = module
    return classes


def test_every_registered_class_is_listed():
    classes = registered_classes()
    assert set(registration.NAMES) == set(classes)
    assert set(registration.MODULES) == set(classes.values())


@pytest.mark.parametrize("name", mcattn_tf.__all__)
def test_every_public_name_exists(name):
    assert name in dir(mcattn_tf)
    assert getattr(mcattn_tf, name) is not None


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'load_runs'"):
        mcattn_tf.load_runs  # noqa: B018 - looked up for its error


def test_keras_loads_a_network_after_import_mcattn_tf_alone(tmp_path):
    model, images = network(), np.random.default_rng(0).random((3, 12, 8, 3), "float32")
    model.save(tmp_path / "saved.keras")
    # Files of earlier versions name modules that are gone.
    with (
        zipfile.ZipFile(tmp_path / "saved.keras") as saved,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        for name in saved.namelist():
            content = saved.read(name)
            if name == "config.json":
                content, count = re.subn(rb'"mcattn_tf\.[\w.]+"', b'"mcattn_tf.gone"', content)
                assert count > 5 and json.loads(content)
            old.writestr(name, content)
    np.save(tmp_path / "images.npy", images)
    arguments = [tmp_path / name for name in ("old.keras", "images.npy", "outputs.npz")]
    process = subprocess.run(
        [sys.executable, "-c", LOADED_ELSEWHERE, *map(str, arguments)],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["MomentumSGD", "MaskSparsity"]
    expected, outputs = model.predict(images, verbose=0), np.load(tmp_path / "outputs.npz")
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values, rtol=1e-5, atol=1e-6)
