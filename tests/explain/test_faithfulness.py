"""Deletion, insertion and their kin on networks whose answers are known in closed form."""

import keras
import numpy as np
import pytest

from mcattn_tf.explain.truth.faithfulness import BASELINES, FaithfulnessMeter, removal_order

GRID, IMAGE = (2, 4), (4, 12, 3)  # cells of 2x3 pixels


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear_model(weights: np.ndarray, biases: np.ndarray) -> keras.Model:
    """A network whose logits are linear in the mean colours of 2x4 cells.

    Args:
        weights: (2, 4, K), of each cell's mean over pixels and colours.
        biases: (K,).
    """
    images = keras.Input(IMAGE)
    features = keras.layers.AveragePooling2D((2, 3), name="features")(images)
    flat = keras.layers.Flatten()(features)
    dense = keras.layers.Dense(weights.shape[-1])
    probabilities = keras.layers.Activation("sigmoid", name="attributes")(dense(flat))
    kernel = np.repeat(weights.reshape(8, 1, -1) / 3, 3, axis=1).reshape(24, -1)
    dense.set_weights([kernel, biases])
    return keras.Model(images, {"attributes": probabilities})


@pytest.fixture
def linear():
    random = np.random.default_rng(0)
    weights, biases = random.normal(0, 1, (*GRID, 2)), np.array([0.3, -0.4])
    pictures = random.random((5, *IMAGE)).astype(np.float32)
    return weights, biases, linear_model(weights, biases), pictures


def test_deletion_and_insertion_of_a_linear_model_by_hand(linear):
    weights, biases, model, pictures = linear
    attributes, signs = np.array([0, 1, 1, 0, 1]), np.array([1, 1, -1, -1, 1])
    cells = pictures.reshape(5, 2, 2, 4, 3, 3).mean(axis=(2, 4, 5))
    evidence = signs[:, None, None] * np.moveaxis(weights[..., attributes], -1, 0) * cells
    meter = FaithfulnessMeter(model, "attributes", GRID, "zero", steps=8, batch_size=40)
    found = meter(pictures, attributes, signs, evidence)
    for pair in range(5):
        falling = np.sort(evidence[pair].ravel())[::-1]
        bias = signs[pair] * biases[attributes[pair]]
        gone = np.concatenate([[0], np.cumsum(falling)])
        deletion = sigmoid(bias + falling.sum() - gone)
        insertion = sigmoid(bias + gone)

        def area(curve):
            return np.mean((curve[1:] + curve[:-1]) / 2)

        assert found.deletion_auc[pair] == pytest.approx(area(deletion), abs=1e-5)
        assert found.insertion_auc[pair] == pytest.approx(area(insertion), abs=1e-5)


def test_drop_increase_and_gain_by_hand():
    # One cell speaks for attribute 0 by 2 and another against it by 1; the rest is silent.
    weights = np.zeros((*GRID, 1))
    weights[0, 0], weights[1, 2] = 2, -1
    model = linear_model(weights, np.array([0.5]))
    white = np.ones((3, *IMAGE), np.float32)
    maps = np.zeros((3, *GRID))
    maps[0, 0, 0] = 7  # keeps what speaks for it: the logit rises from 1.5 to 2.5
    maps[1, 1, 2] = 7  # keeps what speaks against it: it falls to -0.5
    maps[2, 0, 0], maps[2, 1, 2] = 2, 4  # keeps half of the one and all of the other: 0.5
    meter = FaithfulnessMeter(model, "attributes", GRID, "zero", steps=2)
    found = meter(white, np.zeros(3, int), np.ones(3, int), maps)
    p, q = sigmoid(1.5), sigmoid(np.array([2.5, -0.5, 0.5]))
    np.testing.assert_allclose(found.average_drop, [0, (p - q[1]) / p, (p - q[2]) / p], atol=1e-5)
    np.testing.assert_array_equal(found.average_increase, [1, 0, 0])
    np.testing.assert_allclose(found.average_gain, [(q[0] - p) / (1 - p), 0, 0], atol=1e-5)


def test_average_drop_keeps_what_the_positive_part_of_a_map_covers():
    weights = np.zeros((*GRID, 1))
    weights[0, 0], weights[1, 2] = 2, -1
    model = linear_model(weights, np.array([0.5]))
    maps = np.zeros((3, 4, 12))  # in pixels: cells of 2x3
    maps[0, :2, :3], maps[0, 2:, 6:9] = 7, -3  # a negative cell is removed, not turned round
    maps[1] = -1  # everything is removed
    maps[2, :2, :3] = 1
    maps[2, 2:, 6:9], maps[2, 2, 6] = -6, 3  # one positive pixel of six: half of the highest cell
    meter = FaithfulnessMeter(model, "attributes", GRID, "zero", steps=2)
    ones = np.ones((3, *IMAGE), np.float32)
    found = meter(ones, np.zeros(3, int), np.ones(3, int), maps)
    p, q = sigmoid(1.5), sigmoid(np.array([2.5, 0.5, 2.0]))
    np.testing.assert_allclose(found.average_drop, [0, (p - q[1]) / p, 0], atol=1e-5)
    gain = [(q[0] - p) / (1 - p), 0, (q[2] - p) / (1 - p)]
    np.testing.assert_allclose(found.average_gain, gain, atol=1e-5)


def test_a_detector_of_one_cell():
    weights = np.zeros((*GRID, 1))
    weights[1, 3] = 80
    model = linear_model(weights, np.array([-40.0]))
    white, maps = np.ones((1, *IMAGE), np.float32), np.zeros((1, *GRID))
    maps[0, 1, 3] = 1
    for steps in (4, 8):
        meter = FaithfulnessMeter(model, "attributes", GRID, "zero", steps)
        found = meter(white, np.array([0]), np.array([1]), maps)
        # 0 after the first step: half of the first step's area is all that is left.
        assert found.deletion_auc[0] == pytest.approx(0.5 / steps, abs=1e-6)
        assert found.insertion_auc[0] == pytest.approx(1 - 0.5 / steps, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 33, 100])
def test_scores_do_not_depend_on_the_batch(linear, batch_size):
    _, _, model, pictures = linear
    maps = np.random.default_rng(1).random((5, *GRID))
    arguments = pictures, np.array([0, 1, 0, 1, 1]), np.ones(5, int), maps
    for baseline in BASELINES:
        one = FaithfulnessMeter(model, "attributes", GRID, baseline, 3, batch_size)(*arguments)
        other = FaithfulnessMeter(model, "attributes", GRID, baseline, 3, 14)(*arguments)
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_steps_that_do_not_divide_the_cells_are_weighted_by_what_they_take(linear):
    weights, biases, model, pictures = linear
    maps = np.arange(8.0).reshape(1, *GRID)[:, ::-1, ::-1]
    meter = FaithfulnessMeter(model, "attributes", GRID, "zero", steps=3)
    found = meter(pictures[:1], np.array([0]), np.array([1]), maps)
    cells = pictures[:1].reshape(2, 2, 4, 3, 3).mean(axis=(1, 3, 4))
    evidence = (weights[..., 0] * cells).ravel()  # the order is that of reading
    p = [sigmoid(biases[0] + evidence[gone:].sum()) for gone in (0, 3, 5, 8)]
    by_hand = (p[0] + p[1]) / 2 * 3 / 8 + (p[1] + p[2]) / 2 * 2 / 8 + (p[2] + p[3]) / 2 * 3 / 8
    assert found.deletion_auc[0] == pytest.approx(by_hand, abs=1e-5)


def test_finer_maps_take_away_whole_cells():
    pixels = np.zeros((1, 4, 12))
    pixels[0, 3, 11] = 5  # one high pixel in a low cell: a mean of 5 / 6
    pixels[0, :2, :3] = 1
    ranks = removal_order(pixels, GRID)
    assert ranks[0, 0, 0] == 0 and ranks[0, 1, 3] == 1
    assert sorted(ranks.ravel()) == list(range(8))


def test_equal_cells_go_in_random_order():
    ranks = removal_order(np.zeros((3000, *GRID)), GRID)
    np.testing.assert_allclose(ranks.mean(axis=0), 3.5, atol=0.2)


def test_baselines():
    picture = np.zeros((1, 16, 24, 3), np.float32)
    picture[0, 8, 12] = [1, 2, 4]
    np.testing.assert_allclose(
        BASELINES["mean"](picture)[0, 3, 5], np.array([1, 2, 4]) / (16 * 24), rtol=1e-5
    )
    assert not BASELINES["zero"](picture).any()
    blurred = BASELINES["blur"](picture)[0]
    # A standard deviation of 2 pixels: two pixels aside it falls by exp(-1/2).
    assert blurred[8, 14, 0] / blurred[8, 12, 0] == pytest.approx(np.exp(-0.5), rel=0.02)
    assert blurred[10, 12, 2] / blurred[8, 12, 0] == pytest.approx(4 * np.exp(-0.5), rel=0.02)
    flat = np.full((2, 16, 24, 3), 0.3, np.float32)
    np.testing.assert_allclose(BASELINES["blur"](flat), flat, rtol=1e-5)
