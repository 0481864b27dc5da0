"""Layers with weights of their own: the multi-channel attention masks."""

from collections.abc import Sequence

import keras
from keras import KerasTensor, ops

# Masks are made and reduced in slices of attributes that stay in a CPU's cache (4 at C = 128).
SLICE_CHANNELS = 512


def _slices(tensor: KerasTensor, step: int, axis: int) -> list[KerasTensor]:
    borders = list(range(step, tensor.shape[axis], step))
    return ops.split(tensor, borders, axis=axis) if borders else [tensor]


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MaskedPooling(keras.layers.Layer):
    """Masks the features once per attribute and averages over positions.

    Source: Kimura & Tanaka 2019, eq. 2.

    With features f and the mask of attribute k, M^k = sigmoid(conv_k(f)), which has as many
    channels as f, it returns GAP((1 + M^k) * f) and the mean of M^k over positions. The whole
    (B, h, w, K, C) tensor of masks is never formed in the forward pass.

    Args:
        attribute_count: K.
        kernel_size: of the convolution that makes the masks, 1 or 3.

    Input: features (B, h, w, C).
    Output: dict with `pooled` (B, K, C), any value, and `mask_mean` (B, K, C), in (0, 1); both
    float32 whatever the dtype policy.
    """

    def __init__(self, attribute_count: int, kernel_size: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.attribute_count = attribute_count
        self.kernel_size = kernel_size

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        """Makes the kernels of the K masks."""
        channels = features_shape[-1]
        size = self.kernel_size
        fan_in, fan_out = size * size * channels, channels
        limit = (6.0 / (fan_in + fan_out)) ** 0.5
        self.kernel = self.add_weight(
            shape=(size, size, channels, self.attribute_count, channels),
            # Glorot over one attribute's convolution: the K kernels are stored side by side.
            initializer=keras.initializers.RandomUniform(-limit, limit),
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.attribute_count, channels), initializer="zeros", name="bias"
        )

    def call(self, features: KerasTensor) -> dict[str, KerasTensor]:
        """Returns the pooled masked features and the mean masks."""
        channels = features.shape[-1]
        features = ops.cast(features, self.compute_dtype)
        step = max(1, SLICE_CHANNELS // channels)
        kernels = _slices(ops.cast(self.kernel, self.compute_dtype), step, axis=3)
        biases = _slices(ops.cast(self.bias, self.compute_dtype), step, axis=0)
        gated, means = [], []
        for kernel, bias in zip(kernels, biases, strict=True):
            masks = self._masks(features, kernel, bias)  # (B, h, w, k, C)
            product = masks * ops.expand_dims(features, 3)
            gated.append(ops.mean(ops.cast(product, "float32"), axis=(1, 2)))
            means.append(ops.mean(ops.cast(masks, "float32"), axis=(1, 2)))
        average = ops.mean(ops.cast(features, "float32"), axis=(1, 2))  # (B, C)
        return {
            "pooled": ops.expand_dims(average, 1) + ops.concatenate(gated, axis=1),
            "mask_mean": ops.concatenate(means, axis=1),
        }

    def masks(self, features: KerasTensor, attributes: Sequence[int]) -> KerasTensor:
        """Returns the masks themselves.

        Args:
            features: (B, h, w, C).
            attributes: indices of the k attributes wanted.

        Returns:
            (B, h, w, k, C), values in (0, 1), float32.
        """
        indices = ops.convert_to_tensor(list(attributes), dtype="int32")
        kernel = ops.take(ops.cast(self.kernel, self.compute_dtype), indices, axis=3)
        bias = ops.take(ops.cast(self.bias, self.compute_dtype), indices, axis=0)
        masks = self._masks(ops.cast(features, self.compute_dtype), kernel, bias)
        return ops.cast(masks, "float32")

    def _masks(self, features: KerasTensor, kernel: KerasTensor, bias: KerasTensor) -> KerasTensor:
        size, _, channels, attribute_count, _ = kernel.shape
        kernel = ops.reshape(kernel, (size, size, channels, attribute_count * channels))
        logits = ops.conv(features, kernel, padding="same") + ops.reshape(bias, (-1,))
        height, width = features.shape[1:3]
        return ops.reshape(ops.sigmoid(logits), (-1, height, width, attribute_count, channels))

    def compute_output_spec(self, features: KerasTensor) -> dict[str, KerasTensor]:
        """Returns the shapes and dtypes of the outputs."""
        shape = (features.shape[0], self.attribute_count, features.shape[-1])
        return {name: KerasTensor(shape, "float32") for name in ("pooled", "mask_mean")}

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        return {
            **super().get_config(),
            "attribute_count": self.attribute_count,
            "kernel_size": self.kernel_size,
        }


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MaskL1(keras.layers.Layer):
    """The L1 norm of an image's masks, from their means over positions.

    Source: Kimura & Tanaka 2019, eq. 6.

    Args:
        positions: by which the mean is multiplied: h w for the sum over all mask entries as
            published, 1 for that sum per position.

    Input: mean masks (B, K, C). Output: (B,), zero or more.
    """

    def __init__(self, positions: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.positions = positions

    def call(self, mask_mean: KerasTensor) -> KerasTensor:
        """Returns the norm of each image's masks."""
        return ops.sum(mask_mean, axis=(1, 2)) * self.positions

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        return {**super().get_config(), "positions": self.positions}
