"""Pointing game, energy and their averages, worked out by hand."""

import numpy as np
import pytest

from mcattn_tf.explain.methods.center import center_map
from mcattn_tf.explain.truth.intervals import (
    bootstrap_interval,
    mean_over_attributes,
    mean_per_attribute,
)
from mcattn_tf.explain.truth.localisation import localise

CELL = (4, 6)  # the images here are 8x18 pixels, 2x3 cells


def measure(values, region, valid=None, cell=CELL):
    """Localises one map; `region` and `valid` are slices of rows and columns."""
    regions, everywhere = np.zeros((1, 8, 18), bool), np.ones((1, 8, 18), bool)
    regions[(0, *region)] = True
    if valid is not None:
        everywhere[(0, *valid)] = False
    return localise(np.array([values], np.float32), regions, everywhere, cell)


def test_a_cell_hits_if_it_holds_a_pixel_of_the_region():
    region = np.s_[3:4, 11:12]  # the last pixel of cell (0, 1)
    for hit, values in ((1, [[0, 1, 0], [0, 0, 0]]), (0, [[0, 0, 1], [0, 0, 0]])):
        found = measure(values, region)
        assert found.pointing_game[0] == hit
        assert found.chance[0] == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("row", "column", "hit"),
    [(4, 10, 1), (3, 8, 1), (6, 13, 1), (2, 10, 0), (7, 10, 0), (4, 7, 0), (4, 14, 0)],
)
def test_a_pixel_hits_within_half_a_cell(row, column, hit):
    values = np.zeros((8, 18))
    values[row, column] = 1
    # The window is of one cell's size: 2 rows and 3 columns before the pixel, 1 and 2 after it.
    assert measure(values, np.s_[4:5, 10:11]).pointing_game[0] == hit


def test_a_fine_map_hits_by_chance_no_more_often_than_a_coarse_one():
    regions = np.zeros((1, 60, 60), bool)
    regions[0, 16:28, 20:40] = True  # three cells by five
    everywhere = np.ones_like(regions)
    coarse = localise(np.zeros((1, 15, 15)), regions, everywhere, (4, 4)).chance[0]
    fine = localise(np.zeros((1, 60, 60)), regions, everywhere, (4, 4)).chance[0]
    assert coarse == pytest.approx(15 / 225)
    # Off the grid of cells a window of 4 touches 12 + 3 rows and 20 + 3 columns.
    assert fine == pytest.approx(15 * 23 / 3600)


def test_equally_high_points_share_the_hit():
    assert measure(np.zeros((2, 3)), np.s_[0:5, 0:3]).pointing_game[0] == pytest.approx(2 / 6)
    both = measure([[5, 0, 5], [0, 0, 0]], np.s_[0:1, 0:1])
    assert both.pointing_game[0] == 0.5


def test_energy_is_the_share_of_positive_values_in_the_region():
    # The region is a quarter of cell (0, 0) and half of cell (1, 2): 6 + 12 of 144 pixels.
    values = np.array([[[4.0, -9.0, 0.0], [2.0, 0.0, 2.0]]], np.float32)
    regions = np.zeros((1, 8, 18), bool)
    regions[0, :2, :3] = regions[0, 4:6, 12:18] = True
    found = localise(values, regions, np.ones((1, 8, 18), bool), CELL)
    energy, share = (4 / 4 + 2 / 2) / 8, 18 / 144
    assert found.energy_in_region[0] == pytest.approx(energy)
    assert found.region_share[0] == pytest.approx(share)
    assert found.normalized_energy[0] == pytest.approx((energy - share) / (1 - share))


def test_a_map_that_says_nothing_has_the_energy_of_chance():
    found = measure([[-1, -2, -3], [0, 0, 0]], np.s_[0:4, 0:9])
    assert found.energy_in_region[0] == found.region_share[0] == pytest.approx(36 / 144)
    assert found.normalized_energy[0] == 0


def test_what_is_not_valid_counts_neither_for_nor_against():
    # The highest cell is invalid, so the second competes; a third of cell (1, 0) is valid.
    values = [[9, 3, 0], [1, 0, 0]]
    invalid = np.zeros((8, 18), bool)
    invalid[:4, :6] = invalid[4:, :4] = True
    found = measure(values, np.s_[0:8, 0:9], (invalid,))
    assert found.pointing_game[0] == 1
    # Of cell (0, 1) half lies in the region, of cell (1, 0)'s valid third all.
    assert found.energy_in_region[0] == pytest.approx((3 / 2 + 1 / 3) / (3 + 1 / 3))
    assert found.region_share[0] == pytest.approx((12 + 20) / (144 - 24 - 16))
    # Four whole cells compete, and two of them reach into the region.
    assert found.chance[0] == pytest.approx(2 / 4)


@pytest.mark.parametrize(("missing", "competes"), [(12, True), (13, False)])
def test_a_cell_of_which_half_is_valid_competes(missing, competes):
    # The highest cell has 24 pixels; the region lies in what is valid of it.
    invalid = np.zeros((8, 18), bool)
    invalid[:2, :6] = True
    invalid[2, : missing - 12] = True
    found = measure([[9, 3, 0], [1, 0, 0]], np.s_[3:4, 0:6], (invalid,))
    assert found.pointing_game[0] == competes
    assert found.chance[0] == pytest.approx(1 / 6 if competes else 0)


def test_a_detector_of_the_region_is_all_inside():
    region = np.zeros((3, 8, 18), bool)
    region[0, 4:, 6:12] = region[1, :4, :6] = region[2, :, 12:] = True
    maps = region.reshape(3, 2, 4, 3, 6).mean(axis=(2, 4))
    found = localise(maps, region, np.ones_like(region), CELL)
    np.testing.assert_array_equal(found.pointing_game, 1)
    np.testing.assert_allclose(found.normalized_energy, 1)


def test_a_random_map_is_at_chance():
    random = np.random.default_rng(0)
    regions = np.zeros((4000, 8, 18), bool)
    regions[:, 2:7, 4:9] = True
    found = localise(random.random((4000, 2, 3)), regions, np.ones_like(regions), CELL)
    assert found.pointing_game.mean() == pytest.approx(found.chance[0], abs=0.03)
    assert found.normalized_energy.mean() == pytest.approx(0, abs=0.01)


def test_center_map_falls_from_the_middle_alike_on_all_sides():
    values = center_map((5, 8))
    np.testing.assert_allclose(values, values[::-1, ::-1])
    assert values.argmax() // 8 == 2 and values[2, 3] == values[2, 4] == values.max()
    # A row below the middle is 0.2 sides away, 0.8 standard deviations.
    assert values[3, 3] / values[2, 3] == pytest.approx(np.exp(-(0.8**2) / 2))


def test_rare_attributes_count_like_common_ones():
    scores = np.array([[1.0, np.nan, np.nan], [0.0, np.nan, np.nan], [0.5, 0.1, np.nan]])
    np.testing.assert_allclose(mean_per_attribute(scores), [0.5, 0.1, np.nan])
    assert mean_over_attributes(scores) == pytest.approx(0.3)
    assert np.isnan(mean_over_attributes(np.full((2, 2), np.nan)))
    assert bootstrap_interval(np.full((2, 2), np.nan)) is None


def test_bootstrap_interval_is_that_of_the_mean():
    scores = np.random.default_rng(1).normal(3, 2, (400, 1))
    low, high = bootstrap_interval(scores, draws=4000)
    error = scores.std() / 20
    assert low == pytest.approx(scores.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(scores.mean() + 1.96 * error, abs=0.2 * error)


def test_bootstrap_draws_images_not_pairs():
    scores = np.random.default_rng(2).normal(0, 1, (300, 1))
    alone, low_alone = bootstrap_interval(scores)[::-1]
    # The same four times over in each image tells nothing new.
    high, low = bootstrap_interval(np.repeat(scores, 4, axis=1))[::-1]
    assert high - low == pytest.approx(alone - low_alone)
