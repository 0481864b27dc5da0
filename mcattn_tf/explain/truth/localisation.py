"""Localisation: whether a map lies on the region where its attribute is seen."""

from typing import NamedTuple

import numpy as np

from mcattn_tf.explain.truth.coverage import average_precision, coverage, region_cells


class Localisation(NamedTuple):
    """Scores of P maps on P regions; every field is an array (P,).

    Attributes:
        pointing_game: 1 where the highest point hits the region, 0 where it does not; the share of
            hits where several points are equally high.
        energy_in_region: E, the share of the map's positive part that lies in the region.
        normalized_energy: (E - a) / (1 - a); 0 is chance, 1 is all inside.
        chance: the share of the map's positions that hit.
        region_share: a, the region's share of the valid image.
        coverage: intersection over union of the cells that a map marks and the region's cells.
        average_precision: of the region's cells among all, in the order of the map.
        region_cells: the region's share of the cells, the average precision of a random map.
    """

    pointing_game: np.ndarray
    energy_in_region: np.ndarray
    normalized_energy: np.ndarray
    chance: np.ndarray
    region_share: np.ndarray
    coverage: np.ndarray
    average_precision: np.ndarray
    region_cells: np.ndarray


def localise(
    maps: np.ndarray,
    regions: np.ndarray,
    valid: np.ndarray,
    cell: tuple[int, int],
    threshold: float | None = None,
) -> Localisation:
    """Measures maps of any resolution against regions in pixels.

    The pointing game is that of Zhang et al. 2016, with a tolerance of half a feature cell: a
    position hits if the window of one cell around its centre holds a pixel of the region. The
    energy is that of Wang et al. 2020 (Score-CAM); a position's value is spread evenly over its
    pixels. A map without a positive value has the energy of a constant map. Coverage and average
    precision are measured on feature cells; a finer map is averaged over each.

    Args:
        maps: (P, h, w), any values; h divides H and w divides W.
        regions: (P, H, W), bool, each with a pixel that is valid.
        valid: (P, H, W), bool; other pixels are ignored. A position competes only if at least half
            of it is valid.
        cell: height and width of the network's feature cell in pixels, the same for all maps.
        threshold: value above which a cell is marked; None for the middle of each map's range.
    """
    regions = regions & valid
    competes = block_means(valid, maps.shape[1:]) >= 0.5
    hits = _hits(regions, maps.shape[1:], cell) & competes
    highest = np.where(competes, maps, -np.inf).max(axis=(1, 2), keepdims=True)
    highest = (maps == highest) & competes
    positive = np.maximum(maps, 0).astype(np.float64)
    inside = np.sum(positive * block_means(regions, maps.shape[1:]), axis=(1, 2))
    everywhere = np.sum(positive * block_means(valid, maps.shape[1:]), axis=(1, 2))
    share = regions.sum(axis=(1, 2)) / valid.sum(axis=(1, 2))
    energy = np.where(everywhere > 0, inside / np.where(everywhere > 0, everywhere, 1), share)
    room = 1 - share
    grid = valid.shape[1] // cell[0], valid.shape[2] // cell[1]
    known = block_means(valid, grid) >= 0.5
    cells, whole = region_cells(block_means(regions, grid), known), block_means(maps, grid)
    return Localisation(
        pointing_game=_share(hits, highest),
        energy_in_region=energy,
        normalized_energy=np.where(room > 0, (energy - share) / np.where(room > 0, room, 1), 0.0),
        chance=_share(hits, competes),
        region_share=share,
        coverage=coverage(whole, cells, known, threshold),
        average_precision=average_precision(whole, cells, known),
        region_cells=_share(cells, known),
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.sum(part & whole, axis=(1, 2)) / np.sum(whole, axis=(1, 2))


def block_means(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Averages pixels (P, H, W) over the positions of a coarser map, (P, h, w).

    The shape is (h, w); h divides H and w divides W.
    """
    count, height, width = pixels.shape
    blocks = pixels.reshape(count, shape[0], height // shape[0], shape[1], width // shape[1])
    return blocks.mean(axis=(2, 4))


def scaled(maps: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Returns maps scaled to [0, 1] along axes, from lowest to highest; constant ones are 0."""
    low, high = maps.min(axis=axes, keepdims=True), maps.max(axis=axes, keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def _hits(regions: np.ndarray, shape: tuple[int, int], cell: tuple[int, int]) -> np.ndarray:
    """Returns which positions of a map hit: bool (P, h, w)."""
    sums = np.zeros((len(regions), regions.shape[1] + 1, regions.shape[2] + 1), np.int32)
    sums[:, 1:, 1:] = regions.cumsum(axis=1, dtype=np.int32).cumsum(axis=2, dtype=np.int32)
    top, bottom = _windows(regions.shape[1], shape[0], cell[0])
    left, right = _windows(regions.shape[2], shape[1], cell[1])
    sums = sums[:, bottom] - sums[:, top]
    return sums[:, :, right] > sums[:, :, left]


def _windows(pixels: int, positions: int, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns first pixel and end of the window of one cell's size around each position."""
    centers = (np.arange(positions) + 0.5) * pixels / positions
    # The same size for fine and coarse maps; a larger window hits more often.
    first = np.ceil(centers - cell / 2 - 0.5).astype(int)
    return np.clip(first, 0, pixels), np.clip(first + cell, 0, pixels)
