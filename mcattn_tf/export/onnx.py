"""ONNX files, written by Keras' own exporter."""

import importlib.util
from pathlib import Path

import keras
import numpy as np

from mcattn_tf.errors import UserError
from mcattn_tf.export.answers import build_answers, build_explained_answers
from mcattn_tf.export.assets import require_same, write_assets
from mcattn_tf.layers.task_folding import all_together
from mcattn_tf.settings.config import Config

NEEDED = ("onnx", "onnxruntime", "tf2onnx")


def write_onnx(model: keras.Model, config: Config, directory: Path) -> None:
    """Writes `predict.onnx` and `explain.onnx`, and compares their answers with the network's.

    They take `images`, float32 (B, H, W, 3) in [0, 1], any B. Their outputs are those of the
    SavedModel's endpoints `serving_default` and `explain`.

    Args:
        model: Network in float32.
        config: Its settings.
        directory: Empty folder.

    Raises:
        UserError: If a required package is not installed.
        RuntimeError: If a file answers differently from the network.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs {', '.join(missing)}: pip install --editable '.[onnx]'"
        )
    write_assets(config, directory / "assets")
    images = np.random.default_rng(0).random((3, *config.data.image_size, 3), np.float32)
    parts = {"predict": build_answers(model), "explain": build_explained_answers(model)}
    with all_together(model):  # onnxruntime rejects tf2onnx's translation of the loop
        for name, part in parts.items():
            path = directory / f"{name}.onnx"
            signature = [keras.InputSpec("float32", part.input.shape, name="images")]
            part.export(path, format="onnx", verbose=False, input_signature=signature)
            _check(part, images, path)


def _check(model: keras.Model, images: np.ndarray, path: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = model.predict_on_batch(images)
    names = list(expected)
    for name, values in zip(names, session.run(names, {"images": images}), strict=True):
        require_same(values, expected[name], f"{name} of {path.name}")
