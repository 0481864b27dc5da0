"""The logit of one chosen attribute an image, without the work for all the others."""

import keras
from keras import KerasTensor, ops

from mcattn_tf.layers import MaskedPooling


class SelectedSubnetwork(keras.layers.Layer):
    """Runs one sub-network of a trained MCAttn an image (Kimura & Tanaka 2019, eq. 2).

    Args:
        model: as `build_mcattn` makes it.

    Input: features (P, h, w, C) and attributes (P,), indices.
    Output: logits (P,), those that the model itself has for these attributes.
    """

    def __init__(self, model: keras.Model, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.masked_pooling = model.get_layer("masked_pooling")
        self.averages = isinstance(self.masked_pooling, MaskedPooling)
        names = {layer.name for layer in model.layers}
        self.head = model.get_layer("attribute_logits") if self.averages else None
        self.hidden = model.get_layer("hidden") if "hidden" in names else None

    def call(self, features: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        """Returns the logits."""
        kernel = ops.take(self.masked_pooling.kernel, attributes, axis=3)  # (s, s, C, P, C)
        size, _, channels, _, _ = kernel.shape
        kernel = ops.reshape(
            ops.transpose(kernel, (3, 0, 1, 2, 4)), (-1, size * size * channels, channels)
        )
        patches = features
        if size > 1:
            patches = ops.image.extract_patches(features, size, strides=1, padding="same")
        bias = ops.take(self.masked_pooling.bias, attributes, axis=0)
        masks = ops.sigmoid(ops.einsum("phwi,pio->phwo", patches, kernel) + bias[:, None, None])
        masked = (1.0 + masks) * features
        logits = self._of_averages if self.averages else self._of_softmax_pooling
        return logits(masked, attributes)

    def _of_averages(self, masked: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        pooled = ops.mean(masked, axis=(1, 2))  # (P, C)
        if self.hidden is not None:
            weights = ops.take(self.hidden.kernel, attributes, axis=0)
            biases = ops.take(self.hidden.bias, attributes, axis=0)
            pooled = ops.relu(ops.einsum("pc,pcu->pu", pooled, weights) + biases)
        head = ops.take(self.head.kernel, attributes, axis=0)
        return ops.sum(pooled * head, axis=-1) + ops.take(self.head.bias, attributes, axis=0)

    def _of_softmax_pooling(self, masked: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        _, height, width, channels = masked.shape
        head = ops.take(self.masked_pooling.head, attributes, axis=0)
        cells = ops.reshape(masked, (-1, height * width, channels))
        evidence = ops.matmul(cells, head[:, :, None])[:, :, 0]
        pooled = ops.sum(evidence * self.masked_pooling.attention(evidence), axis=1)
        return pooled + ops.take(self.masked_pooling.head_bias, attributes, axis=0)


def build_selected_logits(model: keras.Model, output: str) -> keras.Model:
    """Builds the part of a model above its features, for one attribute an image.

    Args:
        model: a network with a layer `features`.
        output: name of an output, whose layer makes probabilities of logits (B, K).

    Returns:
        A model from [features (P, h, w, C), attributes (P,)] to logits (P,).
    """
    features = keras.Input(model.get_layer("features").output.shape[1:], name="features")
    attributes = keras.Input((), dtype="int32", name="attributes")
    names = {layer.name for layer in model.layers}
    if output == "attributes" and "masked_pooling" in names:
        chosen = SelectedSubnetwork(model)(features, attributes)
    else:
        # What the sigmoid or softmax of the output is taken of.
        logits = model.get_layer(output).input
        head = keras.Model(model.get_layer("features").output, logits)
        chosen = ops.take_along_axis(head(features), attributes[:, None], axis=1)[:, 0]
    return keras.Model([features, attributes], chosen)
