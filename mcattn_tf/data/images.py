"""The one decoder: what is trained on, evaluated, drawn and served passes through here."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from mcattn_tf.errors import UserError


def resize_whole(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Resizes an image with its aspect ratio kept.

    What is too wide or too high for the new shape is cut off at both sides alike: of CelebA's
    218x178 pixels one column at 128x104, so that the whole face stays.

    Args:
        image: (h, w, 3), uint8.
        image_size: height and width (H, W) wanted.

    Returns:
        (H, W, 3), uint8.
    """
    resized = tf.image.resize(_crop(image, image_size), image_size, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def resize_regions(regions: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Resizes regions of an image as `resize_whole` does the image.

    Args:
        regions: (h, w, n), bool.
        image_size: height and width (H, W) wanted.

    Returns:
        Bool (H, W, n), each pixel what the nearest place is; a region so small that it would
        vanish keeps every pixel that it touches.
    """
    cropped = _crop(tf.cast(regions, tf.float32), image_size)
    nearest = tf.image.resize(cropped, image_size, method="nearest") > 0
    touched = tf.image.resize(cropped, image_size, method="area") > 0
    return tf.where(tf.reduce_any(nearest, axis=(0, 1)), nearest, touched).numpy()


def _crop(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Cuts the middle of an image out, as large as fits, in the proportions of `image_size`."""
    height, width = image_size
    source_height, source_width = tf.unstack(tf.shape(image)[:2])
    crop_height = tf.minimum(source_height, _rounded_ratio(source_width, height, width))
    crop_width = tf.minimum(source_width, _rounded_ratio(source_height, width, height))
    return tf.slice(
        image,
        [(source_height - crop_height) // 2, (source_width - crop_width) // 2, 0],
        [crop_height, crop_width, -1],
    )


def _rounded_ratio(length: tf.Tensor, numerator: int, denominator: int) -> tf.Tensor:
    return tf.maximum((length * numerator + denominator // 2) // denominator, 1)


def decode(encoded: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Decodes and resizes a JPEG, PNG, BMP or GIF (its first frame).

    Args:
        encoded: the file's bytes, a scalar string.
        image_size: height and width (H, W) wanted.

    Returns:
        (H, W, 3), uint8.
    """
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    return resize_whole(image, image_size)


def read_images(paths: list[str], image_size: tuple[int, int]) -> np.ndarray:
    """Reads image files as the network takes them.

    Args:
        paths: of JPEG, PNG, BMP or GIF files.
        image_size: height and width (H, W) wanted.

    Returns:
        (B, H, W, 3), float32 in [0, 1].

    Raises:
        UserError: if there is no path, or a file cannot be read or decoded.
    """
    if not paths:
        raise UserError("the list of images is empty; name at least one image file")
    images = []
    for path in paths:
        try:
            images.append(decode(tf.constant(Path(path).read_bytes()), image_size))
        except OSError as error:
            raise UserError(f"cannot read image {path}: {error.strerror}") from None
        except tf.errors.InvalidArgumentError:
            raise UserError(
                f"cannot decode image {path}: expected a JPEG, PNG, BMP or GIF file"
            ) from None
    return np.stack(images).astype(np.float32) / 255.0


def reason_of(encoded, image_size):
    return "bad"
