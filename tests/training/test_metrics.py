import numpy as np
import pytest
from conftest import NAMES, randomise_weights, tiny_config

from mcattn_tf import data, metrics, models
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.evaluation.ranking import measures_of
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.metrics import (
    ClassCounts,
    KnownAccuracy,
    MaskStatistics,
    mask_statistics,
    mask_warnings,
)
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.presets import PRESETS


def test_measures_of_answers_worked_out_by_hand():
    labels = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    probabilities = np.array(
        [[0.9, 0.1, 0.2], [0.8, 0.6, 0.7], [0.3, 0.2, 0.9], [0.4, 0.1, 0.1], [0.6, 0.5, 0.3]]
    )
    result = measures_of(labels, probabilities)
    # Attribute 0: 2 of 3 present and 1 of 2 absent are right; attribute 1 is never present;
    # attribute 2: 1 of 2 and 2 of 3.
    assert result["accuracy"] == pytest.approx([3 / 5, 4 / 5, 3 / 5])
    expected = [(2 / 3 + 1 / 2) / 2, np.nan, (1 / 2 + 2 / 3) / 2]
    assert result["balanced_accuracy"] == pytest.approx(expected, nan_ok=True)
    assert result["f1"] == pytest.approx([4 / 6, 0, 2 / 4])
    assert result["positives"] == pytest.approx([3 / 5, 0, 2 / 5])
    assert result["majority_accuracy"] == pytest.approx([3 / 5, 1, 3 / 5])


def test_unknown_labels_are_counted_nowhere():
    labels = np.array([[1, -1, 0], [-1, -1, 1], [0, -1, -1], [0, -1, -1]])
    probabilities = np.array([[0.9, 0.9, 0.9], [0.9, 0.1, 0.9], [0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
    result, training = measures_of(labels, probabilities), KnownAccuracy()
    for rows in (slice(3), slice(3, 4)):
        training.update_state(np.float32(labels[rows]), np.float32(probabilities[rows]))
    # Attribute 0: three labels, two right; attribute 1: none known; attribute 2: one of two.
    assert result["accuracy"] == pytest.approx([2 / 3, np.nan, 1 / 2], nan_ok=True)
    expected = [(1 + 1 / 2) / 2, np.nan, (1 + 0) / 2]
    assert result["balanced_accuracy"] == pytest.approx(expected, nan_ok=True)
    assert result["f1"] == pytest.approx([2 / 3, np.nan, 2 / 3], nan_ok=True)
    assert result["positives"] == pytest.approx([1 / 3, np.nan, 1 / 2], nan_ok=True)
    assert result["majority_accuracy"] == pytest.approx([2 / 3, np.nan, 1 / 2], nan_ok=True)
    assert float(training.result()) == pytest.approx(3 / 5)


def statistics_of(*batches):
    statistics = MaskStatistics(batches[0].shape[3])
    for masks in batches:
        statistics.update(masks)
    return statistics


def test_mask_statistics_worked_out_by_hand():
    # B = 3, h = 2, w = 5, K = 4, C = 6: a sum of a term an image, a row, an attribute, a channel.
    image = np.array([0.0, 0.1, 0.2])[:, None, None, None, None]
    row = (
        np.array([1.0, 1.0, 2.0])[:, None, None, None, None]
        * np.array([-0.1, 0.1])[:, None, None, None]
    )
    attribute = np.array([-0.05, -0.05, 0.05, 0.05])[:, None]
    channel = np.array([-0.02, 0.02, 0.02, -0.02, 0.02, -0.02])
    masks = np.zeros((3, 2, 5, 4, 6)) + 0.19 + image + row + attribute + channel
    statistics = statistics_of(masks.astype(np.float32))
    result = statistics.result()
    assert result.pop("mask_gini") > 0
    # Each term has mean 0 but for the images' 0.1. Under 0.05 are of image 0, in the upper row,
    # half of the channels of the first two attributes: 0.19 - 0.1 - 0.05 - 0.02 = 0.02.
    variance = 0.02 / 3 + (0.01 + 0.01 + 0.04) / 3 + 0.0004
    expected = {
        "mask_mean": 0.29,
        "mask_std": (variance + 0.0025) ** 0.5,
        "mask_std_positions": (0.1 + 0.1 + 0.2) / 3,
        "mask_std_channels": 0.02,
        "mask_std_attributes": 0.05,
        "mask_dead": 1 / 3 * 1 / 2 * 1 / 2 * 2 / 4,
    }
    assert result == pytest.approx(expected, abs=1e-6)
    of_b = statistics.per_attribute("abcd")["b"]
    assert of_b.pop("mask_gini") > 0
    del expected["mask_std_attributes"]
    expected |= {"mask_mean": 0.24, "mask_std": variance**0.5, "mask_dead": 1 / 12}
    assert of_b == pytest.approx(expected, abs=1e-6)
    assert statistics.per_attribute("abcd")["c"]["mask_dead"] == 0


def gini(values):
    """The Gini index by its definition: half of the mean absolute difference over the mean."""
    values = values.astype(np.float64).ravel()
    return np.abs(values[:, None] - values).mean() / (2 * values.mean())


@pytest.fixture
def masks():
    """B = 7, h = 2, w = 3, K = 4, C = 5; attributes of very different levels."""
    logits = np.random.default_rng(0).normal(0, 2, (7, 2, 3, 4, 5)) + [[-9], [-3], [0], [4]]
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def test_mask_statistics_over_batches_equal_numpy_over_all(masks):
    statistics = statistics_of(masks[:2], masks[2:3], masks[3:])
    exact = masks.astype(np.float64)
    expected = {
        "mask_mean": exact.mean(),
        "mask_std": exact.std(),
        "mask_std_positions": exact.std(axis=(1, 2)).mean(),
        "mask_std_channels": exact.std(axis=4).mean(),
        "mask_std_attributes": exact.std(axis=3).mean(),
        "mask_dead": (exact < 0.05).mean(),
    }
    result = statistics.result()
    assert 0 <= gini(masks) - result.pop("mask_gini") < MaskStatistics.GINI_ERROR
    assert result == pytest.approx(expected, rel=1e-6)
    for index, measures in enumerate(statistics.per_attribute("abcd").values()):
        own = exact[:, :, :, index]
        expected = {
            "mask_mean": own.mean(),
            "mask_std": own.std(),
            "mask_std_positions": own.std(axis=(1, 2)).mean(),
            "mask_std_channels": own.std(axis=3).mean(),
            "mask_dead": (own < 0.05).mean(),
        }
        assert 0 <= gini(own) - measures.pop("mask_gini") < MaskStatistics.GINI_ERROR / 10
        assert measures == pytest.approx(expected, rel=1e-6)


def gini_of_statistics(values):
    values = np.asarray(values, np.float32).reshape(1, 1, 1, 1, -1)
    return statistics_of(values).result()["mask_gini"]


def test_gini_of_known_values():
    assert gini_of_statistics([0.3] * 8) == pytest.approx(0, abs=1e-12)
    assert gini_of_statistics([0.0] * 8) == 0
    assert gini_of_statistics([0, 0, 0.7, 0, 0]) == pytest.approx(1 - 1 / 5)
    assert gini_of_statistics([1e-6, 0, 0, 0]) == pytest.approx(1 - 1 / 4)
    assert gini_of_statistics([1.0, 0.5]) == pytest.approx(0.25 / (2 * 0.75))


def test_the_error_of_gini_is_the_stated_one_where_all_entries_share_a_bin():
    ends = np.array([2.0**-5, np.nextafter(np.float32(2.0**-5 * (1 + 2**-7)), np.float32(0))])
    exact = gini(ends)
    assert exact == pytest.approx(MaskStatistics.GINI_ERROR, rel=0.01)
    assert 0 <= exact - gini_of_statistics(ends) <= MaskStatistics.GINI_ERROR


def test_statistics_of_a_network_are_those_of_the_masks_that_are_explained(images, monkeypatch):
    model = randomise_weights(models.build(tiny_config()))
    masks = build_explainer(model, range(3)).predict_on_batch(images)["masks"]
    expected = statistics_of(masks).result()
    monkeypatch.setattr(metrics, "ENTRIES_AT_ONCE", 3 * masks[0].size - 1)  # two images at once
    result = mask_statistics(model, [images[:5], images[5:]]).result()
    assert result == pytest.approx(expected, rel=1e-4)


def masks_with(dead=0.5, positions=0.1):
    return {"mask_dead": dead, "mask_std_positions": positions}


def test_dead_masks_are_told_apart_from_constant_and_healthy_ones():
    healthy = {"Bald": masks_with(dead=0.95), "Bangs": masks_with(positions=0.002)}
    assert mask_warnings(healthy) == []
    dead, constant = mask_warnings(
        healthy
        | {"Smiling": masks_with(dead=0.96, positions=0), "Young": masks_with(dead=1)}
        | {"Male": masks_with(positions=0.0012)}
    )
    assert dead.startswith("warning: the masks of Smiling and Young are dead: 98.0 % of")
    assert dead.endswith("--loss_mask_l1")
    assert constant.startswith("warning: the masks of Male are constant")
    assert "is 0.0012, under 0.002" in constant
    assert "\n" not in dead + constant


def test_a_long_list_of_attributes_is_shortened():
    [three] = mask_warnings({name: masks_with(dead=1) for name in "abc"})
    [many] = mask_warnings({name: masks_with(dead=1) for name in "abcdefg"})
    assert "the masks of a, b and c are dead" in three
    assert "the masks of a, b and 5 more are dead" in many


@pytest.mark.parametrize(
    ("preset", "mean", "within"), [("default", 0.2, 0.1), ("paper", 0.5, 0.05)]
)
def test_masks_of_a_network_that_is_not_trained_yet_do_not_warn(preset, mean, within):
    config = make_config(PRESETS[preset], {"found": {"attributes": NAMES}})
    batches = evaluation_batches(data.load(config.data).validation.take(4), 4).as_numpy_iterator()
    statistics = mask_statistics(models.build(config), (images for images, _ in batches))
    assert statistics.result()["mask_mean"] == pytest.approx(mean, abs=within)
    assert mask_warnings(statistics.per_attribute(NAMES)) == []


def test_counts_of_classes_by_hand():
    counts = ClassCounts(4)
    counts.update(
        np.eye(4)[[0, 0, 1]], np.array([[0.9, 0.1, 0, 0], [0.2, 0.4, 0.4, 0], [0, 1, 0, 0]])
    )
    counts.update(np.eye(4)[[2]], np.array([[0.3, 0.5, 0.1, 0.1]]))
    result = counts.result()
    # Answers: 0, 1 (the first of equal ones), 1, 1; class 3 is neither there nor answered.
    np.testing.assert_allclose(result["recall"], [1 / 2, 1, 0, np.nan])
    np.testing.assert_allclose(result["precision"], [1, 1 / 3, np.nan, np.nan])
    np.testing.assert_allclose(result["f1"], [2 / 3, 1 / 2, 0, np.nan])
    np.testing.assert_allclose(result["positives"], [1 / 2, 1 / 4, 1 / 4, 0])
    assert counts.accuracy() == {"accuracy": 0.5, "majority_accuracy": 0.5}
