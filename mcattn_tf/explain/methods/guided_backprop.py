"""Guided backpropagation (Springenberg et al. 2015)."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods.method import GRADIENT_PAIRS, Batch, Method, Network
from mcattn_tf.explain.methods.selection import build_selected, features_of


@tf.RegisterGradient("McattnGuidedRelu")
def _guided_relu(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    ordinary = tf.raw_ops.Relu6Grad if operation.type == "Relu6" else tf.raw_ops.ReluGrad
    return tf.nn.relu(ordinary(gradients=gradient, features=operation.outputs[0]))


def _rectified(operation: tf.Operation) -> int | None:
    """Returns which input of max(x, 0) or max(0, x) is x; None for any other operation."""
    if operation.type == "Maximum":
        for index, floor in enumerate(operation.inputs):
            value = tf.get_static_value(floor)
            if floor.op.type == "ZerosLike" or (value is not None and not np.any(value)):
                return 1 - index
    return None


@tf.RegisterGradient("McattnGuidedMaximum")
def _guided_maximum(
    operation: tf.Operation, gradient: tf.Tensor
) -> tuple[tf.Tensor | None, tf.Tensor | None]:
    rectified = _rectified(operation)
    if rectified is None:
        sides = [tf.identity(x) for x in operation.inputs]
        return tuple(tf.gradients(tf.maximum(*sides), sides, gradient))
    guided = tf.where(operation.inputs[rectified] > 0, tf.nn.relu(gradient), 0.0)
    return (guided, None) if rectified == 0 else (None, guided)


RELUS = ("Relu", "Relu6")
GUIDED = {**dict.fromkeys(RELUS, "McattnGuidedRelu"), "Maximum": "McattnGuidedMaximum"}


def _check_replaced(graph: tf.Graph, name: str) -> None:
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


def guided_gradients(
    model: keras.Model, output: str
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Returns guided backpropagation of an output's logits.

    It is a function of images (B, H, W, 3), attributes (B, T) and signs (B, T), 1 for presence and
    -1 for absence, to gradients (B, T, H, W, 3). Features are computed once for each image.

    Every ReLU or ReLU6, written as a layer, an argument of one, an operation or `maximum(x, 0)`,
    passes back positive gradients only: the gradients of the graph's operations are replaced.
    Other activations, such as leaky ReLUs, keep theirs. A model without a convolution or a ReLU,
    or with a ReLU that cannot be replaced, raises a UserError.
    """
    features = keras.Model(model.input, features_of(model))
    logits = build_selected(model, output)

    specs = tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None))

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape), *specs], autograph=False)
    def gradients(images: tf.Tensor, attributes: tf.Tensor, signs: tf.Tensor) -> tf.Tensor:
        count = tf.shape(attributes)[1]
        with tf.compat.v1.get_default_graph().gradient_override_map(GUIDED):
            grid = features(images, training=False)
            # The part above the features runs for each pair.
            grids, pictures = (tf.repeat(x, count, axis=0) for x in (grid, images))
            selected = logits([grids, pictures, tf.reshape(attributes, [-1])])
        _check_replaced(images.graph, model.name)
        # A gradient tape would not see the replaced gradients.
        above = tf.gradients(
            tf.reshape(signs, [-1]) * selected, [grids, pictures], unconnected_gradients="zero"
        )
        to_grid, directly = (
            tf.reshape(x, tf.concat([tf.shape(signs), tf.shape(x)[1:]], axis=0)) for x in above
        )
        below = tf.vectorized_map(
            lambda gradient: tf.gradients(grid, images, gradient)[0],
            tf.experimental.numpy.moveaxis(to_grid, 1, 0),
        )
        return tf.experimental.numpy.moveaxis(below, 0, 1) + directly

    gradients.get_concrete_function()
    return lambda *arguments: gradients(*arguments).numpy()


class GuidedBackprop(Method):
    """Guided gradients of the image; presence and absence have maps of their own."""

    def __init__(self, network: Network) -> None:
        self._gradients = guided_gradients(network.model, network.output)

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the sum over colours of the gradients' absolute values, (P, H, W)."""
        return self._pieces(batch, lambda gradients: np.abs(gradients).sum(axis=-1))

    def visual_maps(self, batch: Batch) -> np.ndarray:
        """Returns the gradients themselves, (P, H, W, 3)."""
        return self._pieces(batch, lambda gradients: gradients)

    def _pieces(self, batch: Batch, map_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        rows, attributes, signs = batch.pairs
        attributes, signs = attributes.astype(np.int32), signs.astype(np.float32)
        order, maps = [], []
        for members in _rectangles(rows):
            images = batch.images[rows[members[:, 0]]]
            gradients = self._gradients(images, attributes[members], signs[members])
            order.append(members.ravel())
            maps.append(map_of(np.concatenate(gradients)))
        return np.concatenate(maps)[np.argsort(np.concatenate(order))]


def _rectangles(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yields indices (B, T) of the pairs of images (P,): T pairs of B images that have as many.

    B T is at most `GRADIENT_PAIRS`.
    """
    order = np.argsort(images, kind="stable")
    _, starts, counts = np.unique(images[order], return_index=True, return_counts=True)
    for count in np.unique(counts):
        rectangle = order[starts[counts == count][:, None] + np.arange(count)]
        step = max(1, GRADIENT_PAIRS // count)
        for row in range(0, len(rectangle), step):
            for column in range(0, count, GRADIENT_PAIRS):
                yield rectangle[row : row + step, column : column + GRADIENT_PAIRS]
