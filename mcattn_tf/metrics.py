"""Numbers that are accumulated over a data set, batch by batch."""

import numpy as np


class ConfusionCounts:
    """Counts right and wrong answers per attribute at threshold 0.5.

    Args:
        attribute_count: K.
    """

    def __init__(self, attribute_count: int) -> None:
        self.true_positives = np.zeros(attribute_count, np.int64)
        self.true_negatives = np.zeros(attribute_count, np.int64)
        self.false_positives = np.zeros(attribute_count, np.int64)
        self.false_negatives = np.zeros(attribute_count, np.int64)

    def update(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds a batch.

        Args:
            labels: (B, K), 0 or 1.
            probabilities: (B, K), in [0, 1]; above 0.5 counts as present.
        """
        present, predicted = labels > 0.5, probabilities > 0.5
        self.true_positives += np.sum(present & predicted, axis=0)
        self.true_negatives += np.sum(~present & ~predicted, axis=0)
        self.false_positives += np.sum(~present & predicted, axis=0)
        self.false_negatives += np.sum(present & ~predicted, axis=0)

    def result(self) -> dict[str, np.ndarray]:
        """Returns the measures of each attribute.

        Returns:
            {name: (K,)}, all in [0, 1]: `accuracy`; `balanced_accuracy`, the mean of the accuracy
            on present and on absent (NaN where the data have only one of them); `f1` (NaN where
            nothing is present or predicted); `positives`, the share of present labels;
            `majority_accuracy`, of always answering the more common label.
        """
        positives = self.true_positives + self.false_negatives
        negatives = self.true_negatives + self.false_positives
        count = positives + negatives
        with np.errstate(invalid="ignore"):
            share = positives / count
            sensitivity = self.true_positives / positives
            specificity = self.true_negatives / negatives
            wrong = self.false_positives + self.false_negatives
            return {
                "accuracy": (self.true_positives + self.true_negatives) / count,
                "balanced_accuracy": (sensitivity + specificity) / 2,
                "f1": 2 * self.true_positives / (2 * self.true_positives + wrong),
                "positives": share,
                "majority_accuracy": np.maximum(share, 1 - share),
            }


class MaskStatistics:
    """Mean, spread and deadness of mask entries; tells a mask that the L1 term has killed."""

    DEAD_BELOW = 0.05

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0
        self._sum_of_squares = 0.0
        self._dead = 0

    def update(self, masks: np.ndarray) -> None:
        """Adds mask entries, any shape, in [0, 1]."""
        masks = np.asarray(masks, np.float64)
        self._count += masks.size
        self._sum += masks.sum()
        self._sum_of_squares += np.square(masks).sum()
        self._dead += int(np.count_nonzero(masks < self.DEAD_BELOW))

    def result(self) -> dict[str, float]:
        """Returns `mask_mean`, `mask_std` and `mask_dead`, the share of entries below 0.05."""
        mean = self._sum / self._count
        variance = max(self._sum_of_squares / self._count - mean**2, 0.0)
        return {
            "mask_mean": mean,
            "mask_std": variance**0.5,
            "mask_dead": self._dead / self._count,
        }
