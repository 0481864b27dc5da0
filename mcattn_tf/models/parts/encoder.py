"""The encoder of GCM and of the CNN that it is compared with."""

from collections.abc import Sequence

from keras import KerasTensor, layers

from mcattn_tf.models.parts.extractor import convolution


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
