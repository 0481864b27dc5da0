"""What lists in the form of CelebA's say of images: who is on them, to which part they belong."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcattn_tf.data.files import open_files
from mcattn_tf.data.lists import Table, read_list
from mcattn_tf.data.sets.celeba import image_file
from mcattn_tf.data.split import SPLITS, Split
from mcattn_tf.errors import UserError, choose


def file_names(split: Split) -> np.ndarray:
    """Returns the names (N,), bytes, of the image files of a split, as lists have them."""
    return np.array([image_file(split.name_of(index)).encode() for index in range(split.count)])


def read_people(names: np.ndarray, path: Path) -> np.ndarray:
    """Returns a number for the person on each image, (N,).

    Args:
        names: (N,), bytes, of the image files.
        path: of a list like CelebA's `identity_CelebA.txt`: image names and whole numbers.

    Raises:
        UserError: if the list cannot be read, or has no row for an image.
    """
    table = _read(path, "identity")
    rows = table.rows_of(names)
    if (rows < 0).any():
        missing = names[rows < 0]
        raise UserError(
            f"{path} has no row for {missing[0].decode()}, and for {len(missing)} images in all; "
            "add who is on them"
        )
    return table.values[rows, 0]


def in_part(names: np.ndarray, path: Path, split: str) -> np.ndarray:
    """Returns which images a list gives to a split, (N,), bool.

    Args:
        names: (N,), bytes, of the image files.
        path: of a list like CelebA's `list_eval_partition.txt`: 0 to train, 1 to validate, 2 to
            test. It need not name all images.
        split: `train`, `validation` or `test`.

    Raises:
        UserError: if the list cannot be read or gives none of the images to the split.
    """
    choose("split", split, SPLITS)
    table = _read(path, "partition", range(len(SPLITS)))
    rows = table.rows_of(names)
    chosen = rows >= 0
    chosen[chosen] = table.values[rows[chosen], 0] == SPLITS.index(split)
    if not chosen.any():
        raise UserError(f"{path} gives none of the run's {split} images to {split}")
    return chosen


def _read(path: Path, column: str, allowed: Sequence[int] = ()) -> Table:
    return read_list(open_files(path.parent), path.name, (column,), allowed, headed=False)
