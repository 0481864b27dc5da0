"""From a part of a data set to batches of images and labels."""

import tensorflow as tf

from mcattn_tf.config import DataConfig
from mcattn_tf.data.augmentation import augment, to_floats
from mcattn_tf.data.split import Split


def _read(split: Split, indices: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Returns the examples of batches of indices, images and labels both uint8."""
    shape = (None, *split.image_size, 3)

    def labels_of(batch: tf.Tensor) -> tf.Tensor:
        labels = tf.numpy_function(split.labels_of, [batch], tf.uint8)
        return tf.ensure_shape(labels, (None, split.label_count))

    def read_all(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.numpy_function(split.read, [batch], (tf.uint8, tf.uint8))
        return tf.ensure_shape(images, shape), tf.ensure_shape(labels, (None, split.label_count))

    if split.decode is None:
        return indices.map(read_all, num_parallel_calls=tf.data.AUTOTUNE)

    def chosen(batch: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(
            tf.numpy_function(split.chosen.__getitem__, [batch], tf.int64), (None,)
        )

    def decode(index: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(split.decode(index), shape[1:])

    images = indices.map(chosen).unbatch().map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return tf.data.Dataset.zip(images.batch(batch_size), indices.map(labels_of))


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Returns every example once, in order.

    Args:
        split: the examples.
        batch_size: B; the last batch is smaller where the count does not divide.

    Returns:
        Batches of images (B, H, W, 3), float32 in [0, 1], and labels (B, K), float32, 0 or 1.
    """
    indices = tf.data.Dataset.range(split.count).batch(batch_size)
    return (
        _read(split, indices, batch_size)
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
    examples_per_epoch = steps * batch_size

    def shuffled(positions: tf.Tensor) -> tf.Tensor:
        epoch = positions[0] // examples_per_epoch  # no batch lies in two epochs
        return tf.random.experimental.index_shuffle(
            positions % examples_per_epoch,
            seed=tf.stack([seed, epoch]),
            max_index=split.count - 1,
        )

    def prepare(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = batch
        images.set_shape((batch_size, *images.shape[1:]))
        return augment(images, config, seed, step), tf.cast(labels, tf.float32)

    positions = tf.data.Dataset.range(
        epochs.start * examples_per_epoch, epochs.stop * examples_per_epoch
    )
    order = positions.batch(batch_size, drop_remainder=True).map(shuffled)
    batches = _read(split, order, batch_size).enumerate(start=epochs.start * steps)
    return batches.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
