import numpy as np
import pytest

from mcattn_tf.data.loading import hold_out
from mcattn_tf.errors import UserError


def correlated_labels(count: int, attributes: int, seed: int = 0) -> np.ndarray:
    """(N, K), whose rates rise from about 2 % to 75 % and which five causes have in common."""
    random = np.random.default_rng(seed)
    causes = random.normal(size=(count, 5)) @ random.normal(size=(5, attributes))
    values = causes + random.normal(size=causes.shape)
    return (values / values.std(axis=0) > np.linspace(2.1, -0.7, attributes)).astype(np.uint8)


def test_one_of_each_pair_of_equal_items_is_held_out():
    """Half of the items: every second one in the order of the classes."""
    held = hold_out(np.array([1, 0, 1, 0, 2, 2]), 0.5, seed=3)
    assert held.dtype == bool
    assert [held[[1, 3]].sum(), held[[0, 2]].sum(), held[[4, 5]].sum()] == [1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.037, 0.49])
def test_each_class_is_held_out_within_one_image(seed, share):
    counts = np.array([500, 3, 120, 41, 1, 1000])
    labels = np.random.default_rng(9).permutation(np.repeat(np.arange(6), counts))
    held = hold_out(labels, share, seed)
    # The class of one image may get it back.
    assert -2 < held.sum() - share * 1665 < 1
    assert (np.abs(np.bincount(labels[held], minlength=6) - share * counts) < 1).all()
    assert set(labels[~held]) == set(range(6))


@pytest.mark.parametrize("grouped", [False, True])
def test_each_class_keeps_an_image(grouped):
    """Even where nearly all are held out, and a class has two images or one group of three."""
    labels = np.repeat(np.arange(7), [2, 1, 40, 3, 3, 60, 5])
    groups = np.concatenate([np.arange(43), [50] * 3, np.arange(60, 128)]) if grouped else None
    for seed in range(9):
        held = hold_out(labels, 0.95, seed, groups)
        assert set(labels[~held]) == set(range(7)) and held.sum() > 95


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("value", [0, 1])
def test_each_attribute_keeps_an_image_with_and_one_without_it(count, value):
    """After the test and the validation images have been held out."""
    random = np.random.default_rng(count)
    for seed in range(60):
        labels = random.integers(0, 2, (40, 3))
        labels[:, 0] = 1 - value
        labels[:count, 0] = value
        labels = random.permutation(labels)
        test = hold_out(labels, 0.1, seed)
        rest = labels[~test]
        validation = hold_out(rest, 0.1 * 40 / len(rest), seed)
        assert test.sum() >= 3 and validation.sum() >= 3
        assert value in rest[~validation][:, 0]


def test_the_only_image_of_a_class_is_not_the_only_one_held_out():
    for seed in range(40):
        assert not hold_out(np.array([1] + [0] * 9), 0.1, seed)[0]


def test_unknown_labels_are_neither_there_nor_missing():
    """The first attribute is rarer by its known labels: 4 of 8 images to hold out have it."""
    labels = np.full((80, 2), -1)
    labels[:8, 0], labels[8:16, 0] = 1, 0
    labels[:, 1] = np.arange(80) % 2
    for seed in range(9):
        held = hold_out(labels, 0.25, seed)
        assert held.sum() == 20 and (labels[held, 0] == 1).sum() == 2
    labels[:, 0] = -1
    labels[3, 0] = 1  # and no image is known to be without it
    for seed in range(40):
        assert not hold_out(labels, 0.25, seed)[3]


@pytest.mark.parametrize("attributes", [1, 7, 70])
def test_the_rarest_attribute_is_held_out_within_one_image(attributes):
    labels = correlated_labels(1003, attributes)
    for seed in range(5):
        held = hold_out(labels, 0.2, seed)
        assert abs(held.sum() - 0.2 * 1003) < 1
        assert abs(labels[held, 0].sum() - 0.2 * labels[:, 0].sum()) < 1


def test_an_attribute_that_nearly_all_have_counts_as_rare():
    labels = correlated_labels(1000, 6)
    labels[:, 5] = 1
    labels[::50, 5] = 0  # 20 images are without it, fewer than are with any other
    for seed in range(9):
        assert (labels[hold_out(labels, 0.1, seed), 5] == 0).sum() == 2


@pytest.mark.parametrize(("attributes", "at_most"), [(12, 0.25), (40, 0.8)])
def test_attribute_rates_are_nearer_than_those_of_images_drawn_at_random(attributes, at_most):
    labels = correlated_labels(4000, attributes)

    def deviation(chosen: np.ndarray) -> float:
        return np.abs(labels[chosen].mean(axis=0) - labels.mean(axis=0)).mean()

    held = np.mean([deviation(hold_out(labels, 0.1, seed)) for seed in range(10)])
    drawn = np.mean(
        [deviation(np.random.default_rng(seed).permutation(4000)[:400]) for seed in range(10)]
    )
    assert held < at_most * drawn


def test_every_image_is_held_out_about_equally_often():
    """Over 400 seeds a share of 0.2 is 80 times, with a standard deviation of 8."""
    labels = correlated_labels(60, 4)
    times = sum(hold_out(labels, 0.2, seed).astype(int) for seed in range(400))
    assert times.sum() == 400 * 12
    assert times.min() > 40
    assert times.max() < 120


@pytest.mark.parametrize("kind", ["attributes", "classes"])
@pytest.mark.parametrize("seed", range(6))
def test_groups_are_not_divided_and_the_share_is_met_within_the_largest(kind, seed):
    random = np.random.default_rng(seed)
    groups = 7 * random.integers(0, 80, 900) - 100  # numbers with gaps, and below zero
    groups[:60] = 5000
    labels = correlated_labels(900, 6) if kind == "attributes" else random.integers(0, 9, 900)
    held = hold_out(labels, 0.2, seed, groups)
    assert not set(groups[held]) & set(groups[~held])
    assert abs(held.sum() - 180) <= 60


def test_groups_are_stratified_by_what_their_images_have():
    """Of 40 groups of 5 images, in 8 the first image has the attribute: 2 of a quarter are."""
    groups = np.repeat(np.arange(40), 5)
    labels = np.zeros((200, 1), np.uint8)
    labels[: 8 * 5 : 5] = 1
    for seed in range(5):
        held = hold_out(labels, 0.25, seed, groups)
        assert held.sum() == 50
        assert labels[held].sum() == 2


def test_a_group_stands_for_its_rarest_class():
    """Of 40 groups of 5 digits, in 8 the last is a one, else all are zero."""
    groups = np.repeat(np.arange(40), 5)
    labels = np.zeros(200, np.int64)
    labels[4 : 8 * 5 : 5] = 1
    for seed in range(5):
        held = hold_out(labels, 0.25, seed, groups)
        assert (held.sum(), labels[held].sum()) == (50, 2)


def test_few_large_groups_leave_one_held_out():
    groups = np.repeat([0, 1, 2], 20)
    for seed in range(5):
        assert hold_out(np.zeros(60, np.int64), 0.1, seed, groups).sum() == 20


def test_the_seed_alone_decides():
    labels = correlated_labels(500, 5)
    first = hold_out(labels, 0.1, 0)
    np.random.default_rng(0).random(10)
    np.testing.assert_array_equal(hold_out(labels.copy(), 0.1, 0), first)
    assert (hold_out(labels, 0.1, 1) != first).any()


def test_less_than_one_image_cannot_be_held_out():
    assert hold_out(np.zeros(10, np.int64), 0.1, 0).sum() == 1
    assert hold_out(np.arange(29), 1 / 29, 0).sum() == 1
    with pytest.raises(UserError, match=r"^`hold_out` must be at least one image of 9\."):
        hold_out(np.zeros(9, np.int64), 0.1, 0)


def test_a_single_group_cannot_be_held_out():
    with pytest.raises(UserError, match="some images on both sides, of 30 in 1 groups"):
        hold_out(np.arange(30), 0.1, 0, np.zeros(30, np.int64))
