"""Averages of scores over images and attributes, with bootstrap intervals."""

import numpy as np


def mean_per_attribute(scores: np.ndarray) -> np.ndarray:
    """Averages each attribute over the images that it is scored on.

    Args:
        scores: (N, K), NaN where an attribute of an image is not scored.

    Returns:
        (K,), NaN for an attribute that is scored nowhere.
    """
    counts = np.sum(np.isfinite(scores), axis=0)
    return np.where(counts > 0, np.nansum(scores, axis=0) / np.maximum(counts, 1), np.nan)


def mean_over_attributes(scores: np.ndarray) -> float:
    """Averages the attributes' means, so that rare attributes count like common ones.

    Args:
        scores: (N, K), NaN where an attribute of an image is not scored.

    Returns:
        The mean over the attributes that are scored at all; NaN if none is.
    """
    means = mean_per_attribute(scores)
    return float(np.nanmean(means)) if np.isfinite(means).any() else float("nan")


def bootstrap_interval(
    scores: np.ndarray, draws: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Returns a 95 % interval of `mean_over_attributes` by resampling images.

    Args:
        scores: (N, K), NaN where an attribute of an image is not scored; of the difference of two
            methods, for a paired interval.
        draws: how often N images are drawn with replacement.
        seed: of the draws.

    Returns:
        The 2.5 and 97.5 percentiles; None if nothing is scored.
    """
    scored = np.isfinite(scores)
    if not scored.any():
        return None
    multiplicities = np.random.default_rng(seed).multinomial(
        len(scores), np.full(len(scores), 1 / len(scores)), size=draws
    )
    counts = multiplicities @ scored  # (draws, K)
    sums = multiplicities @ np.nan_to_num(scores)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    low, high = np.nanpercentile(np.nanmean(means, axis=1), [2.5, 97.5])
    return float(low), float(high)
