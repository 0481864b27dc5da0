"""Guided backpropagation (Springenberg et al. 2015)."""

import functools
from typing import Any

import keras
import numpy as np

from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods.gradients import Gradients, ImageGradients, image_gradients
from mcattn_tf.explain.methods.method import Network

RELUS = ("Relu", "Relu6")


def _rectified(operation: Any) -> int | None:
    """Returns which input of max(x, 0) or max(0, x) is x; None for any other operation."""
    import tensorflow as tf

    if operation.type == "Maximum":
        for index, floor in enumerate(operation.inputs):
            value = tf.get_static_value(floor)
            if floor.op.type == "ZerosLike" or (value is not None and not np.any(value)):
                return 1 - index
    return None


@functools.cache  # TensorFlow takes a name once
def _registered() -> dict[str, str]:
    """Registers the guided gradients, and returns their names by the kind of operation."""
    import tensorflow as tf

    @tf.RegisterGradient("McattnGuidedRelu")
    def relu(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
        ordinary = tf.raw_ops.Relu6Grad if operation.type == "Relu6" else tf.raw_ops.ReluGrad
        return tf.nn.relu(ordinary(gradients=gradient, features=operation.outputs[0]))

    @tf.RegisterGradient("McattnGuidedMaximum")
    def maximum(
        operation: tf.Operation, gradient: tf.Tensor
    ) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        rectified = _rectified(operation)
        if rectified is None:
            sides = [tf.identity(x) for x in operation.inputs]
            return tuple(tf.gradients(tf.maximum(*sides), sides, gradient))
        guided = tf.where(operation.inputs[rectified] > 0, tf.nn.relu(gradient), 0.0)
        return (guided, None) if rectified == 0 else (None, guided)

    return {**dict.fromkeys(RELUS, "McattnGuidedRelu"), "Maximum": "McattnGuidedMaximum"}


def _check_replaced(name: str, graph: Any) -> None:
    """Raises a UserError unless every ReLU of a graph has the guided gradient."""
    nodes = graph.as_graph_def(add_shapes=False)
    hidden = [
        node.name
        for function in nodes.library.function
        for node in function.node_def
        if node.op in RELUS
    ]
    if hidden:
        raise UserError(
            f"guided backpropagation cannot reach {len(hidden)} ReLUs of model {name!r} that are "
            f"in functions of their own, such as {hidden[0]}; take the tf.function off them"
        )
    if not any(
        operation.type in RELUS or _rectified(operation) is not None
        for operation in graph.get_operations()
    ):
        raise UserError(
            f"guided backpropagation found no ReLU in model {name!r}; without one it is the plain "
            "gradient"
        )


def guided_gradients(model: keras.Model, output: str) -> Gradients:
    """Returns guided backpropagation of an output's logits, a function as of `image_gradients`.

    Every ReLU or ReLU6, written as a layer, an argument of one, an operation or `maximum(x, 0)`,
    passes back positive gradients only: the gradients of the graph's operations are replaced.
    Other activations, such as leaky ReLUs, keep theirs. A model without a convolution or a ReLU,
    or with a ReLU that cannot be replaced, raises a UserError.
    """
    check = functools.partial(_check_replaced, model.name)
    return image_gradients(model, output, _registered(), check)


class GuidedBackprop(ImageGradients):
    """Guided gradients of the image; presence and absence have maps of their own."""

    def gradients_of(self, network: Network) -> Gradients:
        """Returns guided gradients."""
        return guided_gradients(network.model, network.output)
