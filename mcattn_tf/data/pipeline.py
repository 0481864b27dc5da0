"""Batches of images and labels from a split, and random changes to training images."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from mcattn_tf.data.split import Split
from mcattn_tf.errors import UserError
from mcattn_tf.progress import progress
from mcattn_tf.settings.data import DataConfig

Batch = tuple[tf.Tensor, tf.Tensor]  # images and labels
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


# None of the functions that are mapped needs AutoGraph, which takes longer than all the rest.
@tf.autograph.experimental.do_not_convert
def evaluation_batches(
    split: Split, batch_size: int, devices: range = range(1), device_count: int = 1
) -> tf.data.Dataset:
    """Returns every example once, in order.

    Args:
        split: The examples.
        batch_size: B; the last batch is smaller where the count does not divide.
        devices: Numbers of the devices whose shares are returned, in turn.
        device_count: Number of devices that share each batch; batches then have about B images,
            and all devices get the same number of shares.

    Returns:
        Batches of images (B, H, W, 3), float32 in [0, 1], and labels (B, K), float32: 1
        present, 0 absent and -1 unknown.

    Raises:
        UserError: If there are fewer examples than devices.
    """
    if split.count < device_count:
        images = f"{split.count} images cannot be divided among {device_count} devices"
        raise UserError(f"{images}; take fewer devices, or --strategy none")
    if device_count == 1:
        borders = np.append(np.arange(0, split.count, batch_size), split.count)
    else:
        # A device without an image would make the mean of a loss undefined: shares are of equal
        # size but for one image, and none is empty.
        count = max(1, split.count // batch_size) * device_count
        borders = np.arange(count + 1) * split.count // count
    shares = np.stack([borders[:-1], borders[1:]], axis=1).reshape(-1, device_count, 2)
    shares = shares[:, devices.start : devices.stop].reshape(-1, 2)

    def unchanged(share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        indices = tf.range(share[0], share[1])
        count = tf.size(indices)
        return indices, tf.zeros(count, tf.bool), tf.zeros((count, 2), tf.int32)

    batches = tf.data.Dataset.from_tensor_slices(shares).map(unchanged)
    sizes = [batch_size] if device_count == 1 else (shares[:, 1] - shares[:, 0]).tolist()

    def in_floats(images: tf.Tensor, labels: tf.Tensor) -> Batch:
        return tf.cast(images, tf.float32) / 255.0, tf.cast(labels, tf.float32)

    return _read(split, batches, sizes).map(in_floats).prefetch(tf.data.AUTOTUNE)


def counted_batches(
    split: Split, batch_size: int, task: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the batches of `evaluation_batches` as arrays, with a progress bar."""
    with progress(split.count, task) as bar:
        for images, labels in evaluation_batches(split, batch_size).as_numpy_iterator():
            yield images, labels
            bar.update(len(images))


@tf.autograph.experimental.do_not_convert
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

    Order and augmentation depend on `seed` and on the numbers of epoch and batch alone. A resumed
    training sees the same batches, on any number of devices.

    Args:
        split: The examples.
        batch_size: B; examples that do not fill a last batch wait for another epoch's order.
        epochs: Numbers of the epochs to come.
        seed: Random seed of order and augmentation.
        config: Settings; `flip`, `pad_and_crop` and `color_jitter` are used.
        first_step: Number of batches of the first epoch to leave out.
        devices: Numbers of the devices whose shares of each batch are returned, in turn.
        device_count: R, number of devices that share each batch evenly.

    Returns:
        `len(epochs) * (split.count // batch_size) - first_step` batches, or as many shares for each
        of `devices`, of images (B / R, H, W, 3), float32 in [0, 1], and labels (B / R, K), float32,
        as `evaluation_batches` has them.
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
        return share(draw_changes(config, batch_size, seed, number // len(devices))[2], number)

    def finish(batch: Batch, factors: tf.Tensor) -> Batch:
        images, labels = batch
        images = tf.ensure_shape(images, (share_size, *images.shape[1:]))
        images = tf.cast(images, tf.float32) / 255.0
        if config.color_jitter:
            images = jitter_colors(images, factors)
        return images, tf.cast(labels, tf.float32)

    numbers = tf.data.Dataset.range(
        (epochs.start * steps + first_step) * len(devices), epochs.stop * steps * len(devices)
    )
    batches = _read(split, numbers.map(draw), [share_size])
    batches = tf.data.Dataset.zip(batches, numbers.map(draw_factors))
    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _read(split: Split, batches: tf.data.Dataset, sizes: Sequence[int]) -> tf.data.Dataset:
    """Returns images (B, H, W, 3), uint8, and labels (B, K), int8.

    `batches` holds indices (B,), `mirrored` and `shifts`; `sizes` of its batches repeat in turn.
    """
    shape = (None, *split.image_size, 3)

    # Reading and changing go together: every step through Python is paid for in copies.
    def change(*batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        *decoded, indices, mirrored, shifts = batch
        # TensorFlow's own memory is not to be changed.
        images = decoded[0].copy() if decoded else split.images(split.chosen[indices])
        mirror(images, mirrored)
        return shift(images, shifts) if shifts.any() else images, split.labels_of(indices)

    def in_python(*batch: tf.Tensor) -> Batch:
        images, labels = tf.numpy_function(change, batch, (tf.uint8, tf.int8))
        return tf.ensure_shape(images, shape), tf.ensure_shape(labels, (None, split.label_count))

    if split.decode is None:
        return batches.map(in_python, num_parallel_calls=tf.data.AUTOTUNE)

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
        lambda images, batch: in_python(images, *batch), num_parallel_calls=tf.data.AUTOTUNE
    )


def mirror(images: np.ndarray, mirrored: np.ndarray) -> None:
    """Mirrors the images (B, H, W, 3), uint8, where `mirrored` (B,), bool, is true, in place."""
    # TensorFlow's own reversing of uint8 takes 3 to 40 times as long.
    chosen = np.flatnonzero(mirrored)
    before = images[chosen]
    after = np.empty_like(before)
    for channel in range(3):  # a channel at a time: four times as fast
        after[..., channel] = before[:, :, ::-1, channel]
    images[chosen] = after


def shift(images: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Shifts images (B, H, W, 3), uint8, by pixels (B, 2) down and to the right; borders are 0."""
    height, width = images.shape[1:3]
    shifted = np.zeros_like(images)
    for after, before, (down, right) in zip(shifted, images, shifts.tolist(), strict=True):
        after[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = before[
            max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
        ]
    return shifted


def jitter_colors(images: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Changes brightness, contrast and saturation of images (B, H, W, 3), float32 in [0, 1].

    `factors` (B, 3) are of brightness, of contrast around the image's mean luminance and of
    saturation around each pixel's luminance; 1 changes nothing.
    """
    brightness, contrast, saturation = (
        factor[:, None, None, None] for factor in tf.unstack(factors, axis=1)
    )

    def luminance(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(x * LUMINANCE, axis=-1, keepdims=True)

    images = images * brightness
    mean = tf.reduce_mean(luminance(images), axis=(1, 2), keepdims=True)
    images = mean + contrast * (images - mean)
    grey = luminance(images)
    return tf.clip_by_value(grey + saturation * (images - grey), 0.0, 1.0)


def draw_changes(
    config: DataConfig, batch_size: int, seed: int, step: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns `mirrored`, `shifts` and `factors` of a batch, by seed and number of the step."""
    draws = tf.random.stateless_uniform((6, batch_size), seed=(seed, step))
    pixels, jitter = config.pad_and_crop, config.color_jitter
    mirrored = (draws[0] >= 0.5) & config.flip
    shifts = tf.cast(tf.floor(tf.transpose(draws[1:3]) * (2 * pixels + 1)), tf.int32) - pixels
    return mirrored, shifts, 1 + jitter * (2 * tf.transpose(draws[3:]) - 1)
