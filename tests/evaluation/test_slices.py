"""Slices of the images: membership, measures by hand, and intervals by resampled images."""

import json

import numpy as np
import pytest
from sklearn.metrics import recall_score

from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import slices
from mcattn_tf.evaluation.ranking import measures_of
from mcattn_tf.evaluation.slice_tables import format_slices, tables
from mcattn_tf.evaluation.slices import (
    measure_slices,
    of_answers,
    of_pointing,
    parse_slices,
    require_images,
)
from mcattn_tf.figures.slices import slices_figure

NAMES = ("Male", "Young", "Smiling", "Bald")
MALE, YOUNG = 0, 1


def test_a_slice_and_the_others_worked_out_by_hand():
    labels = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [-1, 1, 0, 0], [-1, 0, 0, 0]])
    for name, inside, outside, rest in (
        ("Male", [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], "not Male"),
        ("not  Male", [0, 0, 1, 0, 0], [1, 1, 0, 0, 0], "Male"),
        # Whoever is not young is outside, whatever else is not known of them.
        ("Male & Young", [1, 0, 0, 0, 0], [0, 1, 1, 0, 1], "all others"),
        ("Male&not Young", [0, 1, 0, 0, 0], [1, 0, 1, 1, 0], "all others"),
    ):
        (one,) = parse_slices([name], NAMES)
        sides = [side.astype(int).tolist() for side in one.sides(labels)]
        assert sides == [inside, outside] and one.rest == rest


def test_slices_that_cannot_be_are_one_line():
    for names, words in (
        ((), "must name at least one attribute"),
        (("Old",), "--slices Old: 'Old' is no attribute of the run; slices are written X, not X"),
        (("Male&",), "--slices Male&: '' is no attribute of the run"),
        (("Male&not Male",), "names Male twice"),
    ):
        with pytest.raises(UserError, match=words.replace("(", r"\(")) as raised:
            parse_slices(names, NAMES)
        assert "\n" not in str(raised.value)
    labels = np.array([[1, 0, 0, 1], [1, 1, 0, 1]])
    for name, words in (
        ("Smiling", "--slices Smiling cannot be compared: none of the 2 test images are such"),
        ("Male", "--slices Male cannot be compared: all that tell of the 2 test images are such"),
        ("Young&not Bald", "Young&not Bald cannot be compared: none of the 2"),
    ):
        with pytest.raises(UserError, match=words):
            require_images(parse_slices([name], NAMES), labels, "test")
    with pytest.raises(UserError, match="leaves no other attribute"):
        require_images(parse_slices(["Male"], ("Male",)), labels[:, :1], "test")


@pytest.fixture(autouse=True)
def of_single_labels(monkeypatch):
    monkeypatch.setattr(slices, "FEWEST", 1)


@pytest.fixture(scope="module")
def faces():
    """Labels and probabilities of 90 images of 40 people, worse for men."""
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, (90, 4))
    labels[random.random((90, 4)) < 0.1] = -1
    noise = random.normal(size=(90, 4)) * (1 + labels[:, [MALE]])
    probabilities = 1 / (1 + np.exp(-(2 * labels - 1 + noise)))
    return labels, probabilities.astype(np.float32), random.integers(0, 40, 90)


def test_measures_are_those_of_the_images_of_a_side(faces):
    labels, probabilities, _ = faces
    thresholds = np.float32([0.5, 0.5, 0.3, 0.6])
    statistics = [of_answers(labels, probabilities, thresholds)]
    result = measure_slices(parse_slices(["Male"], NAMES), labels, NAMES, statistics)["Male"]
    men = labels[:, MALE] == 1
    assert (result["images"], result["untold"]) == (men.sum(), np.sum(labels[:, MALE] == -1))
    assert list(result["per_attribute"]) == ["Young", "Smiling", "Bald"]
    for side, members in (("slice", men), ("rest", labels[:, MALE] == 0)):
        expected = {}
        for k, name in list(enumerate(NAMES))[1:]:
            known = members & (labels[:, k] >= 0)
            y, p = labels[known, k], probabilities[known, k]
            called = p > thresholds[k]
            expected[name] = {
                "accuracy": np.mean(called == y),
                "true_positive_rate": recall_score(y, called),
                "false_positive_rate": 1 - recall_score(1 - y, ~called),
            }
            own = {x: result["per_attribute"][name][x][side] for x in expected[name]}
            assert own == pytest.approx(expected[name], abs=1e-6)
        for measure, gap in result["mean"].items():
            if measure != "calibration_error":
                mean = np.mean([values[measure] for values in expected.values()])
                assert gap[side] == pytest.approx(mean, abs=1e-6)
            assert gap["gap"] == pytest.approx(gap["slice"] - gap["rest"])


@pytest.mark.parametrize("of_people", [True, False])
def test_intervals_are_over_drawn_images_or_people_of_both_sides(faces, monkeypatch, of_people):
    labels, probabilities, people = faces
    monkeypatch.setattr(slices, "IMAGES_AT_ONCE", 7)
    monkeypatch.setattr(slices, "DRAWS", 60)
    monkeypatch.setattr(slices, "DRAWS_AT_ONCE", 20)
    (one,) = wanted = parse_slices(["Young&not Male"], NAMES)
    hits = np.where(labels == 1, np.random.default_rng(1).random((90, 4)), np.nan)[:80]
    statistics = [of_answers(labels, probabilities), of_pointing(hits)]
    own = people if of_people else None
    result = measure_slices(wanted, labels, NAMES, statistics, own)[one.name]
    inside, outside = one.sides(labels)

    def gaps(count: int, measures) -> list[np.ndarray]:
        """The gap of every draw, from images that are repeated as often as they were drawn."""
        _, person = np.unique((people if of_people else np.arange(90))[:count], return_inverse=True)
        random, total = np.random.default_rng(0), person.max() + 1
        drawn = random.multinomial(total, np.full(total, 1 / total), size=60)
        images = np.arange(count)
        repeated = [np.repeat(images, weights[person]) for weights in drawn]
        return [measures(x[inside[x]]) - measures(x[outside[x]]) for x in repeated]

    def accuracy(images):  # of the attributes that do not define the slice
        right = (probabilities[images] > 0.5) == labels[images]
        return np.mean([right[labels[images, k] >= 0, k].mean() for k in (2, 3)])

    def pointing(images):
        return np.mean([np.nanmean(hits[images, k]) for k in (2, 3)])

    for name, count, measures in (("accuracy", 90, accuracy), ("pointing_game", 80, pointing)):
        expected = np.percentile(gaps(count, measures), [2.5, 97.5])
        assert result["mean"][name]["interval"] == pytest.approx(expected.tolist(), abs=1e-6)
        images = np.arange(count)
        whole = measures(images[inside[:count]]) - measures(images[outside[:count]])
        assert result["mean"][name]["gap"] == pytest.approx(whole, abs=1e-6)

    def calibration(images):  # of single attributes
        own = labels[images][:, [2, 3]], probabilities[images][:, [2, 3]]
        return measures_of(*own)["calibration_error"]

    # Without its bias an error lies as far below what is measured as the draws lie above it.
    images = np.arange(90)
    drawn, whole = np.array(gaps(90, calibration)), calibration(inside) - calibration(outside)
    bias = drawn.mean(axis=0) - whole
    expected = np.percentile((drawn - 2 * bias).mean(axis=1), [2.5, 97.5])
    values = result["mean"]["calibration_error"]
    assert values["gap"] == pytest.approx(np.mean(whole - bias), abs=1e-6)
    assert values["interval"] == pytest.approx(expected.tolist(), abs=1e-6)


def test_what_is_not_defined_is_a_dash_and_few_images_are_said(faces, monkeypatch):
    labels, probabilities, _ = faces
    labels = labels.copy()
    labels[labels[:, MALE] == 1, 3] = 0  # no man is bald
    wanted = parse_slices(["Male", "Male&Young"], NAMES)
    measured = measure_slices(wanted, labels, NAMES, [of_answers(labels, probabilities)])
    gap = measured["Male"]["per_attribute"]["Bald"]["true_positive_rate"]
    assert gap["slice"] is gap["gap"] is gap["interval"] is None and gap["rest"] is not None
    # A mean is over the attributes that have it on both sides.
    rates = [
        measured["Male"]["per_attribute"][name]["true_positive_rate"]["rest"]
        for name in ("Young", "Smiling")
    ]
    assert measured["Male"]["mean"]["true_positive_rate"]["rest"] == pytest.approx(np.mean(rates))
    how = {"output": "attributes", "chosen_by": None, "split": "test", "images": 90, "people": 40}
    result = {**how, "pointing": None, "slices": measured}
    text = format_slices(result)
    men = measured["Male"]["images"]
    assert f"warning: few images: {men} of Male; its rates are rough" in text
    assert (
        "intervals are over 40 people" in text and "images tell neither Male nor not Male" in text
    )
    assert "nan" not in text.lower() and "NaN" not in json.dumps(result)
    assert max(map(len, text.splitlines())) <= 100
    # With few labels a rate is not said.
    monkeypatch.setattr(slices, "FEWEST", 20)
    again = measure_slices(wanted, labels, NAMES, [of_answers(labels, probabilities)])
    known = (labels[:, MALE] == 1) & (labels[:, 2] == 0)
    assert 0 < known.sum() < 20
    rate = again["Male"]["per_attribute"]["Smiling"]["false_positive_rate"]
    assert rate["slice"] is rate["gap"] is None
    captions = [caption for caption, _, _ in tables(result)["Male"]]
    assert captions[0].startswith(f"{men} images of Male, ")
    assert captions[0].endswith("; means over attributes at the threshold 0.5")
    (by_f1, _, _), *_ = tables({**result, "chosen_by": "f1"})["Male"]
    assert by_f1.endswith("at the thresholds chosen by f1")
    for count, which in ((1, "gaps of attributes"), (6, "the largest of 6 gaps of attributes")):
        apart = {"slice": 0.5, "rest": 0.4, "gap": 0.1, "interval": [0.05, 0.15]}
        of_all = {f"A{number}": {"accuracy": apart} for number in range(count)}
        values = {**measured["Male"], "per_attribute": of_all}
        _, (caption, names, _) = tables({**result, "slices": {"Male": values}})["Male"]
        assert caption == f"{which} whose interval leaves out 0" and len(names) == min(count, 5)
    figure = slices_figure(measured, "slices")
    (heat,) = [axis.images[0] for axis in figure.axes if axis.images]
    values = np.ma.masked_invalid(heat.get_array())
    assert values.shape == (2, 3) and values.mask[1, 0]  # of Young in Male&Young
    gap = measured["Male"]["per_attribute"]["Smiling"]["accuracy"]["gap"]
    assert values[0, 1] == pytest.approx(100 * gap)
