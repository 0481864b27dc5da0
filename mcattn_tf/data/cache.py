"""Decoded images of a part: kept in files mapped into memory, or decoded at each reading.

A prepared part is a folder with `images.npy`, `labels.npy` and `part.json`, which is written last
and without which the others do not count.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock
import numpy as np
import tensorflow as tf

from mcattn_tf.data.images import decode, reason_of_bytes, resize_whole
from mcattn_tf.data.source import Part
from mcattn_tf.data.split import Split
from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.files import PARTIAL, written_whole
from mcattn_tf.progress import progress
from mcattn_tf.settings.data import DataConfig

BATCH = 64
TOLERATED = 0.01  # share of the images of a part that may be bad
LISTED = 10
VERSION = 2  # a change of the files' form or of the decoder prepares images anew


def prepare(
    part: Part, title: str, attributes: tuple[str, ...], config: DataConfig
) -> tuple[Split, np.ndarray]:
    """Returns a part decoded and resized: from its files the first time, then from the cache.

    Only one process prepares a part; others wait for it. An interrupted preparation starts again.

    Args:
        part: The examples.
        title: Name of the part in messages, such as `celeba train`.
        attributes: Names of the K labels.
        config: Settings; `image_size`, `cache_dir` and `skip_bad_images` are used.

    Returns:
        The examples without bad images, mapped into memory, and their indices in the part.

    Raises:
        UserError: If an image cannot be decoded (with `skip_bad_images`: more than 1 %), or the
            cache folder has no room or cannot be written.
    """
    folder = _folder(part, title, attributes, config)
    try:
        contents = _read(folder, part, config)
        if contents is None:
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder, title):
                contents = _read(folder, part, config)  # another process may have prepared it
                if contents is None:
                    _write(folder, part, title, config)
                    contents = _read(folder, part, config)
    except OSError as error:
        raise UserError(
            f"cannot keep prepared images in --cache_dir {folder.parent}: {reason_of(error)}. "
            "Name another folder, or pass --no_cache"
        ) from None
    if contents is None:
        raise UserError(f"{folder} changed while it was written; start again")
    part.release()
    images, labels, reasons = contents
    bad = BadImages(part, title, config, reasons)
    bad.report()
    kept = bad.kept
    order, name = np.arange(len(kept)), lambda index: part.name(int(kept[index]))
    size = config.image_size
    return Split(images.__getitem__, labels, len(attributes), size, order, name=name), kept


def read_without_cache(
    part: Part, title: str, attributes: tuple[str, ...], config: DataConfig
) -> tuple[Split, np.ndarray]:
    """Returns a part whose images are decoded whenever they are read (`no_cache`).

    Arguments and values are those of `prepare`.

    Raises:
        UserError: If the files can be read from front to back alone, or with `skip_bad_images`
            more than 1 % of the images are bad.
    """
    if part.read is None:
        raise UserError(
            f"--no_cache needs files that can be read in any order, and those of {title} cannot; "
            "leave it out"
        )

    def find_bad_images(bad: BadImages) -> None:
        for _ in _decoded(part, f"looking for bad images in {title}", bad):
            pass

    bad = BadImages(part, title, config)
    if config.skip_bad_images:
        find_bad_images(bad)
    labels = part.labels if part.labels is not None else _read_labels(part, title, bad)
    bad.report()

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])
    def decode_one(index: tf.Tensor) -> tf.Tensor:
        return _to_size(part.read(index), config.image_size)

    def images(indices: np.ndarray) -> np.ndarray:
        read = np.empty((len(indices), *config.image_size, 3), np.uint8)
        with tf.device("cpu:0"):  # where `tf.data` decodes too
            for image, index in zip(read, indices, strict=True):
                image[...] = decode_one(tf.constant(index)).numpy()
        return read

    def refuse_bad_images() -> None:
        strict = BadImages(part, title, dataclasses.replace(config, skip_bad_images=False))
        strict.reasons |= bad.reasons  # these are not used
        find_bad_images(strict)

    kept, size = bad.kept, config.image_size
    functions = decode_one, part.name, refuse_bad_images
    return Split(images, labels, len(attributes), size, kept, *functions), kept


class BadImages:
    """The images of a part that cannot be decoded: refused, or counted.

    Args:
        part: The examples.
        title: Name of the part in messages, such as `celeba train`.
        config: Settings; with `skip_bad_images` bad images are counted.
        known: Index and reason of the bad images of an earlier reading.

    Attributes:
        reasons: {index in the part: reason in a few words}.

    Raises:
        UserError: For the first bad image where none may be left out; else as soon as more than
            1 % of the images are bad.
    """

    def __init__(
        self,
        part: Part,
        title: str,
        config: DataConfig,
        known: Iterable[tuple[int, str]] = (),
    ) -> None:
        self.image_size = config.image_size
        self.reasons: dict[int, str] = {}
        self._part, self._title, self._skip = part, title, config.skip_bad_images
        for index, reason in known:
            self._add(index, reason)

    def add(self, index: int) -> None:
        """Notes that the image with this index could not be decoded."""
        if index in self.reasons:
            return
        try:
            _, image, _ = next(iter(self._part.examples(index).take(1)))
            reason = reason_of_bytes(image.numpy(), self.image_size) or "could not be decoded"
        except (tf.errors.OpError, StopIteration):
            reason = "cannot be read"
        self._add(index, reason)

    def _add(self, index: int, reason: str) -> None:
        self.reasons[index] = reason
        count, name = self._part.count, self._part.name(index)
        if not self._skip:
            skip = ", or leave such images out by --skip_bad_images"
            raise UserError(
                f"cannot use the {self._title} image {name}: {reason}. Mend it, or "
                f"remove it and its row{skip if TOLERATED * count >= 1 else ''}"
            )
        if len(self.reasons) > TOLERATED * count:
            raise UserError(
                f"{len(self.reasons)} of the {count} {self._title} images are bad, more than "
                f"--skip_bad_images leaves out (1 %); the last was {name}: {reason}"
            )

    @property
    def kept(self) -> np.ndarray:
        """Indices of the other images of the part, (n,), int64."""
        return np.setdiff1d(np.arange(self._part.count), list(self.reasons))

    def report(self) -> None:
        """Prints the number of bad images, and the first of them."""
        if self.reasons:
            print(f"left out {len(self.reasons)} of {self._part.count} {self._title} images:")
        for index, reason in list(self.reasons.items())[:LISTED]:
            print(f"  {self._part.name(index)}: {reason}")
        if len(self.reasons) > LISTED:
            print(f"  and {len(self.reasons) - LISTED} more")


def _decoded(
    part: Part, title: str, bad: BadImages
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields index, image (H, W, 3) and labels of the examples that can be decoded, in order.

    `bad` receives each of the others when its turn comes.
    """

    def sized(index: tf.Tensor, image: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return index, _to_size(image, bad.image_size), labels

    examples = part.examples(0).map(sized, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    expected = 0
    with progress(part.count, title) as bar:
        for batch in examples.batch(BATCH).prefetch(2).as_numpy_iterator():
            for index, image, labels in zip(*batch, strict=True):
                for missing in range(expected, index):
                    bad.add(missing)
                yield int(index), image, labels
                expected = index + 1
            bar.update(len(batch[0]))
        for missing in range(expected, part.count):
            bad.add(missing)


def _to_size(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Returns the bytes of a file, or pixels, as an image (H, W, 3), uint8."""
    return (decode if image.dtype == tf.string else resize_whole)(image, image_size)


def _read_labels(part: Part, title: str, bad: BadImages) -> np.ndarray:
    """Reads the labels of all examples; labels of a record that cannot be read are 0."""
    print(f"reading the labels of {part.count} {title} images")
    examples = part.examples(0).map(lambda index, image, labels: (index, labels)).ignore_errors()
    batches = list(examples.batch(BATCH).as_numpy_iterator())
    read = np.concatenate([indices for indices, _ in batches])
    for index in np.setdiff1d(np.arange(part.count), read).tolist():
        bad.add(index)
    rows = np.concatenate([labels for _, labels in batches])
    labels = np.zeros((part.count, *rows.shape[1:]), rows.dtype)
    labels[read] = rows
    return labels


def _folder(part: Part, title: str, attributes: tuple[str, ...], config: DataConfig) -> Path:
    """Returns the folder of a part; other images, labels or sizes have another."""
    height, width = config.image_size
    names = [part.name(index) for index in range(part.count)]
    identity = (VERSION, title, attributes, config.image_size, names, part.fingerprint())
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    name = f"{title}-{height}x{width}-{key}".replace(" ", "-")
    of_user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mcattn_tf"
    return Path(config.cache_dir or of_user) / name


def _read(
    folder: Path, part: Part, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]] | None:
    """Returns images, labels and bad images; None if they are not there or damaged."""
    try:
        bad_images = json.loads((folder / "part.json").read_text())["bad_images"]
        images = np.load(folder / "images.npy", mmap_mode="r")
        labels = np.load(folder / "labels.npy")
        bad_images = [(int(index), str(reason)) for index, reason in bad_images]
        shape = (part.count - len(bad_images), *config.image_size, 3)
        whole = (images.shape, images.dtype, len(labels)) == (shape, np.uint8, shape[0])
    except FileNotFoundError:
        return None
    except OSError:
        raise
    except Exception:  # damage can make JSON and NumPy raise almost anything
        return None
    # Indexing a memmap itself takes longer than indexing its array.
    return (np.asarray(images), labels, bad_images) if whole else None


def _write(folder: Path, part: Part, title: str, config: DataConfig) -> None:
    """Decodes a part and writes its files."""
    for name in ("part.json", f"{PARTIAL}images.npy"):
        (folder / name).unlink(missing_ok=True)
    size = part.count * config.image_size[0] * config.image_size[1] * 3
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"--cache_dir {folder.parent} has {free / 1e9:.1f} GB of room; the prepared images "
            f"need {size / 1e9:.1f} GB. Name another folder, or pass --no_cache"
        )
    print(f"preparing {part.count} {title} images in {folder}")
    bad, labels = BadImages(part, title, config), []
    with written_whole(folder / "images.npy") as partial, partial.open("wb") as file:

        def write_header() -> None:
            shape = (len(labels), *config.image_size, 3)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)

        write_header()
        for _, image, label in _decoded(part, f"preparing {title}", bad):
            file.write(image)
            labels.append(label)
        file.seek(0)
        write_header()  # of the same length, now with the number of images
    content = io.BytesIO()
    np.save(content, np.array(labels))
    with written_whole(folder / "labels.npy") as partial:
        partial.write_bytes(content.getvalue())
    with written_whole(folder / "part.json") as partial:
        partial.write_text(json.dumps({"bad_images": list(bad.reasons.items())}) + "\n")


@contextlib.contextmanager
def _lock(folder: Path, title: str) -> Iterator[None]:
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"waiting for another process that prepares the {title} images in {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
