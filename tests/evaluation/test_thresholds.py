"""Thresholds of attributes: chosen, kept and measured with."""

import json

import numpy as np
import pytest
from conftest import NAMES, he_weights, random_split, split_of_classes, tiny_config, tiny_config_of
from processes import call

from mcattn_tf import models, runs
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import thresholds
from mcattn_tf.evaluation.answers import evaluate, format_table
from mcattn_tf.evaluation.intervals import answer
from mcattn_tf.evaluation.ranking import measures_of, steps_of
from mcattn_tf.evaluation.thresholds import best_threshold


def of_one(labels: list, probabilities: list):
    (steps,) = steps_of(np.array(labels)[:, None], np.array(probabilities, np.float32)[:, None])
    return steps


def test_thresholds_worked_out_by_hand():
    labels, probabilities = [0, 0, 1, 0, 1, -1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.35]
    # Above 0.25 both present are right and 2 of 3 absent, above 0.5 one of 2 and 3 of 3.
    steps = of_one(labels, probabilities)
    assert best_threshold(steps, "balanced_accuracy") == pytest.approx(0.25)
    # F1 above 0.25 is 4 / 5, above 0.5 it is 2 / 3.
    assert best_threshold(steps, "f1") == pytest.approx(0.25)
    # Halves of 0.75 and 0.25 are equally good; the first is as near to 0.5, so the lower is taken.
    assert best_threshold(of_one([0, 1, 0, 1], [0.125, 0.375, 0.625, 0.875]), "f1") == 0.25
    # What all have is best called present in all: F1 of 4 / 5, and 2 / 3 above 0.75.
    assert best_threshold(of_one([1, 0, 1], [0.5, 0.6, 0.9]), "f1") == pytest.approx(0.25)
    # Between neighbouring numbers there is none: the lower one is taken, and below 1 there is room.
    low, high = np.nextafter(np.float32(1), np.float32(0)), np.float32(1)
    assert best_threshold(of_one([0, 1], [low, high]), "f1") == low
    for one_sided in ([1, 1], [0, 0], [-1, -1]):
        assert best_threshold(of_one(one_sided, [0.1, 0.9]), "f1") == 0.5


@pytest.mark.parametrize("criterion", thresholds.CRITERIA)
def test_no_other_threshold_is_better(criterion):
    random = np.random.default_rng(2)
    labels = random.integers(-1, 2, (60, 1))
    for probabilities in (
        random.random((60, 1)),
        random.integers(0, 4, (60, 1)) / 3,  # ties, among them 0 and 1
        1 - random.integers(0, 3, (60, 1)) * 6e-8,  # neighbouring numbers
        labels * 0.1 + random.integers(3, 6, (60, 1)) / 10,
    ):
        probabilities = probabilities.astype(np.float32)
        (steps,) = steps_of(labels, probabilities)

        def measured(threshold, probabilities=probabilities):
            shifted = np.where(probabilities > np.float32(threshold), 0.9, 0.1)
            return measures_of(labels, shifted)[criterion][0]

        chosen = measured(best_threshold(steps, criterion))
        assert chosen >= max(measured(x) for x in (*probabilities[:, 0], 0.5)) - 1e-9


@pytest.fixture(scope="module")
def small():
    """A network, its settings, and validation images of which one attribute is always there."""
    config = tiny_config(model={"name": "baseline", "stem": ((7, 3, 2),)})
    split = random_split(30, 1)
    split.labels[:, 1] = 1
    return he_weights(models.build(config)), config, split


def test_they_are_kept_with_the_run_and_what_they_were_chosen_on(small, tmp_path):
    model, config, split = small
    content = thresholds.choose_thresholds(model, config, split)
    assert (content["split"], content["images"]) == ("validation", 30)
    assert content["one_sided"] == ["Bald"] and not content["trained_on"]
    labels, answers = answer(model, split, 7)
    for criterion in thresholds.CRITERIA:
        expected = [best_threshold(x, criterion) for x in steps_of(labels, answers["multilabel"])]
        chosen = thresholds.Chosen(content, criterion).of("multilabel", NAMES)
        assert chosen.dtype == np.float32 and chosen[1] == 0.5
        np.testing.assert_array_equal(chosen, np.float32(expected))
    assert thresholds.read_thresholds(tmp_path, model, config) is None
    lines = thresholds.write_thresholds(tmp_path, content)
    assert "30 validation images" in lines[0] and str(tmp_path / runs.THRESHOLDS) in lines[0]
    assert lines[1:] == ["threshold 0.5 of Bald: all or none of the 30 validation images have it"]
    assert thresholds.read_thresholds(tmp_path, model, config) == content
    warned = thresholds.write_thresholds(tmp_path, content | {"trained_on": True})
    assert warned[-1].startswith("warning: the network was trained on these 30 validation")


def test_those_of_another_run_are_refused_in_one_line(small, tmp_path):
    model, config, split = small
    content = thresholds.choose_thresholds(model, config, split)
    other = he_weights(models.build(config), seed=1)
    path, path_of_other = tmp_path / runs.THRESHOLDS, config.replace("found", attributes=("A",))
    for text, network, settings, words in (
        (json.dumps(content), other, config, "of another run or of other weights"),
        (json.dumps(content), model, path_of_other, "of another run or of other weights"),
        ("{", model, config, "is damaged"),
        ("{}", model, config, "is damaged"),
        (json.dumps(content | {"chosen": {"f1": {}}}), model, config, "is damaged"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words) as raised:
            thresholds.read_thresholds(tmp_path, network, settings)
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_answers_at_thresholds_stand_beside_those_at_a_half(small):
    model, config, split = small
    chosen = thresholds.Chosen(thresholds.choose_thresholds(model, config, split), "f1")
    plain = evaluate(model, split, NAMES, 8)
    result = evaluate(model, split, NAMES, 8, chosen)["multilabel"]
    labels, answers = answer(model, split, 8)
    called = answers["multilabel"] > chosen.of("multilabel", NAMES)
    right = np.mean(called == labels, axis=0)
    for k, name in enumerate(NAMES):
        values = result["per_attribute"][name]
        assert values["accuracy_at_threshold"] == pytest.approx(right[k])
        assert values["accuracy"] == plain["multilabel"]["per_attribute"][name]["accuracy"]
    assert result["mean"]["accuracy_at_threshold"] == pytest.approx(right.mean())
    assert result["mean"]["f1_at_threshold"] >= result["mean"]["f1"]
    assert result["thresholds"]["chosen_by"] == "f1"
    table = format_table({"multilabel": result})
    assert "multilabel, f1" in table and "thresholds by f1, chosen on 30 validation" in table
    assert f"{chosen.of('multilabel', NAMES)[0]:.4f}" in table  # a probability, as its legend says
    assert "multilabel: answers of the multi-label classifier" in table
    assert "nan" not in table and "nan" not in json.dumps(result).lower()
    assert "multilabel, f1" not in format_table(plain)


def test_classes_have_none():
    model = models.build(tiny_config_of("cnn", exclusive=True))
    with pytest.raises(UserError, match="classes exclude each other"):
        thresholds.choose_thresholds(model, tiny_config_of("cnn"), split_of_classes(6, 0))


def test_an_unknown_criterion_is_one_line(small, tmp_path):
    from mcattn_tf.commands import evaluate as command

    model, config, _ = small
    runs.create(tmp_path / "run", config)
    model.save(tmp_path / "run" / runs.BEST)
    status, _, errors = call(command.main, f"--run={tmp_path / 'run'}", "--thresholds=recall")
    assert status == 1 and errors.count("\n") == 1
    assert "--thresholds must be one of balanced_accuracy, f1. Received: 'recall'" in errors
