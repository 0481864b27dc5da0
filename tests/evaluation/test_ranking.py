"""Ranks and calibration of answers, by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score
from sklearn.metrics import roc_auc_score as sklearn_roc_auc

from mcattn_tf.evaluation.ranking import (
    average_precision,
    calibration_error,
    measures_of,
    reliability,
    roc_auc,
    steps_of,
)


def steps(labels: list, probabilities: list):
    """The steps of one attribute."""
    (only,) = steps_of(np.array(labels)[:, None], np.array(probabilities, np.float32)[:, None])
    return only


def test_areas_worked_out_by_hand():
    # Present 0.9, 0.4, 0.4; absent 0.6, 0.4, 0.1: the pairs won by the present are 3 of the
    # first, and 0, 1/2 and 1 of each of the others.
    of_one = steps([1, 0, 1, 1, 0, 0, -1], [0.9, 0.6, 0.4, 0.4, 0.4, 0.1, 0.99])
    assert roc_auc(of_one) == pytest.approx((3 + 1.5 + 1.5) / 9)
    # The precision at 0.9 is 1; at 0.4 it is 3 of 5, for two of the present.
    assert average_precision(of_one) == pytest.approx((1 + 2 * 3 / 5) / 3)
    assert roc_auc(steps([1, 0], [0.5, 0.5])) == 0.5
    for labels in ([1, 1, -1], [0, 0, -1], [-1, -1, -1]):
        one_sided = steps(labels, [0.2, 0.8, 0.5])
        assert np.isnan([roc_auc(one_sided), average_precision(one_sided)]).all()


def test_areas_with_ties_and_unknown_labels_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    labels = random.integers(-1, 2, (200, 3))
    probabilities = random.integers(0, 11, (200, 3)).astype(np.float32) / 10  # many ties, 0 and 1
    probabilities[:, 2] = random.random(200)
    measures = measures_of(labels, probabilities)
    for k in range(3):
        known = labels[:, k] >= 0
        y, p = labels[known, k], probabilities[known, k]
        expected = {
            "roc_auc": sklearn_roc_auc(y, p),
            "average_precision": average_precision_score(y, p),
            "accuracy": np.mean((p > 0.5) == y),
            "balanced_accuracy": balanced_accuracy_score(y, p > 0.5),
            "f1": f1_score(y, p > 0.5),
        }
        assert {name: measures[name][k] for name in expected} == pytest.approx(expected)


def test_the_calibration_error_worked_out_by_hand():
    labels = np.array([[1, 0], [0, -1], [1, 1], [1, 1], [-1, 1]])
    probabilities = np.array([[0.12, 1.0], [0.18, 0.5], [0.72, 0.95], [0.74, 0.9], [0.3, 0.99]])
    counts, sums, present = reliability(labels, probabilities)
    assert counts[0].tolist() == [0, 2, 0, 0, 0, 0, 0, 2, 0, 0]
    assert counts[1].tolist() == [0] * 9 + [4]  # a probability of 1 is in the last bin
    assert present[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 2, 0, 0]
    assert sums[0, [1, 7]] == pytest.approx([0.3, 1.46])
    # Two in the bin of 0.15, half of them present; two in that of 0.73, both present.
    first = 2 / 4 * abs(0.15 - 1 / 2) + 2 / 4 * abs(0.73 - 1)
    second = abs((1.0 + 0.95 + 0.9 + 0.99) / 4 - 3 / 4)
    assert calibration_error(counts, sums, present) == pytest.approx([first, second])
    none = calibration_error(*reliability(np.full((2, 1), -1), np.full((2, 1), 0.5)))
    assert np.isnan(none).all()


def test_bins_are_those_of_scikit_learn():
    random = np.random.default_rng(1)
    labels, probabilities = random.integers(0, 2, (300, 1)), random.random((300, 1))
    counts, sums, present = reliability(labels, probabilities)
    shares, means = calibration_curve(labels[:, 0], probabilities[:, 0], n_bins=10)
    np.testing.assert_allclose((present / counts)[0], shares)
    np.testing.assert_allclose((sums / counts)[0], means)
