"""Averages of scores over images and attributes, with bootstrap intervals."""

import functools
import math

import numpy as np

Scores = dict[str, np.ndarray]  # metric: (N, K), NaN where a pair is not scored


def mean_per_attribute(scores: np.ndarray) -> np.ndarray:
    """Averages scores (N, K) over images without NaN; (K,), NaN for attributes never scored."""
    counts = np.sum(np.isfinite(scores), axis=0)
    return np.where(counts > 0, np.nansum(scores, axis=0) / np.maximum(counts, 1), np.nan)


def mean_over_attributes(scores: np.ndarray) -> float:
    """Averages `mean_per_attribute` of scores (N, K) over scored attributes; NaN if none is."""
    means = mean_per_attribute(scores)
    return float(np.nanmean(means)) if np.isfinite(means).any() else float("nan")


@functools.lru_cache(maxsize=4)
def multiplicities(count: int, draws: int, seed: int) -> np.ndarray:
    """Returns how often each of `count` images is in each draw, (draws, count); do not change."""
    shares = np.full(count, 1 / count)
    return np.random.default_rng(seed).multinomial(count, shares, size=draws).astype(np.float64)


def interval_of(draws: np.ndarray) -> list[float] | None:
    """Returns the 95 % interval of the draws (n,) that are numbers; None where none is."""
    defined = draws[np.isfinite(draws)]
    return np.percentile(defined, [2.5, 97.5]).tolist() if len(defined) else None


def bootstrap_interval(scores: np.ndarray, draws: int = 1000) -> list[float] | None:
    """Returns a 95 % interval of `mean_over_attributes` of scores (N, K); None if none is scored.

    Its ends are percentiles over `draws` draws of N images with replacement.
    """
    scored = np.isfinite(scores)
    if not scored.any():
        return None
    weights = multiplicities(len(scores), draws, seed=0)
    counts = weights @ scored.astype(np.float64)  # (draws, K)
    sums = weights @ np.nan_to_num(scores)
    drawn = np.sum(counts > 0, axis=1)  # attributes
    return interval_of(np.sum(sums / np.maximum(counts, 1), axis=1)[drawn > 0] / drawn[drawn > 0])


def differences(first: Scores, second: Scores) -> dict[str, dict]:
    """Returns {metric: {"mean", "interval"}} of first - second, on pairs that both have."""
    apart = {metric: values - second[metric] for metric, values in first.items()}
    return {
        metric: {"mean": number(mean_over_attributes(x)), "interval": bootstrap_interval(x)}
        for metric, x in apart.items()
    }


def within(scores: Scores, members: np.ndarray) -> Scores:
    """Returns the scores of the pairs of a group, its members (N, K), bool."""
    return {metric: np.where(members, values, np.nan) for metric, values in scores.items()}


def number(value: float) -> float | None:
    """Returns a number for JSON: None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def summarize(scores: Scores, attributes: tuple[str, ...], pairs: str = "pairs") -> dict:
    """Averages the scores of a method.

    Returns:
        {metric: mean over attributes, "intervals": {metric: [low, high]}, "per_attribute": {name:
        {`pairs`: their number, metric: mean over images}}}; None where nothing is scored.
    """
    means = {name: mean_per_attribute(values) for name, values in scores.items()}
    counts = np.isfinite(next(iter(scores.values()))).sum(axis=0)
    return {
        **{name: number(mean_over_attributes(v)) for name, v in scores.items()},
        "intervals": {name: bootstrap_interval(values) for name, values in scores.items()},
        "per_attribute": {
            attribute: {
                pairs: int(counts[index]),
                **{name: number(values[index]) for name, values in means.items()},
            }
            for index, attribute in enumerate(attributes)
            if counts[index]
        },
    }


def merge(into: dict, other: dict) -> None:
    """Adds the values of a nested dict to another, in place."""
    for name, value in other.items():
        if isinstance(value, dict):
            merge(into.setdefault(name, {}), value)
        else:
            into[name] = value
