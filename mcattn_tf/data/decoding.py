"""From the bytes in a data set's files to images of one size, and what cannot be decoded."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import tensorflow as tf

from mcattn_tf.data.images import decode, reason_of, resize_whole
from mcattn_tf.data.source import Part
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

BATCH = 64
TOLERATED = 0.01  # share of the images of a part that may be bad
LISTED = 10


@dataclasses.dataclass(frozen=True)
class BadImage:
    """An image that cannot be decoded.

    Attributes:
        index: in its part.
        name: its file.
        reason: in a few words.
    """

    index: int
    name: str
    reason: str


class BadImages:
    """The images of a part that cannot be decoded: refused, or counted.

    Args:
        part: the examples.
        title: of the part, for messages.
        config: with `skip_bad_images` they are counted.
        known: that were met before.
        left_out: indices of images that are bad and not used.

    Raises:
        UserError: for the first where none may be left out, and as soon as more than 1 % are bad.
    """

    def __init__(
        self,
        part: Part,
        title: str,
        config: DataConfig,
        known: Iterable[BadImage] = (),
        left_out: Collection[int] = (),
    ) -> None:
        self.image_size = config.image_size
        self._part, self._title, self._skip = part, title, config.skip_bad_images
        self.met: list[BadImage] = []
        self._left_out = set(left_out)
        for image in known:
            self._add(image)

    def add(self, index: int) -> None:
        """Notes that the image with this index could not be decoded."""
        if index in self._left_out:
            return
        name = self._part.name(index)
        self._add(BadImage(index, name, _reason(self._part, index, self.image_size)))

    def _add(self, image: BadImage) -> None:
        self.met.append(image)
        self._left_out.add(image.index)
        if not self._skip:
            skip = ", or leave such images out by --skip_bad_images"
            raise UserError(
                f"cannot use the {self._title} image {image.name}: {image.reason}. Mend it, or "
                f"remove it and its row{skip if TOLERATED * self._part.count >= 1 else ''}"
            )
        if len(self.met) > TOLERATED * self._part.count:
            raise UserError(
                f"{len(self.met)} of the {self._part.count} {self._title} images are bad, more "
                f"than --skip_bad_images leaves out (1 %); the last was {image.name}: "
                f"{image.reason}"
            )

    @property
    def kept(self) -> np.ndarray:
        """Indices of the other images of the part, (n,), int64."""
        return np.setdiff1d(np.arange(self._part.count), [image.index for image in self.met])

    def report(self) -> None:
        """Prints how many were left out, and the first of them."""
        if self.met:
            print(f"left out {len(self.met)} of {self._part.count} {self._title} images:")
        for image in self.met[:LISTED]:
            print(f"  {image.name}: {image.reason}")
        if len(self.met) > LISTED:
            print(f"  and {len(self.met) - LISTED} more")


def to_size(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Returns the bytes of a file, or pixels, as an image (H, W, 3), uint8."""
    return (decode if image.dtype == tf.string else resize_whole)(image, image_size)


def _reason(part: Part, index: int, image_size: tuple[int, int]) -> str:
    try:
        _, image, _ = next(iter(part.examples(index).take(1)))
    except (tf.errors.OpError, StopIteration):
        return "cannot be read"
    return reason_of(image.numpy(), image_size) or "could not be decoded"


def decoded(
    part: Part, start: int, stop: int, bad: BadImages
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields the examples of a part that can be decoded, in order.

    Args:
        part: the examples.
        start: index of the first.
        stop: index after the last.
        bad: is told of every image that cannot be decoded, when its turn comes.

    Yields:
        Index, image (H, W, 3), uint8, and labels as the part has them.
    """
    size = bad.image_size

    def sized(index: tf.Tensor, image: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return index, to_size(image, size), labels

    examples = part.examples(start).take(stop - start)
    examples = examples.map(sized, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    expected = start
    for batch in examples.batch(BATCH).prefetch(2).as_numpy_iterator():
        for index, image, labels in zip(*batch, strict=True):
            for missing in range(expected, index):
                bad.add(missing)
            yield int(index), image, labels
            expected = index + 1
    for missing in range(expected, stop):
        bad.add(missing)
