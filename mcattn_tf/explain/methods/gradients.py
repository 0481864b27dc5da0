"""Gradients of scores with respect to images, for several classes of each image at once."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from mcattn_tf.explain.methods.method import GRADIENT_PAIRS, Batch, Method, Network
from mcattn_tf.explain.methods.selection import build_selected, features_of

Gradients = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def image_gradients(
    model: keras.Model,
    output: str,
    replaced: Mapping[str, str] = MappingProxyType({}),
    check: Callable[[Any], None] = lambda graph: None,
) -> Gradients:
    """Returns the gradients of an output's logits.

    They are a function of images (B, H, W, 3), attributes (B, T) and signs (B, T), 1 for presence
    and -1 for absence, to gradients (B, T, H, W, 3). Features are computed once for each image.
    Kinds of operations in `replaced` have the gradients registered there; `check` sees the graph.
    """
    import tensorflow as tf

    features = keras.Model(model.input, features_of(model))
    logits = build_selected(model, output)
    specs = tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None))

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape), *specs], autograph=False)
    def gradients(images: tf.Tensor, attributes: tf.Tensor, signs: tf.Tensor) -> tf.Tensor:
        count = tf.shape(attributes)[1]
        with tf.compat.v1.get_default_graph().gradient_override_map(dict(replaced)):
            grid = features(images, training=False)
            # The part above the features runs for each pair.
            grids, pictures = (tf.repeat(x, count, axis=0) for x in (grid, images))
            selected = logits([grids, pictures, tf.reshape(attributes, [-1])])
        check(images.graph)
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


class ImageGradients(Method):
    """Gradients of the images by the first output's logits, in pieces of limited size."""

    needs_gradients = True

    def __init__(self, network: Network) -> None:
        self._gradients = self.gradients_of(network)

    def gradients_of(self, network: Network) -> Gradients:
        """Returns the function from images, attributes and signs to gradients."""
        return image_gradients(network.model, network.output)

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the sum over colours of the gradients' absolute values, (P, H, W)."""
        return self.pieces(batch, lambda gradients: np.abs(gradients).sum(axis=-1))

    def visual_maps(self, batch: Batch) -> np.ndarray:
        """Returns the gradients themselves, (P, H, W, 3)."""
        return self.pieces(batch, lambda gradients: gradients)

    def pieces(self, batch: Batch, map_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Returns the maps of all pairs, from those of gradients (P', H, W, 3) in pieces."""
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
