"""Layers with weights of their own: multi-channel attention masks and position embedding."""

from collections.abc import Iterator, Sequence

import keras
from keras import KerasTensor, ops

from mcattn_tf.layers.masked_sums import masked_evidence, masked_sums


@keras.saving.register_keras_serializable(package="mcattn_tf")
class PositionEmbedding(keras.layers.Layer):
    """Adds to the features of each cell of a grid numbers that are learnt for its place.

    Source: Gehring et al. 2017, section 3.1, in two dimensions. The cell learns where it is, and
    nothing of what is elsewhere in the image: its receptive field stays as it is.

    Input: (B, h, w, C). Output: the same shape.
    """

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        """Makes the embedding, (h, w, C), of zeros."""
        self.embedding = self.add_weight(
            shape=features_shape[1:], initializer="zeros", name="embedding"
        )

    def call(self, features: KerasTensor) -> KerasTensor:
        """Returns the sum."""
        return features + self.embedding


class AttributeMasks(keras.layers.Layer):
    """The masks of K attributes, M^k = sigmoid(conv_k(f)), with as many channels as the features f.

    Source: Kimura & Tanaka 2019, eq. 2. What is done behind them is for subclasses to say.

    Args:
        attribute_count: K.
        kernel_size: of the convolution that makes the masks, 1 or 3.
        channel_masks: whether a mask has values of their own for the channels, or the same for all.
    """

    def __init__(
        self, attribute_count: int, kernel_size: int = 1, channel_masks: bool = True, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.attribute_count = attribute_count
        self.kernel_size = kernel_size
        self.channel_masks = channel_masks

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        """Makes the kernels of the K masks."""
        channels = features_shape[-1]
        size, made = self.kernel_size, channels if self.channel_masks else 1
        limit = (6.0 / (size * size * channels + made)) ** 0.5
        self.kernel = self.add_weight(
            shape=(size, size, channels, self.attribute_count, made),
            # Glorot over one attribute's convolution: the K kernels are stored side by side.
            initializer=keras.initializers.RandomUniform(-limit, limit),
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.attribute_count, made), initializer="zeros", name="bias"
        )

    def _flattened(self, features: KerasTensor) -> tuple[KerasTensor, ...]:
        """Returns patches, features, kernel and bias as `masked_sums` takes them."""
        positions, channels = features.shape[1] * features.shape[2], features.shape[3]
        patches = self._patches(ops.cast(features, self.compute_dtype))
        kernel = ops.cast(self.kernel, self.compute_dtype)
        kernel = ops.reshape(kernel, (patches.shape[-1], self.attribute_count, -1))
        bias = ops.cast(self.bias, self.compute_dtype)
        return (
            ops.reshape(patches, (-1, patches.shape[-1])),
            ops.reshape(features, (-1, positions, channels)),
            ops.broadcast_to(kernel, (*kernel.shape[:2], channels)),
            ops.broadcast_to(bias, (self.attribute_count, channels)),
        )

    def _patches(self, features: KerasTensor) -> KerasTensor:
        """Returns the features of each position's neighbours side by side, (B, h, w, S)."""
        size = self.kernel_size
        if size == 1:
            return features
        height, width = features.shape[1:3]
        margin = (size // 2, size // 2)
        padded = ops.pad(features, ((0, 0), margin, margin, (0, 0)))
        shifted = [
            padded[:, row : row + height, column : column + width]
            for row in range(size)
            for column in range(size)
        ]
        return ops.concatenate(shifted, axis=-1)

    def each_mask(self, features: KerasTensor, attributes: Sequence[int]) -> Iterator[KerasTensor]:
        """Gives the masks of one attribute after another.

        Args:
            features: (B, h, w, C).
            attributes: indices of the attributes wanted.

        Yields:
            (B, h, w, C), values in (0, 1), float32.
        """
        patches = self._patches(ops.cast(features, self.compute_dtype))
        kernel = ops.cast(self.kernel, self.compute_dtype)
        for attribute in attributes:
            matrix = ops.reshape(kernel[:, :, :, attribute], patches.shape[-1:] + kernel.shape[-1:])
            bias = ops.cast(self.bias[attribute], self.compute_dtype)
            mask = ops.sigmoid(ops.cast(ops.matmul(patches, matrix) + bias, "float32"))
            yield mask if self.channel_masks else ops.repeat(mask, features.shape[-1], axis=-1)

    def masks(self, features: KerasTensor, attributes: Sequence[int]) -> KerasTensor:
        """Returns the masks of `each_mask` side by side, (B, h, w, k, C)."""
        return ops.stack(list(self.each_mask(features, attributes)), axis=3)

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        return {
            **super().get_config(),
            "attribute_count": self.attribute_count,
            "kernel_size": self.kernel_size,
            "channel_masks": self.channel_masks,
        }


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MaskedPooling(AttributeMasks):
    """Masks the features once per attribute and averages over positions.

    Source: Kimura & Tanaka 2019, eq. 2: GAP((1 + M^k) * f).

    Args:
        attribute_count: K.
        kernel_size: of the convolution that makes the masks, 1 or 3.
        channel_masks: whether a mask has values of their own for the channels, or the same for all.

    Input: features (B, h, w, C).
    Output: dict with `pooled` (B, K, C), any value, and `mask_mean` (B, K, C), in (0, 1), the mean
    over positions; both float32 whatever the dtype policy.
    """

    def call(self, features: KerasTensor, training: bool | None = None) -> dict[str, KerasTensor]:
        """Returns the pooled masked features and the mean masks."""
        positions = features.shape[1] * features.shape[2]
        gated, masks = masked_sums(*self._flattened(features), bool(training))
        average = ops.mean(ops.cast(features, "float32"), axis=(1, 2))  # (B, C)
        return {
            "pooled": ops.expand_dims(average, 1) + gated / positions,
            "mask_mean": masks / positions,
        }

    def compute_output_spec(
        self, features: KerasTensor, training: bool | None = None
    ) -> dict[str, KerasTensor]:
        """Returns the shapes and dtypes of the outputs."""
        shape = (features.shape[0], self.attribute_count, features.shape[-1])
        return {name: KerasTensor(shape, "float32") for name in ("pooled", "mask_mean")}


def attention(evidence: KerasTensor, sharpness: float, axis: int = -1) -> KerasTensor:
    """Returns the share that each position has in a softmax average.

    Args:
        evidence: with the positions along `axis`.
        sharpness: s of `MaskedSoftmaxPooling`, zero or more.
        axis: of the positions.

    Returns:
        Of the shape of the evidence, in (0, 1), with sum 1 over positions.
    """
    return ops.softmax(sharpness * evidence, axis=axis)


def softmax_average(evidence: KerasTensor, sharpness: float, axis: int = -1) -> KerasTensor:
    """Returns the evidence averaged over positions, each by its share of `attention`."""
    return ops.sum(evidence * attention(evidence, sharpness, axis), axis=axis)


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MaskedSoftmaxPooling(AttributeMasks):
    """Masks the features once per attribute and pools the evidence by a softmax over positions.

    With the head's weights w, the evidence of position p for attribute k is

        e_k[p] = sum over channels c of w_kc (1 + M^k_pc) f_pc,

    and the logit its average by the weights softmax(s e_k) over positions, plus a bias. For a
    sharpness s = 0 that is the linear head on GAP((1 + M^k) * f) (Kimura & Tanaka 2019, eq. 2); the
    larger s, the more it is the strongest evidence alone. The weights of the average are those of
    McFee et al. 2018 (adaptive pooling operators for weakly labeled sound event detection, eq. 3).

    Args:
        attribute_count: K.
        kernel_size: of the convolution that makes the masks, 1 or 3.
        channel_masks: whether a mask has values of their own for the channels, or the same for all.
        sharpness: s, zero or more.
        initial_bias: of every attribute; a logit.

    Input: features (B, h, w, C).
    Output: dict with `logits` (B, K) and `mask_mean` (B, K), the mean over positions of the masks'
    sum over channels, in (0, C); both float32 whatever the dtype policy.
    """

    def __init__(
        self,
        attribute_count: int,
        kernel_size: int = 1,
        channel_masks: bool = True,
        sharpness: float = 0.0,
        initial_bias: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(attribute_count, kernel_size, channel_masks, **kwargs)
        self.sharpness = sharpness
        self.initial_bias = initial_bias

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        """Makes the masks' kernels and the heads."""
        super().build(features_shape)
        self.head = self.add_weight(
            shape=(self.attribute_count, features_shape[-1]),
            initializer="glorot_uniform",
            autocast=False,  # logits are float32 in mixed precision too
            name="head",
        )
        self.head_bias = self.add_weight(
            shape=(self.attribute_count,),
            initializer=keras.initializers.Constant(self.initial_bias),
            autocast=False,
            name="head_bias",
        )

    def call(self, features: KerasTensor, training: bool | None = None) -> dict[str, KerasTensor]:
        """Returns the logits and the masks' means."""
        patches, features, kernel, bias = self._flattened(features)
        head = ops.cast(self.head, "float32")  # a tensor: a custom gradient takes no variables
        gated, masks = masked_evidence(patches, features, kernel, bias, head, bool(training))
        unmasked = ops.matmul(ops.cast(features, "float32"), ops.transpose(head))  # (B, P, K)
        evidence = gated + ops.transpose(unmasked, (0, 2, 1))
        return {
            "logits": softmax_average(evidence, self.sharpness) + self.head_bias,
            "mask_mean": masks / features.shape[1],
        }

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


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MaskL1(keras.layers.Layer):
    """The L1 norm of an image's masks, from their means over positions.

    Source: Kimura & Tanaka 2019, eq. 6.

    Args:
        positions: by which the mean is multiplied: h w for the sum over all mask entries as
            published, 1 for that sum per position.

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
