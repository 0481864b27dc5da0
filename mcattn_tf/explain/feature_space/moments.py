"""Running means and correlations of vectors, batch by batch."""

import dataclasses

import numpy as np
from keras import KerasTensor, ops


def moments_of(rows: KerasTensor) -> dict[str, KerasTensor]:
    """Returns `mean` (D,) and `comoments` (D, D) of rows (N, D), float64 if the backend has it."""
    rows = ops.cast(rows, "float64")
    mean = ops.mean(rows, axis=0)
    deviations = rows - mean
    return {"mean": mean, "comoments": ops.matmul(ops.transpose(deviations), deviations)}


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and co-moments of N vectors of D numbers each.

    Source: Chan et al. 1982 (updating formulae and a pairwise algorithm for computing sample
    variances), eq. 2.1, for co-moments: deviations are from each batch's own mean.

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
        return cls(len(rows), **{k: ops.convert_to_numpy(v) for k, v in moments_of(rows).items()})

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
