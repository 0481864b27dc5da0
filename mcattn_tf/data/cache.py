"""Decoded images of a part: kept in files mapped into memory, or decoded at each reading.

A prepared part is a folder with `images.npy`, `labels.npy` and `part.json`, which is written last
and without which the others do not count.
"""

import collections
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
from mcattn_tf.data.split import Part, Split
from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.files import PARTIAL, written_whole
from mcattn_tf.progress import progress
from mcattn_tf.settings.data import DataConfig

BATCH = 64
TOLERATED = 0.01  # share of the images of a part that may be bad
LISTED = 10
Contents = tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]  # images, labels, bad images
VERSION = 2  # a change of the files' form or of the decoder prepares images anew


def prepare(
    part: Part, title: str, attributes: tuple[str, ...], config: DataConfig
) -> tuple[Split, np.ndarray]:
    """Returns a part decoded and resized: from its files the first time, then from the cache.

    Only one process prepares a part; others wait for it. An interrupted preparation starts again.
    `title` names the part in messages, such as `celeba train`. Values are the examples without bad
    images, and their indices in the part.
    """
    folder = _folder(part, title, attributes, config)
    try:
        contents = _read(folder, part, config)
        if contents is None:
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder, title):
                # Another process may have prepared it.
                contents = _read(folder, part, config) or _write(folder, part, title, config)
    except OSError as error:
        raise UserError(
            f"cannot keep prepared images in --cache_dir {folder.parent}: {reason_of(error)}. "
            "Name another folder, or pass --no_cache"
        ) from None
    if contents is None:
        raise UserError(f"{folder} changed while it was written; start again")
    part.release()
    images, labels, reasons = contents
    kept = BadImages(part, title, config, reasons).report()
    size, name = config.image_size, lambda index: part.name(int(kept[index]))
    every = np.arange(len(kept))
    return Split(images.__getitem__, labels, len(attributes), size, every, name=name), kept


def read_without_cache(
    part: Part, title: str, attributes: tuple[str, ...], config: DataConfig
) -> tuple[Split, np.ndarray]:
    """Returns a part whose images are decoded whenever they are read; otherwise as `prepare`."""
    if part.read is None:
        raise UserError(
            f"--no_cache needs files that can be read in any order, and those of {title} cannot; "
            "leave it out"
        )

    bad, looking = BadImages(part, title, config), f"looking for bad images in {title}"
    if config.skip_bad_images:
        collections.deque(_decoded(part, looking, bad), maxlen=0)
    labels = part.labels if part.labels is not None else _read_labels(part, title, bad)
    kept, size = bad.report(), config.image_size

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])
    def decode_one(index: tf.Tensor) -> tf.Tensor:
        return _to_size(part.read(index), config)

    def images(indices: np.ndarray) -> np.ndarray:
        with tf.device("cpu:0"):  # where `tf.data` decodes too
            decoded = [decode_one(tf.constant(index)).numpy() for index in indices]
        return np.array(decoded, np.uint8).reshape(-1, *size, 3)

    def refuse_bad_images() -> None:
        strict = BadImages(part, title, dataclasses.replace(config, skip_bad_images=False))
        strict.reasons |= bad.reasons  # these are not used
        collections.deque(_decoded(part, looking, strict), maxlen=0)

    functions = decode_one, part.name, refuse_bad_images
    return Split(images, labels, len(attributes), size, kept, *functions), kept


class BadImages:
    """The images of a part that cannot be decoded, {index: reason} in `reasons`.

    With `skip_bad_images` they are counted, and a UserError is raised as soon as they are more
    than 1 %; otherwise for the first. `known` are those of an earlier reading.
    """

    def __init__(
        self, part: Part, title: str, config: DataConfig, known: Iterable[tuple[int, str]] = ()
    ) -> None:
        self.config = config
        self.reasons: dict[int, str] = {}
        self._part, self._title, self._skip = part, title, config.skip_bad_images
        for index, reason in known:
            self.add(index, reason)

    def add(self, index: int, reason: str | None = None) -> None:
        """Notes an image that could not be decoded; without a reason, reads it to find one."""
        if index in self.reasons:
            return
        try:
            if reason is None:
                _, image, _ = next(iter(self._part.examples(index).take(1)))
                reason = (
                    reason_of_bytes(image.numpy(), self.config.image_size) or "could not be decoded"
                )
        except (tf.errors.OpError, StopIteration):
            reason = "cannot be read"
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

    def report(self) -> np.ndarray:
        """Prints the bad images, the first by name, and returns the indices of the others."""
        if self.reasons:
            print(f"left out {len(self.reasons)} of {self._part.count} {self._title} images:")
        for index, reason in list(self.reasons.items())[:LISTED]:
            print(f"  {self._part.name(index)}: {reason}")
        if len(self.reasons) > LISTED:
            print(f"  and {len(self.reasons) - LISTED} more")
        return np.setdiff1d(np.arange(self._part.count), list(self.reasons))


def _decoded(
    part: Part, title: str, bad: BadImages
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields index, image (H, W, 3) and labels of the good examples in order; `bad` gets others."""

    def sized(index: tf.Tensor, image: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return index, _to_size(image, bad.config), labels

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


def _to_size(image: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Returns the bytes of a file, or pixels, as an image (H, W, 3), uint8."""
    read = decode if image.dtype == tf.string else resize_whole
    return read(image, config.image_size, config.resize)


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
    resize = () if config.resize == "crop" else (config.resize,)  # `crop` was once the only way
    names = [part.name(index) for index in range(part.count)]
    identity = (VERSION, title, attributes, config.image_size, names, part.fingerprint(), *resize)
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    name = f"{title}-{height}x{width}-{key}".replace(" ", "-")
    return Path(config.cache_dir or _cache_of_user()) / name


def _cache_of_user() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mcattn_tf"
    except RuntimeError:
        raise UserError(
            "there is no place for prepared images: this user has no home directory and HOME is "
            "not set. Name a folder by --cache_dir, or pass --no_cache"
        ) from None


def _read(folder: Path, part: Part, config: DataConfig) -> Contents | None:
    """Returns images, labels and bad images; None if they are not there or damaged."""
    try:
        bad_images = json.loads((folder / "part.json").read_text("utf-8"))["bad_images"]
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


def _write(folder: Path, part: Part, title: str, config: DataConfig) -> Contents | None:
    """Decodes a part and writes its files; returns what can be read of them."""
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
        header = {"descr": "|u1", "fortran_order": False, "shape": (0, *config.image_size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        for _, image, label in _decoded(part, f"preparing {title}", bad):
            file.write(image)
            labels.append(label)
        file.seek(0)  # a header of the same length, now with the number of images
        header["shape"] = (len(labels), *config.image_size, 3)
        np.lib.format.write_array_header_1_0(file, header)
    content = io.BytesIO()
    np.save(content, np.array(labels))
    with written_whole(folder / "labels.npy") as partial:
        partial.write_bytes(content.getvalue())
    with written_whole(folder / "part.json") as partial:
        partial.write_text(
            json.dumps({"bad_images": list(bad.reasons.items())}) + "\n", encoding="utf-8"
        )
    return _read(folder, part, config)


def _lock(folder: Path, title: str) -> filelock.AcquireReturnProxy:
    """Returns a context in which no other process prepares the part."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"waiting for another process that prepares the {title} images in {folder}")
        return lock.acquire()
