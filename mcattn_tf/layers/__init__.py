"""Layers: attention masks, their pooling, dilated convolutions and folded tasks."""

from mcattn_tf.layers.convolutions import DilatedConv2D
from mcattn_tf.layers.masks import (
    AttributeMasks,
    MaskedPooling,
    MaskedSoftmaxPooling,
    MaskL1,
    PositionEmbedding,
    SoftmaxPooling,
    attention,
    softmax_average,
)

__all__ = [
    "AttributeMasks",
    "DilatedConv2D",
    "MaskL1",
    "MaskedPooling",
    "MaskedSoftmaxPooling",
    "PositionEmbedding",
    "SoftmaxPooling",
    "attention",
    "softmax_average",
]
