"""From a part of a data set to batches of images and labels."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mcattn_tf.data.augmentation import draw_changes, jitter_colors, mirror, shift, to_floats
from mcattn_tf.data.split import Split
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig


def _read(split: Split, batches: tf.data.Dataset, sizes: Sequence[int]) -> tf.data.Dataset:
    """Returns images (B, H, W, 3) and labels (B, K), uint8.

    Args:
        split: the examples.
        batches: of indices (B,), `mirrored` and `shifts`, as `mirror` and `shift` take them.
        sizes: of the batches, in turn, again and again.
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
    images = images.batch(1).rebatch(sizes) if len(sizes) > 1 else images.batch(sizes[0])
    # Unknown behind `unbatch`, and Keras counts a validation loss's batches by it.
    images = images.apply(tf.data.experimental.assert_cardinality(batches.cardinality()))
    return tf.data.Dataset.zip(images, batches).map(
        lambda images, batch: in_python(change_copy, images, *batch),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _borders(count: int, batch_size: int, device_count: int) -> np.ndarray:
    """Returns where the shares of batches begin and end, those of a batch one after another.

    A device without an image would make the mean of a loss undefined, so shares are of equal size
    but for one image, and none is empty.
    """
    if device_count == 1:
        return np.append(np.arange(0, count, batch_size), count)
    shares = max(1, count // batch_size) * device_count
    return np.arange(shares + 1) * count // shares


def evaluation_batches(
    split: Split, batch_size: int, devices: range = range(1), device_count: int = 1
) -> tf.data.Dataset:
    """Returns every example once, in order.

    Args:
        split: the examples.
        batch_size: B; the last batch is smaller where the count does not divide.
        devices: numbers of those whose shares are returned, in turn.
        device_count: among which batches are divided; then they are of about B images, and all
            devices get the same number of shares.

    Returns:
        Batches of images (B, H, W, 3), float32 in [0, 1], and labels (B, K), float32, 0 or 1.

    Raises:
        UserError: if there are fewer examples than devices.
    """
    if split.count < device_count:
        raise UserError(
            f"{split.count} images cannot be divided among {device_count} devices; take fewer "
            "devices, or --strategy none"
        )
    borders = _borders(split.count, batch_size, device_count)
    shares = np.stack([borders[:-1], borders[1:]], axis=1).reshape(-1, device_count, 2)
    shares = shares[:, devices.start : devices.stop].reshape(-1, 2)

    def unchanged(share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        indices = tf.range(share[0], share[1])
        count = tf.size(indices)
        return indices, tf.zeros(count, tf.bool), tf.zeros((count, 2), tf.int32)

    batches = tf.data.Dataset.from_tensor_slices(shares).map(unchanged)
    sizes = [batch_size] if device_count == 1 else (shares[:, 1] - shares[:, 0]).tolist()
    return (
        _read(split, batches, sizes)
        .map(lambda images, labels: (to_floats(images), tf.cast(labels, tf.float32)))
        .prefetch(tf.data.AUTOTUNE)
    )


def training_batches(
    split: Split,
    batch_size: int,
    epochs: range,
    seed: int,
    config: DataConfig,
    first_step: int = 0,
    devices: range = range(1),
    device_count: int = 1,
) -> tf.data.Dataset:
    """Returns shuffled and augmented examples, epoch after epoch.

    The order and the augmentation of an epoch depend on `seed` and its number alone, those of a
    batch on its number: training that is resumed sees what it would have seen, on any number of
    devices.

    Args:
        split: the examples.
        batch_size: B; examples that do not fill a last batch wait for another epoch's order.
        epochs: numbers of the epochs to come.
        seed: of order and augmentation.
        config: `flip`, `pad_and_crop` and `color_jitter` are used.
        first_step: how many batches of the first epoch are left out.
        devices: numbers of those whose shares of each batch are returned, in turn.
        device_count: R, among which batches are divided evenly.

    Returns:
        `len(epochs) * (split.count // batch_size) - first_step` batches, or as many shares for each
        of `devices`, of images (B / R, H, W, 3), float32 in [0, 1], and labels (B / R, K), float32,
        0 or 1.
    """
    steps = split.count // batch_size
    share_size = batch_size // device_count

    def share(values: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        device = devices.start + number % len(devices)
        return values[device * share_size : (device + 1) * share_size]

    def draw(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        step = number // len(devices)
        indices = tf.random.experimental.index_shuffle(
            (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64),
            seed=tf.stack([seed, step // steps]),
            max_index=split.count - 1,
        )
        mirrored, shifts, _ = draw_changes(config, batch_size, seed, step)
        return tuple(share(values, number) for values in (indices, mirrored, shifts))

    def draw_factors(number: tf.Tensor) -> tf.Tensor:
        step = number // len(devices)
        return share(draw_changes(config, batch_size, seed, step)[2], number)

    def finish(
        batch: tuple[tf.Tensor, tf.Tensor], factors: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = batch
        images = to_floats(tf.ensure_shape(images, (share_size, *images.shape[1:])))
        if config.color_jitter:
            images = jitter_colors(images, factors)
        return images, tf.cast(labels, tf.float32)

    numbers = tf.data.Dataset.range(
        (epochs.start * steps + first_step) * len(devices), epochs.stop * steps * len(devices)
    )
    batches = _read(split, numbers.map(draw), [share_size])
    batches = tf.data.Dataset.zip(batches, numbers.map(draw_factors))
    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
