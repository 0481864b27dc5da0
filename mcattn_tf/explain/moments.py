"""Running means and correlations of vectors, of which no more than a batch is there at a time."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and co-moments of N vectors of D numbers each.

    Source: Chan et al. 1982 (updating formulae and a pairwise algorithm for computing sample
    variances), eq. 2.1, for co-moments: deviations are taken from each batch's own mean, so that no
    difference of large sums is formed.

    Attributes:
        count: N.
        mean: (D,), float64.
        comoments: (D, D), float64, sum over the vectors of (x - mean) (x - mean)^T.
    """

    count: int
    mean: np.ndarray
    comoments: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Moments":
        """Returns the moments of the rows of an array (N, D), of one row or more."""
        rows = np.asarray(rows, np.float64)
        mean = rows.mean(axis=0)
        deviations = rows - mean
        return cls(len(rows), mean, deviations.T @ deviations)

    def merged(self, other: "Moments") -> "Moments":
        """Returns the moments of the vectors of both."""
        count = self.count + other.count
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.comoments
            + other.comoments
            + np.outer(apart, apart) * (self.count * other.count / count),
        )

    def correlation(self) -> np.ndarray:
        """Returns Pearson's correlation of the D numbers, (D, D), in [-1, 1].

        NaN in the row and column of a number that does not vary, or by less than float32 resolves.
        """
        deviation = np.sqrt(np.diag(self.comoments) / self.count)
        varies = deviation > np.finfo(np.float32).eps * np.abs(self.mean)
        deviation = np.where(varies, deviation, np.nan)
        correlation = self.comoments / self.count / np.outer(deviation, deviation)
        return np.clip(correlation, -1, 1)
