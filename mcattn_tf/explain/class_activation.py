"""CAM, class activation mapping (Zhou et al. 2016)."""

import keras
from keras import KerasTensor, ops

from mcattn_tf.explain.selection import features_of
from mcattn_tf.models import label_outputs


def classifier_of_averages(model: keras.Model) -> tuple[str, keras.layers.Dense] | None:
    """Finds what CAM explains: probabilities that one dense layer makes of averaged features.

    Args:
        model: a network with a convolution, without models inside of it.

    Returns:
        The name of the output and the dense layer; None where there is no such output.
    """
    made_by = {id(layer.output): layer for layer in model.layers}
    for output in label_outputs(model):
        dense = made_by.get(id(model.get_layer(output).input))
        if isinstance(dense, keras.layers.Dense):
            average = made_by.get(id(dense.input))
            pooling = isinstance(average, keras.layers.GlobalAveragePooling2D)
            if pooling and average.input is features_of(model):
                return output, dense
    return None


class ClassActivation(keras.layers.Layer):
    """CAM (Zhou et al. 2016, eq. 2) of a dense layer on averaged features.

    Args:
        dense: the layer, with kernel (C, K).

    Input: features (B, h, w, C).
    Output: (B, h, w, K); the sum over positions and the bias are the logit.
    """

    def __init__(self, dense: keras.layers.Dense, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.dense = dense

    def call(self, features: KerasTensor) -> KerasTensor:
        """Returns the maps."""
        _, height, width, _ = features.shape
        return ops.matmul(features, self.dense.kernel) / (height * width)
