"""The reconstructor (Kimura & Tanaka 2019, section 3.4)."""

from keras import KerasTensor, layers


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
        x = layers.Conv2DTranspose(
            max(features.shape[-1] // 2 ** (index + 2), 8),
            4,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"upsample_{index}_conv",
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"upsample_{index}_bn")(x)
        x = layers.ReLU(name=f"upsample_{index}_relu")(x)
    x = layers.Conv2D(3, 3, padding="same", dtype="float32", name="reconstruction_logits")(x)
    return layers.Activation("sigmoid", dtype="float32", name="reconstruction")(x)
