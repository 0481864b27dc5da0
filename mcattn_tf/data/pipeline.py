"""From a part of a data set to batches of images and labels."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from mcattn_tf.errors import choose


@dataclasses.dataclass(frozen=True)
class Split:
    """A part of a data set.

    Attributes:
        count: number of examples.
        read: from an index below `count`, a scalar int64, to an image (H, W, 3), uint8, and its
            labels (K,), 0 or 1; called inside a `tf.data` graph.
    """

    count: int
    read: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

    def take(self, count: int | None) -> "Split":
        """Returns the first `count` examples; all for None or where there are fewer."""
        if count is None or count >= self.count:
            return self
        return dataclasses.replace(self, count=count)


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set: three parts, and what the outputs are called.

    Attributes:
        train: examples to learn from.
        validation: examples to choose the best epoch by.
        test: examples to report.
        attributes: names of the K labels.
    """

    train: Split
    validation: Split
    test: Split
    attributes: tuple[str, ...]

    def split(self, name: str) -> Split:
        """Returns the part called `name`.

        Raises:
            UserError: if `name` is none of `train`, `validation` and `test`.
        """
        return getattr(self, choose("split", name, ("train", "validation", "test")))


def _to_floats(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(images, tf.float32) / 255.0, tf.cast(labels, tf.float32)


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Returns every example once, in order.

    Args:
        split: the examples.
        batch_size: B; the last batch is smaller where the count does not divide.

    Returns:
        Batches of images (B, H, W, 3), float32 in [0, 1], and labels (B, K), float32, 0 or 1.
    """
    indices = tf.data.Dataset.range(split.count)
    examples = indices.map(split.read, num_parallel_calls=tf.data.AUTOTUNE)
    return examples.batch(batch_size).map(_to_floats).prefetch(tf.data.AUTOTUNE)


def training_batches(
    split: Split, batch_size: int, epochs: range, seed: int, flip: bool
) -> tf.data.Dataset:
    """Returns shuffled and augmented examples, epoch after epoch.

    The order and the flips of an epoch depend on `seed` and its number alone, so that training
    resumed at an epoch sees what it would have seen.

    Args:
        split: the examples.
        batch_size: B; examples that do not fill a last batch wait for another epoch's order.
        epochs: numbers of the epochs to come.
        seed: of order and flips.
        flip: mirror half of the images left to right.

    Returns:
        `len(epochs) * (split.count // batch_size)` batches of images (B, H, W, 3), float32 in
        [0, 1], and labels (B, K), float32, 0 or 1.
    """
    steps = split.count // batch_size
    examples_per_epoch = steps * batch_size

    def read_shuffled(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epoch, index = position // examples_per_epoch, position % examples_per_epoch
        order = tf.stack([seed, epoch])
        return split.read(
            tf.random.experimental.index_shuffle(index, seed=order, max_index=split.count - 1)
        )

    def augment(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = _to_floats(*batch)
        if flip:
            draws = tf.random.stateless_uniform((batch_size, 1, 1, 1), seed=(seed, step))
            images = tf.where(draws < 0.5, images, images[:, :, ::-1])
        return images, labels

    positions = tf.data.Dataset.range(
        epochs.start * examples_per_epoch, epochs.stop * examples_per_epoch
    )
    examples = positions.map(read_shuffled, num_parallel_calls=tf.data.AUTOTUNE)
    batches = examples.batch(batch_size, drop_remainder=True)
    batches = batches.enumerate(start=epochs.start * steps)
    return batches.map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
