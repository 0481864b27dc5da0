"""Interventions on networks whose answer is a known function of the parts of a picture."""

import dataclasses

import keras
import numpy as np
import pytest

from mcattn_tf.data.drawn_faces import ATTRIBUTES
from mcattn_tf.data.regions.region_set import Redrawing, RegionBatch, RegionSet, drawn_regions
from mcattn_tf.explain.truth.interventions import (
    Interventions,
    distractors,
    marked_parts,
    part_masses,
    single_deletion,
)
from mcattn_tf.explain.truth.measurement import Measurement, Settings, measure
from mcattn_tf.explain.truth.summary import format_tables
from mcattn_tf.settings.data import DataConfig

NAMES = ("Hat", "Nose", "Smile", "Lips")
PARTS = (("Hat",), ("Nose",), ("Smile", "Lips"))
WHERE = {"Hat": np.s_[0:2], "Nose": np.s_[2:4, 4:8], "Smile": np.s_[4:8, 4:8]}
WHERE["Lips"] = WHERE["Smile"]
HAT, NOSE, MOUTH, ELSEWHERE = (0, 2), (1, 2), (2, 2), (3, 0)  # cells of 2x2 pixels


def test_the_mass_of_a_part_is_its_share_of_the_positive_part():
    regions = np.zeros((3, 4, 4, 3), bool)
    regions[:, :2, :2, 0] = True  # the first cell
    regions[:, :2, :, 1] = True  # the upper two
    regions[:, 3, :, 2] = True  # half of the lower two
    maps = np.array([[[3, 1], [-7, 4]], [[0, 0], [0, 9]], [[0, -1], [-2, 0]]], np.float32)
    expected = [[3 / 8, 4 / 8, 2 / 8], [0, 0, 1 / 2], [1 / 4, 1 / 2, 1 / 4]]
    np.testing.assert_allclose(part_masses(maps, regions), expected)
    fine = maps.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(part_masses(fine, regions), expected)


def test_marked_parts_hold_the_mean_and_something():
    masses = np.array([[0.5, 0.3, 0.1], [0.2, 0.2, 0.2], [0, 0, 0], [0.1, 0, 0]])
    expected = [[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_array_equal(marked_parts(masses), np.array(expected, bool))


def test_single_deletion_is_the_agreement_in_order():
    drops = np.array([[9.0, 4.0, -1.0, 0.0]])
    for masses, expected in (
        ([0.4, 0.3, 0.0, 0.1], 1),
        ([0.0, 0.1, 0.4, 0.3], 0),
        ([0.2, 0.2, 0.2, 0.2], 0.5),
        # Ranks 4, 2, 2, 2 and 4, 3, 1, 2: (1.5 * 1.5 + 0.75) / sqrt(3 * 5).
        ([0.9, 0.0, 0.0, 0.0], (1 + 3 / 15**0.5) / 2),
    ):
        assert single_deletion(np.array([masses]), drops)[0] == pytest.approx(expected)
    nothing = np.zeros((2, 4))
    assert single_deletion(np.array([[1, 0, 0, 0], [0, 0, 0, 0]]), nothing).tolist() == [0.5, 0.5]


def test_one_part_that_matters_among_twelve_that_differ_a_little():
    small = np.r_[100.0, np.arange(11) / 10][None]
    alone = np.eye(12)[:1]
    # Ranks 5.5, -0.5 ... against 5.5 ... -5.5: 33 / sqrt(33 * 143).
    assert single_deletion(alone, small)[0] == pytest.approx((1 + (33 / 143) ** 0.5) / 2)
    assert single_deletion(alone, small)[0] == pytest.approx(0.74, abs=0.005)


def test_distractors_are_what_lies_in_no_part_that_matters():
    regions = np.zeros((1, 4, 8, 3), bool)
    regions[0, :2, :4, 0] = True
    regions[0, :2, 2:6, 1] = True  # shares a cell with the first
    regions[0, 2:, :2, 2] = True
    maps = np.array([[[1, 2, 4, 100], [3, 0, 0, 0]]], np.float32)

    def share(drops, maps=maps):
        return distractors(maps, regions, np.array([drops]))[0]

    assert share([10.0, 0.4, 0.4]) == pytest.approx(7 / 10)  # cells of 4 and 3
    assert share([10.0, -0.5, 0.4]) == pytest.approx(3 / 10)  # 5 %, of either sign, matter
    assert share([0.0, 0.0, -3.0]) == pytest.approx(7 / 10)
    assert share([1.0, 1.0, 1.0]) == 0
    assert np.isnan(share([0.0, 0.0, 0.0]))
    # Without mass in a part, as a constant map: two of four cells.
    outside = np.array([[[0, 0, 0, 5], [0, 0, 0, 0]]], np.float32)
    for same in (outside, np.zeros_like(outside), np.ones_like(outside)):
        assert share([10.0, 0.0, 0.0], same) == pytest.approx(2 / 4)


def drawn(labels, bright):
    """Pictures of 8x12 pixels: red where Hat, Nose or Smile is, green for Lips, blue around."""
    images = np.zeros((len(labels), 8, 12, 3), np.float32)
    images[..., 2] = bright
    for index, name in enumerate(NAMES):
        for image, present in zip(images, labels[:, index], strict=True):
            image[*np.atleast_1d(WHERE[name]), int(name == "Lips")] = present
    return images


def simple_faces(labels) -> RegionSet:
    labels = np.array(labels, bool)
    regions = np.zeros((8, 12, 4), bool)
    for index, name in enumerate(NAMES):
        regions[..., index][WHERE[name]] = True

    def read(indices):
        own = labels[indices.start : indices.stop]
        places, valid = regions[None].repeat(len(own), 0), np.ones((len(own), 8, 12), bool)
        return RegionBatch(drawn(own, 0), places, valid, {"labelled": own})

    def redraw(indices, switched, elsewhere):
        own = labels[indices.start : indices.stop]
        return drawn(own if switched is None else own ^ switched, float(elsewhere))

    redrawing = Redrawing(PARTS, redraw)
    return RegionSet("simple", NAMES, ("labelled",), len(labels), read, redrawing)


def linear_network(weights, biases, image_size, cell) -> keras.Model:
    """Its logits are a linear function of the mean colours of cells."""
    images = keras.Input((*image_size, 3))
    features = keras.layers.AveragePooling2D(cell, name="features")(images)
    flat = keras.layers.Flatten()(features)
    dense = keras.layers.Dense(len(biases))
    outputs = keras.layers.Activation("sigmoid", name="multilabel")(dense(flat))
    dense.set_weights([np.reshape(weights, (-1, len(biases))), np.array(biases)])
    return keras.Model(images, {"multilabel": outputs})


def lips_network():
    """Lips are in the mouth's green, and the nose helps: 20 lips + 4 nose - 12."""
    weights = np.zeros((4, 6, 3, 4), np.float32)
    weights[2:, 2:4, 1, 3] = 20 / 4
    weights[1, 2:4, 0, 3] = 4 / 2
    return linear_network(weights, [-1.0, -1.0, -1.0, -12.0], (8, 12), 2)


def hand_made(maps, elsewhere=None):
    """Maps of the methods `random` and `center` by hand, and others on a bright background."""

    def explain(images, outputs, pairs, report=None):
        bright = images[pairs.images, -1, 0, 2] > 0.5
        return {
            method: np.where(
                bright[:, None, None], (elsewhere or {}).get(method, values), values
            ).astype(np.float32)
            for method, values in maps.items()
        }

    return explain


def cells(**values):
    places = {"hat": HAT, "nose": NOSE, "mouth": MOUTH, "elsewhere": ELSEWHERE}
    result = np.zeros((4, 6))
    for name, value in values.items():
        result[places[name]] = value
    return result


def interventions(model, regions, index, maps, elsewhere=None, attributes=NAMES):
    methods, settings = ["random", "center"], Settings(batch_size=2)
    measurement = Measurement(model, attributes, regions, [index], methods, settings)
    measurement.attributor.maps = hand_made(maps, elsewhere)
    scores = measurement.interventions()
    return {name: {k: v[:, index] for k, v in own.items()} for name, own in scores.items()}


# Lips are there in the first three: with a nose, without one, and with everything.
FACES = simple_faces([[0, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 1, 0]])


def test_a_map_of_the_parts_that_matter_and_one_of_a_distractor():
    right, wrong = cells(mouth=3, nose=1), cells(hat=2)
    found = interventions(lips_network(), FACES, 3, {"random": right, "center": wrong})
    assert all(np.isnan(x[3]) for own in found.values() for x in own.values())  # no lips
    # Drops of hat, nose and mouth: 0, 4, 20 with a nose; 0, -4, 20 without. The map has 0, 1/4, 3/4
    # in them: without a nose the order is 1, 2, 3 against 2, 1, 3.
    expected = {
        "single_deletion": [1, 0.75, 1],
        "single_deletion_tied": [1, 0.75, 1],
        "distractors": [0, 0, 0],
        "background_independence": [1, 1, 1],
        "completeness": [1, 1, 1],  # the nose alone is not needed: 20 - 12
    }
    for metric, values in expected.items():
        np.testing.assert_allclose(found["random"][metric][:3], values, atol=1e-6, err_msg=metric)
    # Ranks 3, 1.5, 1.5 against 1, 2, 3 and 2, 1, 3: -1.5 and 0 over sqrt(1.5 * 2).
    low = (1 - 3**0.5 / 2) / 2
    np.testing.assert_allclose(found["center"]["single_deletion"][:3], [low, 0.5, low], atol=1e-6)
    assert found["center"]["distractors"][:3].tolist() == [1, 1, 1]
    assert found["center"]["completeness"][:3].tolist() == [0, 0, 0]  # the lips are switched off


def test_maps_outside_of_all_parts_and_on_another_background():
    maps = {"random": cells(elsewhere=1), "center": np.arange(24.0).reshape(4, 6)}
    other = {"random": np.zeros((4, 6)), "center": -np.arange(24.0).reshape(4, 6)}
    found = interventions(lips_network(), FACES, 3, maps, other)
    assert found["random"]["single_deletion"][0] == 0.5
    # As a constant map: of the hat's 6, the nose's 2 and the mouth's 4 cells the hat's are wrong.
    assert found["random"]["distractors"][0] == pytest.approx(6 / 12)
    assert found["random"]["completeness"][0] == 0  # it marks no part, and all are switched
    assert found["random"]["background_independence"][0] == 0  # against a constant map
    assert found["center"]["background_independence"][0] == pytest.approx(-1)


def test_a_network_that_looks_nowhere_has_no_distractors_to_mark():
    blind = linear_network(np.zeros((4, 6, 3, 4)), [1.0, 1.0, 1.0, 1.0], (8, 12), 2)
    maps = {"random": cells(mouth=1), "center": cells(hat=1)}
    for values in interventions(blind, FACES, 3, maps).values():
        assert values["single_deletion"].tolist() == [0.5] * 4
        assert np.isnan(values["distractors"]).all()
        assert values["completeness"].tolist() == [1] * 4


def test_a_part_is_changed_by_the_attribute_that_is_explained():
    weights = np.zeros((4, 6, 3, 4), np.float32)
    weights[2:, 2:4, 0, 2] = 20 / 4  # Smile is the mouth's red, and the first of the mouth
    weights[2:, 2:4, 1, 0] = 20 / 4  # Hat is answered by the lips, which nobody switches for it
    model = linear_network(weights, [-10.0, -1.0, -10.0, -1.0], (8, 12), 2)
    maps = {"random": cells(mouth=1), "center": cells(hat=1)}
    smile = interventions(model, FACES, 2, maps)
    assert smile["random"]["single_deletion"][[0, 2, 3]].tolist() == [1, 1, 1]
    hat = interventions(model, FACES, 0, maps)
    assert np.isnan(hat["random"]["distractors"][:3]).all()


def test_a_linear_function_of_a_drawn_necktie():
    size, tie = (32, 36), ATTRIBUTES.index("Wearing_Necktie")
    regions = drawn_regions(DataConfig(image_size=size))
    labels = regions.read(range(20)).present["labelled"]
    place = range(labels[:, tie].argmax(), labels[:, tie].argmax() + 1)
    batch, draw = regions.read(place), regions.redrawing.draw
    alone = batch.regions[0, ..., tie] & (batch.regions[0].sum(axis=-1) == 1)
    weights, bias = np.zeros((*size, 3, 16), np.float32), np.zeros(16, np.float32)
    change = batch.images - draw(place, np.arange(16)[None] == tie, False)
    weights[..., tie] = change[0] * alone[..., None]
    weights[..., tie] *= 20 / np.sum(weights[..., tie] ** 2)  # the tie's drop is 20
    bias[tie] = 10 - np.sum(weights[..., tie] * batch.images[0])
    redrawing = Redrawing(regions.redrawing.parts, lambda rows, *change: draw(place, *change))
    one = dataclasses.replace(regions, count=1, read=lambda rows: batch, redrawing=redrawing)
    maps = {"random": alone, "center": batch.regions[0, ..., ATTRIBUTES.index("Wearing_Hat")]}
    model = linear_network(weights, bias, size, 1)
    found = interventions(model, one, tie, maps, attributes=ATTRIBUTES)
    right, wrong = ({name: x[0] for name, x in scores.items()} for scores in found.values())
    assert right == pytest.approx(dict.fromkeys(Interventions._fields, 1) | {"distractors": 0})
    assert wrong["single_deletion"] < 0.5 and wrong["single_deletion_tied"] < 0.5
    assert (wrong["distractors"], wrong["completeness"]) == (1, 0)


def test_the_measurement_has_interventions_where_images_can_be_drawn_anew():
    settings = Settings(draws=0, batch_size=1, baseline="zero")  # nothing is present in the last
    methods = ["grad_cam", "random", "center"]
    result = measure(lips_network(), NAMES, FACES, settings, ["Lips"], methods)
    for method in methods:
        values = result[method]
        own = values["per_attribute"]["Lips"]
        assert own["intervention_pairs"] == 3
        for metric in Interventions._fields:
            assert own[metric] == values[metric]
            low, high = values["intervals"][metric]
            assert low <= values[metric] <= high
    assert result["center"]["background_independence"] == 1
    assert abs(result["random"]["background_independence"]) < 0.5
    difference = result["random"]["default_minus_this"]["single_deletion"]["mean"]
    expected = result["grad_cam"]["single_deletion"] - result["random"]["single_deletion"]
    assert difference == pytest.approx(expected)
    text = format_tables(result)
    lines = text.splitlines()
    place = next(index for index, line in enumerate(lines) if "interventions" in line)
    assert "single deletion" in lines[place + 1] and lines[place + 2].startswith(methods[0])
    assert max(map(len, lines)) <= 100
    assert "higher is better, but for distractors" in " ".join(text.split())
    regions = dataclasses.replace(FACES, redrawing=None)
    result = measure(lips_network(), NAMES, regions, settings, ["Lips"], methods)
    assert not {*Interventions._fields} & {*result["center"]}
    assert "interventions" not in format_tables(result)
