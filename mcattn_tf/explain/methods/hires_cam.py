"""HiResCAM (Draelos and Carin 2020)."""

from keras import KerasTensor, ops

from mcattn_tf.explain.methods.grad_cam import GradCam


def multiplied(features: KerasTensor, gradient: KerasTensor) -> KerasTensor:
    """Returns the sum over channels of the features times their gradient (eq. 2)."""
    return ops.sum(gradient * features, axis=-1)


class HiResCam(GradCam):
    """HiResCAM: Grad-CAM with the gradient of each cell in place of its mean."""

    combine = staticmethod(multiplied)
