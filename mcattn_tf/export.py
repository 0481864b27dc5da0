"""SavedModel for TensorFlow Serving."""

import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mcattn_tf import models
from mcattn_tf.config import Config
from mcattn_tf.errors import UserError

NAMES_ASSET = "attributes.txt"
TOLERANCE = 1e-4


class _Served(tf.Module):
    """The part of a network that is served, with the names of its outputs' columns."""

    def __init__(self, model: keras.Model, names_file: Path) -> None:
        super().__init__()
        outputs = {
            name: model.output[name]
            for name in (*models.LABEL_OUTPUTS, "scores", "attention_map")
            if name in model.output
        }
        self._model = keras.Model(model.input, outputs)
        # tf.Module saves the variables that it sees here.
        self._weights = [weight.value for weight in self._model.weights]
        self._names = tf.saved_model.Asset(str(names_file))
        height, width = model.input_shape[1:3]
        self.serve = tf.function(
            lambda images: self._model(images, training=False),
            input_signature=[tf.TensorSpec((None, height, width, 3), tf.float32, name="images")],
        )


def export(model: keras.Model, config: Config, directory: Path) -> None:
    """Writes a SavedModel as TensorFlow Serving reads it, whole or not at all.

    Its signature `serving_default` takes `images`, float32 (B, H, W, 3) in [0, 1], any B, and
    returns the probabilities `attributes` and `multilabel`, `probabilities` and the `scores` that
    they are made of, or `perception` and `attention`, float32 (B, K), whichever the network has;
    with the last two `attention_map` (B, h, w, 1). The text asset
    `attributes.txt` names the K columns in order. The network is exported in float32 whatever it
    was trained in, and its answers are compared with the Keras model's before it is put in place.

    Args:
        model: a trained network.
        config: its settings.
        directory: of this version, such as `export/1`; must not exist.

    Raises:
        UserError: if the directory exists or cannot be written.
        RuntimeError: if the SavedModel answers differently from the Keras model.
    """
    if directory.exists():
        raise UserError(f"export directory {directory} exists and is not overwritten")
    model = models.in_float32(model, config)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".partial-", dir=directory.parent))
    except OSError as error:
        raise UserError(f"cannot export to {directory}: {error.strerror}") from None
    try:
        names_file = work / NAMES_ASSET
        names_file.write_text("\n".join(config.model.attributes) + "\n")
        served = _Served(model, names_file)
        tf.saved_model.save(
            served, str(work / "model"), signatures={"serving_default": served.serve}
        )
        _check(model, work / "model")
        (work / "model").rename(directory)
    finally:
        shutil.rmtree(work)


def _check(model: keras.Model, directory: Path) -> None:
    images = np.random.default_rng(0).random((3, *model.input_shape[1:]), dtype=np.float32)
    expected = model.predict_on_batch(images)
    loaded = tf.saved_model.load(str(directory))
    for name, values in loaded.signatures["serving_default"](tf.constant(images)).items():
        difference = float(np.max(np.abs(values.numpy() - expected[name])))
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"the SavedModel's {name} differs from the Keras model's by {difference:.2g}"
            )
