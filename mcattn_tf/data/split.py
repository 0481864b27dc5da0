"""Parts of a data set as its files hold them, and splits: what a network is given of them."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from mcattn_tf.errors import choose
from mcattn_tf.tables import Column, lay_out, listed, percent

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Part:
    """Images and labels that the files of a data set keep together.

    Attributes:
        count: N, number of examples.
        name: Function from an index below N to the image's name in messages, such as its file.
        fingerprint: Function that returns a text, another one when files or labels change.
        read: Function from an index, a scalar int64, to the image, inside a `tf.data` graph and
            in any order; None where the files can be read from front to back alone.
        labels: (N, K), int8, 1 present, 0 absent and -1 unknown, or (N,), int64, the number of
            each image's class; None where they are known only when the examples are read.
        groups: (N,), integers; images with the same number (a person, a photo) belong together.
        release: Function that frees what `read` and `records` keep in memory.
        records: `examples`, where `labels` or `read` are None.
        check: Function that raises a UserError unless all files of the part are there; called
            before the part is read, so that other parts may be absent.
    """

    count: int
    name: Callable[[int], str]
    fingerprint: Callable[[], str]
    read: Callable[[tf.Tensor], tf.Tensor] | None = None
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    release: Callable[[], None] = lambda: None
    records: Callable[[int], tf.data.Dataset] | None = None
    check: Callable[[], object] = lambda: None

    def examples(self, start: int) -> tf.data.Dataset:
        """Returns the examples from an index on, in order: index, image and labels.

        The index is a scalar int64. The image is the bytes of a file, a scalar string, or pixels,
        uint8 (h, w, 3). Labels are a row of `labels`.
        """
        if self.records:
            return self.records(start)
        rows = tf.data.Dataset.from_tensor_slices(self.labels[start:]).enumerate(start)
        return rows.map(
            lambda index, labels: (index, self.read(index), labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as its files hold it, before an image is decoded.

    Attributes:
        attributes: Names of the K labels: attributes or classes.
        parts: Those of `train`, `validation` and `test` that the files have.
        exclusive: Whether each image has exactly one of the labels, its class.
    """

    attributes: tuple[str, ...]
    parts: Mapping[str, Part]
    exclusive: bool = False


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples to train, validate or test with, in any order.

    Attributes:
        images: Function from indices (n,), int64, to a new array of images (n, H, W, 3), uint8.
        labels: (N, K), 1 present, 0 absent and -1 unknown, or (N,), the number of each image's
            class.
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
        """Returns the labels (n, K), int8: 1 present, 0 absent and -1 unknown."""
        labels = self.labels[self.chosen[indices]]
        if labels.ndim == 1:
            labels = labels[:, None] == np.arange(self.label_count)
        return labels.astype(np.int8, copy=False)

    def read(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns some of the examples: images (n, H, W, 3), uint8, and `labels_of`."""
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
        train, validation, test: Examples to learn from, to choose an epoch by, and to report.
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
        """Returns the split called `name`; raises a UserError where it is none of `SPLITS`."""
        return getattr(self, choose("split", name, SPLITS))


def join(first: Split, second: Split) -> Split:
    """Returns the examples of both splits, those of `first` first."""
    border, bad = first.count, (first.find_bad_images, second.find_bad_images)

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

    return Split(
        images,
        np.concatenate([first.labels[first.chosen], second.labels[second.chosen]]),
        first.label_count,
        first.image_size,
        np.arange(border + second.count),
        decode if first.decode and second.decode else None,
        lambda index: first.name_of(index) if index < border else second.name_of(index - border),
        None if None in bad else lambda: [find_bad_images() for find_bad_images in bad],
    )


@contextlib.contextmanager
def naming_bad_images(*splits: Split) -> Iterator[None]:
    """Raises a UserError for the first bad image of `splits` where TensorFlow fails for one.

    TensorFlow alone says only that some image cannot be decoded.
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


def _counts(split: Split) -> np.ndarray:
    """Returns how many images of a split have, lack and do not tell each label, (3, K)."""
    labels = split.labels[split.chosen]
    if labels.ndim == 1:
        present = np.bincount(labels, minlength=split.label_count)
        return np.stack([present, split.count - present, np.zeros_like(present)])
    return np.stack([np.sum(labels == value, axis=0) for value in (1, 0, -1)])


def format_statistics(data: Data) -> str:
    """Returns a table with a row a label: its positive images in each split, and their share.

    The share is of the images whose label is known. Where any is not, a column counts them.
    """
    columns = []
    counts = {name: _counts(data.split(name)) for name in SPLITS}
    for name, (present, absent, unknown) in counts.items():
        split, known = data.split(name), (present + absent).tolist()
        shares = [n / k if k else None for n, k in zip(present.tolist(), known, strict=True)]
        cells = {"positives": [*present.tolist(), split.count]}
        if any(of_split[2].any() for of_split in counts.values()):
            cells["unknown"] = [*unknown.tolist(), int(unknown.sum())]
        columns += [Column(name, key, list(map(str, values))) for key, values in cells.items()]
        columns.append(Column(name, "%", list(map(percent, [*shares, 1.0]))))
    return "\n".join(lay_out([*data.attributes, "images"], columns))


def one_sided_labels(data: Data) -> list[str]:
    """Returns warnings of labels that no image of a split has, none is without, or none tells."""
    warnings = []
    for name in SPLITS:
        present, absent, _ = _counts(data.split(name))
        told = present + absent > 0
        for side, missing in (
            ("with", told & (present == 0)),
            ("without", told & (absent == 0)),
            ("that tell", ~told),
        ):
            if names := [data.attributes[index] for index in np.flatnonzero(missing)]:
                warnings.append(f"warning: {name} has no images {side} {listed(names, 10)}")
    return warnings
