"""Random changes to training images, whole batches at a time."""

import numpy as np
import tensorflow as tf

from mcattn_tf.config import DataConfig

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def flip_and_shift(images: np.ndarray, mirrored: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Mirrors and shifts images, each by an amount of its own.

    TensorFlow's own reversing and gathering of uint8 takes 3 to 40 times as long.

    Args:
        images: (B, H, W, 3), uint8.
        mirrored: (B,), bool: which are mirrored left to right.
        shifts: (B, 2), integers: pixels down and to the right, below H and W in size.

    Returns:
        (B, H, W, 3), uint8; 0 where an image was shifted away from.
    """
    height, width = images.shape[1:3]
    changed = np.zeros_like(images) if shifts.any() else np.empty_like(images)
    for target, image, mirror, (down, right) in zip(
        changed, images, mirrored, shifts.tolist(), strict=True
    ):
        target = target[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
        if mirror:
            image = image[:, ::-1]
        image = image[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
        if mirror:  # a channel at a time: four times as fast
            for channel in range(3):
                target[..., channel] = image[..., channel]
        else:
            target[...] = image
    return changed


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


def augment(images: tf.Tensor, config: DataConfig, seed: int, step: tf.Tensor) -> tf.Tensor:
    """Changes a batch as `config` says; the same seed and step always change it alike.

    Args:
        images: (B, H, W, 3), uint8.
        config: `flip`, `pad_and_crop` and `color_jitter` are used.
        seed: of the random draws.
        step: number of the batch, a scalar int64.

    Returns:
        (B, H, W, 3), float32 in [0, 1].
    """
    shape, pixels = images.shape, config.pad_and_crop
    draws = tf.random.stateless_uniform((6, tf.shape(images)[0]), seed=(seed, step))
    if config.flip or pixels:
        mirrored = (draws[0] >= 0.5) & config.flip
        shifts = tf.cast(tf.floor(tf.transpose(draws[1:3]) * (2 * pixels + 1)), tf.int32) - pixels
        images = tf.numpy_function(flip_and_shift, (images, mirrored, shifts), tf.uint8)
        images.set_shape(shape)
    images = to_floats(images)
    if config.color_jitter:
        images = jitter_colors(images, 1 + config.color_jitter * (2 * tf.transpose(draws[3:]) - 1))
    return images


def to_floats(images: tf.Tensor) -> tf.Tensor:
    """Returns uint8 images as float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0
