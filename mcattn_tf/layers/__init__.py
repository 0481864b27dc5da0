"""Layers: attention masks, their pooling, dilated convolutions and folded tasks."""

from mcattn_tf.layers.convolutions import DilatedConv2D
from mcattn_tf.layers.factored_pooling import FactoredSoftmaxPooling
from mcattn_tf.layers.masked_pooling import MaskedPooling, MaskedSoftmaxPooling, SoftmaxPooling
from mcattn_tf.layers.masks import AttributeMasks, MaskL1, PositionEmbedding

__all__ = [
    "AttributeMasks",
    "DilatedConv2D",
    "FactoredSoftmaxPooling",
    "MaskL1",
    "MaskedPooling",
    "MaskedSoftmaxPooling",
    "PositionEmbedding",
    "SoftmaxPooling",
]
