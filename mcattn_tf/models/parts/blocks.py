"""Blocks that several networks are made of."""

from collections.abc import Sequence

import keras
from keras import KerasTensor, initializers, layers

from mcattn_tf.layers import BatchNormalization


def probabilities(scores: KerasTensor, name: str, exclusive: bool | None = False) -> KerasTensor:
    """Adds the probabilities of N labels from logits of the same shape, (..., N), float32.

    A softmax if each image has exactly one of the labels (`exclusive`), else sigmoids.
    """
    activation = "softmax" if exclusive else "sigmoid"
    return layers.Activation(activation, dtype="float32", name=name)(scores)


def convolution(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    name: str,
    strides: int = 1,
    dilation: int = 1,
    kind: type[keras.Layer] = layers.Conv2D,
    initializer: str | initializers.Initializer = "he_normal",
) -> KerasTensor:
    """Adds a convolution without a bias, batch normalisation and ReLU.

    Each layer's name begins with `name`. The output, zero or more, has ceil(h / strides) rows, or
    h strides if the `kind` of convolution is transposed.
    """
    x = kind(
        filters,
        kernel_size,
        strides=strides,
        dilation_rate=dilation,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer,
        name=f"{name}_conv",
    )(x)
    x = BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def build_encoder(images: KerasTensor, widths: Sequence[int]) -> KerasTensor:
    """Adds ten 3x3 convolutions; the fifth and the eighth halve the grid.

    Images are not rescaled, as published.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), tables 3 and 6, layers 1 to 10.

    Args:
        images: (B, H, W, 3), values in [0, 1]; H and W divisible by 4.
        widths: Filters of layer 1, layers 2 to 4, layers 5 to 7 and layers 8 to 10.

    Returns:
        Features (B, H / 4, W / 4, C), zero or more, the layer `features`.
    """
    first, full, half, quarter = widths
    filters = (first, *[full] * 3, *[half] * 3, *[quarter] * 3)
    x = images
    for number, count in enumerate(filters, start=1):
        x = convolution(x, count, 3, f"encoder_{number}", strides=2 if number in (5, 8) else 1)
    return layers.Activation("linear", name="features")(x)
