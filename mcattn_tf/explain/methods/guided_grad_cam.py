"""Guided Grad-CAM (Selvaraju et al. 2017, section 3.2)."""

import numpy as np

from mcattn_tf.explain.methods.grad_cam import GradCam
from mcattn_tf.explain.methods.guided_backprop import GuidedBackprop
from mcattn_tf.explain.methods.method import Batch, Method, Network, enlarged


class GuidedGradCam(Method):
    """The positive part of Grad-CAM, enlarged, times guided backpropagation."""

    needs_gradients = True

    def __init__(self, network: Network) -> None:
        self._grad_cam = network.share(GradCam)
        self._guided = network.share(GuidedBackprop)
        self.outputs = self._grad_cam.outputs

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, H, W)."""
        return self._weights(batch) * batch.once(self._guided.maps)

    def visual_maps(self, batch: Batch) -> np.ndarray:
        """Returns the product with the gradient of each colour, (P, H, W, 3)."""
        return self._weights(batch)[..., None] * batch.once(self._guided.visual_maps)

    def _weights(self, batch: Batch) -> np.ndarray:
        signs = batch.pairs.signs[:, None, None].astype(np.float32)
        return enlarged(np.maximum(signs * batch.once(self._grad_cam.maps), 0), batch.size)
