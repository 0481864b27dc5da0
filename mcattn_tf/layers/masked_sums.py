"""Features behind the masks of K attributes, summed over positions or over channels.

Source: Kimura & Tanaka 2019, eq. 2. A training step spends most of its time here. The backend
computes the products with the mask kernels. The element-wise work between them has handwritten
gradients: they keep only the masks' logits of all tensors of that size, and pass over them once.

A CPU processes slices of attributes that fit its cache, a GPU all attributes at once. Attributes
beyond those whose logits may be kept are computed in blocks, and again in the backward pass. So the
memory of a step does not grow with the number of attributes.
"""

import math
from collections.abc import Callable, Iterator

import keras
from keras import KerasTensor, ops

from mcattn_tf.devices import gpus
from mcattn_tf.layers.fusion import fused, in_slices, with_gradients

SLICE_CHANNELS = 256  # mask channels of a slice on a CPU: 2 attributes of 128 channels
KEPT_CHANNELS = 5120  # mask channels whose logits are kept: 40 attributes of 128 channels
BLOCK_CHANNELS = 2560  # mask channels of a block where there are more

# Kernel (C, K, C) and bias (K, C) of the masks of K attributes, and a head (K, C) if there is one.
Weights = tuple[KerasTensor, ...]


def _sums(logits: KerasTensor, features: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
    """Returns sum_p M_pkc f_pc and sum_p M_pkc, both (B, k, C)."""
    masks = ops.sigmoid(ops.cast(logits, "float32"))  # (B, P, k, C)
    gated = masks * ops.expand_dims(features, 2)
    return ops.sum(gated, axis=1), ops.sum(masks, axis=1)


def _sums_gradients(
    logits: KerasTensor, features: KerasTensor, upstream: KerasTensor
) -> tuple[KerasTensor, KerasTensor]:
    masks = ops.sigmoid(ops.cast(logits, "float32"))
    of_gated = ops.expand_dims(upstream[:, :, 0], 1)  # (B, 1, k, C)
    of_mask = ops.expand_dims(upstream[:, :, 1], 1)
    of_logits = (masks - masks * masks) * (of_gated * ops.expand_dims(features, 2) + of_mask)
    return ops.cast(of_logits, logits.dtype), ops.sum(masks * of_gated, axis=2)


def _evidence(
    logits: KerasTensor, features: KerasTensor, head: KerasTensor
) -> tuple[KerasTensor, KerasTensor]:
    """Returns sum_c w_kc M_pkc f_pc, (B, k, P), and sum_pc M_pkc, (B, k)."""
    masks = ops.sigmoid(ops.cast(logits, "float32"))  # (B, P, k, C)
    evidence = ops.sum(masks * (ops.expand_dims(features, 2) * head), axis=-1)
    return ops.transpose(evidence, (0, 2, 1)), ops.sum(masks, axis=(1, 3))


def _joined_evidence(logits: KerasTensor, features: KerasTensor, head: KerasTensor) -> KerasTensor:
    evidence, masks = _evidence(logits, features, head)
    return ops.concatenate([evidence, masks[:, :, None]], axis=2)  # (B, k, P + 1)


def _evidence_gradients(
    logits: KerasTensor, features: KerasTensor, head: KerasTensor, upstream: KerasTensor
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    masks = ops.sigmoid(ops.cast(logits, "float32"))
    features = ops.expand_dims(features, 2)
    of_evidence = ops.expand_dims(ops.transpose(upstream[:, :, :-1], (0, 2, 1)), 3)  # (B, P, k, 1)
    of_mask = upstream[:, None, :, -1:]
    of_gated = of_evidence * head
    of_logits = (masks - masks * masks) * (of_gated * features + of_mask)
    of_head = ops.sum(masks * (of_evidence * features), axis=(0, 1))
    return ops.cast(of_logits, logits.dtype), ops.sum(masks * of_gated, axis=2), of_head


_trained_sums = with_gradients(
    fused(lambda *inputs: ops.stack(_sums(*inputs), axis=2)),  # (B, k, 2, C)
    fused(_sums_gradients),
)
_trained_evidence = with_gradients(fused(_joined_evidence), fused(_evidence_gradients))


def _split(tensor: KerasTensor, length: int, axis: int) -> list[KerasTensor]:
    borders = list(range(length, tensor.shape[axis], length))
    return ops.split(tensor, borders, axis=axis) if borders else [tensor]


def _slices(
    inputs: KerasTensor, features: KerasTensor, weights: Weights, training: bool
) -> Iterator[tuple[KerasTensor, ...]]:
    """Yields the masks' logits (B, P, k, C) of one slice of attributes after another, and heads."""
    size, attribute_count, channels = weights[0].shape
    if gpus():
        length = attribute_count if training else max(1, BLOCK_CHANNELS // channels)
    else:  # TensorFlow's own operations are fastest without broadcasting, on one attribute
        length = max(1, SLICE_CHANNELS // channels) if training else 1
    others = (_split(values, length, axis=0) for values in weights[1:])
    for kernel, bias, *head in zip(_split(weights[0], length, axis=1), *others, strict=True):
        logits = ops.matmul(inputs, ops.reshape(kernel, (size, -1)))
        logits = logits + ops.reshape(bias, (-1,))
        yield ops.reshape(logits, (-1, features.shape[1], kernel.shape[1], channels)), *head


def _inferred(
    function: Callable, inputs: KerasTensor, features: KerasTensor, weights: Weights
) -> tuple[KerasTensor, ...]:
    """Returns both outputs of a plain function for all attributes, (B, K, ...)."""
    # An export must not need XLA, and separate outputs let it omit the sums that nobody asks for.
    slices = _slices(inputs, features, weights, training=False)
    outputs = [function(logits, features, *head) for logits, *head in slices]
    return tuple(ops.concatenate(parts, axis=1) for parts in zip(*outputs, strict=True))


def _trained(
    function: Callable, inputs: KerasTensor, features: KerasTensor, weights: Weights
) -> KerasTensor:
    """Returns the output of a differentiable function for all attributes, (B, K, ...)."""
    slices = _slices(inputs, features, weights, training=True)
    return ops.concatenate([function(logits, features, *head) for logits, *head in slices], axis=1)


def _trained_in_blocks(
    function: Callable,
    inputs: KerasTensor,
    features: KerasTensor,
    weights: Weights,
    shape: tuple[int, ...],
) -> KerasTensor:
    """Returns the output of `_trained`, (B, K, *shape), in memory that does not grow with K."""
    _, attribute_count, channels = weights[0].shape
    if attribute_count * channels <= KEPT_CHANNELS:
        return _trained(function, inputs, features, weights)
    longest = max(1, BLOCK_CHANNELS // channels)
    # As many blocks as needed, all of one length.
    length = math.ceil(attribute_count / math.ceil(attribute_count / longest))

    @keras.remat
    def block(*values: KerasTensor) -> KerasTensor:
        inputs, features, kernel, *others = values
        weights = ops.moveaxis(kernel, 0, 1), *others
        return ops.moveaxis(_trained(function, inputs, features, weights), 1, 0)

    [results] = in_slices(
        lambda *weights: [block(inputs, features, *weights)],
        [ops.moveaxis(weights[0], 1, 0), *weights[1:]],
        length,
        [(ops.shape(features)[0], *shape)],
        unrolled=bool(gpus()),
    )
    return ops.moveaxis(results, 0, 1)


def masked_sums(
    inputs: KerasTensor,
    features: KerasTensor,
    kernel: KerasTensor,
    bias: KerasTensor,
    training: bool,
) -> tuple[KerasTensor, KerasTensor]:
    """Returns sum_p M^k_pc f_pc and sum_p M^k_pc, (B, K, C), M^k = sigmoid(f kernel_k + bias_k).

    Args:
        inputs: f, (B P, C), in the dtype that masks are computed in.
        features: f, (B, P, C), of the P positions of each image, as they are masked.
        kernel: (C, K, C), in the dtype of `inputs`, like the bias.
        bias: (K, C).
        training: Whether to use the handwritten gradient. Plain operations can be exported without
            XLA, and a graph omits those that nobody asks for.
    """
    features = ops.cast(features, "float32")  # once: gradients of all slices add up in float32
    weights = kernel, bias
    if not training:
        return _inferred(_sums, inputs, features, weights)
    shape = 2, features.shape[2]
    sums = _trained_in_blocks(_trained_sums, inputs, features, weights, shape)
    return sums[:, :, 0], sums[:, :, 1]


def masked_evidence(
    inputs: KerasTensor,
    features: KerasTensor,
    kernel: KerasTensor,
    bias: KerasTensor,
    head: KerasTensor,
    training: bool,
) -> tuple[KerasTensor, KerasTensor]:
    """Returns sum_c w_kc M^k_pc f_pc, (B, K, P), and sum_pc M^k_pc, (B, K); see `masked_sums`.

    `head` has the weights w, (K, C), float32.
    """
    features = ops.cast(features, "float32")
    weights = kernel, bias, head
    if not training:
        return _inferred(_evidence, inputs, features, weights)
    shape = (features.shape[1] + 1,)
    joined = _trained_in_blocks(_trained_evidence, inputs, features, weights, shape)
    return joined[:, :, :-1], joined[:, :, -1]
