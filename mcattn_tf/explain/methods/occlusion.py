"""Occlusion (Zeiler and Fergus 2014, section 4.2)."""

from collections.abc import Iterator

import numpy as np

from mcattn_tf.explain.methods.method import Batch, Method, Network
from mcattn_tf.explain.methods.perturbation import answers_of, whole_cells

FEWEST = 8  # cells along a side, where an image has as many pixels


def occluded(image: np.ndarray, grid: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields an image (H, W, C), then copies with one cell each in the image's mean colour."""
    yield image
    (height, width), mean = image.shape[:2], image.mean(axis=(0, 1))
    rows, columns = height // grid[0], width // grid[1]
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            picture = image.copy()
            picture[top : top + rows, left : left + columns] = mean
            yield picture


class Occlusion(Method):
    """The drop of the score when a cell has the image's mean colour."""

    def __init__(self, network: Network) -> None:
        model, fewest = network.model, tuple(max(FEWEST, side) for side in network.grid)
        self._scores = answers_of(model, model.get_layer(network.output).input)
        self._grid = whole_cells(model.input.shape[1:3], fewest)

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, h, w)."""
        own, rows = np.unique(batch.pairs.images, return_inverse=True)
        pictures = (x for image in own for x in occluded(batch.images[image], self._grid))
        scores = self._scores(pictures)
        scores = scores.reshape(len(own), -1, scores.shape[-1])
        drops = (scores[:, :1] - scores[:, 1:])[rows, :, batch.pairs.attributes]
        return drops.reshape(-1, *self._grid)
