"""Contributions minus their mean over images."""

from collections.abc import Mapping

import numpy as np

from mcattn_tf.explain.methods.contributions import Contributions
from mcattn_tf.explain.methods.method import Batch, Network


class CenteredContributions(Contributions):
    """Contributions minus their mean over the images of `adapt`."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.means = self.outputs
        self._mean = np.zeros(self.outputs["contributions"].shape[1:], np.float32)  # (h, w, K)

    def adapt(self, means: Mapping[str, np.ndarray]) -> None:
        """Sets the mean contributions, (h, w, K)."""
        self._mean = means["contributions"].astype(np.float32)

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, h, w)."""
        return super().maps(batch) - np.moveaxis(self._mean, -1, 0)[batch.pairs.attributes]
