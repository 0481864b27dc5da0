"""Masks of K attributes mixed from a few shared ones, at the price of one sub-network."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.layers.masked_pooling import MaskedSoftmaxPooling, attention
from mcattn_tf.layers.masks import Slopes

CONTRAST, THRESHOLD = 3.0, 0.7  # slope, and where a shared mask is 1/2, in standard deviations
EPSILON = 1e-3  # added to the variance: a blank image has flat masks
# A mask begins close to one shared mask: it is a sharp softmax of standard normal numbers. Equal
# shares would begin with K C equal and nearly flat masks.
SELECTIVITY = 4.0
INITIAL_AMPLITUDE = 2.0  # a logit: 0.88


def enlargement(cells: int, stride: int) -> np.ndarray:
    """Returns the bilinear weights (cells, ceil(cells / stride)) from a coarser grid's cells."""
    coarse = -(-cells // stride)
    places = np.clip((np.arange(cells) + 0.5) / stride - 0.5, 0, coarse - 1)
    distances = np.abs(places[:, None] - np.arange(coarse))
    return np.maximum(1 - distances, 0).astype(np.float32)


def _beside_ones(values: KerasTensor, axis: int) -> KerasTensor:
    """Returns values with ones before them along an axis: what multiplies unmasked features."""
    first = ops.take(values, [0], axis=axis)
    return ops.concatenate([ops.ones_like(first), values], axis=axis)


def _mixed(shared: KerasTensor, mixtures: KerasTensor) -> KerasTensor:
    """Returns mixtures (B, ..., k, n) of G (B, ..., r) by V (k, r, n)."""
    count, rank, channels = mixtures.shape
    columns = ops.reshape(ops.transpose(mixtures, (1, 0, 2)), (rank, -1))
    return ops.reshape(ops.matmul(shared, columns), (-1, *shared.shape[1:-1], count, channels))


@keras.saving.register_keras_serializable(package="mcattn_tf")
class FactoredSoftmaxPooling(MaskedSoftmaxPooling):
    """`MaskedSoftmaxPooling` whose masks are mixtures of r masks that all attributes share.

    A convolution of s x s cells on features pooled to a grid t times coarser gives r channels z,
    which are enlarged to the grid of the features. A shared mask is their contrast,

        G_j[p] = sigmoid(3 ((z_j[p] - mean_j) / std_j - 0.7)),

    with mean and standard deviation over the positions of an image: it is high in some places and
    low in others on every image. A mask mixes them by weights of its own, M^k_pc = sum over j of
    V_kcj G_j[p], where V_kc is an amplitude in (0, 1) times a softmax over j, so that the mask lies
    in (0, 1), too. The evidence is then

        e_k[p] = sum_c w_kc (1 + M^k_pc) f_pc = sum_c w_kc f_pc
                 + sum_j G_j[p] sum_c (w_kc V_kcj) f_pc,

    which needs a product with K (1 + r) columns and no mask of K C channels.

    Args:
        attribute_count: K.
        rank: r, number of shared masks.
        stride: t, cells of the feature grid along a cell of the masks' grid.
        context: s, size of the kernel on the masks' grid, odd.
        sharpness: sharpness of the softmax pooling, zero or more.
        initial_bias: initial bias of every attribute, a logit.
    """

    def __init__(
        self, attribute_count: int, rank: int, stride: int = 1, context: int = 1, **kwargs
    ) -> None:
        super().__init__(attribute_count, **kwargs)
        self.rank, self.stride, self.context = rank, stride, context

    def _build_masks(self, features_shape: tuple[int | None, ...]) -> None:
        _, height, width, channels = features_shape
        size = self.context
        self.shared_kernel = self.add_weight(
            (size, size, channels, self.rank), "he_normal", name="shared_kernel"
        )
        count, normal = self.attribute_count, keras.initializers.RandomNormal(stddev=1.0)
        shape = (count, self.rank, channels)
        self.mixing = self.add_weight(shape, normal, autocast=False, name="mixing")
        initial = keras.initializers.Constant(INITIAL_AMPLITUDE)
        self.amplitude = self.add_weight(
            (count, channels), initial, autocast=False, name="amplitude"
        )
        self._rows, self._columns = (enlargement(n, self.stride) for n in (height, width))
        # Average pooling divides by cells of the padding, too.
        counts = [
            np.minimum(self.stride, cells - np.arange(0, cells, self.stride))
            for cells in (height, width)
        ]
        self._fill = self.stride**2 / np.multiply.outer(*counts)[..., None]

    @property
    def explained_at_once(self) -> int:
        """K: maps and averages need none of the K C masks."""
        return self.attribute_count

    @property
    def mask_weights(self) -> list:
        """Weights that the masks are made with."""
        return [self.shared_kernel, self.mixing, self.amplitude]

    def shared_masks(self, features: KerasTensor) -> KerasTensor:
        """Returns G, (B, h, w, r), in (0, 1), float32."""
        x = ops.cast(features, self.compute_dtype)
        if self.stride > 1:
            # "same" padding would be on both sides, and shift the blocks.
            _, height, width, _ = x.shape
            missing = [(0, -cells % self.stride) for cells in (height, width)]
            x = ops.pad(x, ((0, 0), *missing, (0, 0))) if np.any(missing) else x
            x = ops.average_pool(x, self.stride, self.stride)
            x = x * ops.cast(self._fill, x.dtype) if np.any(missing) else x
        x = ops.conv(x, ops.cast(self.shared_kernel, x.dtype), padding="same")
        x = ops.cast(x, "float32")
        if self.stride > 1:  # products, because TensorFlow Lite has no einsum
            (height, rows), (width, columns) = self._rows.shape, self._columns.shape
            x = ops.matmul(self._rows, ops.reshape(x, (-1, rows, columns * self.rank)))
            x = ops.matmul(self._columns, ops.reshape(x, (-1, columns, self.rank)))
            x = ops.reshape(x, (-1, height, width, self.rank))
        x = x - ops.mean(x, axis=(1, 2), keepdims=True)
        variance = ops.mean(ops.square(x), axis=(1, 2), keepdims=True)
        return ops.sigmoid(CONTRAST * (x * ops.rsqrt(variance + EPSILON) - THRESHOLD))

    def mixtures(self, attributes: Sequence[int] | None = None) -> KerasTensor:
        """Returns V of all or some attributes, (k, r, C), in (0, 1); the sum over r is below 1."""
        weights = self.mixing, self.amplitude
        if attributes is not None:
            weights = (ops.take(x, attributes, axis=0) for x in weights)
        mixing, amplitude = weights
        shares = ops.softmax(SELECTIVITY * mixing, axis=1)
        return ops.expand_dims(ops.sigmoid(amplitude), 1) * shares

    def _evidence_of(
        self,
        features: KerasTensor,
        gates: KerasTensor,
        head: KerasTensor,
        mixtures: KerasTensor,
    ) -> KerasTensor:
        """Returns e, (B, P, k), from f (B, h, w, C), gates (B, P, 1 + r), w (k, C) and V."""
        count, rank, channels = mixtures.shape
        weights = ops.expand_dims(head, 1) * _beside_ones(mixtures, axis=1)
        columns = ops.reshape(ops.transpose(weights, (2, 1, 0)), (channels, -1))
        cells = ops.reshape(ops.cast(features, self.compute_dtype), (-1, channels))
        parts = ops.matmul(cells, ops.cast(columns, cells.dtype))
        parts = ops.cast(ops.reshape(parts, (-1, 1 + rank, count)), "float32")
        evidence = ops.matmul(ops.reshape(gates, (-1, 1, 1 + rank)), parts)
        return ops.reshape(evidence, (-1, gates.shape[1], count))

    def _evidence(self, features: KerasTensor, training: bool) -> tuple[KerasTensor, KerasTensor]:
        """Returns the evidence (B, K, P) and the masks' sums (B, K)."""
        shared = self.shared_masks(features)
        shared = ops.reshape(shared, (-1, math.prod(shared.shape[1:3]), self.rank))
        mixtures, head = self.mixtures(), ops.convert_to_tensor(self.head)
        evidence = self._evidence_of(features, _beside_ones(shared, axis=2), head, mixtures)
        sums = ops.matmul(ops.sum(shared, axis=1), ops.transpose(ops.sum(mixtures, axis=2)))
        return ops.transpose(evidence, (0, 2, 1)), sums

    def _sources(self, features: KerasTensor, attributes: list[int]) -> list[KerasTensor]:
        return [self.shared_masks(features)]

    def _read(
        self, sources: list[KerasTensor], attributes: list[int], mask_weights: KerasTensor | None
    ) -> dict[str, KerasTensor]:
        [shared], mixtures = sources, self.mixtures(attributes)
        mean = ops.mean(shared, axis=(1, 2))
        read = {"masks": _mixed(shared, mixtures), "mask_mean": _mixed(mean, mixtures)}
        if mask_weights is not None:  # by averages of the mixtures, without a mask
            averages = ops.matmul(mixtures, ops.transpose(mask_weights, (1, 2, 0)))  # (k, r, n)
            read["averaged_masks"] = _mixed(shared, averages)
        return read

    def _pooled(
        self,
        features: KerasTensor,
        sources: list[KerasTensor],
        attributes: list[int],
        slopes: Slopes | None,
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor, KerasTensor]:
        _, height, width, channels = features.shape
        [shared], mixtures = sources, self.mixtures(attributes)
        gates = _beside_ones(ops.reshape(shared, (-1, height * width, self.rank)), axis=2)
        head = ops.take(self.head, attributes, axis=0)
        evidence = self._evidence_of(features, gates, head, mixtures)
        shares = attention(evidence, self.sharpness, axis=1)
        # Averages of f and of each G_j f by the shares of each attribute.
        gated = ops.expand_dims(shares, 2) * ops.expand_dims(gates, 3)  # (B, P, 1 + r, k)
        gated = ops.reshape(gated, (-1, height * width, gates.shape[2] * len(attributes)))
        cells = ops.reshape(features, (-1, height * width, channels))
        parts = ops.matmul(ops.transpose(gated, (0, 2, 1)), cells)
        parts = ops.reshape(parts, (-1, gates.shape[2], len(attributes), channels))
        columns = ops.transpose(_beside_ones(mixtures, axis=1), (1, 0, 2))
        return evidence, shares, ops.sum(parts * columns, axis=1), head[None]

    def _selected_features(self, features: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        masks = ops.einsum("phwr,prc->phwc", self.shared_masks(features), self.mixtures(attributes))
        return (1.0 + masks) * features

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        own = {"rank": self.rank, "stride": self.stride, "context": self.context}
        inherited = super().get_config()
        del inherited["channel_masks"]
        return {**inherited, **own}
