"""The whole measurement on a network and images for which every answer is known."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from mcattn_tf.data.regions.region_set import RegionBatch, RegionSet
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation.answers import explanation_lines
from mcattn_tf.explain.truth.measurement import (
    Measurement,
    Settings,
    measure,
    where_it_looks,
)
from mcattn_tf.explain.truth.summary import format_tables

NAMES = ("Red", "Green", "Blue")
METHODS = ("cam", "grad_cam", "guided_grad_cam", "random", "center")
SETTINGS = Settings(baseline="zero", draws=1, batch_size=8)


def detector() -> keras.Model:
    """Says what colours an image has somewhere; its cells are 2x2 pixels."""
    images = keras.Input((12, 8, 3))
    features = keras.layers.AveragePooling2D(2)(images)
    features = keras.layers.ReLU(name="features")(features)
    pooled = keras.layers.GlobalAveragePooling2D(name="multilabel_pooling")(features)
    dense = keras.layers.Dense(3, name="multilabel_logits")
    outputs = keras.layers.Activation("sigmoid", name="multilabel")(dense(pooled))
    # A cell in full colour is a 24th of the average: its logit rises from -10 to 10.
    dense.set_weights([24 * 20 * np.eye(3), np.full(3, -10)])
    return keras.Model(images, {"multilabel": outputs})


def colored_cells(count: int = 40, seed: int = 0) -> RegionSet:
    """Images with a cell of each colour that is there; Blue has no region."""
    random = np.random.default_rng(seed)
    present = random.random((count, 3)) < 0.6
    cells = random.permuted(np.tile(np.arange(24), (count, 1)), axis=1)[:, :3]
    lit = np.zeros((count, 24, 3), bool)
    np.put_along_axis(lit, cells[:, None], present[:, None], axis=1)
    places = np.zeros((count, 24, 3), bool)
    np.put_along_axis(places, cells[:, None], True, axis=1)
    lit, places = (
        flat.reshape(count, 6, 4, 3).repeat(2, axis=1).repeat(2, axis=2) for flat in (lit, places)
    )

    def read(indices: range) -> RegionBatch:
        rows = slice(indices.start, indices.stop)
        return RegionBatch(
            images=lit[rows].astype(np.float32),
            regions=places[rows, ..., :2],
            valid=np.ones(lit[rows].shape[:3], bool),
            present={"labelled": present[rows, :2], "few": present[rows, :2] & [True, False]},
        )

    return RegionSet("colours", NAMES[:2], ("labelled", "few", "predicted"), count, read)


@pytest.fixture(scope="module")
def result():
    return measure(detector(), NAMES, colored_cells(), SETTINGS)


def test_a_detector_of_one_cell_is_right_by_every_metric(result):
    for method in ("cam", "grad_cam", "guided_grad_cam"):
        values = result[method]
        assert values["pointing_game"] == values["energy_in_region"] == 1
        assert values["normalized_energy"] == pytest.approx(1)
        # The first of 16 steps takes 2 of 24 cells away, and with them the answer.
        assert values["deletion_auc"] == pytest.approx(1 / 24, abs=1e-3)
        assert values["insertion_auc"] == pytest.approx(1 - 1 / 24, abs=1e-3)
        assert values["average_drop"] == pytest.approx(0, abs=1e-3)
    assert result["default_method"] == "cam"


def test_random_and_center_maps_are_near_chance(result):
    random = result["random"]
    assert random["chance"] == pytest.approx(1 / 24) == pytest.approx(random["region_share"])
    assert random["pointing_game"] < 0.15
    assert random["normalized_energy"] == pytest.approx(0, abs=0.03)
    assert random["deletion_auc"] == pytest.approx(0.5, abs=0.15)
    assert result["center"]["sanity_rank_correlation"] == pytest.approx(1)
    assert result["center"]["sanity_ssim"] == pytest.approx(1, abs=1e-5)
    # The heads are the only weights; new ones change the scale of a map of one channel at most.
    assert result["cam"]["sanity"]["stages"] == ["heads"]


def test_methods_are_compared_with_the_default_pair_by_pair(result):
    assert "default_minus_this" not in result["cam"]
    for metric in ("pointing_game", "normalized_energy", "deletion_auc", "insertion_auc"):
        found = result["random"]["default_minus_this"][metric]
        expected = result["cam"][metric] - result["random"][metric]
        assert found["mean"] == pytest.approx(expected)
        low, high = found["interval"]
        assert low < expected < high and low * high > 0  # random maps are worse by every metric
    same = result["grad_cam"]["default_minus_this"]["pointing_game"]
    assert same == {"mean": 0, "interval": [0, 0]}


def test_absence_is_explained_by_what_speaks_against(result):
    # What is absent has no evidence at all: nothing that is taken away changes the answer.
    for name in METHODS:
        assert result[name]["deletion_auc_absent"] == pytest.approx(1, abs=1e-3)


def test_groups_and_pairs_are_those_of_the_labels(result):
    batch = colored_cells().read(range(40))
    present = batch.present["labelled"]
    own = result["cam"]["per_attribute"]
    assert [own[name]["pairs"] for name in NAMES[:2]] == present.sum(axis=0).tolist()
    assert "pairs" not in own.get("Blue", {}) and "pointing_game" not in own.get("Blue", {})
    groups = result["cam"]["groups"]
    assert set(groups["few"]["per_attribute"]) == {"Red"}
    # The network is always right, so what it predicts is what is labelled.
    assert groups["predicted"] == groups["labelled"]
    lit = np.count_nonzero(batch.images.max(axis=(1, 2, 3)))  # one pair each
    assert sum(own[name].get("faithfulness_pairs", 0) for name in own) == lit


def test_the_result_is_json_whatever_was_not_scored(result):
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_localisation_does_not_depend_on_the_batch(result):
    other = measure(
        detector(),
        NAMES,
        colored_cells(),
        dataclasses.replace(SETTINGS, batch_size=7, draws=0),
        methods=["center"],
    )
    for key in ("pointing_game", "energy_in_region", "intervals", "groups"):
        if key == "intervals":
            for metric in ("pointing_game", "energy_in_region"):
                assert other["center"][key][metric] == result["center"][key][metric]
        else:
            assert other["center"][key] == result["center"][key]


def test_tables_show_the_numbers(result):
    text = format_tables(result)
    line = next(line for line in text.splitlines() if line.startswith("cam "))
    assert "1.000 [1.000, 1.000]" in line and f"{result['cam']['deletion_auc']:.3f}" in line
    assert "few, " in text and "cam by attribute:" in text
    assert "cam minus the others, pair by pair" in text and "+0.000 [+0.000, +0.000]" in text
    red = next(line for line in text.splitlines() if line.startswith("Red"))
    assert str(result["cam"]["per_attribute"]["Red"]["pairs"]) in red.split()


def test_only_the_attributes_asked_for_are_measured():
    settings = dataclasses.replace(SETTINGS, draws=0)
    result = measure(detector(), NAMES, colored_cells(), settings, ["Green"], ["cam"])
    assert set(result["cam"]["per_attribute"]) == {"Green"}


def test_without_regions_localisation_is_left_out():
    regions = dataclasses.replace(colored_cells(), attributes=(), groups=())
    settings = dataclasses.replace(SETTINGS, draws=0)
    result = measure(detector(), NAMES, regions, settings, methods=["cam"])
    assert "pointing_game" not in result["cam"]
    assert result["cam"]["deletion_auc"] == pytest.approx(1 / 24, abs=1e-3)
    text = format_tables(result)
    assert "pointing" not in text.splitlines()[1]
    assert "localisation was not measured: no regions are known" in text


@pytest.mark.parametrize(
    ("wanted", "methods", "baseline", "message"),
    [
        (["Pink"], None, "zero", "`attributes` must be one of Red, Green, Blue"),
        (["Blue"], None, "zero", "Blue, which has no region among the colours"),
        (None, ["masks"], "zero", "`methods` must be one of cam"),
        (None, None, "grey", "`baseline` must be one of blur, mean, zero"),
    ],
)
def test_what_cannot_be_measured_is_said(wanted, methods, baseline, message):
    with pytest.raises(UserError, match=message) as caught:
        settings = dataclasses.replace(SETTINGS, baseline=baseline)
        measure(detector(), NAMES, colored_cells(), settings, wanted, methods)
    assert "\n" not in str(caught.value)


def test_every_evaluation_says_where_the_default_maps_lie(result):
    found = where_it_looks(detector(), NAMES, colored_cells())["explanations"]
    assert found["method"] == "cam" and found["images"] == 40
    for metric in ("pointing_game", "energy_in_region", "chance"):
        assert found["mean"][metric] == pytest.approx(result["cam"][metric])
    assert found["per_attribute"]["Red"]["pointing_game"] == 1
    line = explanation_lines(found)
    assert len(line) == 1 and "region in 100.00 % (chance 4.17 %), 100.00 % of the" in line[0]
    none = dataclasses.replace(colored_cells(), attributes=(), groups=())
    assert where_it_looks(detector(), NAMES, none) == {}


def test_a_model_that_shares_no_attribute_with_the_regions_is_said():
    with pytest.raises(UserError, match="none of the model's attributes has a region"):
        measure(detector(), ("Loud", "Soft", "High"), colored_cells(), SETTINGS)


def test_sanity_takes_an_absent_attribute_where_none_is_present():
    regions = colored_cells()
    measurement = Measurement(detector(), NAMES, regions, [0, 1, 2], ["center"], SETTINGS)
    black = regions.read(range(40)).images.max(axis=(1, 2, 3)) == 0
    assert 0 < black[:32].sum() < 32
    seen = []
    measurement.attributor.maps = lambda images, outputs, pairs: (
        seen.append(pairs) or {"center": np.ones((32, 6, 4))}
    )
    measurement.sanity()
    signs = dict(zip(seen[0].images.tolist(), seen[0].signs.tolist(), strict=True))
    assert signs == {index: -1 if black[index] else 1 for index in range(32)}


def test_the_attribute_of_an_image_is_drawn_among_those_that_fit():
    measurement = Measurement(detector(), NAMES, colored_cells(), [0, 2], ["center"], SETTINGS)
    # All present, Red alone, and Green alone, which is not measured.
    answers = np.repeat([[0.9, 0.9, 0.9], [0.9, 0.1, 0.1], [0.1, 0.9, 0.1]], 1000, axis=0)

    def drawn(sign, seed):
        random = np.random.default_rng(seed)
        return measurement._one_attribute_each(answers, sign, random)

    present, absent = drawn(1, 0), drawn(-1, 0)
    assert present.images.tolist() == list(range(2000)) and set(present.signs) == {1}
    assert set(present.attributes[1000:]) == {0}
    assert set(present.attributes[:1000]) == {0, 2}
    assert np.mean(present.attributes[:1000] == 2) == pytest.approx(0.5, abs=0.05)
    assert absent.images.tolist() == list(range(1000, 3000)) and set(absent.signs) == {-1}
    assert set(absent.attributes[:1000]) == {2}
    assert np.mean(absent.attributes[1000:] == 2) == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(drawn(1, 0).attributes, present.attributes)
    assert np.any(drawn(1, 1).attributes != present.attributes)
