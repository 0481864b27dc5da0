"""The shared dilated feature extractor (Kimura & Tanaka 2019, section 3.1)."""

from keras import KerasTensor, layers

from mcattn_tf.layers import PositionEmbedding
from mcattn_tf.layers.convolutions import CenterTap, DilatedConv2D
from mcattn_tf.models.parts.blocks import convolution
from mcattn_tf.settings.model import ModelConfig


def build_extractor(images: KerasTensor, config: ModelConfig) -> KerasTensor:
    """Adds the extractor f_f: strided stem, dilated context, position, residual 1x1 layers.

    The context follows Yu & Koltun 2016: 3x3 convolutions of growing dilation on one grid. Each
    convolution is followed by batch normalisation and ReLU.

    Args:
        images: (B, H, W, 3), values in [0, 1]; H and W divisible by `config.stride`.
        config: Shape of the extractor.

    Returns:
        Features (B, H / stride, W / stride, C); zero or more without a position embedding.
    """
    x = images * 2.0 - 1.0  # not layers.Rescaling, which needs TensorFlow on every backend
    for index, (filters, kernel_size, stride) in enumerate(config.stem):
        x = convolution(x, filters, kernel_size, f"stem_{index}", strides=stride)
    inner = [config.inner_channels or config.channels] * (len(config.dilations) - 1)
    widths = [*inner, config.channels]
    for index, dilation in enumerate(config.dilations):
        kind = DilatedConv2D if dilation > 1 else layers.Conv2D
        initial = CenterTap() if config.centered_context else "he_normal"
        x = convolution(x, widths[index], 3, f"context_{index}", 1, dilation, kind, initial)
    if x.shape[-1] != config.channels:
        x = convolution(x, config.channels, 1, "projection")
    if config.position_embedding:
        x = PositionEmbedding(name="position_embedding")(x)
    for index in range(config.pointwise_layers):
        residual = convolution(x, config.channels, 1, f"pointwise_{index}")
        x = layers.Add(name=f"pointwise_{index}_add")([x, residual])
    return layers.Activation("linear", name="features")(x)
