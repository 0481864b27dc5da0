"""TensorFlow Lite (LiteRT): answers and maps in one file, for phones and small computers."""

import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mcattn_tf.errors import UserError
from mcattn_tf.export.answers import build_answers, build_explained_answers
from mcattn_tf.export.saved_model import endpoints_of, require_same
from mcattn_tf.layers.task_folding import all_together
from mcattn_tf.settings.config import Config

EXAMPLES = 10  # images for the comparison with the network
# Without XNNPACK, which prints a line.
RESOLVER = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def write_tflite(
    model: keras.Model, config: Config, directory: Path, thresholds: np.ndarray | None
) -> None:
    """Writes `model.tflite`, and compares its answers with the network's on ten images.

    Its signatures `serving_default` and `explain` are those of the SavedModel: `images`, float32
    (B, H, W, 3) in [0, 1], any B. They need built-in operations alone, and compute in float32.

    Raises:
        UserError: If TensorFlow's converter does not know an operation of the network.
        RuntimeError: If the file answers differently from the network.
    """
    if config.model.name == "multitask_abn" and config.model.task_units == 1:
        # Keras adds a bias (T, 1) of tasks as one of channels that come first.
        raise UserError(
            "TensorFlow Lite cannot convert multitask_abn with `task_units` 1, only with 2; export "
            "it by --format saved_model or onnx"
        )
    parts = {
        "serving_default": build_answers(model, thresholds),
        "explain": build_explained_answers(model, thresholds),
    }
    served = tf.Module()
    served.weights = [weight.value for weight in parts["explain"].weights]
    with tempfile.TemporaryDirectory(dir=directory) as folder, all_together(model):
        graphs = endpoints_of(*parts.values(), config)
        tf.saved_model.save(served, folder, signatures={name: graphs[name] for name in parts})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(parts))
        content = converter.convert()
    (directory / "model.tflite").write_bytes(content)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Interpreter is deprecated", UserWarning)
        interpreter = tf.lite.Interpreter(
            model_content=content, experimental_op_resolver_type=RESOLVER
        )
    images = np.random.default_rng(0).random((EXAMPLES, *config.data.image_size, 3), np.float32)
    for name, part in parts.items():
        expected = part.predict_on_batch(images)
        for output, values in interpreter.get_signature_runner(name)(images=images).items():
            require_same(values, expected[output], f"{output} of model.tflite by {name}")
