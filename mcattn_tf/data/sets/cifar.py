"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from their files, or through tensorflow-datasets."""

import contextlib
import functools
import io
import pickle
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcattn_tf.data.sets.arrays import (
    check_images,
    check_labels,
    part_of_arrays,
    reading,
    source_of_npz,
    source_of_tfds,
)
from mcattn_tf.data.source import Source
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


class _Version(NamedTuple):
    """How the files of a version are called.

    Attributes:
        folder: of the files, and in the archive.
        archive: the download.
        files: {part: its files}.
        labels: key of the labels.
        meta: file with the names of the classes.
        names: their key.
        classes: their names where nothing says.
    """

    folder: str
    archive: str
    files: Mapping[str, tuple[str, ...]]
    labels: bytes
    meta: str
    names: bytes
    classes: tuple[str, ...]


VERSIONS = {
    "cifar10": _Version(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)},
        b"labels",
        "batches.meta",
        b"label_names",
        CIFAR10_CLASSES,
    ),
    "cifar100": _Version(
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        {"train": ("train",), "test": ("test",)},
        b"fine_labels",
        "meta",
        b"fine_label_names",
        tuple(map(str, range(100))),
    ),
}


def _encode(text: str, encoding: str) -> bytes:
    """What Python 3 writes for bytes in a pickle of protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"{encoding} is not allowed")
    return text.encode(encoding)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of arrays and plain values; anything else could run a stranger's code."""

    ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Returns what arrays are made by; raises for any other name."""
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"a CIFAR file holds arrays alone. Received: {f'{module}.{name}'!r}"
            ) from None


def _unpickle(path: Path, content: bytes) -> dict[bytes, Any]:
    with reading(path):
        loaded = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(loaded, dict):
            raise UserError(f"{path}: expected a dictionary. Received: {type(loaded).__name__}")
        return {key.encode() if isinstance(key, str) else key: loaded[key] for key in loaded}


def _contents(root: Path, version: _Version, names: Sequence[str]) -> Iterator[tuple[Path, bytes]]:
    """Yields the path and the bytes of those files that are there, from a folder or an archive."""
    if root.is_dir():
        for path in (root / name for name in names):
            if path.is_file():
                with reading(path):
                    content = path.read_bytes()
                yield path, content
        return
    with contextlib.ExitStack() as stack:
        with reading(root):
            archive = stack.enter_context(tarfile.open(root))
        while True:
            with reading(root):
                member = archive.next()
                if member is None:
                    return
                name = member.name.removeprefix("./")
                file = name.removeprefix(f"{version.folder}/")
                if file == name or file not in names or not member.isfile():
                    continue
                content = archive.extractfile(member).read()
            yield root / name, content


def _images(path: Path, batch: Mapping[bytes, Any]) -> np.ndarray:
    """Returns the images of a file, (n, 32, 32, 3), uint8; as stored they are (n, 3 * 32 * 32)."""
    data = batch.get(b"data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
        received = (
            f"{data.shape}, {data.dtype}" if isinstance(data, np.ndarray) else type(data).__name__
        )
        raise UserError(f"{path}, data: expected an array (N, 3072), uint8. Received: {received}")
    images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    check_images(f"{path}, data", images.shape, images.dtype)
    return images


def _labels(path: Path, batch: Mapping[bytes, Any], key: bytes, class_count: int) -> np.ndarray:
    where = f"{path}, {key.decode()}"
    labels = batch.get(key)
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise UserError(f"{where}: expected a list of whole numbers")
    with reading(path):
        numbers = np.array(labels, np.int64)
    return check_labels(where, numbers, len(_images(path, batch)), range(class_count))


def _class_names(path: Path, meta: Mapping[bytes, Any], version: _Version) -> tuple[str, ...]:
    names = meta.get(version.names)
    count = len(version.classes)
    if isinstance(names, list) and len(names) == count:
        texts = [n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in names]
        if len(set(texts)) == count:
            return tuple(texts)
    raise UserError(f"{path}, {version.names.decode()}: expected {count} names without repeats")


def _source_of_pickles(root: Path, version: _Version) -> Source:
    """Reads the labels of the original files.

    Args:
        root: their folder, or the archive.
        version: which of the two.
    """
    files = [name for names in version.files.values() for name in names]
    classes, labels = version.classes, {}
    for path, content in _contents(root, version, (*files, version.meta)):
        batch = _unpickle(path, content)
        if path.name == version.meta:
            classes = _class_names(path, batch, version)
        else:
            labels[path.name] = _labels(path, batch, version.labels, len(classes))
    for name in files:
        if name not in labels:
            raise UserError(f"{root} has no {name}")

    def load(names: Sequence[str]) -> np.ndarray:
        images = {
            path.name: _images(path, _unpickle(path, content))
            for path, content in _contents(root, version, names)
        }
        return np.concatenate([images[name] for name in names])

    parts = {
        part: part_of_arrays(
            part,
            [root / name for name in names] if root.is_dir() else [root],
            functools.partial(load, names),
            np.concatenate([labels[name] for name in names]),
            classes,
        )
        for part, names in version.files.items()
    }
    return Source(classes, parts, exclusive=True)


def _find(data_dir: Path, dataset: str) -> Path | None:
    """Returns the folder of the original files, or their archive, or an .npz file."""
    version = VERSIONS[dataset]
    if data_dir.is_file():
        return data_dir if data_dir.name.endswith((".npz", ".tar.gz", ".tgz")) else None
    files = [name for names in version.files.values() for name in names]
    for folder in (data_dir, data_dir / version.folder):
        if any((folder / name).is_file() for name in files):
            return folder
    for name in (version.archive, f"{dataset}.npz"):
        if (data_dir / name).is_file():
            return data_dir / name
    return None


def source(config: DataConfig) -> Source:
    """Reads the labels of CIFAR-10 or CIFAR-100, whose pixels are loaded when they are read.

    Files are looked for first: `config.data_dir` is, or holds, the original Python files, their
    archive, or an .npz file with `x_train`, `y_train`, `x_test` and `y_test`. Without them the
    data come through tensorflow-datasets.

    Args:
        config: `dataset` and `data_dir` are used.

    Returns:
        The parts `train` and `test`, and the fine classes.

    Raises:
        UserError: if the files are not there or cannot be read.
    """
    version = VERSIONS[config.dataset]
    path = None if config.data_dir is None else _find(Path(config.data_dir), config.dataset)
    if path is None:
        expected = f"{version.folder}/, {version.archive} or {config.dataset}.npz"
        return source_of_tfds(config, expected)
    if path.suffix == ".npz" and path.is_file():
        return source_of_npz(path, version.classes)
    return _source_of_pickles(path, version)
