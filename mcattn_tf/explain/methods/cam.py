"""CAM, class activation mapping (Zhou et al. 2016)."""

import keras
from keras import KerasTensor, ops

from mcattn_tf.explain.methods.method import Network, OutputMethod
from mcattn_tf.explain.methods.selection import features_of
from mcattn_tf.layers import SoftmaxPooling
from mcattn_tf.models import label_outputs

# {layer that makes the logits: layer before it}.
POOLED = {
    keras.layers.Dense: keras.layers.GlobalAveragePooling2D,
    SoftmaxPooling: keras.layers.Dense,
}


def pooled_classifier(model: keras.Model) -> tuple[str, keras.layers.Dense] | None:
    """Returns name and dense layer of the first output that CAM explains; None if there is none.

    Its logits are a dense layer on averaged features, or the softmax average of a dense layer on
    the features of every position.
    """
    made_by = {id(layer.output): layer for layer in model.layers}
    for output in label_outputs(model):
        last = made_by.get(id(model.get_layer(output).input))
        first = made_by.get(id(last.input)) if type(last) in POOLED else None
        if type(first) is POOLED.get(type(last)) and first.input is features_of(model):
            return output, last if isinstance(last, keras.layers.Dense) else first
    return None


class ClassActivation(keras.layers.Layer):
    """CAM (eq. 2) of a dense layer with kernel (C, K): features (B, h, w, C) to (B, h, w, K).

    With plain averaging the sum over positions plus the bias is the logit.
    """

    def __init__(self, dense: keras.layers.Dense, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.dense = dense

    def call(self, features: KerasTensor) -> KerasTensor:
        """Returns the maps."""
        _, height, width, _ = features.shape
        return ops.matmul(features, self.dense.kernel) / (height * width)


class Cam(OutputMethod):
    """CAM of the first output that has one."""

    def __init__(self, network: Network) -> None:
        self.output, dense = pooled_classifier(network.model)
        self.outputs = {"cam": ClassActivation(dense, name="cam")(network.features)}

    @classmethod
    def explains(cls, model: keras.Model) -> bool:
        """Returns whether an output of the model is a dense layer of averaged features."""
        return pooled_classifier(model) is not None
