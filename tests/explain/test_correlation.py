"""Running correlations against NumPy's on arrays that are kept whole."""

import os
import weakref
from pathlib import Path

import numpy as np
import pytest
from conftest import MLP, NAMES, randomise_weights, tiny_config

from mcattn_tf import data, models, runs
from mcattn_tf.data.drawn_faces import CORRELATIONS
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.analysis_tables import format_analysis, most_correlated
from mcattn_tf.explain.feature_space.correlation import (
    DEFAULT_CORRELATION,
    Analysis,
    Moments,
    analyze,
    made_before,
)
from mcattn_tf.explain.methods.contributions import build_explainer

RUN = os.environ.get("MCATTN_FACES_RUN")
RANDOM = np.random.default_rng(0)
LABELS = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 1]], np.float32)


@pytest.fixture(scope="module", params=[{}, MLP])
def model(request):
    return randomise_weights(models.build(tiny_config(model=request.param)))


def in_batches(images, labels=LABELS):
    """6 images as 4 and 2."""
    return [(images[:4], labels[:4]), (images[4:], labels[4:])]


def by_numpy(values):
    """Correlation of the K attributes of (N, K, C) over images and channels."""
    return np.corrcoef(values.swapaxes(0, 1).reshape(values.shape[1], -1))


def test_an_analysis_equals_numpy_on_the_stored_arrays(model, images):
    explained = build_explainer(model, range(3)).predict_on_batch(images)
    masks = explained["masks"].mean(axis=(1, 2), dtype=np.float64)  # (B, K, C)
    contributions = explained["channel_contributions"].astype(np.float64)
    analysis = analyze(model, NAMES, in_batches(images))
    assert analysis.images == 6
    close = {"rtol": 0, "atol": 1e-5}
    np.testing.assert_allclose(analysis.mean_masks, masks.mean(axis=0), **close)
    np.testing.assert_allclose(analysis.mean_contributions, contributions.mean(axis=0), **close)
    np.testing.assert_allclose(analysis.importance, np.abs(contributions).mean(axis=0), **close)
    channels = analysis.channel_correlation()
    np.testing.assert_allclose(channels, np.corrcoef(masks.reshape(-1, 5).T), **close)
    found = analysis.correlations()
    expected = {
        "contributions": np.corrcoef(contributions.sum(axis=2).T),
        "channel_contributions": by_numpy(contributions),
        "masks": by_numpy(masks),
        "labels": np.corrcoef(LABELS.T),
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, **close, err_msg=name)


def test_analyses_of_several_processes_merge_to_that_of_all_images(model, images, tmp_path):
    whole = analyze(model, NAMES, in_batches(images))
    for index, batch in enumerate(in_batches(images)):
        analyze(model, NAMES, [batch]).save(tmp_path / f"{index}.npz")
    first, second = (Analysis.load(tmp_path / f"{index}.npz") for index in range(2))
    merged = first.merged(second)
    assert merged.images == 6 and merged.attributes == NAMES
    np.testing.assert_allclose(merged.importance, whole.importance, atol=1e-6)
    np.testing.assert_allclose(
        merged.channel_correlation(), whole.channel_correlation(), rtol=0, atol=1e-6
    )
    for name, expected in whole.correlations().items():
        np.testing.assert_allclose(merged.correlations()[name], expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="of one network"):
        other = randomise_weights(models.build(tiny_config()), seed=1)
        merged.merged(analyze(other, NAMES, in_batches(images)))


def test_labels_correlate_over_images_that_know_all(model, images, tmp_path):
    unknown = np.array(LABELS, np.float32)
    unknown[[1, 4], [2, 0]] = -1
    correlations = analyze(model, NAMES, in_batches(images, unknown)).correlations()
    expected = np.corrcoef(LABELS[[0, 2, 3, 5]].T)
    np.testing.assert_allclose(correlations["labels"], expected, atol=1e-6)
    unknown[:, 1] = -1
    analysis = analyze(model, NAMES, in_batches(images, unknown))
    analysis.save(tmp_path / "analysis.npz")
    assert "labels" not in Analysis.load(tmp_path / "analysis.npz").correlations()


def test_an_analysis_is_used_again_only_for_the_weights_it_was_made_of(model, images, tmp_path):
    path = tmp_path / "analysis.npz"
    assert made_before(path, model) is None
    analyze(model, NAMES, in_batches(images)).save(path)
    with np.load(path) as file:
        assert tuple(file["attributes"]) == NAMES and file["images"] == 6
        assert file["channel_correlation"].shape == (5, 5)
        assert file["attribute_correlation_labels"].shape == (3, 3)
    assert made_before(path, model).images == 6
    assert made_before(path, randomise_weights(models.build(tiny_config()), seed=1)) is None
    with np.load(path) as file:
        older = {name: values for name, values in file.items() if name != "masks_mean"}
    np.savez(path, **older)
    with pytest.raises(UserError, match="of an older version"):
        made_before(path, model)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="damaged, of an older version or no analysis"):
        made_before(path, model)


def test_no_more_than_two_batches_are_there_at_a_time(images):
    model = randomise_weights(models.build(tiny_config()))
    born, most = [], 0

    def batches():
        nonlocal most
        for _ in range(8):
            batch = images + 0  # a new array
            born.append(weakref.ref(batch))
            most = max(most, sum(reference() is not None for reference in born))
            yield batch, LABELS
            del batch

    assert analyze(model, NAMES, batches()).images == 48
    assert most <= 2


def test_moments_of_many_float32_numbers_far_from_zero_are_exact():
    """200,000 rows whose spread is a thousandth of their mean, in batches of unequal size."""
    noise = RANDOM.normal(size=(200_000, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0], [0, 0.2, 1]])
    rows = (1000 + noise).astype(np.float32)
    found = None
    for batch in np.split(rows, [7, 70_000, 131_072]):
        moments = Moments.of(batch)
        found = moments if found is None else found.merged(moments)
    expected = np.corrcoef(rows.astype(np.float64).T)
    assert found.count == 200_000
    np.testing.assert_allclose(found.correlation(), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-12)


def test_what_does_not_vary_correlates_with_nothing():
    rows = np.column_stack([np.arange(5), np.full(5, 0.1, np.float32), -2 * np.arange(5)])
    correlation = Moments.of(rows).merged(Moments.of(rows + [1, 0, 1])).correlation()
    assert np.isnan(correlation[1]).all() and np.isnan(correlation[:, 1]).all()
    assert correlation[0, 0] == pytest.approx(1) and -1 <= correlation[0, 2] < -0.5
    assert most_correlated(correlation, 0) == [2]


def test_the_most_correlated_are_ranked_by_size_without_the_target():
    correlation = np.array([[1, 0.2, -0.9, 0.5], [0.2, 1, 0, 0], [-0.9, 0, 1, 0], [0.5, 0, 0, 1]])
    assert most_correlated(correlation, 0) == [2, 3, 1]
    assert most_correlated(correlation, 0, count=2) == [2, 3]


def test_channels_apart_are_those_of_one_attributes_half_outside_of_the_others_nine_tenths():
    importance = np.array([[40, 30, 20, 5, 5], [1, 60, 36, 2, 1], [20, 20, 20, 20, 20]], float)
    zeros = np.zeros((3, 5))
    analysis = Analysis(NAMES, "", 1, zeros, zeros, importance, {})
    assert analysis.channels_apart(0, 1) == [0]  # half: 0, 1; the other's nine tenths: 1, 2
    assert analysis.channels_apart(1, 0) == []
    assert analysis.most_used_channels(2) == [1, 2]  # mean shares .37 and .25


def test_the_tables_name_what_correlates_most_and_which_channels_are_apart(model, images):
    analysis = analyze(model, NAMES, in_batches(images))
    text = format_analysis(analysis, channels=[3])
    channels, by_contributions, *_, apart = text.split("\n\n")
    correlation = np.abs(analysis.channel_correlation()[3])
    correlation[3] = -1
    nearest, value = np.argmax(correlation), analysis.channel_correlation()[3].tolist()
    row = channels.splitlines()[-1]
    assert row.split()[:4] == ["channel", "3", str(nearest), f"{value[nearest]:+.2f}"]
    found = analysis.correlations()
    other = max((0, 2), key=lambda k: abs(found[DEFAULT_CORRELATION][1, k]))
    (row,) = [line for line in by_contributions.splitlines() if line.startswith(NAMES[1])]
    ours, by_labels = (found[name][1, other] for name in (DEFAULT_CORRELATION, "labels"))
    assert row.split()[1:4] == [NAMES[other], f"{ours:+.2f}", f"({by_labels:+.2f})"]
    used = analysis.channels_apart(1, other)
    (row,) = [line for line in apart.splitlines() if line.startswith(NAMES[1])]
    assert row.split()[1:] == [NAMES[other], *(map(str, used) if used else ["none"])]


# By design of the drawn faces: which are drawn together (+) and which exclude each other (-).
PAIRS = {
    ("Bald", "Bangs"): -1,
    ("Bald", "Black_Hair"): -1,
    ("Bald", "Blond_Hair"): -1,
    ("Bald", "Wearing_Lipstick"): -1,
    ("Black_Hair", "Blond_Hair"): -1,
    ("Black_Hair", "Bushy_Eyebrows"): 1,
    ("Goatee", "Mustache"): 1,
    ("Mouth_Slightly_Open", "Smiling"): 1,
    ("Mustache", "Wearing_Lipstick"): -1,
    ("Rosy_Cheeks", "Wearing_Lipstick"): 1,
    ("Wearing_Earrings", "Wearing_Lipstick"): 1,
    ("Wearing_Lipstick", "Wearing_Necktie"): -1,
}


def test_the_pairs_are_those_that_are_drawn():
    assert {pair: np.sign(value) for pair, value in CORRELATIONS.items()} == PAIRS


@pytest.mark.skipif(not RUN, reason="MCATTN_FACES_RUN is not set to a run of `make demo`")
def test_the_structure_of_drawn_faces_is_found():
    config, model = runs.read_config(Path(RUN)), runs.load_model(Path(RUN))
    split = data.load_split(config.data, "test").take(1000)
    names = config.attributes
    analysis = analyze(model, names, evaluation_batches(split, 64).as_numpy_iterator())
    correlation = analysis.correlations()[DEFAULT_CORRELATION]
    found = 0
    for (first, second), sign in PAIRS.items():
        i, j = names.index(first), names.index(second)
        mutual = j in most_correlated(correlation, i, 3) and i in most_correlated(correlation, j, 3)
        found += mutual and np.sign(correlation[i, j]) == sign
    # Wearing_Lipstick is in five pairs and has three nearest: no more than 10 of 12 can be found.
    assert found >= 0.8 * len(PAIRS)
