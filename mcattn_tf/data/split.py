"""Splits of a data set: images and labels that a network is given, in any order."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from mcattn_tf.errors import choose

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Split:
    """A part of a data set.

    Attributes:
        images: Function from indices (n,), int64, to a new array of images (n, H, W, 3), uint8.
        labels: (N, K), 0 or 1, or (N,), the number of each image's class.
        label_count: K.
        image_size: Height and width (H, W).
        chosen: (count,), int64, the indices that belong to the split, in its order.
        decode: Function from an index, a scalar int64, to its image (H, W, 3), uint8, inside a
            `tf.data` graph, where many are decoded at a time; None where `images` has nothing to
            decode.
        name: Function from an index to the image's name in messages.
        find_bad_images: Function that reads every image and raises a UserError for the first that
            cannot be decoded; None where all have been decoded.
    """

    images: Callable[[np.ndarray], np.ndarray]
    labels: np.ndarray
    label_count: int
    image_size: tuple[int, int]
    chosen: np.ndarray
    decode: Callable[[tf.Tensor], tf.Tensor] | None = None
    name: Callable[[int], str] = str
    find_bad_images: Callable[[], object] | None = None

    @property
    def count(self) -> int:
        """Number of examples."""
        return len(self.chosen)

    def labels_of(self, indices: np.ndarray) -> np.ndarray:
        """Returns the labels (n, K), uint8, of some of the examples."""
        labels = self.labels[self.chosen[indices]]
        if labels.ndim == 1:
            return (labels[:, None] == np.arange(self.label_count)).astype(np.uint8)
        return labels

    def read(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns some of the examples: images (n, H, W, 3) and labels (n, K), both uint8."""
        indices = np.asarray(indices, np.int64)
        return self.images(self.chosen[indices]), self.labels_of(indices)

    def name_of(self, index: int) -> str:
        """Returns the name of an example in messages."""
        return self.name(int(self.chosen[index]))

    def select(self, indices: np.ndarray) -> "Split":
        """Returns the examples with these indices, in their order."""
        return dataclasses.replace(self, chosen=self.chosen[indices])

    def take(self, count: int | None) -> "Split":
        """Returns the first `count` examples; all for None or where there are fewer."""
        return self.select(slice(count))


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set: three splits, and the names of the outputs.

    Attributes:
        train: Examples to learn from.
        validation: Examples to choose the best epoch by.
        test: Examples to report.
        attributes: Names of the K labels.
        exclusive: Whether each image has exactly one of the labels, its class.
        held_out: Digest of the held-out images, as in `Findings`; None for drawn faces.
    """

    train: Split
    validation: Split
    test: Split
    attributes: tuple[str, ...]
    exclusive: bool = False
    held_out: str | None = None

    def split(self, name: str) -> Split:
        """Returns the split called `name`.

        Raises:
            UserError: If `name` is none of `train`, `validation` and `test`.
        """
        return getattr(self, choose("split", name, SPLITS))


def join(first: Split, second: Split) -> Split:
    """Returns the examples of both splits, those of `first` first."""
    border = first.count

    def images(indices: np.ndarray) -> np.ndarray:
        in_second = indices >= border
        joined = np.empty((len(indices), *first.image_size, 3), np.uint8)
        joined[~in_second] = first.images(first.chosen[indices[~in_second]])
        joined[in_second] = second.images(second.chosen[indices[in_second] - border])
        return joined

    def decode(index: tf.Tensor) -> tf.Tensor:
        return tf.cond(
            index < border,
            lambda: first.decode(tf.gather(first.chosen, index)),
            lambda: second.decode(tf.gather(second.chosen, index - border)),
        )

    def find_bad_images() -> None:
        first.find_bad_images()
        second.find_bad_images()

    return Split(
        images,
        np.concatenate([first.labels[first.chosen], second.labels[second.chosen]]),
        first.label_count,
        first.image_size,
        np.arange(border + second.count),
        decode if first.decode and second.decode else None,
        lambda index: first.name_of(index) if index < border else second.name_of(index - border),
        find_bad_images if first.find_bad_images and second.find_bad_images else None,
    )


@contextlib.contextmanager
def naming_bad_images(*splits: Split) -> Iterator[None]:
    """Names the file where TensorFlow says only that some image cannot be decoded.

    Args:
        *splits: Splits that are read inside the context.

    Raises:
        UserError: For the first bad image of `splits`, if TensorFlow failed for one.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError:
        for split in splits:
            if split.find_bad_images is not None:
                split.find_bad_images()
        raise
