"""Integrated gradients (Sundararajan et al. 2017)."""

import numpy as np

from mcattn_tf.explain.methods.gradients import Gradients, ImageGradients
from mcattn_tf.explain.methods.method import Batch, Network

STEPS = 32  # points of Gauss-Legendre quadrature


class IntegratedGradients(ImageGradients):
    """The image times its mean gradient on the way from black, an image of zeros (eq. 1).

    The values of a map sum to the score's difference between image and black.
    """

    def gradients_of(self, network: Network) -> Gradients:
        """Returns the image times its mean gradient, of presence."""
        plain = super().gradients_of(network)
        places, weights = np.polynomial.legendre.leggauss(STEPS)

        def integrated(images: np.ndarray, attributes: np.ndarray, signs: np.ndarray) -> np.ndarray:
            present, total = np.ones_like(signs), 0.0
            for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
                way = (place * images).astype(np.float32)
                total = total + weight * plain(way, attributes, present)
            return total * images[:, None]

        return integrated

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the sum over colours, (P, H, W)."""
        return self.pieces(batch, lambda gradients: gradients.sum(axis=-1))
