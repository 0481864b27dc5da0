import dataclasses

import keras
import numpy as np
import pytest
from conftest import (
    NAMES,
    he_weights,
    random_split,
    randomise_weights,
    split_of_classes,
    tiny_config,
    tiny_config_of,
)

from mcattn_tf import models
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.evaluation import published
from mcattn_tf.evaluation.answers import evaluate, format_table, notes
from mcattn_tf.evaluation.masks import carried_accuracy, changed_by_surroundings
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.metrics import MaskStatistics


@pytest.fixture
def model():
    return randomise_weights(models.build(tiny_config()))


def test_every_output_is_measured_on_every_example(model):
    split = random_split(7, seed=4)
    images, labels = next(evaluation_batches(split, 7).as_numpy_iterator())
    outputs = model.predict_on_batch(images)
    result = evaluate(model, split, NAMES, batch_size=3)  # 3 + 3 + 1
    for name in ("attributes", "multilabel"):
        right = (outputs[name] > 0.5) == (labels > 0.5)
        accuracies = {
            attribute: values["accuracy"]
            for attribute, values in result[name]["per_attribute"].items()
        }
        assert accuracies == pytest.approx(dict(zip(NAMES, right.mean(axis=0), strict=True)))
        assert result[name]["mean"]["accuracy"] == pytest.approx(right.mean())
    mse = np.mean((outputs["reconstruction"] - images) ** 2)
    assert result["reconstruction"]["mean"]["mse"] == pytest.approx(mse, rel=1e-5)
    norm = outputs["mask_l1"].mean()
    assert result["mask_l1"]["mean"]["mask_l1"] == pytest.approx(norm, rel=1e-5)


def test_masks_are_measured_on_the_first_images(model, monkeypatch):
    monkeypatch.setattr("mcattn_tf.evaluation.masks.STATISTICS_IMAGES", 5)
    split = random_split(7, seed=4)
    images, _ = next(evaluation_batches(split, 5).as_numpy_iterator())
    masks = build_explainer(model, range(3)).predict_on_batch(images)["masks"]
    statistics = MaskStatistics(3)
    statistics.update(masks)
    result = evaluate(model, split, NAMES, batch_size=3)
    assert result["masks"]["images"] == 5
    assert result["masks"]["mean"] == pytest.approx(statistics.result(), rel=1e-4)
    expected = statistics.per_attribute(NAMES)
    assert result["masks"]["per_attribute"].keys() == expected.keys()
    for name, measures in result["masks"]["per_attribute"].items():
        assert measures == pytest.approx(expected[name], rel=1e-4)
    last, carried, surrounded = notes(result)[-3:]
    assert last.startswith(f"masks of the first 5 images: mean {masks.mean():.4f}, ")
    share = 100 * np.mean(masks < 0.05)
    assert f"{share:.2f} % under 0.05" in last
    accuracy = 100 * result["masks"]["carried"]["none"]
    assert result["masks"]["carried"]["images"] == 7 and "of 7 images: as trained" in carried
    assert carried.endswith(f"without masks {accuracy:.2f} %")
    change = 100 * result["masks"]["changed_by_surroundings"]
    assert surrounded.startswith(f"the strongest evidence changes by {change:.2f} %")


def logits_by_hand(model, features, masks):
    """Logits (B, K) of softmax pooling with masks (B, h, w, K, C)."""
    layer = model.get_layer("masked_pooling")
    evidence = np.sum((1 + masks) * features[:, :, :, None] * np.array(layer.head), axis=-1)
    shares = np.exp(layer.sharpness * evidence)
    shares /= shares.sum(axis=(1, 2), keepdims=True)
    return np.sum(shares * evidence, axis=(1, 2)) + np.array(layer.head_bias)


@pytest.mark.parametrize("rank", [4, None])
def test_what_the_masks_carry_is_the_accuracy_with_other_masks(rank, images):
    model = randomise_weights(models.build(tiny_config(model={"mask_rank": rank})), seed=3)
    layer = model.get_layer("masked_pooling")
    layer.head.assign(8 * layer.head)  # masks decide more answers
    features = keras.Model(model.input, layer.input).predict_on_batch(images)
    masks = np.array(layer.masks(features, range(3)))
    labels = np.random.default_rng(0).integers(0, 2, (6, 3))
    replaced = {
        "trained": masks,
        "another_image": np.roll(masks, 1, axis=0),
        "position_mean": masks.mean(axis=(1, 2), keepdims=True),
        "none": 0 * masks,
    }
    trained = logits_by_hand(model, features, masks)
    layer.head_bias.assign(layer.head_bias - np.median(trained, axis=0))
    logits = {kind: logits_by_hand(model, features, x) for kind, x in replaced.items()}
    assert np.ptp([np.sign(x).sum() for x in logits.values()])  # they answer differently
    found = carried_accuracy(model, [(images, labels)])
    expected = {kind: np.mean((x > 0) == labels) for kind, x in logits.items()}
    assert found == pytest.approx(expected)
    # An attribute that is known of two images counts as much as one of all six.
    few = labels.copy()
    few[2:, 1] = -1
    hits = (logits["trained"] > 0) == labels
    expected = np.mean([hits[:, 0].mean(), hits[:2, 1].mean(), hits[:, 2].mean()])
    assert carried_accuracy(model, [(images, few)])["trained"] == pytest.approx(expected)
    # Two batches are averaged by their sizes; a mask comes from an image of the same batch.
    parts = [carried_accuracy(model, [(images[x], labels[x])]) for x in (slice(4), slice(4, 6))]
    both = carried_accuracy(model, [(images[:4], labels[:4]), (images[4:], labels[4:])])
    for kind, value in both.items():
        assert value == pytest.approx((4 * parts[0][kind] + 2 * parts[1][kind]) / 6)


def test_surroundings_change_the_evidence_of_masks_that_see_them_alone(images):
    narrow = {"stem": ((4, 2, 2),), "dilations": ()}  # a cell sees its own 2 x 2 pixels
    own = randomise_weights(models.build(tiny_config(model=narrow | {"mask_rank": None})))
    assert changed_by_surroundings(own, images) == pytest.approx(0.0, abs=1e-5)
    shared = randomise_weights(models.build(tiny_config(model=narrow | {"mask_rank": 4})))
    # By hand: the strongest evidence of each image before and after the paste.
    layer = shared.get_layer("masked_pooling")
    extractor, changes, sizes = keras.Model(shared.input, layer.input), [], []

    def evidence(pictures):
        features = extractor.predict_on_batch(pictures)
        masks = np.array(layer.masks(features, range(3)))
        return np.sum((1 + masks) * features[:, :, :, None] * np.array(layer.head), axis=-1)

    before = evidence(images)
    for index, values in enumerate(before):
        row, column, k = np.unravel_index(values.argmax(), values.shape)
        pasted = images[[index - 1]].copy()
        pixels = np.s_[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        pasted[0][pixels] = images[index][pixels]
        changes.append(abs(evidence(pasted)[0, row, column, k] - values.max()))
        sizes.append(values.max())
    expected = np.mean(changes) / np.mean(sizes)
    assert expected > 0.01
    assert changed_by_surroundings(shared, images) == pytest.approx(expected, rel=1e-3)


def test_a_model_without_masks_is_evaluated_without_them():
    baseline = models.build(tiny_config(model={"name": "baseline"}))
    result = evaluate(baseline, random_split(7, seed=4), NAMES, batch_size=7)
    assert list(result) == ["multilabel"]
    assert "masks" not in format_table(result)


def test_means_leave_out_what_is_undefined(model):
    split = random_split(6, seed=5)
    never = dataclasses.replace(split, labels=split.labels * np.array([1, 0, 1], np.uint8))
    result = evaluate(model, never, NAMES, batch_size=6)["attributes"]
    per_attribute = [result["per_attribute"][name]["balanced_accuracy"] for name in NAMES]
    assert per_attribute[1] is None
    expected = (per_attribute[0] + per_attribute[2]) / 2
    assert result["mean"]["balanced_accuracy"] == pytest.approx(expected)
    table = format_table({"attributes": result})
    assert " - " in table.splitlines()[3] and "nan" not in table
    assert "-: not defined" in " ".join(table.split())


def result_for(attributes):
    measures = ("accuracy", "balanced_accuracy", "f1", "positives", "majority_accuracy")
    values = dict(zip(measures, (0.91, 0.82, 0.73, 0.24, 0.76), strict=True))
    return {"attributes": {"mean": values, "per_attribute": dict.fromkeys(attributes, values)}}


def test_published_columns_stand_beside_the_forty_attributes_alone():
    table = format_table(result_for(published.ACCURACY)).splitlines()
    assert max(map(len, table)) <= 100
    ours, theirs = table[:43], table[44:87]  # they do not fit beside each other
    assert theirs[0].split() == ["published", "accuracy", "*"]
    assert theirs[1].split() == " ".join(published.COLUMNS).split()
    for lines in (ours, theirs):
        assert len({len(line) for line in lines[1:]}) == 1  # the columns are straight
    first, second = (next(x for x in part if x.startswith("Eyeglasses")) for part in (ours, theirs))
    assert first.split()[1:] == ["91.00", "82.00", "73.00", "24.00", "76.00"]
    assert second.split()[1:] == ["98.67", "96.00", "99.00", "98.00"]
    assert theirs[-1].split() == ["mean", "90.17", "87.08", "87.30", "81.12"]
    assert "published" not in format_table(result_for(["Eyeglasses", "Bald"]))


def test_a_short_table_has_the_mean_and_the_best_and_worst_five():
    names = [f"attribute_{index}" for index in range(14)]
    result = result_for(names)
    rows = result["attributes"]["per_attribute"]
    order = np.random.default_rng(0).permutation(13)
    for name, place in zip(names, order, strict=False):  # the last stays without
        rows[name] = rows[name] | {"balanced_accuracy": 0.5 + place / 100}
    rows[names[13]] = rows[names[13]] | {"balanced_accuracy": None}
    table = format_table(result, full=False).splitlines()
    ranked = [names[index] for index in np.argsort(-order)]
    shown = [line.split()[0] for line in table[2:14]]
    assert shown == ["mean", *ranked[:5], "...", *ranked[-5:]]
    assert table[8] == "... 4 more" and table[3].split()[2] == "62.00"
    few = result_for(names[:11])
    assert format_table(few, full=False).splitlines()[2].startswith("mean")
    assert [x.split()[0] for x in format_table(few).splitlines()[2:13]] == names[:11]


def test_classes_are_measured_by_the_most_probable_one():
    model = he_weights(models.build(tiny_config_of("cnn", exclusive=True)))
    kernel, bias = model.get_layer("scores").get_weights()
    model.get_layer("scores").set_weights([kernel, bias + [0.2, -1, 0]])
    split = split_of_classes(20, seed=4)  # 7, 7 and 6 of a class
    images, labels = next(evaluation_batches(split, 20).as_numpy_iterator())
    answers = model.predict_on_batch(images)["probabilities"].argmax(axis=1)
    right = answers == labels.argmax(axis=1)
    result = evaluate(model, split, NAMES, batch_size=6)["probabilities"]
    assert result["mean"]["accuracy"] == pytest.approx(right.mean())
    assert result["mean"]["majority_accuracy"] == pytest.approx(7 / 20)
    recall = [result["per_attribute"][name]["recall"] for name in NAMES]
    assert recall == pytest.approx([right[labels[:, k] > 0].mean() for k in range(3)])
    table = format_table({"probabilities": result}).splitlines()
    assert table[1].split() == ["recall", "precision", "F1", "positives"]
    assert table[2].split()[:2] == ["Smiling", f"{100 * recall[0]:.2f}"]
    assert table[-1].startswith(f"top-1 accuracy {100 * right.mean():.2f} % (always the commonest")


def test_published_figures_are_those_of_the_papers():
    """Read in the papers' texts, not in the code."""
    assert published.ACCURACY["Eyeglasses"] == (98.67, 96, 99, 98)  # MCAttn, table 3
    assert published.ACCURACY["Young"] == (87.00, 81, 87, 80)
    assert published.PRINTED_MCATTN_AVERAGE == 92.05
    accuracy, ways = published.DECLINE["gcm"]  # GCM, table 8
    assert (accuracy, ways["map"], ways["product"]) == (90.43, (90.13, 0.33), (90.43, 0.0))
    assert published.DECLINE["cam"][0] == 90.39
    assert published.DECLINE["cam"][1]["weighted_sum"] == (87.39, 3.32)
