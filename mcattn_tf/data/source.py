"""A data set as its files hold it, before an image is decoded."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Part:
    """Images and labels that the files of a data set keep together.

    Attributes:
        count: N, number of examples.
        name: Function from an index below N to the image's name in messages, such as its file.
        examples: Function from an index to a `tf.data.Dataset` of all examples from that one on,
            in order. An example is its index, a scalar int64; its image, either the bytes of a
            file, a scalar string, or pixels, uint8 (h, w, 3); and its labels: (K,), uint8, 0 or 1,
            or the number of its class, a scalar int64.
        fingerprint: Function that returns a text, another one when files or labels change.
        read: Function from an index, a scalar int64, to the image, inside a `tf.data` graph and
            in any order; None where the files can be read from front to back alone.
        labels: (N, K), uint8, or (N,), int64, as in `examples`; None where they are known only
            when the examples are read.
        groups: (N,), integers; images with the same number (a person, a photo) belong together.
        release: Function that frees what `read` and `examples` keep in memory.
    """

    count: int
    name: Callable[[int], str]
    examples: Callable[[int], tf.data.Dataset]
    fingerprint: Callable[[], str]
    read: Callable[[tf.Tensor], tf.Tensor] | None = None
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    release: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as its files hold it.

    Attributes:
        attributes: Names of the K labels: attributes or classes.
        parts: `train`, and `validation` and `test` where the files have them.
        exclusive: Whether each image has exactly one of the labels, its class.
    """

    attributes: tuple[str, ...]
    parts: Mapping[str, Part]
    exclusive: bool = False


def part_of_files(
    labels: np.ndarray,
    read: Callable[[tf.Tensor], tf.Tensor],
    name: Callable[[int], str],
    fingerprint: Callable[[], str],
    groups: np.ndarray | None = None,
    release: Callable[[], None] = lambda: None,
) -> Part:
    """Returns a part whose images can be read in any order; arguments are the fields of `Part`."""

    def examples(start: int) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices(labels[start:]).enumerate(start)
        return rows.map(
            lambda index, label: (index, read(index), label), num_parallel_calls=tf.data.AUTOTUNE
        )

    return Part(len(labels), name, examples, fingerprint, read, labels, groups, release)
