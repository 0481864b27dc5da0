"""Data sets whose files hold arrays: small images of one size, each with its class."""

import contextlib
import functools
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tensorflow as tf

from mcattn_tf.data.files import Files, require_there
from mcattn_tf.data.sets import through_tfds
from mcattn_tf.data.source import Part, Source, part_of_files
from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.settings.data import DataConfig

IMAGE_SHAPE = (32, 32, 3)
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever a missing or damaged file raises into one line.

    Args:
        path: of the file, for the message.

    Raises:
        UserError: for any exception inside.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # archives, their codecs and pickles each raise their own kinds
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None


def check_images(where: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Checks what an array of images is like.

    Args:
        where: the array, for the message.
        shape: of the array.
        dtype: of the array.

    Raises:
        UserError: if it is not (N, 32, 32, 3), uint8, with an image at least.
    """
    if len(shape) != 4 or shape[1:] != IMAGE_SHAPE or not shape[0] or dtype != np.uint8:
        raise UserError(
            f"{where}: expected images (N, 32, 32, 3), uint8. Received: {shape}, {dtype}"
        )


def _whole_numbers(where: str, numbers: np.ndarray, count: int) -> np.ndarray:
    if numbers.shape != (count,) or numbers.dtype.kind not in "iu":
        raise UserError(
            f"{where}: expected a whole number for each of the {count} images. "
            f"Received: {numbers.shape}, {numbers.dtype}"
        )
    return numbers.astype(np.int64)


def check_labels(where: str, labels: np.ndarray, count: int, classes: range) -> np.ndarray:
    """Returns the numbers of the classes, (N,), int64.

    Args:
        where: the array, for the message.
        labels: (N,) or (N, 1), integers.
        count: N, the number of images.
        classes: the numbers there are.

    Raises:
        UserError: if an array is of another form, or a number is not of a class.
    """
    labels = _whole_numbers(where, labels[:, 0] if labels.shape == (count, 1) else labels, count)
    wrong = np.flatnonzero((labels < classes.start) | (labels >= classes.stop))
    if len(wrong):
        raise UserError(
            f"{where}: expected classes from {classes.start} to {classes.stop - 1}. "
            f"Received: {labels[wrong[0]]} at index {wrong[0]}"
        )
    return labels


def part_of_arrays(
    part: str,
    files: Sequence[Path],
    load: Callable[[], np.ndarray],
    labels: np.ndarray,
    attributes: tuple[str, ...],
    groups: np.ndarray | None = None,
) -> Part:
    """Returns a part whose pixels are loaded when the first of them is read.

    Args:
        part: its name, for messages.
        files: of one folder, that the part comes from.
        load: returns the images (N, 32, 32, 3), uint8.
        labels: (N,), int64.
        attributes: names of the classes.
        groups: as `Part` has them.
    """
    # TensorFlow never lets go of a tensor of all pixels, nor of a function that holds them.
    images: list[np.ndarray] = []

    def read(index: tf.Tensor) -> tf.Tensor:
        if not images:  # here and not when it runs, so that a damaged file is named
            images.append(load())
        pixels = tf.numpy_function(lambda index: images[0][index], [index], tf.uint8)
        return tf.ensure_shape(pixels, IMAGE_SHAPE)

    folder, names = Files(files[0].parent), np.array([file.name.encode() for file in files])
    return part_of_files(
        labels,
        read,
        lambda index: f"{part} image {index}",
        lambda start, stop: folder.fingerprint(names, labels[start:stop], attributes),
        groups,
        images.clear,
    )


def _shape(member: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and dtype of an array without reading its values."""
    shape, _, dtype = HEADERS[np.lib.format.read_magic(member)](member)
    return shape, dtype


def _read_array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(f"{key}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # at its end the member's checksum is compared too
            raise ValueError(f"{key} is longer than its header says")
    return array


def _check_class_names(where: str, names: np.ndarray) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) != len(names):
        raise UserError(
            f"{where}: expected names without repeats. Received: {names.shape}, {names.dtype}"
        )
    return tuple(names.tolist())


def source_of_npz(
    path: Path, classes: Sequence[str], group_keys: Sequence[str] = ("group_train",)
) -> Source:
    """Reads the labels of an .npz file with `x_train`, `y_train`, `x_test` and `y_test`.

    Args:
        path: of the file. It may name its classes in `class_names`, and say in `group_train`
            which images belong together.
        classes: names of the classes where it does not.
        group_keys: names that `group_train` may have.

    Returns:
        Its two parts, `train` and `test`.

    Raises:
        UserError: if the file is damaged or an array is missing or of another form.
    """

    def load(key: str) -> np.ndarray:
        with reading(path), zipfile.ZipFile(path) as archive:
            return _read_array(archive, key)

    with reading(path), zipfile.ZipFile(path) as archive:
        keys = {name.removesuffix(".npy") for name in archive.namelist()}
        missing = [key for key in ("x_train", "y_train", "x_test", "y_test") if key not in keys]
        if missing:
            raise UserError(f"{path} has no {' and no '.join(missing)}")
        if "class_names" in keys:
            where = f"{path}, class_names"
            names = _check_class_names(where, _read_array(archive, "class_names"))
            if len(names) != len(classes):
                raise UserError(f"{where}: expected {len(classes)} names. Received: {len(names)}")
            classes = names
        parts = {}
        for part in ("train", "test"):
            with archive.open(f"x_{part}.npy") as member:
                shape, dtype = _shape(member)
            check_images(f"{path}, x_{part}", shape, dtype)
            labels = _read_array(archive, f"y_{part}")
            labels = check_labels(f"{path}, y_{part}", labels, shape[0], range(len(classes)))
            group_key = next((k for k in group_keys if k in keys and part == "train"), None)
            groups = group_key and _whole_numbers(
                f"{path}, {group_key}", _read_array(archive, group_key), shape[0]
            )
            pixels = functools.partial(load, f"x_{part}")
            parts[part] = part_of_arrays(part, [path], pixels, labels, classes, groups)
    return Source(tuple(classes), parts, exclusive=True)


def source_of_tfds(config: DataConfig, expected: str) -> Source:
    """Reads the data set through tensorflow-datasets.

    Args:
        config: the settings.
        expected: what was looked for in `config.data_dir`, for the message.

    Raises:
        UserError: if there is a `data_dir` in which tensorflow-datasets has put nothing.
    """
    if config.data_dir is not None:
        data_dir = Path(config.data_dir)
        require_there(data_dir)
        if not any((data_dir / name).is_dir() for name in (config.dataset, "downloads")):
            raise UserError(
                f"--data_dir {data_dir} must hold {expected}; leave the flag out to download "
                "through tensorflow-datasets"
            )
    return through_tfds.source(config)
