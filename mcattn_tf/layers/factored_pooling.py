"""Masks of K attributes mixed from a few shared ones, at the price of one sub-network."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.layers.masked_pooling import MaskedSoftmaxPooling, attention
from mcattn_tf.layers.masks import Change, Slopes

CONTRAST, THRESHOLD = 2.0, 1.0  # a shared mask is 1/2 one standard deviation above its mean
EPSILON = 1e-3  # added to the variance: a blank image has flat masks
# Standard deviation of the initial mixing logits: most masks begin close to one shared mask. Equal
# shares would begin with K C equal and nearly flat masks.
INITIAL_SPREAD = 2.0


def enlargement(cells: int, stride: int) -> np.ndarray:
    """Returns the bilinear weights (cells, ceil(cells / stride)) from a coarser grid's cells."""
    coarse = -(-cells // stride)
    places = np.clip((np.arange(cells) + 0.5) / stride - 0.5, 0, coarse - 1)
    distances = np.abs(places[:, None] - np.arange(coarse))
    return np.maximum(1 - distances, 0).astype(np.float32)


@keras.saving.register_keras_serializable(package="mcattn_tf")
class FactoredSoftmaxPooling(MaskedSoftmaxPooling):
    """`MaskedSoftmaxPooling` whose masks are mixtures of r masks that all attributes share.

    A convolution of s x s cells on features pooled to a grid t times coarser gives r channels z,
    which are enlarged to the grid of the features. A shared mask is their contrast,

        G_j[p] = sigmoid(2 (z_j[p] - mean_j) / std_j - 2),

    with mean and standard deviation over the positions of an image: it is high in some places and
    low in others on every image. A mask mixes them by weights of its own, M^k_pc = sum over j of
    V_kcj G_j[p], where V_kc is a softmax over j, so that it lies in (0, 1), too. Since the weights
    sum to 1, the evidence is

        e_k[p] = sum_c w_kc (1 + M^k_pc) f_pc = sum_j (1 + G_j[p]) sum_c (w_kc V_kcj) f_pc,

    which needs a product with K r columns and no mask of K C channels.

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
        spread = keras.initializers.RandomNormal(stddev=INITIAL_SPREAD)
        shape = (self.attribute_count, self.rank, channels)
        self.mixing = self.add_weight(shape, spread, autocast=False, name="mixing")
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
        return [self.shared_kernel, self.mixing]

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
        if self.stride > 1:
            x = ops.einsum("ih,bhwr->biwr", self._rows, x)
            x = ops.einsum("jw,biwr->bijr", self._columns, x)
        x = x - ops.mean(x, axis=(1, 2), keepdims=True)
        variance = ops.mean(ops.square(x), axis=(1, 2), keepdims=True)
        return ops.sigmoid(CONTRAST * (x * ops.rsqrt(variance + EPSILON) - THRESHOLD))

    def mixtures(self, attributes: Sequence[int] | None = None) -> KerasTensor:
        """Returns V of all or some attributes, (k, r, C), in (0, 1), with sum 1 over r."""
        mixing = self.mixing if attributes is None else ops.take(self.mixing, attributes, axis=0)
        return ops.softmax(mixing, axis=1)

    def _evidence_of(
        self, features: KerasTensor, shared: KerasTensor, weights: KerasTensor
    ) -> KerasTensor:
        """Returns e, (B, P, k), from features (B, h, w, C), G (B, P, r) and w V (k, r, C)."""
        count, rank, channels = weights.shape
        columns = ops.reshape(ops.transpose(weights, (2, 1, 0)), (channels, -1))
        cells = ops.reshape(ops.cast(features, self.compute_dtype), (-1, channels))
        parts = ops.matmul(cells, ops.cast(columns, cells.dtype))
        parts = ops.cast(ops.reshape(parts, (-1, rank, count)), "float32")
        evidence = ops.matmul(ops.reshape(1.0 + shared, (-1, 1, rank)), parts)
        return ops.reshape(evidence, (-1, shared.shape[1], count))

    def _evidence(self, features: KerasTensor, training: bool) -> tuple[KerasTensor, KerasTensor]:
        """Returns the evidence (B, K, P) and the masks' sums (B, K)."""
        shared, mixtures = self._shared_cells(features), self.mixtures()
        evidence = self._evidence_of(features, shared, ops.expand_dims(self.head, 1) * mixtures)
        sums = ops.matmul(ops.sum(shared, axis=1), ops.transpose(ops.sum(mixtures, axis=2)))
        return ops.transpose(evidence, (0, 2, 1)), sums

    def _shared_cells(self, features: KerasTensor) -> KerasTensor:
        return ops.reshape(
            self.shared_masks(features), (-1, math.prod(features.shape[1:3]), self.rank)
        )

    def masks(self, features: KerasTensor, attributes: Sequence[int]) -> KerasTensor:
        """Returns the masks of k attributes, (B, h, w, k, C), in (0, 1), float32."""
        return self._mixed(self.shared_masks(features), self.mixtures(attributes))

    def _mixed(self, shared: KerasTensor, mixtures: KerasTensor) -> KerasTensor:
        """Returns mixtures (..., k, n) of G (..., r) by V (k, r, n)."""
        count, rank, channels = mixtures.shape
        columns = ops.reshape(ops.transpose(mixtures, (1, 0, 2)), (rank, -1))
        return ops.reshape(ops.matmul(shared, columns), (-1, *shared.shape[1:-1], count, channels))

    def explained(
        self,
        features: KerasTensor,
        attributes: Sequence[int],
        slopes: Slopes | None = None,
        mask_weights: KerasTensor | None = None,
        change: Change | None = None,
    ) -> dict[str, KerasTensor]:
        """Returns the dict of `AttributeMasks.explained`, without a mask that is not asked for."""
        _, height, width, channels = features.shape
        features, indices = ops.cast(features, "float32"), list(attributes)
        shared_masks, mixtures = self.shared_masks(features), self.mixtures(indices)
        shared_masks = change(shared_masks) if change else shared_masks
        shared = ops.reshape(shared_masks, (-1, height * width, self.rank))
        head = ops.take(self.head, indices, axis=0)
        evidence = self._evidence_of(features, shared, ops.expand_dims(head, 1) * mixtures)
        shares = attention(evidence, self.sharpness, axis=1)
        # Averages of (1 + G_j) f by the shares of each attribute.
        gated = ops.expand_dims(shares, 2) * ops.expand_dims(1.0 + shared, 3)  # (B, P, r, k)
        gated = ops.reshape(gated, (-1, height * width, self.rank * len(indices)))
        cells = ops.reshape(features, (-1, height * width, channels))
        parts = ops.matmul(ops.transpose(gated, (0, 2, 1)), cells)
        parts = ops.reshape(parts, (-1, self.rank, len(indices), channels))
        pooled = ops.sum(parts * ops.transpose(mixtures, (1, 0, 2)), axis=1)
        grid = (-1, height, width, len(indices))
        explained = {
            "masks": self._mixed(shared_masks, mixtures),
            "evidence": ops.reshape(evidence, grid),
            "contributions": ops.reshape(evidence * shares, grid),
            "channel_contributions": pooled * head,
            "mask_mean": self._mixed(ops.mean(shared, axis=1), mixtures),
            "pooled": pooled,
        }
        if mask_weights is not None:
            averaging = ops.matmul(mixtures, ops.transpose(mask_weights, (1, 2, 0)))  # (k, r, n)
            explained["averaged_masks"] = self._mixed(shared_masks, averaging)
        return explained

    def _selected_features(self, features: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        masks = ops.einsum("phwr,prc->phwc", self.shared_masks(features), self.mixtures(attributes))
        return (1.0 + masks) * features

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        own = {"rank": self.rank, "stride": self.stride, "context": self.context}
        inherited = super().get_config()
        del inherited["channel_masks"]
        return {**inherited, **own}
