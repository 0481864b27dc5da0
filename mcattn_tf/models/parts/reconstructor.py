"""The reconstructor (Kimura & Tanaka 2019, section 3.4)."""

from keras import KerasTensor, layers

from mcattn_tf.models.parts.blocks import convolution


def build_reconstructor(features: KerasTensor, stride: int) -> KerasTensor:
    """Adds the reconstructor f_r: transposed convolutions from the features to the image (eq. 5).

    Args:
        features: (B, h, w, C).
        stride: Pixels per feature cell, a power of two. The first doubling of the grid has C / 4
            filters, each further one half of the filters before it.

    Returns:
        Images (B, h stride, w stride, 3), values in (0, 1), the layer `reconstruction`, float32.
    """
    x = features
    for index in range(stride.bit_length() - 1):
        filters = max(features.shape[-1] // 2 ** (index + 2), 8)
        name, kind = f"upsample_{index}", layers.Conv2DTranspose
        x = convolution(x, filters, 4, name, strides=2, kind=kind)
    x = layers.Conv2D(3, 3, padding="same", dtype="float32", name="reconstruction_logits")(x)
    return layers.Activation("sigmoid", dtype="float32", name="reconstruction")(x)
