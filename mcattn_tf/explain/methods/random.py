"""Random maps, with which every measure is compared."""

import numpy as np

from mcattn_tf.explain.methods.method import Batch, Method, Network


class Random(Method):
    """Maps of uniform random values in [0, 1)."""

    def __init__(self, network: Network) -> None:
        self._grid, self._random = network.grid, network.random

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, h, w)."""
        return self._random.random((len(batch.pairs.images), *self._grid), np.float32)
