"""The Exif orientation of a JPEG, read by TensorFlow operations alone."""

import numpy as np
import tensorflow as tf

_EXIF = (*b"Exif", 0, 0)
_ORIENTATION_TAG = 0x0112
_HEAD = 65536  # the bytes of a JPEG in which its orientation is looked for
# The start of a file and the bytes of it that count: a JFIF segment of the usual length, in which
# anything may be, with the tables right behind it.
_PLAIN = np.frombuffer(b"\xff\xd8\xff\xe0\0\x10" + bytes(14) + b"\xff\xdb\0\0", np.int64)
_COUNTS = np.frombuffer(b"\xff" * 6 + bytes(14) + b"\xff\xff\0\0", np.int64)


def is_plain(encoded: tf.Tensor) -> tf.Tensor:
    """Tells at a glance most JPEGs without Exif, as CelebA's are.

    Args:
        encoded: the bytes of any file, a scalar string.

    Returns:
        Scalar bool; where it is true, the file is a JPEG and its orientation 1.
    """
    head = tf.io.decode_raw(encoded, tf.int64, fixed_length=_PLAIN.nbytes)
    return tf.reduce_all(tf.bitwise.bitwise_and(head, _COUNTS) == _PLAIN)


def orientation_of(encoded: tf.Tensor) -> tf.Tensor:
    """Reads how the picture in a JPEG lies.

    Args:
        encoded: the file's bytes, a scalar string.

    Returns:
        Its Exif orientation, 1 to 8, a scalar int32; 1 if it has none that can be read.
    """
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
