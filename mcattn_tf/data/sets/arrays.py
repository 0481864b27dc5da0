"""Data sets of small images with one class each, from an `.npz` file or tensorflow-datasets.

CIFAR-10 and CIFAR-100 (Krizhevsky 2009; fine classes) and the cropped Street View House Numbers
(Netzer et al. 2011).
"""

import contextlib
import functools
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn

import numpy as np
import tensorflow as tf

from mcattn_tf.data.files import Files, require_there
from mcattn_tf.data.lists import require_names
from mcattn_tf.data.sets import tfds
from mcattn_tf.data.split import Part, Source
from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.settings.data import DataConfig

IMAGE_SHAPE = (32, 32, 3)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# Names of the authors' own archives and of what they hold, in formats that are not read.
PUBLISHED = (
    *("cifar-10-batches-py", "cifar-100-python", "data_batch_*"),
    *("*.tar.gz", "*.tgz", "*.mat"),
)
# Names of the classes, unless the file has `class_names`.
CLASSES: dict[str, tuple[str, ...]] = {
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "cifar100": tuple(map(str, range(100))),
    "svhn_cropped": tuple("0123456789"),
}
# Names that the array of groups may have: digits of one photo overlap.
GROUPS = ("group_train", "photo_train")


def source(config: DataConfig) -> Source:
    """Reads the labels of a data set; its pixels are loaded when the first image is read.

    `config.data_dir` is an `.npz` file, or a folder with one (`cifar10.npz`, `svhn.npz`, or the
    only one there). Otherwise it is the directory of tensorflow-datasets (TFDS), None for TFDS'
    default.
    """
    if config.data_dir is None:
        return tfds.source(config)
    data_dir = Path(config.data_dir)
    require_there(data_dir)
    if path := _find_npz(data_dir, f"{config.dataset.removesuffix('_cropped')}.npz"):
        with _reading(path), zipfile.ZipFile(path) as archive:
            return _source_of_npz(path, archive, CLASSES[config.dataset])
    if any((data_dir / name).is_dir() for name in (config.dataset, "downloads")):
        return tfds.source(config)
    nearby = [data_dir, *(sorted(data_dir.iterdir()) if data_dir.is_dir() else ())]
    archives = [p for p in nearby if any(fnmatch(p.name, name) for name in PUBLISHED)]
    received = f"Received: {archives[0]}, a format that is not read; " if archives else ""
    raise UserError(
        f"--data_dir {data_dir} must be or hold an .npz file with the arrays {', '.join(ARRAYS)}. "
        f"{received}make one, or leave the flag out to download through tensorflow-datasets"
    )


def _source_of_npz(path: Path, archive: zipfile.ZipFile, classes: tuple[str, ...]) -> Source:
    keys = {name.removesuffix(".npy") for name in archive.namelist()}
    arrays_of = {part: (f"x_{part}", f"y_{part}") for part in ("train", "test")}
    missing = {part: [key for key in both if key not in keys] for part, both in arrays_of.items()}
    if all(missing.values()) or any(len(names) == 1 for names in missing.values()):
        raise _without(path, missing["train"] + missing["test"])
    if "class_names" in keys:
        names = _read_array(archive, "class_names")
        unique = names.ndim == 1 and names.dtype.kind == "U" and len(set(names.tolist()))
        if not unique == len(classes) == len(names):
            raise UserError(
                f"{path}, class_names: expected {len(classes)} names without repeats. "
                f"Received: {names.shape}, {names.dtype}"
            )
        classes = tuple(names.tolist())
        require_names(f"{path}, class_names", classes)
    if unused := sorted(keys - {*ARRAYS, *GROUPS, "class_names"}):
        print(f"not used in {path}: the arrays {', '.join(unused)}")
    parts = {}
    for part in arrays_of:
        if missing[part]:
            parts[part] = _absent(path, missing[part])
            continue
        labels = _labels(f"{path}, y_{part}", _read_array(archive, f"y_{part}"), len(classes))
        key = next((key for key in GROUPS if key in keys and part == "train"), None)
        groups = key and _whole_numbers(f"{path}, {key}", _read_array(archive, key), len(labels))
        load = functools.partial(_load_images, path, f"x_{part}", len(labels))
        parts[part] = part_of_arrays(part, path, load, labels, classes, groups)
    return Source(classes, parts, exclusive=True)


def _without(path: Path, names: list[str]) -> UserError:
    return UserError(f"{path} has no {' and no '.join(names)}")


def _absent(path: Path, names: list[str]) -> Part:
    """Returns a part that the file does not have, and that another one may be read without."""

    def check() -> NoReturn:
        raise _without(path, names)

    return Part(0, str, str, labels=np.zeros(0, np.int64), check=check)


def part_of_arrays(
    part: str,
    path: Path,
    load: Callable[[], np.ndarray],
    labels: np.ndarray,
    attributes: tuple[str, ...],
    groups: np.ndarray | None = None,
) -> Part:
    """Returns a part whose pixels (N, 32, 32, 3), uint8, are loaded when one of them is read."""
    # TensorFlow never lets go of a tensor of all pixels, nor of a function that holds them.
    images: list[np.ndarray] = []

    def read(index: tf.Tensor) -> tf.Tensor:
        if not images:  # here and not when it runs, so that a damaged file is named
            images.append(load())
        pixels = tf.numpy_function(lambda index: images[0][index], [index], tf.uint8)
        return tf.ensure_shape(pixels, IMAGE_SHAPE)

    folder, names = Files(path.parent), np.array([path.name.encode()])
    return Part(
        len(labels),
        lambda index: f"{part} image {index}",
        lambda: folder.fingerprint(names, labels, attributes),
        read,
        labels,
        groups,
        images.clear,
    )


def _find_npz(data_dir: Path, name: str) -> Path | None:
    if data_dir.is_file():
        return data_dir if data_dir.suffix == ".npz" else None
    files = sorted(data_dir.glob("*.npz"))
    return data_dir / name if data_dir / name in files else files[0] if len(files) == 1 else None


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever a missing or damaged file raises into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # zip, its codecs and NumPy each raise their own kinds
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None


def _read_array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(f"{key}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # at its end the member's checksum is compared too
            raise ValueError(f"{key} is longer than its header says")
    return array


def _load_images(path: Path, key: str, count: int) -> np.ndarray:
    with _reading(path), zipfile.ZipFile(path) as archive:
        images = _read_array(archive, key)
    if images.shape != (count, *IMAGE_SHAPE) or images.dtype != np.uint8:
        raise UserError(
            f"{path}, {key}: expected images ({count}, 32, 32, 3), uint8, one for each label. "
            f"Received: {images.shape}, {images.dtype}"
        )
    return images


def _whole_numbers(where: str, numbers: np.ndarray, count: int) -> np.ndarray:
    if numbers.shape != (count,) or numbers.dtype.kind not in "iu":
        raise UserError(
            f"{where}: expected a whole number for each of the {count} images. "
            f"Received: {numbers.shape}, {numbers.dtype}"
        )
    return numbers.astype(np.int64)


def _labels(where: str, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the classes (N,), int64, of an array (N,) or (N, 1)."""
    count = len(labels) if labels.ndim else 0
    labels = labels[:, 0] if labels.shape == (count, 1) else labels
    labels = _whole_numbers(where, labels, count)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(
            f"{where}: expected classes from 0 to {classes - 1}. "
            f"Received: {labels[wrong[0]]} at index {wrong[0]}"
        )
    return labels
