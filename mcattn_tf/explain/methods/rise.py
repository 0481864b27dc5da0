"""RISE, randomized input sampling for explanation (Petsiuk et al. 2018)."""

from collections.abc import Iterator

import numpy as np

from mcattn_tf.explain.methods.method import Batch, Method, Network, enlarged
from mcattn_tf.explain.methods.perturbation import answers_of

MASKS = 500
CELLS = 7  # along each side of the coarse masks
SHARE = 0.5  # of cells that a mask keeps


def masks(size: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """Yields masks (H, W), in [0, 1]: random cells, enlarged and shifted (section 3.2)."""
    random = np.random.default_rng(0)
    height, width = (-(-side // CELLS) for side in size)
    for _ in range(count):
        coarse = (random.random((1, CELLS + 1, CELLS + 1)) < SHARE).astype(np.float32)
        top, left = random.integers(height), random.integers(width)
        fine = enlarged(coarse, ((CELLS + 1) * height, (CELLS + 1) * width))[0]
        yield fine[top : top + size[0], left : left + size[1]]


class Rise(Method):
    """The mean of random masks, weighted by the probability of the image behind them (eq. 6)."""

    def __init__(self, network: Network) -> None:
        self._answers = answers_of(network.model, network.model.output[network.output])
        self._masks = np.stack(list(masks(network.model.input.shape[1:3], MASKS)))

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, H, W), in [0, 1] for masks of even weight."""
        own, rows = np.unique(batch.pairs.images, return_inverse=True)
        pictures = (batch.images[i] * mask[..., None] for i in own for mask in self._masks)
        answers = self._answers(pictures).reshape(len(own), MASKS, -1)
        columns = answers[rows, :, batch.pairs.attributes]  # (P, masks)
        columns = np.where(batch.pairs.signs[:, None] > 0, columns, 1 - columns)
        return np.tensordot(columns, self._masks, 1) / (MASKS * SHARE)
