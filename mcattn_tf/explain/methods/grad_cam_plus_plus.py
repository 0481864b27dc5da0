"""Grad-CAM++ (Chattopadhay et al. 2018)."""

from keras import KerasTensor, ops

from mcattn_tf.explain.methods.grad_cam import GradCam

EPSILON = 1e-6


def weighted_cells(features: KerasTensor, gradient: KerasTensor) -> KerasTensor:
    """Returns the positive part of the features, weighted as in eq. 10 to 13 and 19.

    The weight of a cell's positive gradient g is g^2 / (2 g^2 + g^3 sum of the channel's features).
    """
    total = ops.sum(features, axis=(1, 2), keepdims=True)
    below = 2 * gradient**2 + total * gradient**3
    shares = ops.where(gradient != 0, gradient**2 / (below + EPSILON), 0.0)
    weights = ops.sum(shares * ops.relu(gradient), axis=(1, 2), keepdims=True)
    return ops.relu(ops.sum(weights * features, axis=-1))


class GradCamPlusPlus(GradCam):
    """Grad-CAM++, zero or more, of presence."""

    combine = staticmethod(weighted_cells)
