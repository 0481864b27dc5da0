"""The one decoder: what is trained on, evaluated, drawn and served passes through here.

It is TensorFlow operations alone, so that an exported model takes files too. What it turns away
is an `InvalidArgumentError`, of which `why` makes a few words.
"""

import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from mcattn_tf.data.exif import is_plain, orientation_of
from mcattn_tf.errors import UserError

MAX_PIXELS = 89_478_485  # a quarter of a gigabyte in colour; Pillow's limit too

# Left out of the graph around it, where every operation of a branch not taken takes its time too.
_apart = tf.function(
    autograph=False, reduce_retracing=True, experimental_attributes={"_noinline": True}
)

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_NOT_AN_IMAGE = "not a JPEG or PNG file"
_EMPTY = "the file is empty"
_TOO_LARGE = f"pixels, more than {MAX_PIXELS}"
_REASONS = re.compile(rf"{_NOT_AN_IMAGE}|{_EMPTY}|\d+x\d+ {_TOO_LARGE}")


@tf.autograph.experimental.do_not_convert
def decode(encoded: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Decodes and resizes a JPEG or PNG, cut as by `resize_whole`.

    Greyscale, CMYK and palette files become RGB, 16 bits lose their lower 8, transparency is left
    out, and a JPEG's Exif orientation is applied.

    A JPEG at least 4, 8 or 16 times as large as wanted is decoded at 1/2, 1/4 or 1/8 of its size,
    thus still at least twice as large as wanted; against decoding it whole that changes the pixels
    by 0.5 to 1.2 of 255 on average, by up to 41 at single hard edges, and may move the picture by
    less than half a pixel. Where a third of the columns or more are cut off they are not decoded,
    which changes the outermost column by at most 4. All rows are always decoded, so that a
    truncated file is not taken for a whole one; but libjpeg fills up with grey what lacks in the
    middle of a JPEG that has its end marker, and this goes unnoticed, as it does in Pillow.

    Args:
        encoded: the file's bytes, a scalar string.
        image_size: height and width (H, W) wanted.

    Returns:
        (H, W, 3), uint8.

    Raises:
        tf.errors.InvalidArgumentError: if it is no such file, is truncated or damaged, or has more
            than `MAX_PIXELS` pixels; here or, in a graph, when it runs. `why` says which.
    """
    encoded = tf.convert_to_tensor(encoded)
    wanted = np.array(image_size, np.int32)
    # The usual file takes few operations, as each costs a hundredth of its decoding.
    size = tf.cond(
        is_plain(encoded),
        lambda: tf.image.extract_jpeg_shape(encoded)[:2],
        lambda: tf.zeros(2, tf.int32),
    )
    start, kept = _middle(size, wanted)
    # Shrunk less than 4 times, within the limit, less than a third cut off.
    below = np.minimum(4 * wanted, math.isqrt(MAX_PIXELS) + 1)
    usual = tf.reduce_all((size >= wanted) & (size < tf.minimum(kept * 3 // 2, below)))
    image = tf.cond(
        usual,
        lambda: _shrink(_part(tf.io.decode_jpeg(encoded, channels=3), start, kept), wanted),
        lambda: _decode_any(encoded, wanted),
    )
    image.set_shape((*image_size, 3))
    return image


def resize_whole(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Resizes an image with its aspect ratio kept.

    What is too wide or too high for the new shape is cut off at both sides alike: of CelebA's
    218x178 pixels one column at 128x104, so that the whole face stays.

    A smaller image has the mean of the area that each pixel covers, a larger one is bilinear. From
    218x178 to 128x104 that is within 1.2 of 255 of a Lanczos resize on average; an antialiased
    triangle is within 1.6 and takes twice as long.

    Args:
        image: (h, w, 3), uint8.
        image_size: height and width (H, W) wanted.

    Returns:
        (H, W, 3), uint8.
    """
    return _resize(_crop(image, image_size), image_size)


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


def read_images(paths: list[str], image_size: tuple[int, int]) -> np.ndarray:
    """Reads image files as the network takes them.

    Args:
        paths: of JPEG or PNG files.
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
            with tf.device("cpu:0"):  # where `tf.data` decodes too
                images.append(decode(Path(path).read_bytes(), image_size))
        except OSError as error:
            raise UserError(f"cannot read image {path}: {error.strerror}") from None
        except tf.errors.InvalidArgumentError as error:
            raise UserError(f"cannot decode image {path}: {why(error)}") from None
    return np.stack(images).astype(np.float32) / 255.0


def why(error: tf.errors.InvalidArgumentError) -> str:
    """Says in a few words why `decode` turned a file away.

    Args:
        error: what `decode` raised, eagerly or out of a graph.

    Returns:
        The reason, without the file's name: "truncated or damaged", say.
    """
    reason = _REASONS.search(str(error))
    return reason.group() if reason else "truncated or damaged"


def reason_of(encoded: bytes, image_size: tuple[int, int]) -> str | None:
    """Tries a file: which one was it, and why, that failed somewhere in a pipeline?

    Args:
        encoded: the file's bytes.
        image_size: height and width (H, W) wanted.

    Returns:
        None if `decode` takes it, else what `why` says.
    """
    try:
        decode(encoded, image_size)
    except tf.errors.InvalidArgumentError as error:
        return why(error)
    return None


def _middle(size: tf.Tensor, wanted: np.ndarray | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where the middle of an image starts and its size, in the proportions of `wanted`."""
    across = wanted[::-1]
    fitting = (tf.reverse(size, (0,)) * wanted + across // 2) // across
    kept = tf.minimum(size, tf.maximum(fitting, 1))
    return (size - kept) // 2, kept


def _part(image: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.strided_slice(image, start, start + size)


def _crop(image: tf.Tensor, image_size: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Cuts the middle of an image out, as large as fits, in the proportions of `image_size`."""
    return _part(image, *_middle(tf.shape(image)[:2], tf.convert_to_tensor(image_size)))


def _resize(image: tf.Tensor, image_size: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Resizes (h, w, 3) of the right proportions: by area, which needs no antialiasing, or up."""
    return tf.cond(
        tf.reduce_all(tf.shape(image)[:2] >= image_size),
        lambda: _shrink(image, image_size),
        lambda: _to_pixels(tf.image.resize(image, image_size)),
    )


def _shrink(image: tf.Tensor, image_size: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    return _to_pixels(tf.image.resize(image, image_size, method="area"))


def _to_pixels(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(values), tf.uint8)


@_apart
def _decode_any(encoded: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        _starts_with(encoded, _JPEG),
        lambda: _decode_jpeg(encoded, wanted),
        lambda: resize_whole(_decode_png(encoded), wanted),
    )


def _starts_with(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def _require(condition: tf.Tensor, message: str | tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """Passes the bytes on if `condition` holds: nothing is decoded before it is known."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(encoded)


def _require_size(size: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    width_x_height = tf.strings.reduce_join(tf.strings.as_string(size[::-1]), separator="x")
    message = tf.strings.join([width_x_height, f" {_TOO_LARGE}"])
    return _require(pixels <= MAX_PIXELS, message, encoded)


def _decode_jpeg(encoded: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    size = tf.image.extract_jpeg_shape(encoded)[:2]
    encoded = _require_size(size, encoded)
    orientation = tf.cond(
        is_plain(encoded), lambda: tf.constant(1), lambda: _apart(orientation_of)(encoded)
    )
    wanted = tf.where(orientation >= 5, wanted[::-1], wanted)  # the file lies on its side
    _, kept = _middle(size, wanted)
    power = tf.reduce_sum(tf.cast(tf.reduce_min(kept // wanted) >= (4, 8, 16), tf.int32))
    narrow = tf.cast(kept[1] * 3 <= size[1] * 2, tf.int32)

    ratio = 2**power
    # Rounded, as libjpeg rounds up and its last row and column may stand for a fraction of one.
    start, kept = _middle((size + ratio // 2) // ratio, wanted)
    all_rows = tf.stack([0, start[1], -(-size[0] // ratio), kept[1]])
    whole = [partial(tf.io.decode_jpeg, encoded, channels=3, ratio=ratio) for ratio in (1, 2, 4, 8)]
    cut = [
        partial(tf.image.decode_and_crop_jpeg, encoded, all_rows, channels=3, ratio=ratio)
        for ratio in (1, 2, 4, 8)
    ]
    image = tf.switch_case(power + 4 * narrow, whole + cut)
    image = _resize(_part(image, start * tf.stack([1, 1 - narrow]), kept), wanted)
    return tf.cond(orientation == 1, lambda: image, lambda: _upright(image, orientation))


@_apart
def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image upright: (H, W, 3), or (W, H, 3) where the Exif orientation is 5 to 8."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    mirrored = tf.reduce_any(orientation == (2, 3, 6, 7))
    image = tf.cond(mirrored, lambda: tf.reverse(image, (1,)), lambda: image)
    upended = tf.reduce_any(orientation == (3, 4, 7, 8))
    return tf.cond(upended, lambda: tf.reverse(image, (0,)), lambda: image)


@_apart
def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes what is not a JPEG, thus a PNG, to (h, w, 3) uint8."""
    encoded = _require(tf.strings.length(encoded) > 0, _EMPTY, encoded)
    encoded = _require(_starts_with(encoded, _PNG), _NOT_AN_IMAGE, encoded)
    header = tf.io.decode_raw(encoded, tf.int32, little_endian=False, fixed_length=24)
    size = tf.stack([header[5], header[4]])
    return tf.io.decode_png(_require_size(size, encoded), channels=3)
