"""The reconstructor (Kimura & Tanaka 2019, section 3.4)."""

from keras import KerasTensor, layers, ops

from mcattn_tf.models.parts.blocks import convolution
from mcattn_tf.settings.model import ModelConfig


def _transposed(features: KerasTensor, stride: int, width: int) -> KerasTensor:
    """Doubles the grid by transposed convolutions of a quarter of the width, then half as many."""
    x = features
    for index in range(stride.bit_length() - 1):
        filters = max(width // 2 ** (index + 2), 8)
        name, kind = f"upsample_{index}", layers.Conv2DTranspose
        x = convolution(x, filters, 4, name, strides=2, kind=kind)
    return layers.Conv2D(3, 3, padding="same", dtype="float32", name="reconstruction_logits")(x)


def _subpixel(features: KerasTensor, stride: int, width: int) -> KerasTensor:
    """Makes the stride x stride pixels of a cell as channels (Shi et al. 2016, section 2.2)."""
    _, rows, columns, _ = features.shape
    x = convolution(features, max(width // 2, 8), 1, "squeeze")
    x = layers.Conv2D(3 * stride**2, 3, padding="same", name="reconstruction_logits")(x)
    x = ops.reshape(x, (-1, rows, columns, stride, stride, 3))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * stride, columns * stride, 3))


RECONSTRUCTORS = {"subpixel": _subpixel, "transposed": _transposed}


def build_reconstructor(features: KerasTensor, config: ModelConfig) -> KerasTensor:
    """Adds the reconstructor f_r from the features to the image (eq. 5).

    Args:
        features: (B, h, w, C).
        config: Kind and width of the reconstructor, and the stride, pixels per feature cell, a
            power of two.

    Returns:
        Images (B, h stride, w stride, 3), values in (0, 1), the layer `reconstruction`, float32.
    """
    width = config.inner_channels or features.shape[-1]
    logits = RECONSTRUCTORS[config.reconstructor](features, config.stride, width)
    return layers.Activation("sigmoid", dtype="float32", name="reconstruction")(logits)
