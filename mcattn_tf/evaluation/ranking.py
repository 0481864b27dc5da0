"""Measures of answers to K attributes that no threshold decides: their ranks and calibration."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mcattn_tf.metrics import confusion_measures, confusions

BINS = 10  # of equal width, of the probabilities in a reliability diagram


class Steps(NamedTuple):
    """Labels of one attribute in the order of their probabilities.

    Attributes:
        values: (S,), different probabilities, rising.
        present: (S,), numbers of present labels that have them.
        absent: (S,), numbers of absent labels that have them.
    """

    values: np.ndarray
    present: np.ndarray
    absent: np.ndarray

    @property
    def one_sided(self) -> bool:
        """Whether no label is present, or none absent."""
        return not (self.present.any() and self.absent.any())


def steps_of(labels: np.ndarray, probabilities: np.ndarray) -> Iterator[Steps]:
    """Yields the steps of each of K attributes; labels and probabilities are (N, K)."""
    for column, shares in zip(labels.T, probabilities.T, strict=True):
        known = column >= 0
        values, places = np.unique(shares[known], return_inverse=True)
        counts = [np.bincount(places[column[known] == x], minlength=len(values)) for x in (1, 0)]
        yield Steps(values, *counts)


def roc_auc(steps: Steps) -> float:
    """Returns the area under the ROC curve; NaN where all labels are equal.

    It is the share of pairs of a present and an absent label in which the present one has the
    higher probability; of equal ones a half counts.
    """
    if steps.one_sided:
        return float("nan")
    below = np.cumsum(steps.absent) - steps.absent
    right = np.sum(steps.present * (below + steps.absent / 2))
    return float(right / (steps.present.sum() * steps.absent.sum()))


def average_precision(steps: Steps) -> float:
    """Returns the mean over present labels of the precision at their probability.

    Equal probabilities are one threshold, without interpolation. NaN where all labels are equal.
    """
    if steps.one_sided:
        return float("nan")
    present, absent = (np.cumsum(x[::-1]) for x in (steps.present, steps.absent))
    return float(np.sum(steps.present[::-1] * present / (present + absent)) / present[-1])


def reliability(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns what a reliability diagram shows, each (K, BINS): known labels in a bin, and sums.

    Args:
        labels: (N, K), 1 present, 0 absent and -1 unknown.
        probabilities: (N, K), in [0, 1].

    Returns:
        Numbers of known labels whose probability is in a bin, sums of their probabilities, and
        numbers of the present ones among them.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins += BINS * np.arange(labels.shape[1])
    known, shape = labels >= 0, (labels.shape[1], BINS)

    def sums(weights: np.ndarray) -> np.ndarray:
        own = np.bincount(bins[known], weights[known], minlength=shape[0] * BINS)
        return own.reshape(shape)

    return sums(known), sums(probabilities), sums(labels == 1)


def calibration_error(counts: np.ndarray, sums: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Returns the expected calibration error (Naeini et al. 2015) of results of `reliability`.

    The mean over known labels of the distance, within a bin, of the mean probability from the share
    of present labels. Arguments are (..., BINS); NaN where no label is known.
    """
    with np.errstate(invalid="ignore"):
        return np.abs(sums - present).sum(axis=-1) / counts.sum(axis=-1)


def measures_of(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Returns {measure: (K,)} of answers (N, K) to labels (N, K), NaN where it is not defined.

    Measures are those of `confusion_measures` at a threshold of 0.5, `roc_auc` and
    `average_precision`, and `calibration_error` of probabilities in 10 bins.
    """
    cases = np.sum(confusions(labels, probabilities > 0.5), axis=1)
    steps = list(steps_of(labels, probabilities))
    return confusion_measures(*cases) | {
        "roc_auc": np.array([roc_auc(x) for x in steps]),
        "average_precision": np.array([average_precision(x) for x in steps]),
        "calibration_error": calibration_error(*reliability(labels, probabilities)),
    }


def mean_of(values: np.ndarray) -> float | None:
    """Returns the mean of measures (K,) over the attributes that define them; None of none."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else None
