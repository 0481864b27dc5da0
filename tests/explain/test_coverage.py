"""Coverage and average precision of cells, worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mcattn_tf.explain.truth.coverage import average_precision, coverage, region_cells
from mcattn_tf.explain.truth.localisation import localise

KNOWN = np.ones((1, 2, 3), bool)


def test_a_region_has_the_cells_that_it_fills_beyond_a_quarter():
    fill = np.array([[[0.25, 0.26, 1.0], [0.0, 0.3, 0.9]]])
    expected = [[[False, True, True], [False, True, True]]]
    np.testing.assert_array_equal(region_cells(fill, KNOWN), expected)
    known = KNOWN.copy()
    known[0, 0, 2] = False
    expected[0][0][2] = False
    np.testing.assert_array_equal(region_cells(fill, known), expected)


def test_a_small_region_has_its_fullest_cells():
    fill = np.array([[[0.1, 0.2, 0.0], [0.2, 0.05, 0.0]]])
    np.testing.assert_array_equal(region_cells(fill, KNOWN), fill == 0.2)


def test_coverage_is_the_intersection_over_the_union():
    regions = np.array([[[1, 1, 0], [0, 0, 0]]], bool)
    values = np.array([[[9.0, 4.0, 6.0], [1.0, -1.0, 0.0]]])
    # The middle of the range is 4: two cells are marked, one of them in the region of two.
    assert coverage(values, regions, KNOWN)[0] == pytest.approx(1 / 3)
    assert coverage(values, regions, KNOWN, threshold=3.0)[0] == pytest.approx(2 / 3)
    assert coverage(values, regions, KNOWN, threshold=99.0)[0] == 0
    known = KNOWN.copy()
    known[0, 0, 2] = False  # the cell outside of the region that is marked
    assert coverage(values, regions, known)[0] == pytest.approx(1 / 2)


def test_average_precision_by_hand():
    regions = np.array([[[1, 0, 1], [0, 0, 0]]], bool)
    values = np.array([[[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]])
    assert average_precision(values, regions, KNOWN)[0] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precision(0 * values, regions, KNOWN)[0] == pytest.approx(2 / 6)


def test_average_precision_is_that_of_scikit_learn_with_equal_values():
    random = np.random.default_rng(0)
    values = random.integers(0, 4, (40, 4, 3)).astype(float)
    regions, known = random.random((2, 40, 4, 3)) < [[[[0.3]]], [[[0.8]]]]
    known[:, 0, 0] = regions[:, 0, 0] = True
    regions &= known
    expected = [
        average_precision_score(r[k], v[k]) for r, v, k in zip(regions, values, known, strict=True)
    ]
    np.testing.assert_allclose(average_precision(values, regions, known), expected)


def test_a_map_in_pixels_is_measured_on_feature_cells():
    # 4x6 pixels, 2x3 cells of 2x2; the region is cell (0, 1) and a corner of (1, 2).
    regions = np.zeros((1, 4, 6), bool)
    regions[0, :2, 2:4] = regions[0, 3, 5] = True
    values = np.zeros((1, 4, 6))
    values[0, 0, 2], values[0, 2:, :2] = 4.0, 0.8  # means 1.0 in cell (0, 1), 0.8 in cell (1, 0)
    found = localise(values, regions, np.ones_like(regions), (2, 2))
    assert found.region_cells[0] == pytest.approx(1 / 6)
    assert found.coverage[0] == pytest.approx(1 / 2)  # both lie above 0.5
    assert found.average_precision[0] == 1.0
    assert localise(values, regions, np.ones_like(regions), (2, 2), 0.9).coverage[0] == 1.0
