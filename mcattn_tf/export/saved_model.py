"""SavedModel for TensorFlow Serving, with endpoints that answer and explain."""

from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mcattn_tf.data.images import decode
from mcattn_tf.export.answers import build_answers, build_explained_answers
from mcattn_tf.progress import progress
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.data import DataConfig

# Endpoints, TensorFlow's signatures, and their inputs.
ENDPOINTS = {
    "serving_default": ("images",),
    "predict_bytes": ("image_bytes",),
    "explain": ("images",),
    "explain_bytes": ("image_bytes", "attribute"),
}
WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"
EXAMPLES = 3  # images for the comparison of the SavedModel with the network
TOLERANCE = 1e-4  # of the largest value, or of 1 if that is larger


def require_same(values: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Raises a RuntimeError if an exported output differs from the Keras model's."""
    if expected.dtype == bool:
        return  # follows from answers that are compared themselves
    difference = float(np.max(np.abs(values - expected)))
    if not difference <= TOLERANCE * max(1.0, float(np.max(np.abs(expected)))):
        raise RuntimeError(f"{name} differs from the Keras model's by {difference:.2g}")


def _files_reader(config: DataConfig) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a graph from files (B,) to images (B, H, W, 3) in [0, 1], decoded as in training."""
    how = config.image_size, config.resize
    pixel_spec = tf.TensorSpec((*config.image_size, 3), tf.uint8)

    def read(image_bytes: tf.Tensor) -> tf.Tensor:
        with tf.device("cpu:0"):  # as `tf.data` does
            pixels = tf.map_fn(
                lambda file: decode(file, *how), image_bytes, fn_output_signature=pixel_spec
            )
        return tf.cast(pixels, tf.float32) / 255.0

    return tf.function(read, autograph=False)


def _of_any_batch(network: keras.Model, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the outputs of a network for (B, H, W, 3), B zero or more."""
    # For no images oneDNN's convolution (TensorFlow 2.21) returns the wrong number of channels.
    images = tf.ensure_shape(images, network.input.shape)  # servers do not check it
    count = tf.shape(images)[0]
    # An image more where there is none. `tf.cond` would hide the images' rank from TFLite.
    blank = tf.zeros((1 - tf.minimum(count, 1), *images.shape[1:]))
    outputs = network(tf.concat([images, blank], axis=0), training=False)
    return {name: values[:count] for name, values in outputs.items()}


def endpoints_of(
    answers: keras.Model, explained: keras.Model, config: Config
) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Returns the graphs of `ENDPOINTS`; those for files call those for images."""
    image_size, attributes = config.data.image_size, config.attributes
    read = _files_reader(config.data)

    def names(image_bytes: tf.Tensor) -> tf.Tensor:
        # For each image (B, K), because the clients of a server cannot read assets.
        return tf.tile(tf.constant([attributes]), [tf.shape(image_bytes)[0], 1])

    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return _of_any_batch(answers, images)

    def explain(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return _of_any_batch(explained, images)

    def predict_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**graphs["serving_default"](read(image_bytes)), "names": names(image_bytes)}

    def explain_bytes(image_bytes: tf.Tensor, attribute: tf.Tensor) -> dict[str, tf.Tensor]:
        # Without this check a GPU returns zeros for an attribute that does not exist.
        inside = tf.reduce_all((attribute >= 0) & (attribute < len(attributes)))
        message = f"`attribute` must be from 0 to {len(attributes) - 1}"
        with tf.control_dependencies([tf.debugging.Assert(inside, [message])]):
            attribute = tf.identity(attribute)
        outputs = {**graphs["explain"](read(image_bytes)), "names": names(image_bytes)}
        return {
            name: tf.gather(values, attribute, axis=-1, batch_dims=1)
            if values.shape[-1] == len(attributes)
            else values  # a map shared by all attributes
            for name, values in outputs.items()
        }

    inputs = {
        "images": tf.TensorSpec((None, *image_size, 3), tf.float32, name="images"),
        "image_bytes": tf.TensorSpec((None,), tf.string, name="image_bytes"),
        "attribute": tf.TensorSpec((None, None), tf.int32, name="attribute"),
    }
    graphs = {
        graph.__name__: tf.function(
            graph, [inputs[name] for name in ENDPOINTS[graph.__name__]], autograph=False
        )
        for graph in (serving_default, predict_bytes, explain, explain_bytes)
    }
    return graphs


def write_saved_model(
    model: keras.Model, config: Config, directory: Path, thresholds: np.ndarray | None
) -> None:
    """Writes a SavedModel of a float32 network beside its assets, and compares their answers.

    Raises:
        RuntimeError: If the SavedModel answers differently from the network.
    """
    answers, explained = (
        build(model, thresholds) for build in (build_answers, build_explained_answers)
    )
    served = tf.Module()
    served.weights = [weight.value for weight in explained.weights]
    assets = sorted((directory / "assets").iterdir())
    served.assets = [tf.saved_model.Asset(str(path)) for path in assets]
    inputs = _examples(config)
    with progress(1 + len(ENDPOINTS), "export", "part") as bar:
        endpoints = endpoints_of(answers, explained, config)
        tf.saved_model.save(served, str(directory), signatures=endpoints)
        bar.update()
        _check(answers, explained, inputs, directory, bar.update)
    requests = {end: {name: inputs[name][:1] for name in names} for end, names in ENDPOINTS.items()}
    if not write_warm_up(directory, requests):
        print(
            "warm-up requests were left out: they need tensorflow-serving-api "
            "(pip install --editable '.[serving]')"
        )


def _examples(config: Config) -> dict[str, np.ndarray]:
    """Returns random images, as arrays and as JPEG files of twice their size, and attributes."""
    how = config.data.image_size, config.data.resize
    random = np.random.default_rng(0)
    height, width = config.data.image_size
    pixels = random.integers(0, 256, (EXAMPLES, 2 * height, 2 * width, 3)).astype(np.uint8)
    files = [tf.io.encode_jpeg(picture).numpy() for picture in pixels]
    images = np.stack([decode(file, *how) for file in files])
    attributes = np.arange(len(config.attributes), dtype=np.int32)
    return {
        "images": images.astype(np.float32) / 255.0,
        "image_bytes": np.array(files, object),
        "attribute": np.tile(attributes[::-1], (EXAMPLES, 1)),
    }


def _check(
    answers: keras.Model,
    explained: keras.Model,
    inputs: dict[str, np.ndarray],
    directory: Path,
    report: Callable[[], object],
) -> None:
    loaded = tf.saved_model.load(str(directory))
    models = {False: answers, True: explained}
    outputs_of = {k: model.predict_on_batch(inputs["images"]) for k, model in models.items()}
    for endpoint, names in ENDPOINTS.items():
        expected = outputs_of[endpoint.startswith("explain")]
        outputs = loaded.signatures[endpoint](**{name: tf.constant(inputs[name]) for name in names})
        for name, values in expected.items():
            if "attribute" in names:
                values = values[..., ::-1]  # the order of `_examples`
            require_same(outputs[name].numpy(), values, f"the SavedModel's {name} by {endpoint}")
        report()


def write_warm_up(directory: Path, requests: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
    """Writes {endpoint: {input: value}}, the requests that TensorFlow Serving sends at its start.

    Returns False if tensorflow-serving-api, which has their format, is not installed.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        return False
    (directory / WARM_UP).parent.mkdir()
    with tf.io.TFRecordWriter(str(directory / WARM_UP)) as file:
        for endpoint, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = endpoint
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            file.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
    return True
