"""A Gaussian around the centre: faces are in the middle of their pictures."""

import numpy as np

from mcattn_tf.explain.methods.method import Batch, Method, Network


def center_map(shape: tuple[int, int]) -> np.ndarray:
    """Returns a Gaussian (h, w) in (0, 1], its standard deviation a quarter of each side."""
    rows, columns = (((np.arange(side) + 0.5) / side - 0.5) / 0.25 for side in shape)
    return np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / 2)


class Center(Method):
    """The same map, that of `center_map`, for every image."""

    def __init__(self, network: Network) -> None:
        self._map = center_map(network.grid).astype(np.float32)

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, h, w)."""
        return np.broadcast_to(self._map, (len(batch.pairs.images), *self._map.shape))
