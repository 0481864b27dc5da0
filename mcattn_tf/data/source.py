"""What the files of a data set hold, before an image is decoded."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Part:
    """Images and labels that the files of a data set keep together.

    Attributes:
        count: N, number of examples.
        name: from an index below N to what messages call the image: its file, as far as it has one.
        examples: from an index to a `tf.data.Dataset` of all examples from that one on, in order.
            An example is its index, a scalar int64, its image, either the bytes of a file, a
            scalar string, or pixels, uint8 (h, w, 3), and its labels: (K,), uint8, 0 or 1, or the
            number of its class, a scalar int64.
        fingerprint: from the first index and the one after the last to a text that changes when
            the files or the labels of these examples do.
        read: from an index, a scalar int64, to the image, inside a `tf.data` graph and in any
            order; None where the files can be read from front to back alone.
        labels: (N, K), uint8, or (N,), int64, as in `examples`; None where they are known only
            when the examples are read.
        groups: (N,), integers: what has the same number (a person, a photo) belongs together.
        release: forgets what `read` and `examples` keep in memory.
    """

    count: int
    name: Callable[[int], str]
    examples: Callable[[int], tf.data.Dataset]
    fingerprint: Callable[[int, int], str]
    read: Callable[[tf.Tensor], tf.Tensor] | None = None
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    release: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as its files hold it.

    Attributes:
        attributes: names of the K labels: attributes or classes.
        parts: `train`, and `validation` and `test` where the files have them.
        exclusive: whether each image has exactly one of the labels, its class.
    """

    attributes: tuple[str, ...]
    parts: Mapping[str, Part]
    exclusive: bool = False


def part_of_files(
    labels: np.ndarray,
    read: Callable[[tf.Tensor], tf.Tensor],
    name: Callable[[int], str],
    fingerprint: Callable[[int, int], str],
    groups: np.ndarray | None = None,
    release: Callable[[], None] = lambda: None,
) -> Part:
    """Returns a part whose images can be read in any order.

    Args:
        labels: (N, K), uint8, or (N,), int64, as `Part` has them.
        read: as `Part` has it.
        name: as `Part` has it.
        fingerprint: as `Part` has it.
        groups: as `Part` has them.
        release: as `Part` has it.
    """

    def examples(start: int) -> tf.data.Dataset:
        indices = tf.data.Dataset.range(start, len(labels))
        of_indices = tf.data.Dataset.from_tensor_slices(labels[start:])

        def example(index: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return index, read(index), label

        return tf.data.Dataset.zip(indices, of_indices).map(
            example, num_parallel_calls=tf.data.AUTOTUNE
        )

    return Part(len(labels), name, examples, fingerprint, read, labels, groups, release)
