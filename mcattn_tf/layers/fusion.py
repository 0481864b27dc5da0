"""Element-wise work in one pass over its arrays, with handwritten gradients, and updates."""

from collections.abc import Callable
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
    """Returns `function` with handwritten gradients.

    Args:
        function: Function from arrays to one array.
        gradients: Function from the same arrays and the output's gradient to theirs.
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
    """Takes a step of SGD in place: v <- momentum v - rate gradient, variable <- variable + v.

    Variable and velocity v are TensorFlow's resource variables.
    """
    import tensorflow as tf

    gradient = tf.convert_to_tensor(gradient)
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle, accum=velocity.handle, lr=rate, grad=gradient, momentum=momentum
    )
