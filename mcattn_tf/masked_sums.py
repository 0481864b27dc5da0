"""Features behind the masks of K attributes, summed over positions (Kimura & Tanaka 2019, eq. 2).

This is where a training step spends its time. The products with the mask kernels are left to the
backend; what lies between them, forward and backward, has a gradient written by hand, which keeps
the logits of the masks, of all that has their size nothing else, and passes over them once. A CPU
goes through the attributes in slices that its cache holds, a GPU takes all at once. More attributes
than those whose logits may be kept are done in blocks, one after another, each computed a second
time in the backward pass: the memory of a step does not grow with their number.
"""

import math
from collections.abc import Callable

import keras
from keras import KerasTensor, ops

from mcattn_tf.devices import gpus

SLICE_CHANNELS = 256  # of the masks in a slice on a CPU: 2 attributes of 128 channels
KEPT_CHANNELS = 5120  # of masks whose logits are kept: 40 attributes of 128 channels
BLOCK_CHANNELS = 2560  # of the masks in a block where there are more


def _fused(function: Callable) -> Callable:
    """Returns the function compiled by XLA on TensorFlow, which would not fuse its operations.

    On a CPU, XLA slows TensorFlow's convolutions and matrix products down, but it does element-wise
    work in one pass. JAX and PyTorch compile a step whole or not at all.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def _sums(logits: KerasTensor, features: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
    masks = ops.sigmoid(ops.cast(logits, "float32"))  # (B, P, k, C)
    gated = masks * ops.expand_dims(features, 2)
    return ops.sum(gated, axis=1), ops.sum(masks, axis=1)


def _stacked_sums(logits: KerasTensor, features: KerasTensor) -> KerasTensor:
    return ops.stack(_sums(logits, features), axis=1)


def _gradients(
    logits: KerasTensor, features: KerasTensor, upstream: KerasTensor
) -> tuple[KerasTensor, KerasTensor]:
    masks = ops.sigmoid(ops.cast(logits, "float32"))
    of_gated = ops.expand_dims(upstream[:, 0], 1)  # (B, 1, k, C)
    of_mask = ops.expand_dims(upstream[:, 1], 1)
    of_logits = (masks - masks * masks) * (of_gated * ops.expand_dims(features, 2) + of_mask)
    return ops.cast(of_logits, logits.dtype), ops.sum(masks * of_gated, axis=2)


_fused_sums, _fused_gradients = _fused(_stacked_sums), _fused(_gradients)


@ops.custom_gradient
def _gated_sums(logits: KerasTensor, features: KerasTensor) -> tuple[KerasTensor, Callable]:
    """Returns sum_p M_pkc f_pc and sum_p M_pkc, (B, 2, k, C), of masks M = sigmoid(logits)."""
    sums = _fused_sums(logits, features)
    if keras.backend.backend() == "torch":  # passes the arguments itself, and may drop them
        return sums, _fused_gradients
    return sums, lambda upstream: _fused_gradients(logits, features, upstream)


def _split(tensor: KerasTensor, length: int, axis: int) -> list[KerasTensor]:
    borders = list(range(length, tensor.shape[axis], length))
    return ops.split(tensor, borders, axis=axis) if borders else [tensor]


def _slice_length(attribute_count: int, channels: int, training: bool) -> int:
    if gpus():
        return attribute_count if training else max(1, BLOCK_CHANNELS // channels)
    # TensorFlow's own operations are fastest on arrays of one attribute: nothing is broadcast.
    return max(1, SLICE_CHANNELS // channels) if training else 1


def _in_slices(
    patches: KerasTensor,
    features: KerasTensor,
    kernel: KerasTensor,
    bias: KerasTensor,
    training: bool,
) -> tuple[KerasTensor, KerasTensor]:
    size, attribute_count, channels = kernel.shape
    length = _slice_length(attribute_count, channels, training)
    gated, masks = [], []
    for slice_kernel, slice_bias in zip(
        _split(kernel, length, axis=1), _split(bias, length, axis=0), strict=True
    ):
        logits = ops.matmul(patches, ops.reshape(slice_kernel, (size, -1)))
        logits = logits + ops.reshape(slice_bias, (-1,))
        logits = ops.reshape(logits, (-1, features.shape[1], slice_kernel.shape[1], channels))
        if training:
            sums = _gated_sums(logits, features)
            sums = sums[:, 0], sums[:, 1]
        else:
            # What is exported must not need XLA, and masks that nobody asks for are not summed.
            sums = _sums(logits, features)
        gated.append(sums[0])
        masks.append(sums[1])
    return ops.concatenate(gated, axis=1), ops.concatenate(masks, axis=1)


def _in_blocks(
    patches: KerasTensor, features: KerasTensor, kernel: KerasTensor, bias: KerasTensor
) -> tuple[KerasTensor, KerasTensor]:
    size, attribute_count, channels = kernel.shape
    longest = max(1, BLOCK_CHANNELS // channels)
    length = math.ceil(attribute_count / math.ceil(attribute_count / longest))  # all of one length
    block_count = math.ceil(attribute_count / length)
    missing = block_count * length - attribute_count
    kernel = ops.pad(kernel, ((0, 0), (0, missing), (0, 0)))
    kernel = ops.reshape(kernel, (size, block_count, length, channels))
    bias = ops.pad(bias, ((0, missing), (0, 0)))
    bias = ops.reshape(bias, (block_count, length, channels))

    def block(patches, features, kernel, bias):
        return ops.stack(_in_slices(patches, features, kernel, bias, training=True), axis=1)

    block = keras.remat(block)

    def step(_: KerasTensor, weights: tuple) -> tuple[KerasTensor, KerasTensor]:
        sums = block(patches, features, *weights)
        return sums, sums

    kernels = ops.moveaxis(kernel, 1, 0)
    if gpus():  # where XLA compiles the step, and cannot differentiate TensorFlow's loops
        sums = ops.stack(
            [block(patches, features, kernels[i], bias[i]) for i in range(block_count)]
        )
    else:
        # On TensorFlow the outputs of `scan` must have the shape of what it hands on.
        start = ops.zeros((ops.shape(features)[0], 2, length, channels), "float32")
        _, sums = ops.scan(step, start, (kernels, bias))  # (n, B, 2, k, C)
    sums = ops.reshape(ops.moveaxis(sums, 0, 2), (-1, 2, block_count * length, channels))
    return sums[:, 0, :attribute_count], sums[:, 1, :attribute_count]


def masked_sums(
    patches: KerasTensor,
    features: KerasTensor,
    kernel: KerasTensor,
    bias: KerasTensor,
    training: bool,
) -> tuple[KerasTensor, KerasTensor]:
    """Returns sum_p M^k_pc f_pc and sum_p M^k_pc, with M^k = sigmoid(patches kernel_k + bias_k).

    Args:
        patches: (B P, S), for each of the P positions of an image the S numbers that decide its
            masks: its features, or those of its neighbours too.
        features: (B, P, C), what is masked.
        kernel: (S, K, C), of the dtype of `patches`, like the bias.
        bias: (K, C).
        training: compute by the handwritten gradient; otherwise by plain operations, which can
            be exported without XLA and of which a graph leaves out what nobody asks for.

    Returns:
        The sums of the masked features and those of the masks, both (B, K, C), float32.
    """
    features = ops.cast(features, "float32")  # once: gradients of all slices add up in float32
    if training and kernel.shape[1] * kernel.shape[2] > KEPT_CHANNELS:
        return _in_blocks(patches, features, kernel, bias)
    return _in_slices(patches, features, kernel, bias, training)
