"""Loops, fusion, gradients, updates and sums over devices, as each backend of Keras needs them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import KerasTensor, ops


def fused(function: Callable) -> Callable:
    """Compiles a function by XLA on TensorFlow, which would not fuse its operations.

    On a CPU, XLA slows down TensorFlow's convolutions and matrix products, but it does element-wise
    work in one pass. JAX and PyTorch compile a whole step or nothing.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def with_gradients(function: Callable, gradients: Callable) -> Callable:
    """Returns `function`, from arrays to one array, with handwritten gradients.

    `gradients` is a function from the same arrays and the output's gradient to theirs.
    """

    @ops.custom_gradient
    def differentiable(*inputs: KerasTensor) -> tuple[KerasTensor, Callable]:
        output = function(*inputs)
        if keras.backend.backend() == "torch":  # it passes the arguments itself, and may drop them
            return output, gradients
        return output, lambda upstream: gradients(*inputs, upstream)

    return differentiable


def move_with_momentum(
    variable: Any, velocity: Any, gradient: KerasTensor, rate: KerasTensor, momentum: float
) -> None:
    """Updates TensorFlow's variables: v <- momentum v - rate gradient, variable <- variable + v."""
    import tensorflow as tf

    gradient = tf.convert_to_tensor(gradient)
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle, accum=velocity.handle, lr=rate, grad=gradient, momentum=momentum
    )


def normalized_by_batch(
    features: KerasTensor, gamma: Any, beta: Any, epsilon: float
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    """Normalises (B, h, w, C) by TensorFlow's one operation; with mean and variance (C,)."""
    import tensorflow as tf

    normalized, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=features,
        scale=tf.convert_to_tensor(gamma),
        offset=tf.convert_to_tensor(beta),
        mean=[],
        variance=[],
        epsilon=epsilon,
        is_training=True,
    )
    # TensorFlow's variance is that of a sample, Keras' that of the values themselves.
    count = tf.cast(tf.size(features) // features.shape[-1], "float32")
    return normalized, mean, variance * (1 - 1 / count)


def sharing_devices() -> int:
    """Returns the number of devices by which `tf.distribute` divides the batch at hand.

    It is 1 on JAX, where `keras.distribution` divides arrays that a network sees whole.
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def summed_over_devices(*tensors: KerasTensor) -> tuple[KerasTensor, ...]:
    """Returns the sums of tensors over the devices that share a batch."""
    if sharing_devices() == 1:
        return tensors
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return tuple(context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors)))


def in_slices(
    function: Callable[..., list[KerasTensor]],
    tensors: Sequence[KerasTensor],
    length: int,
    shapes: Sequence[tuple],
    unrolled: bool,
) -> list[KerasTensor]:
    """Applies a function to one slice of tensors after another, along their first axis.

    Args:
        function: Function from slices (length, ...) to a list of float32 tensors (length, ...).
        tensors: Tensors (K, ...), K static; the last slice is padded by zeros.
        length: Length of a slice.
        shapes: Shapes of the function's outputs without the first axis.
        unrolled: Whether to avoid a loop of the backend, as on a GPU, where XLA compiles the step
            and cannot differentiate TensorFlow's loops.
    """
    count = tensors[0].shape[0]
    slice_count = math.ceil(count / length)

    def sliced(values: KerasTensor) -> KerasTensor:
        missing = slice_count * length - count
        values = ops.pad(values, ((0, missing), *[(0, 0)] * (len(values.shape) - 1)))
        return ops.reshape(values, (slice_count, length, *ops.shape(values)[1:]))

    def step(_: list[KerasTensor], slices: list[KerasTensor]) -> tuple[list, list]:
        outputs = function(*slices)
        return outputs, outputs

    pieces = [sliced(values) for values in tensors]
    if unrolled:
        each = [function(*(values[i] for values in pieces)) for i in range(slice_count)]
        results = [ops.stack(parts) for parts in zip(*each, strict=True)]
    else:
        # On TensorFlow the carry of `scan` must have the shapes of the outputs.
        start = [ops.zeros((length, *shape), "float32") for shape in shapes]
        _, results = ops.scan(step, start, pieces)
    return [ops.reshape(x, (slice_count * length, *ops.shape(x)[2:]))[:count] for x in results]
