"""The one decoder: every image for training, evaluation, figures and serving passes through here.

It uses TensorFlow operations alone, so that an exported model takes files too. A file that it
cannot decode raises an `InvalidArgumentError`; `why` gives the reason in a few words.
"""

import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from mcattn_tf.errors import UserError

MAX_PIXELS = 89_478_485  # a quarter of a gigabyte in colour; Pillow's limit too

# Left out of the graph around it, where every operation of a branch not taken takes its time too.
_apart = tf.function(
    autograph=False, reduce_retracing=True, experimental_attributes={"_noinline": True}
)

SIGNATURES = _JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"  # first bytes of a file
_NOT_AN_IMAGE = "not a JPEG or PNG file"
_EMPTY = "the file is empty"
_TOO_LARGE = f"pixels, more than {MAX_PIXELS}"
_REASONS = re.compile(rf"{_NOT_AN_IMAGE}|{_EMPTY}|\d+x\d+ {_TOO_LARGE}")

_EXIF = (*b"Exif", 0, 0)
_ORIENTATION_TAG = 0x0112
_HEAD = 65536  # the bytes of a JPEG in which its orientation is looked for
# The start of a file and a mask of its bytes that count: a JFIF segment of the usual length, with
# any content, and the tables right behind it.
_PLAIN = np.frombuffer(b"\xff\xd8\xff\xe0\0\x10" + bytes(14) + b"\xff\xdb\0\0", np.int64)
_COUNTS = np.frombuffer(b"\xff" * 6 + bytes(14) + b"\xff\xff\0\0", np.int64)


@tf.autograph.experimental.do_not_convert
def decode(encoded: tf.Tensor, image_size: tuple[int, int], resize: str = "crop") -> tf.Tensor:
    """Decodes and resizes a JPEG or PNG, cut as by `resize_whole`.

    Greyscale, CMYK and palette files become RGB, 16 bits lose their lower 8, transparency is
    dropped, and a JPEG's Exif orientation is applied.

    JPEGs are decoded by libjpeg's fast DCT: against the accurate one, pixels change by 0.9 of 255
    on average and by up to 4. One at least 4, 8 or 16 times as large as wanted is decoded at 1/2,
    1/4 or 1/8 of its size: on 20 images of CelebA pixels change by 1 to 4 on average, the most
    where a side cut off is no whole number of reduced pixels, and single ones by up to 61
    (`benchmarks/speed/decoder.py`; docs/data.md has the table). Columns are
    not decoded where a third or more are cut off, which changes the outermost by at most 4. All
    rows are decoded, so that a truncated file is noticed. Damage in the middle of a JPEG with an
    end marker is not: libjpeg fills it with grey.

    Args:
        encoded: Bytes of the file, a scalar string.
        image_size: Height and width (H, W) wanted.
        resize: `crop` or `squeeze`, as in `DataConfig`.

    Returns:
        (H, W, 3), uint8.

    Raises:
        tf.errors.InvalidArgumentError: If it is no such file, is truncated or damaged, or has more
            than `MAX_PIXELS` pixels; here or, in a graph, when it runs. `why` says which.
    """
    encoded = tf.convert_to_tensor(encoded)
    wanted = np.array(image_size, np.int32)
    # The usual file takes few operations, as each costs a hundredth of its decoding.
    size = tf.cond(
        _is_plain(encoded),
        lambda: tf.image.extract_jpeg_shape(encoded)[:2],
        lambda: tf.zeros(2, tf.int32),
    )
    start, kept = _middle(size, wanted, resize)
    # Shrunk less than 4 times, within the limit, less than a third cut off.
    below = np.minimum(4 * wanted, math.isqrt(MAX_PIXELS) + 1)
    usual = tf.reduce_all((size >= wanted) & (size < tf.minimum(kept * 3 // 2, below)))
    image = tf.cond(
        usual,
        lambda: _shrink(_part(tf.io.decode_jpeg(encoded, channels=3), start, kept), wanted),
        lambda: _decode_any(encoded, wanted, resize),
    )
    image.set_shape((*image_size, 3))
    return image


def resize_whole(image: tf.Tensor, image_size: tuple[int, int], resize: str = "crop") -> tf.Tensor:
    """Resizes an image (h, w, 3), uint8, to (H, W, 3), with its aspect ratio kept.

    Sides that are too long are cut off evenly: of CelebA's 218x178 pixels one column at 128x104.
    With `squeeze` nothing is cut off, and the aspect ratio becomes that of the size wanted.
    Pixels of a smaller image are means of the area that they cover (within 1.2 of 255 of a Lanczos
    resize on average, and twice as fast as an antialiased triangle); a larger one is bilinear.
    """
    return _resize(_crop(image, image_size, resize), image_size)


def resize_regions(
    regions: np.ndarray, image_size: tuple[int, int], resize: str = "crop"
) -> np.ndarray:
    """Resizes regions (h, w, n), bool, as `resize_whole` the image, to the nearest place's value.

    A region that would vanish keeps every pixel that it touches.
    """
    cropped = _crop(tf.cast(regions, tf.float32), image_size, resize)
    nearest = tf.image.resize(cropped, image_size, method="nearest") > 0
    touched = tf.image.resize(cropped, image_size, method="area") > 0
    return tf.where(tf.reduce_any(nearest, axis=(0, 1)), nearest, touched).numpy()


def read_images(
    paths: str | Path | Sequence[str | Path], image_size: tuple[int, int], resize: str = "crop"
) -> np.ndarray:
    """Reads JPEG or PNG files, one or several, as (B, H, W, 3), float32 in [0, 1].

    `resize` is `config.data.resize` of the run that the images are for.
    """
    paths = [paths] if isinstance(paths, str | Path) else paths
    if not paths:
        raise UserError("the list of images is empty; name at least one image file")
    images = []
    for path in paths:
        try:
            with tf.device("cpu:0"):  # where `tf.data` decodes too
                images.append(decode(Path(path).read_bytes(), image_size, resize))
        except OSError as error:
            raise UserError(f"cannot read image {path}: {error.strerror}") from None
        except tf.errors.InvalidArgumentError as error:
            raise UserError(f"cannot decode image {path}: {why(error)}") from None
    return np.stack(images).astype(np.float32) / 255.0


def why(error: tf.errors.InvalidArgumentError) -> str:
    """Returns the reason why `decode` refused a file, in a few words without its name."""
    reason = _REASONS.search(str(error))
    return reason.group() if reason else "truncated or damaged"


def reason_of_bytes(encoded: bytes, image_size: tuple[int, int]) -> str | None:
    """Returns the reason why `decode` refuses the bytes of a file; None if it takes them."""
    try:
        decode(encoded, image_size)
    except tf.errors.InvalidArgumentError as error:
        return why(error)
    return None


def _middle(
    size: tf.Tensor, wanted: np.ndarray | tf.Tensor, resize: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where the middle of an image starts and its size, in the proportions of `wanted`.

    With `squeeze` that is the whole image, in any proportions.
    """
    if resize == "squeeze":
        return tf.zeros_like(size), size
    across = wanted[::-1]
    fitting = (tf.reverse(size, (0,)) * wanted + across // 2) // across
    kept = tf.minimum(size, tf.maximum(fitting, 1))
    return (size - kept) // 2, kept


def _part(image: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.strided_slice(image, start, start + size)


def _crop(image: tf.Tensor, image_size: tuple[int, int] | tf.Tensor, resize: str) -> tf.Tensor:
    """Cuts the middle of an image out, as large as fits, in the proportions of `image_size`."""
    return _part(image, *_middle(tf.shape(image)[:2], tf.convert_to_tensor(image_size), resize))


def _resize(image: tf.Tensor, image_size: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Resizes (h, w, 3): longer sides by area, which needs no antialiasing, then shorter ones."""
    smaller = tf.minimum(tf.shape(image)[:2], image_size)
    image = _shrink(image, smaller)
    return tf.cond(
        tf.reduce_all(smaller == image_size),
        lambda: image,
        lambda: tf.cast(tf.round(tf.image.resize(image, image_size)), tf.uint8),
    )


def _shrink(image: tf.Tensor, image_size: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(tf.image.resize(image, image_size, method="area")), tf.uint8)


@_apart
def _decode_any(encoded: tf.Tensor, wanted: tf.Tensor, resize: str) -> tf.Tensor:
    return tf.cond(
        tf.strings.substr(encoded, 0, len(_JPEG)) == _JPEG,
        lambda: _decode_jpeg(encoded, wanted, resize),
        lambda: resize_whole(_decode_png(encoded), wanted, resize),
    )


def _require(condition: tf.Tensor, message: str | tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """Passes the bytes on if `condition` holds: nothing is decoded before it is known."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(encoded)


def _require_size(size: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    width_x_height = tf.strings.reduce_join(tf.strings.as_string(size[::-1]), separator="x")
    message = tf.strings.join([width_x_height, f" {_TOO_LARGE}"])
    return _require(pixels <= MAX_PIXELS, message, encoded)


def _decode_jpeg(encoded: tf.Tensor, wanted: tf.Tensor, resize: str) -> tf.Tensor:
    size = tf.image.extract_jpeg_shape(encoded)[:2]
    encoded = _require_size(size, encoded)
    orientation = tf.cond(
        _is_plain(encoded), lambda: tf.constant(1), lambda: _apart(_orientation_of)(encoded)
    )
    wanted = tf.where(orientation >= 5, wanted[::-1], wanted)  # the file lies on its side
    _, kept = _middle(size, wanted, resize)
    power = tf.reduce_sum(tf.cast(tf.reduce_min(kept // wanted) >= (4, 8, 16), tf.int32))
    narrow = tf.cast(kept[1] * 3 <= size[1] * 2, tf.int32)

    ratio = 2**power
    # Rounded, as libjpeg rounds up and its last row and column may stand for a fraction of one.
    start, kept = _middle((size + ratio // 2) // ratio, wanted, resize)
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
    is_png = tf.strings.substr(encoded, 0, len(_PNG)) == _PNG
    encoded = _require(is_png, _NOT_AN_IMAGE, encoded)
    header = tf.io.decode_raw(encoded, tf.int32, little_endian=False, fixed_length=24)
    size = tf.stack([header[5], header[4]])
    return tf.io.decode_png(_require_size(size, encoded), channels=3)


def _is_plain(encoded: tf.Tensor) -> tf.Tensor:
    """Tells at a glance most JPEGs without Exif, as CelebA's are: where true, orientation is 1."""
    head = tf.io.decode_raw(encoded, tf.int64, fixed_length=_PLAIN.nbytes)
    return tf.reduce_all(tf.bitwise.bitwise_and(head, _COUNTS) == _PLAIN)


def _orientation_of(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the Exif orientation of a JPEG, 1 to 8, a scalar int32; 1 if none can be read."""
    head = tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEAD)

    def segment(start: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.slice(head, [start], [10]), tf.int32)

    def is_exif(part: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(tf.gather(part, (0, 1, 4, 5, 6, 7, 8, 9)) == [0xFF, 0xE1, *_EXIF])

    def goes_on(start: tf.Tensor) -> tf.Tensor:
        marker = segment(start)
        # Application data and comments stand before the tables; nothing behind them is Exif.
        passed = (marker[0] == 0xFF) & ((marker[1] // 16 == 0xE) | (marker[1] == 0xFE))
        return (start < _HEAD - 10) & passed & ~is_exif(marker)

    def next_one(start: tf.Tensor) -> tf.Tensor:
        length = segment(start)[2:4]
        return tf.minimum(start + 2 + length[0] * 256 + length[1], _HEAD - 10)

    (start,) = tf.while_loop(goes_on, lambda start: (next_one(start),), (tf.constant(2),))
    return tf.cond(
        is_exif(segment(start)),
        lambda: _orientation_of_tiff(head[start + 10 :]),
        lambda: tf.constant(1),
    )


def _orientation_of_tiff(tiff: tf.Tensor) -> tf.Tensor:
    """Finds the orientation in the first directory of (n,) uint8; 1 if it is damaged or absent."""
    tiff = tf.concat([tiff[:_HEAD], tf.zeros(_HEAD, tf.uint8)], axis=0)
    big_endian = tiff[0] == ord("M")

    def numbers(part: tf.Tensor) -> tf.Tensor:
        part = tf.cast(tf.where(big_endian, part[..., ::-1], part), tf.int64)
        return tf.reduce_sum(part * 256 ** tf.range(tf.shape(part, tf.int64)[-1]), axis=-1)

    directory = tf.cast(tf.minimum(numbers(tiff[4:8]), _HEAD - 2), tf.int32)
    count = tf.cast(numbers(tiff[directory : directory + 2]), tf.int32)
    count = tf.minimum(count, (_HEAD - 2) // 12)
    entries = tf.reshape(tf.slice(tiff, [directory + 2], [12 * count]), (-1, 12))
    is_orientation = numbers(entries[:, :2]) == _ORIENTATION_TAG
    values = tf.boolean_mask(numbers(entries[:, 8:10]), is_orientation)
    first = tf.cast(tf.concat([values, [1]], axis=0)[0], tf.int32)
    return tf.where((first >= 1) & (first <= 8), first, 1)
