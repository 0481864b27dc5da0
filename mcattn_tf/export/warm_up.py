"""Requests that TensorFlow Serving sends to a SavedModel itself before it answers others."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"


def write_warm_up(directory: Path, requests: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
    """Writes the requests as TensorFlow Serving reads them, without a model's name.

    Args:
        directory: of the SavedModel.
        requests: {endpoint: {input: value}}.

    Returns:
        False if tensorflow-serving-api, which has their format, is not installed.
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
