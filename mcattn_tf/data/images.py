"""The one decoder: what is trained on, evaluated, drawn and served passes through here.

It is TensorFlow operations alone, so that an exported model takes files too. What it turns away
is an `InvalidArgumentError`, of which `why` makes a few words.
"""

import re
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

_JPEG, _PNG, _BMP, _GIF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8"
_EXIF = (*b"Exif", 0, 0)
_ORIENTATION_TAG = 0x0112
_GIF_FRAME, _GIF_EXTENSION = 0x2C, 0x21
_HEAD = 65536  # the bytes of a JPEG in which its orientation is looked for
_NOT_AN_IMAGE = "not a JPEG, PNG, BMP or GIF file"
_EMPTY = "the file is empty"
_UNREAD_BMP = "a BMP that is compressed or not of 1, 4, 8, 24 or 32 bits a pixel"
_TOO_LARGE = f"pixels, more than {MAX_PIXELS}"
_REASONS = re.compile(rf"{_NOT_AN_IMAGE}|{_EMPTY}|{_UNREAD_BMP}|\d+(?:x\d+)? {_TOO_LARGE}")


@tf.autograph.experimental.do_not_convert
def decode(encoded: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Decodes and resizes a JPEG, PNG, BMP or GIF (its first frame), cut as by `resize_whole`.

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
            than `MAX_PIXELS` pixels (of a GIF, all frames together); here or, in a graph, when
            it runs. `why` says which.
    """
    encoded = tf.convert_to_tensor(encoded)
    image = tf.cond(
        _starts_with(encoded, _JPEG),
        lambda: _decode_jpeg(encoded, image_size),
        lambda: resize_whole(_decode_other(encoded), image_size),
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


def _resize(image: tf.Tensor, image_size: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Resizes (h, w, 3) of the right proportions: by area, which needs no antialiasing, or up."""
    resized = tf.cond(
        tf.reduce_all(tf.shape(image)[:2] >= image_size),
        lambda: tf.image.resize(image, image_size, method="area"),
        lambda: tf.image.resize(image, image_size),
    )
    return tf.cast(tf.round(resized), tf.uint8)


def _crop(image: tf.Tensor, image_size: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Cuts the middle of an image out, as large as fits, in the proportions of `image_size`."""
    source_height, source_width = tf.unstack(tf.shape(image)[:2])
    top, left, height, width = _middle(source_height, source_width, image_size)
    return tf.slice(image, [top, left, 0], [height, width, -1])


def _middle(
    source_height: tf.Tensor, source_width: tf.Tensor, image_size: tuple[int, int] | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns top, left, height and width of what `_crop` keeps."""
    height, width = image_size[0], image_size[1]
    crop_height = tf.minimum(source_height, _rounded_ratio(source_width, height, width))
    crop_width = tf.minimum(source_width, _rounded_ratio(source_height, width, height))
    top, left = (source_height - crop_height) // 2, (source_width - crop_width) // 2
    return top, left, crop_height, crop_width


def _rounded_ratio(
    length: tf.Tensor, numerator: int | tf.Tensor, denominator: int | tf.Tensor
) -> tf.Tensor:
    return tf.maximum((length * numerator + denominator // 2) // denominator, 1)


def _starts_with(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def _require(condition: tf.Tensor, message: str | tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """Passes the bytes on if `condition` holds: nothing is decoded before it is known."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(encoded)


def _require_pixels(pixels: tf.Tensor, size: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    message = tf.strings.join([size, f" {_TOO_LARGE}"])
    return _require(pixels <= MAX_PIXELS, message, encoded)


def _require_size(height: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    size = tf.strings.join([tf.strings.as_string(width), tf.strings.as_string(height)], "x")
    return _require_pixels(pixels, size, encoded)


def _decode_jpeg(encoded: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(encoded))
    encoded = _require_size(height, width, encoded)
    orientation = _orientation(encoded)
    wanted = tf.constant(image_size)
    wanted = tf.where(orientation >= 5, wanted[::-1], wanted)  # the file lies on its side
    _, _, crop_height, crop_width = _middle(height, width, wanted)
    times = tf.minimum(crop_height // wanted[0], crop_width // wanted[1])
    power = tf.reduce_sum(tf.cast(times >= (4, 8, 16), tf.int32))
    narrow = tf.cast(crop_width * 3 <= width * 2, tf.int32)

    ratio = 2**power
    # Rounded, as libjpeg rounds up and its last row and column may stand for a fraction of one.
    shrunk = ((length + ratio // 2) // ratio for length in (height, width))
    top, left, rows, columns = _middle(*shrunk, wanted)
    all_rows = tf.stack([0, left, -(-height // ratio), columns])
    whole = [partial(tf.io.decode_jpeg, encoded, channels=3, ratio=ratio) for ratio in (1, 2, 4, 8)]
    cut = [
        partial(tf.image.decode_and_crop_jpeg, encoded, all_rows, channels=3, ratio=ratio)
        for ratio in (1, 2, 4, 8)
    ]
    image = tf.switch_case(power + 4 * narrow, whole + cut)
    image = _resize(tf.slice(image, [top, left * (1 - narrow), 0], [rows, columns, 3]), wanted)
    return tf.cond(orientation == 1, lambda: image, lambda: _upright(image, orientation))


@_apart
def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image upright: (H, W, 3), or (W, H, 3) where the Exif orientation is 5 to 8."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    mirrored = tf.reduce_any(orientation == (2, 3, 6, 7))
    image = tf.cond(mirrored, lambda: tf.reverse(image, (1,)), lambda: image)
    upended = tf.reduce_any(orientation == (3, 4, 7, 8))
    return tf.cond(upended, lambda: tf.reverse(image, (0,)), lambda: image)


def _orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Returns a JPEG's Exif orientation, 1 to 8; 1 if it has none that can be read."""
    # A usual JFIF segment with the tables right behind it, as in CelebA: no need to look further.
    jfif = tf.strings.substr(encoded, 2, 4) == b"\xff\xe0\x00\x10"
    plain = jfif & (tf.strings.substr(encoded, 20, 2) == b"\xff\xdb")
    return tf.cond(plain, lambda: tf.constant(1), lambda: _search_orientation(encoded))


@_apart
def _search_orientation(encoded: tf.Tensor) -> tf.Tensor:
    head = tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEAD)

    def segment(start: tf.Tensor) -> tf.Tensor:
        """Its marker, length and name."""
        return tf.cast(tf.slice(head, [start], [10]), tf.int32)

    def is_exif(found: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(tf.gather(found, (0, 1, 4, 5, 6, 7, 8, 9)) == [0xFF, 0xE1, *_EXIF])

    def goes_on(start: tf.Tensor) -> tf.Tensor:
        found = segment(start)
        # Application data and comments stand before the tables; nothing behind them is Exif.
        passed = (found[0] == 0xFF) & ((found[1] // 16 == 0xE) | (found[1] == 0xFE))
        return (start < _HEAD - 10) & passed & ~is_exif(found)

    def next_one(start: tf.Tensor) -> tf.Tensor:
        found = segment(start)
        return tf.minimum(start + 2 + found[2] * 256 + found[3], _HEAD - 10)

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
        """Bytes (..., n) to numbers (...)."""
        part = tf.cast(tf.where(big_endian, part[..., ::-1], part), tf.int64)
        return tf.reduce_sum(part * 256 ** tf.range(tf.shape(part, tf.int64)[-1]), axis=-1)

    directory = tf.cast(tf.minimum(numbers(tiff[4:8]), _HEAD - 2), tf.int32)
    count = tf.minimum(
        tf.cast(numbers(tiff[directory : directory + 2]), tf.int32), (_HEAD - 2) // 12
    )
    entries = tf.reshape(tf.slice(tiff, [directory + 2], [12 * count]), (-1, 12))
    is_orientation = numbers(entries[:, :2]) == _ORIENTATION_TAG
    values = tf.boolean_mask(numbers(entries[:, 8:10]), is_orientation)
    first = tf.cast(tf.concat([values, [1]], axis=0)[0], tf.int32)
    return tf.where((first >= 1) & (first <= 8), first, 1)


@_apart
def _decode_other(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG, BMP or GIF to (h, w, 3) uint8."""
    encoded = _require(tf.strings.length(encoded) > 0, _EMPTY, encoded)
    kinds = [_starts_with(encoded, magic) for magic in (_PNG, _BMP, _GIF)]
    encoded = _require(tf.reduce_any(kinds), _NOT_AN_IMAGE, encoded)
    decoders = [_decode_png, _decode_bmp, _decode_gif]
    kind = tf.argmax(kinds, output_type=tf.int32)
    return tf.switch_case(kind, [partial(decoder, encoded) for decoder in decoders])


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    width, height = _integers(encoded, 16, 2, little_endian=False)
    return tf.io.decode_png(_require_size(height, width, encoded), channels=3)


def _integers(
    encoded: tf.Tensor, start: int, count: int, little_endian: bool = True
) -> list[tf.Tensor]:
    """Reads `count` consecutive numbers of 4 bytes; what the file is too short for is 0."""
    part = tf.strings.substr(encoded, start, 4 * count)
    return tf.unstack(tf.io.decode_raw(part, tf.int32, little_endian, fixed_length=4 * count))


def _decode_bmp(encoded: tf.Tensor) -> tf.Tensor:
    offset, header, width, height = _integers(encoded, 10, 4)
    planes_and_bits, compression = _integers(encoded, 26, 2)
    bits = planes_and_bits // 65536
    indexed = tf.reduce_any(bits == (1, 4, 8)) & (compression == 0)
    read = (header >= 40) & (indexed | tf.reduce_any(bits == (24, 32)))
    encoded = _require_size(tf.abs(height), width, _require(read, _UNREAD_BMP, encoded))

    def decode_indexed() -> tf.Tensor:
        # TensorFlow would take the indices for grey values.
        row = (width * bits + 31) // 32 * 4
        stored = tf.strings.substr(encoded, offset, row * tf.abs(height))
        rows = tf.reshape(tf.io.decode_raw(stored, tf.uint8), (tf.abs(height), row))
        indices = tf.cast(rows, tf.int32)[..., None] // 2 ** tf.range(8 - bits, -1, -bits)
        indices = tf.reshape(indices % 2**bits, (tf.abs(height), -1))[:, :width]
        table = tf.strings.substr(encoded, 14 + header, (offset - 14 - header) // 4 * 4)
        colours = tf.reshape(tf.io.decode_raw(table, tf.uint8), (-1, 4))[:, 2::-1]
        image = tf.gather(colours, indices)
        return tf.where(height > 0, image[::-1], image)

    return tf.cond(
        indexed,
        decode_indexed,
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


def _decode_gif(encoded: tf.Tensor) -> tf.Tensor:
    pixels = _pixels_of_gif(tf.io.decode_raw(encoded, tf.uint8))
    encoded = _require_pixels(pixels, tf.strings.as_string(pixels), encoded)
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _pixels_of_gif(data: tf.Tensor) -> tf.Tensor:
    """Walks the blocks of a GIF and adds its frames up: all are decoded to get at the first."""

    def table_bytes(flags: tf.Tensor) -> tf.Tensor:
        flags = tf.cast(flags, tf.int32)
        return tf.where(flags >= 0x80, 6 * 2 ** (flags % 8), 0)

    def goes_on(position: tf.Tensor, inside: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
        return inside | tf.reduce_any(data[position] == (_GIF_FRAME, _GIF_EXTENSION))

    def step(position: tf.Tensor, inside: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        def data_block() -> tuple[tf.Tensor, ...]:
            length = tf.cast(data[position], tf.int32)
            return position + 1 + length, length > 0, pixels

        def frame() -> tuple[tf.Tensor, ...]:
            low, high = tf.unstack(
                tf.cast(tf.reshape(data[position + 5 : position + 9], (2, 2)), tf.int64), axis=1
            )
            size = tf.reduce_prod(low + 256 * high)
            return position + 11 + table_bytes(data[position + 9]), True, pixels + size

        def extension() -> tuple[tf.Tensor, ...]:
            return position + 2, True, pixels

        return tf.cond(
            inside,
            data_block,
            lambda: tf.cond(data[position] == _GIF_FRAME, frame, extension),
        )

    start = 13 + table_bytes(data[10])
    return tf.while_loop(goes_on, step, (start, False, tf.constant(0, tf.int64)))[2]
