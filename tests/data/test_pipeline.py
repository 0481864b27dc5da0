import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from conftest import random_split, split_of_arrays

from mcattn_tf.data.pipeline import (
    LUMINANCE,
    draw_changes,
    evaluation_batches,
    jitter_colors,
    mirror,
    shift,
    training_batches,
)
from mcattn_tf.data.split import join
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig


def read_all(split, batch_size=2):
    batches = list(evaluation_batches(split, batch_size).as_numpy_iterator())
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def decoding(split):
    """The same split as one whose images are decoded one at a time."""
    every = tf.constant(split.images(np.arange(len(split.labels))))
    return dataclasses.replace(split, decode=lambda index: every[index])


@pytest.mark.parametrize("kind", [lambda split: split, decoding])
def test_the_number_of_batches_is_known(kind):
    """Keras divides a validation's losses by it."""
    split = kind(random_split(7, seed=0))
    assert evaluation_batches(split, 3).cardinality() == 3
    assert training_batches(split, 3, range(1, 3), 0, DataConfig()).cardinality() == 4


def numbered(count):
    """Images whose left half is their number and whose right half is 255; labels wrap at 100."""
    images = np.zeros((count, 2, 2, 3), np.uint8)
    images[:, :, 0] = np.arange(count)[:, None, None]
    images[:, :, 1] = 255
    return split_of_arrays(images, np.arange(count)[:, None] % 100)


@pytest.mark.parametrize("kind", [lambda split: split, decoding])
def test_evaluation_counts_every_example_once_in_order(kind):
    split = random_split(7, seed=0)
    images, labels = read_all(kind(split), batch_size=3)
    np.testing.assert_array_equal(labels, split.labels)
    np.testing.assert_allclose(images, split.images(np.arange(7)) / 255.0, atol=1e-7)


def order_of(split, epochs, seed=0, flip=False):
    config = DataConfig(flip=flip)
    batches = list(training_batches(split, 4, epochs, seed, config).as_numpy_iterator())
    images = np.concatenate([np.round(batch * 255).astype(int) for batch, _ in batches])
    numbers = images[:, 0, :, 0].min(axis=1)
    labels = np.concatenate([labels[:, 0] for _, labels in batches])
    np.testing.assert_array_equal(labels, numbers % 100)
    return numbers.tolist(), images[:, 0, 0, 0] == 255


@pytest.mark.parametrize("kind", [lambda split: split, decoding])
def test_training_order_visits_each_example_once_and_differs_by_epoch_and_seed(kind):
    split = kind(numbered(12))
    order, _ = order_of(split, range(2))
    first, second = order[:12], order[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert order_of(split, range(2), seed=1)[0] != order


def test_images_in_memory_and_decoded_ones_come_in_the_same_order():
    split = numbered(12)
    order, flipped = order_of(split, range(2), flip=True)
    decoded_order, decoded_flipped = order_of(decoding(split), range(2), flip=True)
    assert order == decoded_order
    np.testing.assert_array_equal(flipped, decoded_flipped)


def test_training_from_an_epoch_on_sees_what_it_would_have_seen():
    split = numbered(14)  # does not divide by the batch of 4
    config = DataConfig(flip=True, pad_and_crop=1, color_jitter=0.5)

    def batches(epochs):
        return list(training_batches(split, 4, epochs, 3, config).as_numpy_iterator())

    whole, resumed = batches(range(3)), batches(range(1, 3))
    assert len(whole) == 9 and len(resumed) == 6
    for (images, labels), (resumed_images, resumed_labels) in zip(whole[3:], resumed, strict=True):
        np.testing.assert_array_equal(images, resumed_images)
        np.testing.assert_array_equal(labels, resumed_labels)


def test_flips_mirror_about_half_of_the_images():
    _, flipped = order_of(numbered(200), range(2), flip=True)
    assert 150 < flipped.sum() < 250  # of 400, seven standard deviations either way
    assert not order_of(numbered(12), range(1), flip=False)[1].any()


def test_mirroring_and_shifting_by_hand():
    images = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1).repeat(3, axis=3).repeat(3, axis=0)
    images[..., 1:] += np.array([100, 200], np.uint8)  # channels are not mixed up
    before = images.copy()
    mirror(images, np.array([True, False, True]))
    np.testing.assert_array_equal(images[0], before[0, :, ::-1])
    np.testing.assert_array_equal(images[1], before[1])
    shifted = shift(images, np.array([[0, 0], [1, -2], [-1, 1]]))
    np.testing.assert_array_equal(shifted[0], images[0])
    assert shifted[1, ..., 0].tolist() == [[0, 0, 0, 0], [2, 3, 0, 0], [6, 7, 0, 0]]
    assert shifted[2, ..., 0].tolist() == [[0, 7, 6, 5], [0, 11, 10, 9], [0, 0, 0, 0]]
    assert shifted[1, 1, :, 2].tolist() == [202, 203, 0, 0]


def test_shifts_reach_every_place_equally_often():
    images = np.zeros((500, 7, 9, 3), np.uint8)
    images[:, 3, 4] = 255
    split = split_of_arrays(images, np.zeros((500, 1), np.uint8))
    config = DataConfig(flip=False, pad_and_crop=2)
    batches = training_batches(split, 50, range(8), 0, config).as_numpy_iterator()
    counts = sum(np.sum(batch[..., 0] == 1, axis=0) for batch, _ in batches)
    assert counts[1:6, 2:7].min() > 100 and counts[1:6, 2:7].max() < 220  # 160 expected of 4,000
    assert counts.sum() == counts[1:6, 2:7].sum() == 4000


def test_colors_by_hand():
    image = np.array([[[0.2, 0.4, 0.6], [0.6, 0.4, 0.2]]], np.float32)  # (1, 2, 3)
    grey = image @ np.array(LUMINANCE, np.float32)
    factors = np.array([[0.5, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [3, 1, 1]], np.float32)
    changed = jitter_colors(tf.constant(image[None].repeat(5, axis=0)), tf.constant(factors))
    np.testing.assert_allclose(changed[0], image / 2, atol=1e-6)
    np.testing.assert_allclose(changed[1], np.full_like(image, grey.mean()), atol=1e-6)
    np.testing.assert_allclose(changed[2], grey[..., None].repeat(3, axis=-1), atol=1e-6)
    np.testing.assert_allclose(changed[3], image, atol=1e-6)
    np.testing.assert_allclose(changed[4], np.minimum(3 * image, 1), atol=1e-6)


def test_jitter_changes_each_image_by_its_own_factors():
    split = split_of_arrays(np.full((64, 2, 3, 3), 100, np.uint8), np.zeros((64, 1), np.uint8))
    config = DataConfig(flip=False, color_jitter=0.25)
    ((changed, _),) = training_batches(split, 64, range(1), 0, config).as_numpy_iterator()
    factors = changed[:, 0, 0, 0] / (100 / 255)  # grey: brightness alone shows
    assert 0.75 <= factors.min() < 0.8 and 1.2 < factors.max() <= 1.25
    assert len(np.unique(factors)) == 64


def test_draws_of_one_kind_do_not_follow_those_of_another():
    config = DataConfig(pad_and_crop=3, color_jitter=0.5)
    steps = [draw_changes(config, 64, 0, tf.constant(step, tf.int64)) for step in range(20)]
    mirrored, shifts, factors = (np.concatenate(drawn) for drawn in zip(*steps, strict=True))
    every = np.column_stack([mirrored, shifts, factors]).astype(float)
    assert np.abs(np.corrcoef(every.T) - np.eye(6)).max() < 0.12  # 4 standard errors of 1,280


def test_what_is_in_memory_is_not_changed():
    split = numbered(8)
    before = split.images(np.arange(8))
    for kind in (split, decoding(split)):
        order_of(kind, range(3), flip=True)
        np.testing.assert_array_equal(kind.images(np.arange(8)), before)
        if kind.decode:
            np.testing.assert_array_equal([kind.decode(index) for index in range(8)], before)


def test_joined_splits_hold_both_in_turn():
    first, second = numbered(5).select(np.array([4, 1])), numbered(9).select(np.array([8, 0, 7]))
    both = join(first, second)
    images, labels = both.read([4, 0, 2, 1])
    assert images[:, 0, 0, 0].tolist() == labels[:, 0].tolist() == [7, 4, 8, 1]
    assert [both.name_of(index) for index in (1, 2)] == ["1", "8"]
    images, labels = read_all(join(decoding(first), decoding(second)))
    assert np.round(images[:, 0, 0, 0] * 255).tolist() == labels[:, 0].tolist() == [4, 1, 8, 0, 7]


def test_classes_become_a_column_each():
    split = dataclasses.replace(
        numbered(5), labels=np.array([2, 0, 3, 1, 2]), label_count=4
    ).select(np.array([0, 2, 3]))
    _, labels = read_all(split)
    assert labels.tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]]


def test_training_from_within_an_epoch_sees_what_it_would_have_seen():
    split = numbered(14)
    config = DataConfig(flip=True)
    whole = list(training_batches(split, 4, range(3), 3, config).as_numpy_iterator())
    rest = list(training_batches(split, 4, range(1, 3), 3, config, 2).as_numpy_iterator())
    assert len(rest) == 4
    for (images, labels), (expected, numbers) in zip(rest, whole[5:], strict=True):
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, numbers)


@pytest.mark.parametrize("kind", [lambda split: split, decoding])
def test_shares_of_devices_make_up_the_batches(kind):
    """Of 3 devices, 2 in the first process and 1 in the second."""
    split = kind(numbered(14))
    config = DataConfig(flip=True, pad_and_crop=1, color_jitter=0.5)

    def batches(*devices):
        return list(training_batches(split, 6, range(2), 3, config, 1, *devices))

    whole, (first, second) = batches(), (batches(range(2), 3), batches(range(2, 3), 3))
    assert len(first) == 6 and len(second) == 3
    for index, batch in enumerate(whole):
        shares = [first[2 * index], first[2 * index + 1], second[index]]
        for part in range(2):
            joined = np.concatenate([share[part] for share in shares])
            np.testing.assert_array_equal(joined, batch[part])


@pytest.mark.parametrize("kind", [lambda split: split, decoding])
@pytest.mark.parametrize(("count", "batch_size"), [(13, 6), (7, 6), (5, 6), (12, 3)])
def test_devices_evaluate_every_example_once_and_none_of_them_nothing(kind, count, batch_size):
    split = kind(numbered(count))
    shares = [
        list(evaluation_batches(split, batch_size, devices, 3).as_numpy_iterator())
        for devices in (range(2), range(2, 3))
    ]
    assert len(shares[0]) == 2 * len(shares[1])
    sizes = [len(labels) for share in shares for _, labels in share]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    labels = np.concatenate([labels[:, 0] for share in shares for _, labels in share])
    images = np.concatenate([images for share in shares for images, _ in share])
    assert sorted(labels.tolist()) == list(range(count))
    np.testing.assert_allclose(images[:, 0, 0, 0] * 255, labels, atol=1e-4)


def test_fewer_examples_than_devices_are_refused():
    with pytest.raises(UserError, match="2 images cannot be divided among 3 devices"):
        evaluation_batches(numbered(2), 6, range(3), 3)
