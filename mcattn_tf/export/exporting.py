"""A version of an export, written whole or not at all in any format."""

import importlib.util
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mcattn_tf import models, runs
from mcattn_tf.errors import UserError, choose, reason_of
from mcattn_tf.evaluation.thresholds import Chosen
from mcattn_tf.export.answers import build_answers, build_explained_answers
from mcattn_tf.export.saved_model import require_same, write_saved_model
from mcattn_tf.export.tflite import write_tflite
from mcattn_tf.files import directory_written_whole
from mcattn_tf.layers.task_folding import all_together
from mcattn_tf.settings.config import Config

NEEDED = ("onnx", "onnxruntime", "tf2onnx")


def write_onnx(
    model: keras.Model, config: Config, directory: Path, thresholds: np.ndarray | None
) -> None:
    """Writes `predict.onnx` and `explain.onnx`, and compares their answers with the network's.

    They take `images`, float32 (B, H, W, 3) in [0, 1], any B. Their outputs are those of the
    SavedModel's endpoints `serving_default` and `explain`. The network computes in float32. The
    axis of B is named `batch`, and the metadata's `attributes` is the names of the K attributes as
    JSON.

    Raises:
        UserError: If a required package is not installed.
        RuntimeError: If a file answers differently from the network.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs {', '.join(missing)}: pip install --editable '.[onnx]'"
        )
    import onnxruntime

    images = np.random.default_rng(0).random((3, *config.data.image_size, 3), np.float32)
    parts = {
        "predict": build_answers(model, thresholds),
        "explain": build_explained_answers(model, thresholds),
    }
    with all_together(model):  # onnxruntime rejects tf2onnx's translation of the loop
        for file, part in parts.items():
            path = directory / f"{file}.onnx"
            signature = [keras.InputSpec("float32", part.input.shape, name="images")]
            part.export(path, format="onnx", verbose=False, input_signature=signature)
            _describe(path, config)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            expected = part.predict_on_batch(images)
            answers = session.run(list(expected), {"images": images})
            for name, values in zip(expected, answers, strict=True):
                require_same(values, expected[name], f"{name} of {path.name}")


def _describe(path: Path, config: Config) -> None:
    """Names the axis of the images, and the attributes, in an ONNX file."""
    import onnx

    file = onnx.load(path)
    for tensor in (*file.graph.input, *file.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"  # tf2onnx: unk__ and a number
    onnx.helper.set_model_props(file, {"attributes": json.dumps(config.attributes)})
    onnx.save(file, path)


FORMATS = {"saved_model": write_saved_model, "onnx": write_onnx, "tflite": write_tflite}


def export(
    model: keras.Model,
    config: Config,
    directory: Path,
    file_format: str = "saved_model",
    thresholds: Chosen | None = None,
) -> None:
    """Writes a network in float32, whatever it was trained in, whole or not at all.

    The SavedModel is in TensorFlow Serving's format. Its endpoints take any number B of images:

    - `serving_default`: `images`, float32 (B, H, W, 3) in [0, 1]. Returns the outputs among
      `models.LABEL_OUTPUTS` and `scores`, float32 (B, K).
    - `predict_bytes`: `image_bytes`, strings (B,), each a JPEG or PNG file of any size, decoded
      and resized as in training. Returns the same and `names`, strings (B, K).
    - `explain`: `images`. Returns the outputs of `serving_default`, and the maps of
      `build_explained_answers`, as large as the images.
    - `explain_bytes`: `image_bytes`, and `attribute`, int32 (B, k), indices of the attributes
      wanted for each image. Returns their answers, names and maps in this order.

    With `thresholds` all of them return `present` too, bool (B, K): where the first output is above
    the attribute's threshold.

    Its assets are `attributes.txt`, the names of the K attributes in order, `config.json`, and with
    `thresholds` `thresholds.json`: how they were chosen, and {attribute: threshold}.
    Warm-up requests for every endpoint are added if tensorflow-serving-api is installed. Files of
    other formats are those of `write_onnx` and `write_tflite`.

    Args:
        model: Trained network.
        config: Its settings.
        directory: New folder of this version, such as `export/1`.
        file_format: Key of `FORMATS`.
        thresholds: Thresholds of its first output.

    Raises:
        UserError: If the directory exists or cannot be written, or a package is missing.
        RuntimeError: If the written file answers differently from the Keras model.
    """
    write = FORMATS[choose("format", file_format, FORMATS)]
    if directory.exists():
        raise UserError(f"export directory {directory} exists and is not overwritten")
    try:
        with directory_written_whole(directory) as partial:
            assets = partial / "assets"
            assets.mkdir()
            names = "".join(f"{name}\n" for name in config.attributes)
            (assets / "attributes.txt").write_text(names, encoding="utf-8")
            placeless = config.replace("data", data_dir=None, cache_dir=None, no_cache=False)
            (assets / "config.json").write_text(placeless.to_json(), encoding="utf-8")
            above = None
            if thresholds:
                output = models.label_outputs(model)[0]
                above = thresholds.of(output, config.attributes)
                content = thresholds.described(output)
                runs.write_json(assets / runs.THRESHOLDS, content)
            write(models.in_float32(model, config), config, partial, above)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"cannot export to {directory}: {reason_of(error)}") from None
