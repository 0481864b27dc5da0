"""Intervals over people: by hand, by drawing images one by one, and as a user asks for them."""

import json
from pathlib import Path

import numpy as np
import pytest
from celeba_files import (
    LABELS,
    NAMES,
    ROWS,
    make_celeba,
    write_attributes,
    write_partitions,
)
from conftest import he_weights, tiny_config, tiny_config_of
from processes import call, run

from mcattn_tf import models, runs
from mcattn_tf.commands import compare
from mcattn_tf.data import lists
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import intervals
from mcattn_tf.evaluation.intervals import MEASURES, format_intervals, measure
from mcattn_tf.explain.truth.intervals import multiplicities
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.runs import checkpoints
from mcattn_tf.training import compiling

RUN, OTHER = (Path("runs/a"), "attributes"), (Path("runs/b"), "multilabel")


def test_unknown_labels_count_in_no_draw():
    """The result is that of the labels that are known; what is answered to others is no matter."""
    labels = np.array([[1, -1], [0, -1], [-1, 1], [-1, 0]])
    called = np.array([[1, 1], [1, 0], [0, 0], [1, 0]], bool)
    result = measure(labels, {RUN: called})["answers"][RUN]
    assert result["accuracy"] == pytest.approx(1 / 2)  # of each attribute one of two is right
    assert result["balanced_accuracy"] == pytest.approx(1 / 2)
    assert result["f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert result["positives"] == pytest.approx(1 / 2)
    assert measure(labels, {RUN: called ^ (labels < 0)})["answers"][RUN] == result


def test_two_people_are_drawn_whole():
    # Of the first person, two images, all is right; of the second, one image, one label of two.
    present = np.array([[1, 0], [1, 1], [0, 1]], bool)
    called = np.array([[1, 0], [1, 1], [1, 1]], bool)
    result = measure(present, {RUN: called, OTHER: present}, np.array([7, 7, 3]))
    assert (result["images"], result["people"]) == (3, 2)
    ours = result["answers"][RUN]
    assert ours["accuracy"] == pytest.approx(5 / 6)
    # The second attribute is right everywhere; of the first there is one absent image, called
    # present: a sensitivity of 1 and a specificity of 0, a precision of 2/3 and a recall of 1.
    assert ours["balanced_accuracy"] == pytest.approx((0.5 + 1) / 2)
    assert ours["f1"] == pytest.approx((0.8 + 1) / 2)
    assert ours["majority_accuracy"] == pytest.approx(2 / 3)
    # A quarter of the draws has the first person twice, a quarter the second.
    assert ours["intervals"]["accuracy"] == [0.5, 1.0]
    right = result["answers"][OTHER]
    assert right["accuracy"] == 1 and right["intervals"]["accuracy"] == [1, 1]
    difference = right["differences"]["accuracy"]
    assert difference["mean"] == pytest.approx(-1 / 6) and difference["interval"] == [-0.5, 0.0]
    one = measure(present[:1], {RUN: called[:1]})["answers"][RUN]
    assert one["balanced_accuracy"] is None and one["intervals"]["balanced_accuracy"] is None
    assert one["f1"] == 1  # of the attribute that is there
    alone = measure(present, {RUN: called})
    assert alone["people"] is None and "differences" not in alone["answers"][RUN]
    # A third of the images is wrong in one label: in 1/27 of the draws it is all there is.
    assert alone["answers"][RUN]["intervals"]["accuracy"] == [0.5, 1.0]


def f1_and_balance(present, called):
    """The means over attributes, each image counted by itself."""
    f1, balanced = [], []
    for truth, answer in zip(present.T, called.T, strict=True):
        precision, recall = truth[answer].mean(), answer[truth].mean()
        f1.append(2 * precision * recall / (precision + recall))
        balanced.append((recall + np.mean(~answer[~truth])) / 2)
    return np.mean(f1), np.mean(balanced)


def test_intervals_are_those_of_images_drawn_one_by_one(monkeypatch):
    monkeypatch.setattr(intervals, "DRAWS", 40)
    random = np.random.default_rng(0)
    present = random.random((90, 3)) < 0.5
    first = present ^ (random.random(present.shape) < 0.2)
    second = present ^ (random.random(present.shape) < 0.3)
    people = random.integers(0, 11, 90) * 100
    found = measure(present, {RUN: first, OTHER: second}, people, seed=5)["answers"]
    drawn = []
    for times in multiplicities(11, 40, 5):
        each = zip(np.unique(people), times.astype(int), strict=True)
        index = np.concatenate([np.tile(np.flatnonzero(people == x), n) for x, n in each])
        drawn.append(
            [
                (np.mean(present[index] == x[index]), *f1_and_balance(present[index], x[index]))
                for x in (first, second)
            ]
        )
    drawn = np.array(drawn)
    for column, metric in enumerate(("accuracy", "f1", "balanced_accuracy")):
        for place, values in ((RUN, drawn[:, 0]), (OTHER, drawn[:, 1])):
            expected = np.percentile(values[:, column], [2.5, 97.5])
            assert found[place]["intervals"][metric] == pytest.approx(expected)
        expected = np.percentile(drawn[:, 0, column] - drawn[:, 1, column], [2.5, 97.5])
        assert found[OTHER]["differences"][metric]["interval"] == pytest.approx(expected)


def test_more_pictures_of_the_same_people_make_nothing_more_certain():
    random = np.random.default_rng(1)
    present = random.random((30, 4)) < 0.4
    called = present ^ (random.random(present.shape) < 0.25)
    once = measure(present, {RUN: called}, np.arange(30))["answers"][RUN]
    again = [np.repeat(x, 6, axis=0) for x in (present, called, np.arange(30))]
    often = measure(again[0], {RUN: again[1]}, again[2])["answers"][RUN]
    apart = measure(again[0], {RUN: again[1]})["answers"][RUN]
    for metric in MEASURES:
        assert often["intervals"][metric] == pytest.approx(once["intervals"][metric])
        (low, high), (least, most) = (x["intervals"][metric] for x in (once, apart))
        assert most - least < 0.6 * (high - low)


def test_lists_say_who_is_on_an_image_and_where_it_belongs(tmp_path):
    people, parts = tmp_path / "identity_CelebA.txt", tmp_path / "parts.txt"
    people.write_text("c.jpg 9\r\na.jpg 5\r\nb.jpg 9\r\n")
    parts.write_text("b.jpg 2\nx.jpg 2\na.jpg 0\n")
    names = np.array([b"a.jpg", b"b.jpg", b"c.jpg"])
    assert lists.read_people(names, people).tolist() == [5, 9, 9]
    assert lists.in_part(names, parts, "test").tolist() == [False, True, False]
    assert lists.in_part(names, parts, "train").tolist() == [True, False, False]
    with pytest.raises(UserError, match=r"has no row for d.jpg, and for 1 images in all"):
        lists.read_people(np.array([b"a.jpg", b"d.jpg"]), people)
    with pytest.raises(UserError, match="gives none of the run's validation images"):
        lists.in_part(names, parts, "validation")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(UserError, match="gives none of the run's test images"):
        lists.in_part(names, tmp_path / "empty.txt", "test")
    with pytest.raises(UserError, match=r"cannot read .*none\.txt"):
        lists.read_people(names, tmp_path / "none.txt")


def test_runs_are_compared_on_the_same_images_and_keep_what_is_said_of_them(tmp_path):
    data_dir = make_celeba(tmp_path / "celeba")
    write_partitions(data_dir, [0, 1, 2, 2, 2])
    (tmp_path / "part.txt").write_text("000002.jpg 2\n000004.jpg 2\n000003.jpg 0\n")
    (tmp_path / "who.txt").write_text("000002.jpg 1\n000003.jpg 2\n000004.jpg 1\n")
    called = {}
    for name, config in (("a", tiny_config()), ("b", tiny_config_of("gcm"))):
        config = config.replace("found", attributes=NAMES)
        config = config.replace("data", dataset="celeba", data_dir=str(data_dir), no_cache=True)
        model = he_weights(models.build(config))
        compiling.compile_model(model, config, optimizer_of(config.training, 1))
        runs.create(tmp_path / name, config)
        checkpoints.save(model, tmp_path / name / runs.BEST, config, checkpoints.Progress())
        greys = np.full((3, 12, 8, 3), 1 / 255, np.float32) * np.reshape([30, 40, 50], (3, 1, 1, 1))
        outputs = model.predict_on_batch(greys)
        called |= {(name, x): outputs[x] > 0.5 for x in models.label_outputs(model)}
    both = [tmp_path / name for name in ("a", "b")]
    lists = (f"--part=few={tmp_path / 'part.txt'}", f"--identities={tmp_path / 'who.txt'}")
    printed = run(compare.main, *both, "--table=intervals", *lists)
    assert "few: 2 images of 1 people" in printed
    for name, outputs in (("a", ["attributes", "multilabel"]), ("b", ["probabilities"])):
        few = json.loads((tmp_path / name / "intervals.json").read_text())["few"]
        assert few["first"] == "a: attributes" and list(few["answers"]) == outputs
        for output in outputs:
            right = (called[name, output] == LABELS[2:])[[0, 2]].mean()
            values = few["answers"][output]
            assert values["accuracy"] == pytest.approx(right)
            assert values["intervals"]["accuracy"] == pytest.approx([right, right])
    other = make_celeba(tmp_path / "relabelled")
    write_partitions(other, [0, 1, 2, 2, 2])
    write_attributes(other, ROWS[::-1])
    config = runs.read_config(tmp_path / "b").located(data_dir=str(other))
    (tmp_path / "b" / runs.CONFIG).write_text(config.to_json())
    status, _, refused = call(compare.main, *both, "--table=intervals")
    assert (
        status == 1
        and "b cannot be compared: its images, attributes or labels are not those of" in refused
    )


def test_the_table_has_a_row_for_each_answers_and_columns_for_each_part():
    present = np.array([[1, 0], [0, 1]], bool)
    part = measure(present, {RUN: present, OTHER: ~present}, np.array([0, 1]))
    text = format_intervals({"x": part, "y": part})
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100 and "nan" not in text
    groups = [line.strip() for line in lines if " images" in line and ":" in line]
    assert groups[0] == "x: 2 images of 2 people" and "y: 2 images of 2 people" in groups
    assert text.count("first minus this") == 3 and text.count("majority acc.") == 3  # and a legend
    ours = " ".join(line for line in lines if line.startswith("runs/a: attributes"))
    assert ours.count("100.00 [100.00, 100.00]") == 6
    assert text.count("+100.00 [+100.00, +100.00]") == 2
