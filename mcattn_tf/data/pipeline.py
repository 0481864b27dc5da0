"""From a part of a data set to batches of images and labels."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mcattn_tf.data.augmentation import (
    draw_changes,
    jitter_colors,
    mirror,
    shift,
    to_floats,
)
from mcattn_tf.data.split import Split
from mcattn_tf.data_config import DataConfig


def _read(split: Split, batches: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Returns images (B, H, W, 3) and labels (B, K), uint8.

    Args:
        split: the examples.
        batches: of indices (B,), `mirrored` and `shifts`, as `mirror` and `shift` take them.
        batch_size: of all batches but the last.
    """
    shape = (None, *split.image_size, 3)

    def static(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.ensure_shape(images, shape), tf.ensure_shape(labels, (None, split.label_count))

    # Reading and changing go together: every step through Python is paid for in copies.
    def change(
        images: np.ndarray, indices: np.ndarray, mirrored: np.ndarray, shifts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        mirror(images, mirrored)
        return shift(images, shifts) if shifts.any() else images, split.labels_of(indices)

    def change_copy(images: np.ndarray, *batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return change(images.copy(), *batch)  # TensorFlow's own memory is not to be changed

    def read(indices: np.ndarray, *changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return change(split.images(split.chosen[indices]), indices, *changes)

    def in_python(
        function: Callable[..., tuple[np.ndarray, np.ndarray]], *arguments: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return static(*tf.numpy_function(function, arguments, (tf.uint8, tf.uint8)))

    if split.decode is None:
        return batches.map(
            lambda *batch: in_python(read, *batch), num_parallel_calls=tf.data.AUTOTUNE
        )

    def chosen(indices: tf.Tensor, *changes: tf.Tensor) -> tf.Tensor:
        files = tf.numpy_function(split.chosen.__getitem__, [indices], tf.int64)
        return tf.ensure_shape(files, (None,))

    def decode(index: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(split.decode(index), shape[1:])

    images = batches.map(chosen).unbatch().map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    images = images.batch(batch_size)
    # Unknown behind `unbatch`, and Keras counts a validation loss's batches by it.
    images = images.apply(tf.data.experimental.assert_cardinality(batches.cardinality()))
    return tf.data.Dataset.zip(images, batches).map(
        lambda images, batch: in_python(change_copy, images, *batch),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Returns every example once, in order.

    Args:
        split: the examples.
        batch_size: B; the last batch is smaller where the count does not divide.

    Returns:
        Batches of images (B, H, W, 3), float32 in [0, 1], and labels (B, K), float32, 0 or 1.
    """

    def unchanged(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        count = tf.size(indices)
        return indices, tf.zeros(count, tf.bool), tf.zeros((count, 2), tf.int32)

    batches = tf.data.Dataset.range(split.count).batch(batch_size).map(unchanged)
    return (
        _read(split, batches, batch_size)
        .map(lambda images, labels: (to_floats(images), tf.cast(labels, tf.float32)))
        .prefetch(tf.data.AUTOTUNE)
    )


def training_batches(
    split: Split, batch_size: int, epochs: range, seed: int, config: DataConfig
) -> tf.data.Dataset:
    """Returns shuffled and augmented examples, epoch after epoch.

    The order and the augmentation of an epoch depend on `seed` and its number alone, so that
    training resumed at an epoch sees what it would have seen.

    Args:
        split: the examples.
        batch_size: B; examples that do not fill a last batch wait for another epoch's order.
        epochs: numbers of the epochs to come.
        seed: of order and augmentation.
        config: `flip`, `pad_and_crop` and `color_jitter` are used.

    Returns:
        `len(epochs) * (split.count // batch_size)` batches of images (B, H, W, 3), float32 in
        [0, 1], and labels (B, K), float32, 0 or 1.
    """
    steps = split.count // batch_size

    def draw(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        indices = tf.random.experimental.index_shuffle(
            (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64),
            seed=tf.stack([seed, step // steps]),
            max_index=split.count - 1,
        )
        mirrored, shifts, _ = draw_changes(config, batch_size, seed, step)
        return indices, mirrored, shifts

    def draw_factors(step: tf.Tensor) -> tf.Tensor:
        return draw_changes(config, batch_size, seed, step)[2]

    def finish(
        batch: tuple[tf.Tensor, tf.Tensor], factors: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = batch
        images = to_floats(tf.ensure_shape(images, (batch_size, *images.shape[1:])))
        if config.color_jitter:
            images = jitter_colors(images, factors)
        return images, tf.cast(labels, tf.float32)

    numbers = tf.data.Dataset.range(epochs.start * steps, epochs.stop * steps)
    batches = _read(split, numbers.map(draw), batch_size)
    batches = tf.data.Dataset.zip(batches, numbers.map(draw_factors))
    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
