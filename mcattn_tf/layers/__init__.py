"""Layers: attention masks, their pooling, dilated convolutions and folded tasks."""

from mcattn_tf.layers.convolutions import DilatedConv2D as DilatedConv2D
from mcattn_tf.layers.masks import (
    AttributeMasks as AttributeMasks,
)
from mcattn_tf.layers.masks import (
    MaskedPooling as MaskedPooling,
)
from mcattn_tf.layers.masks import (
    MaskedSoftmaxPooling as MaskedSoftmaxPooling,
)
from mcattn_tf.layers.masks import (
    MaskL1 as MaskL1,
)
from mcattn_tf.layers.masks import (
    PositionEmbedding as PositionEmbedding,
)
from mcattn_tf.layers.masks import (
    SoftmaxPooling as SoftmaxPooling,
)
from mcattn_tf.layers.masks import (
    attention as attention,
)
from mcattn_tf.layers.masks import (
    softmax_average as softmax_average,
)
