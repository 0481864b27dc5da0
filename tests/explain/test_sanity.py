"""Cascading randomisation on maps whose dependence on the weights is known."""

import keras
import numpy as np
import pytest
from conftest import randomise_weights, tiny_config, tiny_config_of

from mcattn_tf import models
from mcattn_tf.explain.methods import Attributor, Pairs
from mcattn_tf.explain.truth.sanity import (
    cascading_randomisation,
    rank_correlation,
    similarity,
    stages,
)

PAIRS = Pairs(np.arange(6), np.array([0, 1, 2, 0, 1, 2]), np.ones(6, int))


def test_stages_go_from_the_heads_down_to_the_image():
    names = [stage.name for stage in stages(models.build(tiny_config()))]
    assert names == [
        "heads",
        "masks",
        "pointwise_0_conv",
        "position_embedding",
        "context_1_conv",
        "context_0_conv",
        "stem_1_conv",
        "stem_0_conv",
    ]
    model = models.build(tiny_config())
    covered = [path for stage in stages(model) for path in stage.weights]
    assert sorted(covered) == sorted(weight.path for weight in model.weights)


def test_a_normalisation_is_randomised_with_the_convolution_before_it():
    model = models.build(tiny_config_of("abn", attention_mechanism="none"))
    for stage in stages(model)[1:]:
        kinds = [path.rpartition("/")[2] for path in stage.weights]
        assert kinds == ["kernel", "gamma", "beta", "moving_mean", "moving_variance"], stage.name


@pytest.mark.parametrize(
    ("sharpness", "rank", "names"),
    [
        *((0.0, None, ("kernel", "bias")), (0.25, None, ("kernel", "bias"))),
        (0.25, 2, ("shared_kernel", "mixing", "amplitude")),
    ],
)
def test_heads_and_masks_are_stages_of_their_own(sharpness, rank, names):
    config = tiny_config(model={"pooling_sharpness": sharpness, "mask_rank": rank})
    model = models.build(config)
    heads, masks = (set(stage.weights) for stage in stages(model)[:2])
    assert masks == {f"masked_pooling/{name}" for name in names}
    own = {"masked_pooling/head", "masked_pooling/head_bias"}
    assert {
        "multilabel_logits/kernel",
        *(own if sharpness else ["attribute_logits/kernel"]),
    } < heads
    baseline = stages(models.build(tiny_config(model={"name": "baseline"})))
    assert baseline[0].weights == ("multilabel_logits/kernel", "multilabel_logits/bias")
    assert baseline[1].name == "pointwise_0_conv"


def test_rank_correlation_by_hand():
    first = np.array([[[1.0, 2.0, 3.0, 4.0]]] * 4)
    second = np.array([[[10, 20, 300, 4e9]], [[4, 3, 2, 1]], [[1, 3, 2, 4]], [[5, 5, 5, 5]]])
    # One swap of neighbours among four: 1 - 6 * 2 / (4 * 15).
    np.testing.assert_allclose(rank_correlation(first, second), [1, -1, 0.8, 0])
    tied, other = np.array([[[1.0, 1.0, 2.0, 3.0]]]), np.array([[[1.0, 2.0, 3.0, 4.0]]])
    # Ranks 0.5, 0.5, 2, 3 against 0, 1, 2, 3: 4.5 / sqrt(4.5 * 5); lowest ranks would give 0.9467.
    np.testing.assert_allclose(rank_correlation(tied, other), 4.5 / 22.5**0.5)
    np.testing.assert_array_equal(rank_correlation(tied * 0, tied * 0), 1)


def test_similarity_is_1_for_the_same_picture_whatever_its_scale():
    maps = np.random.default_rng(0).random((3, 9, 8))
    np.testing.assert_allclose(similarity(maps, 5 * maps - 2), 1, atol=1e-5)
    assert np.all(similarity(maps, maps[::-1, ::-1]) < 0.9)
    # Two opposite ramps: means and variances agree, the covariance is minus the variance.
    ramp = np.broadcast_to(np.linspace(0, 1, 7), (1, 7, 7))
    assert similarity(ramp, ramp[:, :, ::-1])[0] < -0.8


@pytest.mark.parametrize(("shape", "window"), [((9, 10), 7), ((5, 6), 5)])
def test_similarity_is_the_mean_over_windows_of_seven_cells(shape, window):
    first, second = np.random.default_rng(2).random((2, 1, *shape))
    low, high = first.min(), first.max()
    x, y = (first[0] - low) / (high - low), (second[0] - second.min()) / np.ptp(second)
    # Wang et al. 2004: a Gaussian window of deviation 1.5, constants 0.01 and 0.03.
    bell = np.exp(-((np.arange(window) - window // 2) ** 2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / bell.sum() ** 2
    values = []
    for row in range(shape[0] - window + 1):
        for column in range(shape[1] - window + 1):
            a, b = (v[row : row + window, column : column + window] for v in (x, y))
            means = np.sum(weights * a), np.sum(weights * b)
            squares = np.sum(weights * (a * a + b * b)) - means[0] ** 2 - means[1] ** 2
            covariance = np.sum(weights * a * b) - means[0] * means[1]
            values.append(
                (2 * means[0] * means[1] + 0.01**2)
                / (means[0] ** 2 + means[1] ** 2 + 0.01**2)
                * (2 * covariance + 0.03**2)
                / (squares + 0.03**2)
            )
    np.testing.assert_allclose(similarity(first, second), [np.mean(values)], atol=1e-4)


def test_a_map_turned_round_is_as_like_as_one_that_is_not():
    images = keras.Input((4, 4, 3))
    features = keras.layers.Activation("linear", name="features")(images)
    logits = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(features))
    outputs = keras.layers.Activation("sigmoid", name="multilabel")(logits)
    model = keras.Model(images, {"multilabel": outputs})
    ramp, signs = np.linspace(0, 1, 16).reshape(1, 4, 4), iter([1, -1, 1])
    found = cascading_randomisation(model, lambda: {"ramp": next(signs) * ramp}, draws=2)["ramp"]
    # Absolute values are averaged: (|-1| + |1|) / 2, not |-1 + 1| / 2.
    np.testing.assert_allclose(found["rank_correlation"], [1.0])
    assert found["ssim"][0] < 0.5


@pytest.fixture(scope="module")
def result():
    images = np.random.default_rng(1).random((6, 12, 8, 3), dtype=np.float32)
    model = randomise_weights(models.build(tiny_config()))
    attributor = Attributor(model, ["contributions", "mask_mean", "center", "cam"])
    before = model.get_weights()
    reports = []

    def explain():
        return attributor.maps(images, attributor.forward(images), PAIRS)

    found = cascading_randomisation(model, explain, draws=2, report=reports.append)
    again = cascading_randomisation(model, explain, draws=2)
    return found, again, (before, model.get_weights()), reports


def test_a_map_that_ignores_the_weights_stays_as_it_is(result):
    found = result[0]
    np.testing.assert_allclose(found["center"]["rank_correlation"], 1)
    np.testing.assert_allclose(found["center"]["ssim"], 1, atol=1e-6)


def test_maps_change_from_the_stage_on_that_they_depend_on(result):
    found = result[0]
    masks = found["mask_mean"]["rank_correlation"]
    np.testing.assert_allclose(masks[0], 1)  # the heads are not part of a mask
    assert np.all(masks[1:] < 0.9)
    assert np.all(found["contributions"]["rank_correlation"] < 0.95)
    cam = found["cam"]["rank_correlation"]
    assert cam[0] < 0.95 and cam[1] == pytest.approx(cam[0])  # nor are the masks part of CAM


def test_weights_are_as_before_and_draws_those_of_the_seed(result):
    found, again, (before, after), reports = result
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    for method, values in found.items():
        for measure, numbers in values.items():
            np.testing.assert_allclose(numbers, again[method][measure], atol=1e-5)
    assert reports == [1] * (2 * 8)
