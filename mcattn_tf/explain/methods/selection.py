"""The part of a network above its features, for one attribute of each image."""

import keras
from keras import KerasTensor, layers, ops

from mcattn_tf.errors import UserError
from mcattn_tf.models.multitask_abn import task_logits
from mcattn_tf.settings.systems import system_of

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


class SelectedLogits(keras.layers.Layer):
    """Computes logits (P,) of one attribute (P,) of each image by the layer in `System.selectable`.

    Input: features (P, h, w, C) and indices of attributes (P,).
    """

    def __init__(self, model: keras.Model, output: str, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.selectable = model.get_layer(system_of(model).selectable[output])
        grid, inputs = features_of(model), keras.tree.flatten(self.selectable.input)
        # Models from the features to the other inputs of the layer, such as attention maps.
        self.below = [keras.Model(grid, x) for x in inputs if x is not grid]
        self.heads = heads_of(model, output)

    def call(self, features: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        """Returns the logits."""
        others = [below(features) for below in self.below]
        x = self.selectable.selected(features, *others, attributes)  # (P,) or (P, C)
        for head in self.heads:
            kernel = ops.take(head.kernel, attributes, axis=0)  # (P, C) or (P, C, u)
            summed = len(kernel.shape) == 2
            x = ops.sum(x * kernel, axis=-1) if summed else ops.einsum("pc,pcu->pu", x, kernel)
            x = head.activation(x + ops.take(head.bias, attributes, axis=0))
        return x if len(x.shape) == 1 else task_logits(x)


def heads_of(model: keras.Model, output: str) -> list[layers.EinsumDense]:
    """Returns the dense layers, of each attribute, above the layer in `System.selectable`."""
    selectable = model.get_layer(system_of(model).selectable[output])
    above = keras.Function(selectable.output, model.get_layer(output).input)
    return [x for x in above.operations if isinstance(x, layers.EinsumDense)]


def features_of(model: keras.Model) -> KerasTensor:
    """Returns the features (B, h, w, C): the layer `features`, or else the last convolution.

    Raises:
        UserError: if there is neither.
    """
    named = [layer for layer in model.layers if layer.name == "features"]
    convolutions = [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]
    if not named and not convolutions:
        raise UserError(
            f"model {model.name!r} has no convolution; maps such as Grad-CAM's need the features "
            "of one"
        )
    return (named or convolutions)[-1].output


def build_selected(model: keras.Model, output: str, probabilities: bool = False) -> keras.Model:
    """Builds the part of a model above its features, for one attribute of each image.

    It is a model from [features (P, h, w, C), images (P, H, W, 3), attributes (P,)] to logits or
    probabilities (P,). GCM needs the images: it multiplies by them above its features.
    """
    grid, layer = features_of(model), model.get_layer(output)
    features = keras.Input(grid.shape[1:], name="features")
    images = keras.Input(model.input.shape[1:], name="images")
    attributes = keras.Input((), dtype="int32", name="attributes")
    softmax = probabilities and layer.activation is keras.activations.softmax
    if output in system_of(model).selectable and not softmax:
        selected = SelectedLogits(model, output)(features, attributes)
    else:
        values = layer.output if softmax else layer.input  # a softmax needs all logits
        columns = keras.Model([grid, model.input], values)([features, images])
        selected = ops.take_along_axis(columns, attributes[:, None], axis=1)[:, 0]
    if probabilities and not softmax:
        selected = layers.Activation(layer.activation, dtype="float32")(selected)
    return keras.Model([features, images, attributes], selected)
