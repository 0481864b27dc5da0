"""Layers: attention masks, their pooling, convolutions, normalisation and folded tasks."""

from mcattn_tf.layers.convolutions import DilatedConv2D
from mcattn_tf.layers.factored_pooling import FactoredSoftmaxPooling
from mcattn_tf.layers.masked_pooling import MaskedPooling, MaskedSoftmaxPooling, SoftmaxPooling
from mcattn_tf.layers.masks import AttributeMasks, MaskL1, PositionEmbedding
from mcattn_tf.layers.normalization import BatchNormalization

__all__ = [
    "AttributeMasks",
    "BatchNormalization",
    "DilatedConv2D",
    "FactoredSoftmaxPooling",
    "MaskL1",
    "MaskedPooling",
    "MaskedSoftmaxPooling",
    "PositionEmbedding",
    "SoftmaxPooling",
]
