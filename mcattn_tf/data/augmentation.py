"""Random changes to training images, whole batches at a time."""

import numpy as np
import tensorflow as tf

from mcattn_tf.settings.data import DataConfig

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def mirror(images: np.ndarray, mirrored: np.ndarray) -> None:
    """Mirrors some images left to right, in place.

    TensorFlow's own reversing of uint8 takes 3 to 40 times as long.

    Args:
        images: (B, H, W, 3), uint8.
        mirrored: (B,), bool: which.
    """
    chosen = np.flatnonzero(mirrored)
    before = images[chosen]
    after = np.empty_like(before)
    for channel in range(3):  # a channel at a time: four times as fast
        after[..., channel] = before[:, :, ::-1, channel]
    images[chosen] = after


def shift(images: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Shifts images, each by an amount of its own.

    Args:
        images: (B, H, W, 3), uint8.
        shifts: (B, 2), integers: pixels down and to the right, below H and W in size.

    Returns:
        (B, H, W, 3), uint8; 0 where an image was shifted away from.
    """
    height, width = images.shape[1:3]
    shifted = np.zeros_like(images)
    for after, before, (down, right) in zip(shifted, images, shifts.tolist(), strict=True):
        after[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = before[
            max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
        ]
    return shifted


def jitter_colors(images: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Changes brightness, contrast and saturation.

    Args:
        images: (B, H, W, 3), float32 in [0, 1].
        factors: (B, 3): of brightness, contrast (around the image's mean luminance) and saturation
            (around each pixel's luminance), in this order; 1 changes nothing.

    Returns:
        (B, H, W, 3), float32 in [0, 1].
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
    """Draws how the images of a batch change; the same seed and step always draw alike.

    Args:
        config: `flip`, `pad_and_crop` and `color_jitter` are used.
        batch_size: B.
        seed: of the draws.
        step: number of the batch, a scalar int64.

    Returns:
        `mirrored`, `shifts` and `factors`, as `mirror`, `shift` and `jitter_colors` take them.
    """
    draws = tf.random.stateless_uniform((6, batch_size), seed=(seed, step))
    pixels, jitter = config.pad_and_crop, config.color_jitter
    mirrored = (draws[0] >= 0.5) & config.flip
    shifts = tf.cast(tf.floor(tf.transpose(draws[1:3]) * (2 * pixels + 1)), tf.int32) - pixels
    return mirrored, shifts, 1 + jitter * (2 * tf.transpose(draws[3:]) - 1)


def to_floats(images: tf.Tensor) -> tf.Tensor:
    """Returns uint8 images as float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0
