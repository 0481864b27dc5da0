"""Coverage: whether the cells that a map marks are the cells of the region, all of them."""

import numpy as np

REGION_SHARE = 0.25  # a region has the cells that it fills beyond this share


def region_cells(fill: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the cells of P regions from the share that a region fills of each.

    Args:
        fill: (P, h, w), in [0, 1].
        known: (P, h, w), bool; other cells belong to no region.

    Returns:
        (P, h, w), bool: cells filled beyond a quarter; if there are none, the fullest ones.
    """
    fill = np.where(known, fill, 0)
    fullest = fill.max(axis=(1, 2), keepdims=True)
    return np.where(fullest > REGION_SHARE, fill > REGION_SHARE, (fill == fullest) & known)


def coverage(
    maps: np.ndarray, regions: np.ndarray, known: np.ndarray, threshold: float | None = None
) -> np.ndarray:
    """Returns the intersection over union (P,), in [0, 1], of marked cells and a region's cells.

    Args:
        maps: (P, h, w), any values.
        regions: (P, h, w), bool, each with a known cell.
        known: (P, h, w), bool; other cells are ignored.
        threshold: value above which a cell is marked; None for the middle of each map's range.
    """
    if threshold is None:
        low = np.where(known, maps, np.inf).min(axis=(1, 2), keepdims=True)
        high = np.where(known, maps, -np.inf).max(axis=(1, 2), keepdims=True)
        threshold = (low + high) / 2
    marked = known & (maps > threshold)
    return np.sum(marked & regions, axis=(1, 2)) / np.sum(marked | regions, axis=(1, 2))


def average_precision(maps: np.ndarray, regions: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the average precision (P,) of a region's cells among all, the highest cell first.

    It is the mean over the region's cells of the region's share of the cells that are as high or
    higher, so that cells of equal value count as one step. A constant map has the region's share
    of all cells, as a random one has on average.

    Arguments are those of `coverage`.
    """
    values = np.where(known, maps, -np.inf).reshape(len(maps), -1)
    inside = regions.reshape(len(maps), -1)
    order = np.argsort(-values, axis=1, kind="stable")
    falling, inside = (np.take_along_axis(x, order, axis=1) for x in (values, inside))
    precision = np.cumsum(inside, axis=1) / np.arange(1, inside.shape[1] + 1)
    # The last cell of each run of equal values stands for the run.
    last = np.ones_like(inside)
    last[:, :-1] = falling[:, 1:] != falling[:, :-1]
    place = np.where(last, np.arange(inside.shape[1]), inside.shape[1])
    place = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    precision = np.take_along_axis(precision, place, axis=1)
    return np.sum(precision * inside, axis=1) / np.sum(inside, axis=1)
