"""Grad-CAM (Selvaraju et al. 2017)."""

from collections.abc import Callable

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.explain.methods.method import GRADIENT_PAIRS, Batch, Method, Network
from mcattn_tf.explain.methods.selection import build_selected, features_of


def weighted_by_means(features: KerasTensor, gradient: KerasTensor) -> KerasTensor:
    """Returns the sum over channels of the features, each weighted by the mean of its gradient."""
    weights = ops.mean(gradient, axis=(1, 2), keepdims=True)
    return ops.sum(weights * features, axis=-1)


def grad_cam(
    model: keras.Model,
    output: str,
    combine: Callable[[KerasTensor, KerasTensor], KerasTensor] = weighted_by_means,
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Returns Grad-CAM (eq. 1 and 2) of an output's logits, by the features of `features_of`.

    It is a function of features (P, h, w, C), images (P, H, W, 3) and attributes (P,) to maps
    (P, h, w), those that `combine` makes of features and gradient, both (P, h, w, C). The positive
    part is Grad-CAM as published. A model without a convolution raises a UserError.
    """
    import tensorflow as tf

    logits = build_selected(model, output)
    shapes = [tf.TensorSpec(x.shape) for x in (features_of(model), model.input)]

    @tf.function(input_signature=[*shapes, tf.TensorSpec((None,), tf.int32)], autograph=False)
    def maps(features: tf.Tensor, images: tf.Tensor, attributes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(features)
            selected = logits([features, images, attributes], training=False)
        return combine(features, tape.gradient(selected, features))

    return lambda *arguments: maps(*arguments).numpy()


class GradCam(Method):
    """Grad-CAM of the first output, negative values included."""

    needs_gradients = True
    combine = staticmethod(weighted_by_means)

    def __init__(self, network: Network) -> None:
        self.outputs = {"features": network.features}
        self._maps = grad_cam(network.model, network.output, self.combine)

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, h, w)."""
        maps = []
        for start in range(0, len(batch.pairs.images), GRADIENT_PAIRS):
            rows, attributes, _ = batch.pairs.take(slice(start, start + GRADIENT_PAIRS))
            # Mixed precision has features in half precision.
            features = batch.outputs["features"][rows].astype(np.float32)
            maps.append(self._maps(features, batch.images[rows], attributes.astype(np.int32)))
        return np.concatenate(maps)

    def visual_maps(self, batch: Batch) -> np.ndarray:
        """Returns the positive part, (P, h, w), as published."""
        return np.maximum(batch.once(self.maps), 0)
