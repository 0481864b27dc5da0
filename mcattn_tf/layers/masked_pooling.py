"""Pooling of features or evidence over positions, with and without masks."""

import keras
from keras import KerasTensor, ops

from mcattn_tf.layers.masked_sums import masked_evidence, masked_sums
from mcattn_tf.layers.masks import AttributeMasks, Slopes


def _gated(
    features: KerasTensor, masks: list[KerasTensor]
) -> tuple[KerasTensor, list[KerasTensor]]:
    """Returns f and M^k * f of each mask, (B, P, C)."""
    # One attribute at a time: the arrays fit into a CPU's cache.
    _, height, width, channels = features.shape
    shape = (-1, height * width, channels)
    return ops.reshape(features, shape), [ops.reshape(mask * features, shape) for mask in masks]


def _weighted(gated: list[KerasTensor], weights: KerasTensor) -> list[KerasTensor]:
    """Returns sum_c w_kc M^k_pc f_pc, (B, P), of k tensors M^k * f (B, P, C), w (1 or B, k, C)."""
    positions, channels = gated[0].shape[1:]
    columns = ops.unstack(ops.expand_dims(weights, 3), axis=1)  # (1 or B, C, 1)
    if weights.shape[0] == 1:
        rows = (ops.reshape(x, (-1, channels)) for x in gated)
        products = [ops.matmul(x, column[0]) for x, column in zip(rows, columns, strict=True)]
    else:
        products = [ops.matmul(x, column) for x, column in zip(gated, columns, strict=True)]
    return [ops.reshape(product, (-1, positions)) for product in products]


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MaskedPooling(AttributeMasks):
    """Masks the features once per attribute and averages over positions.

    Source: Kimura & Tanaka 2019, eq. 2: GAP((1 + M^k) * f). Arguments are those of
    `AttributeMasks`.

    Input: features (B, h, w, C).
    Output: dict of float32 tensors: `pooled` (B, K, C), and `mask_mean` (B, K, C) in (0, 1), the
    mean over positions.
    """

    def call(self, features: KerasTensor, training: bool | None = None) -> dict[str, KerasTensor]:
        """Returns the pooled masked features and the mean masks."""
        positions = features.shape[1] * features.shape[2]
        gated, masks = masked_sums(*self._flattened(features), bool(training))
        average = ops.mean(ops.cast(features, "float32"), axis=(1, 2))  # (B, C)
        pooled = ops.expand_dims(average, 1) + gated / positions
        return {"pooled": pooled, "mask_mean": masks / positions}

    def selected(self, features: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        """Returns `pooled` (P, C) of one attribute (P,) of each image, features (P, h, w, C)."""
        return ops.mean(self._selected_features(features, attributes), axis=(1, 2))

    def _pooled(
        self,
        features: KerasTensor,
        sources: list[KerasTensor],
        attributes: list[int],
        slopes: Slopes,
    ) -> tuple[KerasTensor, float, KerasTensor, KerasTensor]:
        cells, gated = _gated(features, sources)
        average = ops.mean(cells, axis=1)
        pooled = ops.stack([average + ops.mean(x, axis=1) for x in gated], axis=1)
        weights = slopes(pooled, ops.convert_to_tensor(attributes, dtype="int32"))
        masked = ops.stack(_weighted(gated, weights), axis=2)
        unmasked = ops.matmul(cells, ops.transpose(weights, (0, 2, 1)))
        return unmasked + masked, 1 / cells.shape[1], pooled, weights

    def compute_output_spec(
        self, features: KerasTensor, training: bool | None = None
    ) -> dict[str, KerasTensor]:
        """Returns the shapes and dtypes of the outputs."""
        shape = (features.shape[0], self.attribute_count, features.shape[-1])
        return {name: KerasTensor(shape, "float32") for name in ("pooled", "mask_mean")}


def attention(evidence: KerasTensor, sharpness: float, axis: int = -1) -> KerasTensor:
    """Returns the shares of positions in a softmax average, in (0, 1), with sum 1 along `axis`."""
    return ops.softmax(sharpness * evidence, axis=axis)


def softmax_average(evidence: KerasTensor, sharpness: float, axis: int = -1) -> KerasTensor:
    """Returns the evidence averaged along `axis` by the shares of `attention`."""
    return ops.sum(evidence * attention(evidence, sharpness, axis), axis=axis)


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MaskedSoftmaxPooling(AttributeMasks):
    """Masks the features once per attribute and pools the evidence by a softmax over positions.

    With the head's weights w, the evidence of position p for attribute k is

        e_k[p] = sum over channels c of w_kc (1 + M^k_pc) f_pc,

    and the logit its average by the weights softmax(s e_k) over positions, plus a bias. For a
    sharpness s = 0 that is the linear head on GAP((1 + M^k) * f) (Kimura & Tanaka 2019, eq. 2); a
    large s approaches the maximum. The weights of the average are those of McFee et al. 2018
    (adaptive pooling operators for weakly labeled sound event detection, eq. 3).

    Args:
        attribute_count: K.
        channel_masks: whether a mask has one value for each channel, or one for all channels.
        sharpness: s, zero or more.
        initial_bias: initial bias of every attribute, a logit.

    Input: features (B, h, w, C).
    Output: dict of float32 tensors: `logits` (B, K), and `mask_mean` (B, K) in (0, C), the mean
    over positions of the masks' sum over channels.
    """

    def __init__(
        self,
        attribute_count: int,
        channel_masks: bool = True,
        sharpness: float = 0.0,
        initial_bias: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(attribute_count, channel_masks, **kwargs)
        self.sharpness = sharpness
        self.initial_bias = initial_bias

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        """Creates the masks' kernels and the heads."""
        super().build(features_shape)
        count, channels = self.attribute_count, features_shape[-1]
        bias = keras.initializers.Constant(self.initial_bias)
        # Logits are float32 in mixed precision too.
        self.head = self.add_weight(
            (count, channels), "glorot_uniform", autocast=False, name="head"
        )
        self.head_bias = self.add_weight((count,), bias, autocast=False, name="head_bias")

    def call(self, features: KerasTensor, training: bool | None = None) -> dict[str, KerasTensor]:
        """Returns the logits and the masks' means."""
        evidence, masks = self._evidence(features, bool(training))
        return {
            "logits": softmax_average(evidence, self.sharpness) + self.head_bias,
            "mask_mean": masks / evidence.shape[2],
        }

    def _evidence(self, features: KerasTensor, training: bool) -> tuple[KerasTensor, KerasTensor]:
        """Returns the evidence (B, K, P), and the masks' sums (B, K)."""
        inputs, features, kernel, bias = self._flattened(features)
        head = ops.cast(self.head, "float32")  # a tensor: a custom gradient takes no variables
        gated, masks = masked_evidence(inputs, features, kernel, bias, head, training)
        unmasked = ops.matmul(ops.cast(features, "float32"), ops.transpose(head))  # (B, P, K)
        return gated + ops.transpose(unmasked, (0, 2, 1)), masks

    def selected(self, features: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        """Returns the logit (P,) of one attribute (P,) of each image, features (P, h, w, C)."""
        _, height, width, channels = features.shape
        masked = self._selected_features(features, attributes)
        cells = ops.reshape(masked, (-1, height * width, channels))
        head = ops.take(self.head, attributes, axis=0)
        evidence = ops.matmul(cells, head[:, :, None])[:, :, 0]
        pooled = softmax_average(evidence, self.sharpness)
        return pooled + ops.take(self.head_bias, attributes, axis=0)

    def _pooled(
        self,
        features: KerasTensor,
        sources: list[KerasTensor],
        attributes: list[int],
        slopes: Slopes | None,
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor, KerasTensor]:
        cells, gated = _gated(features, sources)
        weights = ops.take(self.head, attributes, axis=0)[None]  # (1, k, C)
        unmasked = ops.matmul(cells, ops.transpose(weights, (0, 2, 1)))  # (B, P, k)
        evidence = ops.transpose(unmasked, (0, 2, 1)) + ops.stack(_weighted(gated, weights), axis=1)
        shares = attention(evidence, self.sharpness)  # (B, k, P)
        # Unmasked features are averaged for all attributes at once.
        rows = zip(ops.split(shares, len(gated), axis=1), gated, strict=True)
        masked = ops.concatenate([ops.matmul(row, x) for row, x in rows], axis=1)
        pooled = ops.matmul(shares, cells) + masked
        evidence, shares = (ops.transpose(x, (0, 2, 1)) for x in (evidence, shares))
        return evidence, shares, pooled, weights

    def compute_output_spec(
        self, features: KerasTensor, training: bool | None = None
    ) -> dict[str, KerasTensor]:
        """Returns the shapes and dtypes of the outputs."""
        shape = (features.shape[0], self.attribute_count)
        return {name: KerasTensor(shape, "float32") for name in ("logits", "mask_mean")}

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        own = {"sharpness": self.sharpness, "initial_bias": self.initial_bias}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="mcattn_tf")
class SoftmaxPooling(keras.layers.Layer):
    """Averages the evidence of positions by a softmax, as `MaskedSoftmaxPooling` does.

    Args:
        sharpness: s, zero or more.

    Input: evidence (B, h, w, K). Output: (B, K).
    """

    def __init__(self, sharpness: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.sharpness = sharpness

    def call(self, evidence: KerasTensor) -> KerasTensor:
        """Returns the averages."""
        _, height, width, count = evidence.shape
        evidence = ops.reshape(evidence, (-1, height * width, count))
        return softmax_average(evidence, self.sharpness, axis=1)

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        return {**super().get_config(), "sharpness": self.sharpness}
