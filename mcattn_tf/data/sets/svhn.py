"""Street View House Numbers, cropped (Netzer et al. 2011), or through tensorflow-datasets."""

import functools
from pathlib import Path

import numpy as np

from mcattn_tf.data.sets.arrays import (
    check_labels,
    part_of_arrays,
    reading,
    source_of_npz,
    source_of_tfds,
)
from mcattn_tf.data.source import Part, Source
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

CLASSES = tuple("0123456789")
FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}


def _load_images(path: Path) -> np.ndarray:
    """Returns the images (N, 32, 32, 3), uint8; as stored they are (32, 32, 3, N)."""
    import scipy.io  # which few runs need

    with reading(path):
        return scipy.io.loadmat(path, variable_names=["X"])["X"].transpose(3, 0, 1, 2)


def _part(path: Path, part: str) -> Part:
    if not path.is_file():
        raise UserError(f"{path.parent} has no {path.name}")
    import scipy.io

    with reading(path):
        variables = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
        for name in ("X", "y"):
            if name not in variables:
                raise UserError(f"{path} has no {name}")
        shape, kind = variables["X"]
        if len(shape) != 4 or shape[:3] != (32, 32, 3) or kind != "uint8":
            raise UserError(
                f"{path}, X: expected images (32, 32, 3, N), uint8. Received: {shape}, {kind}"
            )
        numbers = scipy.io.loadmat(path, variable_names=["y"])["y"]
    labels = check_labels(f"{path}, y", numbers, shape[3], range(1, 11)) % 10  # 10 is the digit 0
    return part_of_arrays(part, [path], functools.partial(_load_images, path), labels, CLASSES)


def _find_npz(data_dir: Path) -> Path | None:
    if data_dir.is_file():
        return data_dir if data_dir.suffix == ".npz" else None
    if (data_dir / "svhn.npz").is_file():
        return data_dir / "svhn.npz"
    found = sorted(data_dir.glob("*.npz"))
    return found[0] if len(found) == 1 else None


def source(config: DataConfig) -> Source:
    """Reads the labels of SVHN's cropped digits, whose pixels are loaded when they are read.

    Files are looked for first: `config.data_dir` holds `train_32x32.mat` and `test_32x32.mat`,
    or is or holds an .npz file with `x_train`, `y_train`, `x_test` and `y_test`; digits of one
    photo overlap, and `photo_train` (or `group_train`) says which these are. Without files the
    data come through tensorflow-datasets.

    Args:
        config: `dataset` and `data_dir` are used.

    Returns:
        The parts `train` and `test`, and the ten digits.

    Raises:
        UserError: if the files are not there or cannot be read.
    """
    if config.data_dir is not None:
        data_dir = Path(config.data_dir)
        if any((data_dir / name).is_file() for name in FILES.values()):
            parts = {part: _part(data_dir / name, part) for part, name in FILES.items()}
            return Source(CLASSES, parts, exclusive=True)
        if path := _find_npz(data_dir):
            return source_of_npz(path, CLASSES, ("group_train", "photo_train"))
    return source_of_tfds(config, f"{' and '.join(FILES.values())}, or svhn.npz")
