"""SmoothGrad (Smilkov et al. 2017)."""

import numpy as np

from mcattn_tf.explain.methods.gradients import Gradients, ImageGradients
from mcattn_tf.explain.methods.method import Network

SAMPLES = 25
NOISE = 0.15  # standard deviation, as a share of the image's range


class SmoothGrad(ImageGradients):
    """The absolute value of the gradient, averaged over noisy copies of the image."""

    def gradients_of(self, network: Network) -> Gradients:
        """Returns mean gradients; every image gets the same noise, scaled to its range."""
        plain = super().gradients_of(network)

        def smoothed(images: np.ndarray, attributes: np.ndarray, signs: np.ndarray) -> np.ndarray:
            deviation = NOISE * np.ptp(images, axis=(1, 2, 3), keepdims=True)
            shape, total = (SAMPLES, *images.shape[1:]), 0.0
            for noise in np.random.default_rng(0).standard_normal(shape, np.float32):
                total = total + plain(images + deviation * noise, attributes, signs)
            return total / SAMPLES

        return smoothed
