"""Multi-channel attention masks, their L1 norm, and the position embedding."""

from collections.abc import Callable, Iterator, Sequence

import keras
from keras import KerasTensor, ops

Slopes = Callable[[KerasTensor, KerasTensor], KerasTensor]
Change = Callable[[KerasTensor], KerasTensor]

EXPLAINED_CHANNELS = 512  # mask channels in memory at a time: 4 attributes of 128 channels


@keras.saving.register_keras_serializable(package="mcattn_tf")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learnt vector for each position of the feature grid.

    Source: Gehring et al. 2017, section 3.1, in two dimensions. It does not change the receptive
    field.

    Input: (B, h, w, C). Output: the same shape.
    """

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        """Creates the embedding, (h, w, C), of zeros."""
        self.embedding = self.add_weight(features_shape[1:], "zeros", name="embedding")

    def call(self, features: KerasTensor) -> KerasTensor:
        """Returns the sum."""
        return features + self.embedding


class AttributeMasks(keras.layers.Layer):
    """The masks of K attributes, M^k = sigmoid(conv1x1_k(f)), as many channels as the features f.

    Source: Kimura & Tanaka 2019, eq. 2. Subclasses pool the masked features (1 + M^k) * f;
    `masked_sums` computes masks and sums in slices, `each_mask` is the readable form.

    Args:
        attribute_count: K.
        channel_masks: whether a mask has one value for each channel, or one for all of them.
    """

    def __init__(self, attribute_count: int, channel_masks: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.attribute_count = attribute_count
        self.channel_masks = channel_masks

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        """Creates the weights of the K masks."""
        self._build_masks(features_shape)

    def _build_masks(self, features_shape: tuple[int | None, ...]) -> None:
        channels, count = features_shape[-1], self.attribute_count
        filters = channels if self.channel_masks else 1
        # Glorot over one attribute's convolution: the K kernels are stored side by side.
        limit = (6.0 / (channels + filters)) ** 0.5
        uniform = keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self.add_weight((1, 1, channels, count, filters), uniform, name="kernel")
        self.bias = self.add_weight((count, filters), "zeros", name="bias")

    @property
    def explained_at_once(self) -> int:
        """Number of attributes whose masks `explained` should hold in memory at a time."""
        return max(1, EXPLAINED_CHANNELS // self.kernel.shape[2])

    @property
    def mask_weights(self) -> list:
        """Weights that the masks are made with."""
        return [self.kernel, self.bias]

    def _flattened(self, features: KerasTensor) -> tuple[KerasTensor, ...]:
        """Returns inputs of the masks, features, kernel and bias as `masked_sums` takes them."""
        _, height, width, channels = features.shape
        kernel = ops.reshape(ops.cast(self.kernel, self.compute_dtype), self.kernel.shape[2:])
        bias = ops.cast(self.bias, self.compute_dtype)
        return (
            ops.reshape(ops.cast(features, self.compute_dtype), (-1, channels)),
            ops.reshape(features, (-1, height * width, channels)),
            ops.broadcast_to(kernel, (*kernel.shape[:2], channels)),
            ops.broadcast_to(bias, (self.attribute_count, channels)),
        )

    def each_mask(self, features: KerasTensor, attributes: Sequence[int]) -> Iterator[KerasTensor]:
        """Yields the masks of each attribute, (B, h, w, C), in (0, 1), float32."""
        inputs = ops.cast(features, self.compute_dtype)
        indices = list(attributes)
        # Weights are taken apart once: slices would be most of the operations to trace.
        kernels = ops.take(ops.cast(self.kernel[0, 0], self.compute_dtype), indices, axis=1)
        biases = ops.take(ops.cast(self.bias, self.compute_dtype), indices, axis=0)
        for kernel, bias in zip(ops.unstack(kernels, axis=1), ops.unstack(biases), strict=True):
            mask = ops.sigmoid(ops.cast(ops.matmul(inputs, kernel) + bias, "float32"))
            yield mask if self.channel_masks else ops.repeat(mask, features.shape[-1], axis=-1)

    def _sources(self, features: KerasTensor, attributes: list[int]) -> list[KerasTensor]:
        """Returns what masks are read from, each (B, h, w, n): here the masks of each attribute."""
        return list(self.each_mask(features, attributes))

    def _read(
        self, sources: list[KerasTensor], attributes: list[int], mask_weights: KerasTensor | None
    ) -> dict[str, KerasTensor]:
        """Returns `masks`, `mask_mean` and, for weights, `averaged_masks` of `explained`."""
        read = {"masks": ops.stack(sources, axis=3), "mask_mean": _averages(sources)}
        if mask_weights is not None:
            columns = ops.unstack(ops.transpose(mask_weights, (1, 2, 0)))  # (C, n)
            averages = [ops.matmul(*x) for x in zip(sources, columns, strict=True)]
            read["averaged_masks"] = ops.stack(averages, axis=3)
        return read

    def masks(self, features: KerasTensor, attributes: Sequence[int]) -> KerasTensor:
        """Returns the masks of k attributes, (B, h, w, k, C), in (0, 1), float32."""
        indices = list(attributes)
        return self._read(self._sources(features, indices), indices, None)["masks"]

    def explained(
        self,
        features: KerasTensor,
        attributes: Sequence[int],
        slopes: Slopes | None = None,
        mask_weights: KerasTensor | None = None,
        change: Change | None = None,
    ) -> dict[str, KerasTensor]:
        """Returns masks, evidence and contributions of k attributes.

        The contribution of position p and channel c is a_k[p] w_kc (1 + M^k_pc) f_pc, where a_k[p]
        is the position's share in the average: 1 / (h w), or that of the softmax.

        Args:
            features: (B, h, w, C).
            attributes: indices of the k attributes.
            slopes: function from pooled features (B, k, C) and indices (k,) to the weights w
                (1 or B, k, C) of the heads; `MaskedSoftmaxPooling` has weights of its own.
            mask_weights: (n, k, C), weights of the channels in n averages of each mask.
            change: function of masks (B, h, w, n) to those that replace them, linear.

        Returns:
            Dict of float32 tensors: `masks` (B, h, w, k, C) in (0, 1); `averaged_masks`
            (B, h, w, k, n), if `mask_weights` are given; `evidence` (B, h, w, k), the contributions
            without the shares a_k; `contributions` (B, h, w, k), summed over channels;
            `channel_contributions` (B, k, C), summed over positions; `mask_mean` (B, k, C), mean
            over positions; `pooled` (B, k, C), the masked features averaged by the shares a_k.
        """
        _, height, width, _ = features.shape
        features, indices = ops.cast(features, "float32"), list(attributes)
        sources = self._sources(features, indices)
        sources = list(map(change, sources)) if change else sources
        evidence, shares, pooled, weights = self._pooled(features, sources, indices, slopes)
        grid = (-1, height, width, len(indices))
        return {
            **self._read(sources, indices, mask_weights),
            "evidence": ops.reshape(evidence, grid),
            "contributions": ops.reshape(evidence * shares, grid),
            "channel_contributions": pooled * weights,
            "pooled": pooled,
        }

    def _pooled(
        self,
        features: KerasTensor,
        sources: list[KerasTensor],
        attributes: list[int],
        slopes: Slopes | None,
    ) -> tuple[KerasTensor, KerasTensor | float, KerasTensor, KerasTensor]:
        """Returns evidence and shares, (B, P, k), `pooled` and the weights w (1 or B, k, C)."""
        raise NotImplementedError

    def _selected_features(self, features: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        """Returns (1 + M) * f (P, h, w, C), M the mask of one attribute (P,) of each image."""
        kernel = ops.take(self.kernel[0, 0], attributes, axis=1)  # (C, P, C or 1)
        bias = ops.take(self.bias, attributes, axis=0)
        logits = ops.einsum("phwi,pio->phwo", features, ops.transpose(kernel, (1, 0, 2)))
        return (1.0 + ops.sigmoid(logits + bias[:, None, None])) * features

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        own = {"attribute_count": self.attribute_count, "channel_masks": self.channel_masks}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict) -> "AttributeMasks":
        """Returns the layer of a stored configuration, also of an old one with `kernel_size`."""
        return cls(**{k: v for k, v in config.items() if k != "kernel_size"})


def _averages(masks: list[KerasTensor]) -> KerasTensor:
    """Returns the means over positions, (B, k, C), by products: faster than `ops.mean`."""
    _, height, width, channels = masks[0].shape
    positions = height * width
    average = ops.full((1, positions), 1 / positions)
    cells = (ops.reshape(mask, (-1, positions, channels)) for mask in masks)
    return ops.concatenate([ops.matmul(average, x) for x in cells], axis=1)


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MaskL1(keras.layers.Layer):
    """The L1 norm of an image's masks, from their means over positions.

    Source: Kimura & Tanaka 2019, eq. 6.

    Args:
        positions: factor of the mean: h w for the sum of all mask entries, as published; 1 for
            their sum per position.

    Input: mean masks (B, K, C), or their sums over channels (B, K). Output: (B,), zero or more.
    """

    def __init__(self, positions: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.positions = positions

    def call(self, mask_mean: KerasTensor) -> KerasTensor:
        """Returns the norm of each image's masks."""
        return ops.sum(mask_mean, axis=tuple(range(1, len(mask_mean.shape)))) * self.positions

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        return {**super().get_config(), "positions": self.positions}
