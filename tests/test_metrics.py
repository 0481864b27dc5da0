import numpy as np
import pytest

from mcattn_tf.metrics import ConfusionCounts, MaskStatistics


def test_confusion_counts_worked_out_by_hand():
    labels = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    probabilities = np.array(
        [[0.9, 0.1, 0.2], [0.8, 0.6, 0.7], [0.3, 0.2, 0.9], [0.4, 0.1, 0.1], [0.6, 0.5, 0.3]]
    )
    counts = ConfusionCounts(3)
    counts.update(labels[:2], probabilities[:2])
    counts.update(labels[2:], probabilities[2:])
    result = counts.result()
    # Attribute 0: 2 of 3 present and 1 of 2 absent are right; attribute 1 is never present;
    # attribute 2: 1 of 2 and 2 of 3.
    assert result["accuracy"] == pytest.approx([3 / 5, 4 / 5, 3 / 5])
    expected = [(2 / 3 + 1 / 2) / 2, np.nan, (1 / 2 + 2 / 3) / 2]
    assert result["balanced_accuracy"] == pytest.approx(expected, nan_ok=True)
    assert result["f1"] == pytest.approx([4 / 6, 0, 2 / 4])
    assert result["positives"] == pytest.approx([3 / 5, 0, 2 / 5])
    assert result["majority_accuracy"] == pytest.approx([3 / 5, 1, 3 / 5])


def test_mask_statistics_over_batches_equal_those_over_all():
    masks = np.array([0.0, 0.04, 0.05, 0.5, 0.9, 1.0], np.float32)
    statistics = MaskStatistics()
    statistics.update(masks[:2].reshape(1, 2))
    statistics.update(masks[2:])
    result = statistics.result()
    assert result["mask_mean"] == pytest.approx(2.49 / 6)
    assert result["mask_std"] == pytest.approx(float(masks.astype(np.float64).std()))
    assert result["mask_dead"] == pytest.approx(2 / 6)
