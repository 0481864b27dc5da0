"""The user's own images: a folder with a table of labels, or with one sub-folder a class."""

import ntpath
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from mcattn_tf.data.csv_rows import read_rows
from mcattn_tf.data.files import IMAGE_ENDINGS, Files, require_there
from mcattn_tf.data.source import Part, Source, part_of_files
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

LABELS_FILE = "labels.csv"
PART_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
CODES = {"0": 0, "1": 1, "-1": 2}


class _Table(NamedTuple):
    """What `labels.csv` says.

    Attributes:
        attributes: names of the K attributes.
        names: of the N image files.
        lines: (N,), where they are in the table.
        labels: (N, K), uint8, 0 or 1.
        parts: (N,), the part of each image.
        groups: (N,), int64, or None without such a column.
    """

    attributes: tuple[str, ...]
    names: list[str]
    lines: list[int]
    labels: np.ndarray
    parts: np.ndarray
    groups: np.ndarray | None


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}") from None


def _columns(path: Path, line: int, header: list[str]) -> list[str]:
    """Returns the names of the columns."""
    where = f"{path}, line {line}"
    columns = [column.strip() for column in header]
    for column in columns:
        if ";" in column or "\t" in column:
            raise UserError(f"{where}: expected columns divided by commas. Received: {column!r}")
        if not column:
            raise UserError(f"{where}: column {columns.index(column) + 1} has no name")
        if columns.count(column) > 1:
            raise UserError(f"{where}: two columns are called {column!r}")
    if not set(columns[1:]) - {"split", "group"}:
        raise UserError(
            f"{where}: expected a column of file names and one or more of attributes. "
            f"Received: {','.join(columns)!r}"
        )
    return columns


def _checked_name(where: str, name: str) -> str:
    """Returns the name of an image in its shortest form."""
    short = posixpath.normpath(name)
    absolute = name.startswith(("/", "\\")) or ntpath.splitdrive(name)[0]
    if absolute or short == ".." or short.startswith("../"):
        raise UserError(
            f"{where}: expected the name of a file in the folder of {LABELS_FILE}. "
            f"Received: {name!r}"
        )
    if not short.lower().endswith(IMAGE_ENDINGS):
        raise UserError(
            f"{where}: expected the name of an image ({', '.join(IMAGE_ENDINGS)}). "
            f"Received: {name!r}"
        )
    return short


def _checked_codes(where: str, attributes: Sequence[str], cells: list[str]) -> bytes:
    """Returns the codes of a row's values."""
    try:
        return bytes(map(CODES.__getitem__, cells))
    except KeyError:  # a value with blanks around it, or none at all
        for attribute, cell in zip(attributes, cells, strict=True):
            if cell.strip() not in CODES:
                raise UserError(
                    f"{where}: expected 0, 1 or -1 for {attribute!r}. Received: {cell!r}"
                ) from None
        return bytes(CODES[cell.strip()] for cell in cells)


def _labels_of_codes(
    path: Path, attributes: Sequence[str], lines: list[int], codes: np.ndarray
) -> np.ndarray:
    """Returns the labels, 0 or 1; where 0 and -1 are both there, 0 may mean `not known`."""
    mixed = (codes == CODES["0"]).any(axis=0) & (codes == CODES["-1"]).any(axis=0)
    for column in np.flatnonzero(mixed):
        row = max(np.argmax(codes[:, column] == CODES[value]) for value in ("0", "-1"))
        raise UserError(
            f"{path}, line {lines[row]}: expected 0 and 1, or -1 and 1, for "
            f"{attributes[column]!r}. Received: both 0 and -1"
        )
    return (codes == CODES["1"]).astype(np.uint8)


def _read_table(path: Path) -> _Table:
    rows = read_rows(path)
    line, header = next(rows, (1, []))
    columns = _columns(path, line, header)
    split_at, group_at = (
        columns.index(name, 1) if name in columns[1:] else None for name in ("split", "group")
    )
    kept = [index for index in range(1, len(columns)) if index not in (split_at, group_at)]
    attributes = tuple(columns[index] for index in kept)
    line_of: dict[str, int] = {}
    numbers: dict[str, int] = {}
    first_of: dict[str, tuple[str, int]] = {}
    codes, parts, groups = bytearray(), [], []
    for line, row in rows:
        where = f"{path}, line {line}"
        if len(row) != len(columns):
            raise UserError(f"{where}: expected {len(columns)} values. Received: {len(row)}")
        name = _checked_name(where, row[0])
        if line_of.setdefault(name, line) != line:
            raise UserError(f"{path}, lines {line_of[name]} and {line}: both name {name!r}")
        codes += _checked_codes(where, attributes, [row[index] for index in kept])
        part = "train" if split_at is None else row[split_at].strip()
        if part not in PART_NAMES:
            raise UserError(
                f"{where}: expected a split of {', '.join(PART_NAMES)}. Received: {part!r}"
            )
        parts.append(PART_NAMES[part])
        if group_at is not None:
            group = row[group_at].strip()
            if not group:
                raise UserError(f"{where}: expected a group. Received: {row[group_at]!r}")
            groups.append(numbers.setdefault(group, len(numbers)))
            first = first_of.setdefault(group, (parts[-1], line))
            if first[0] != parts[-1]:
                raise UserError(
                    f"{where}: group {group!r} is in {parts[-1]}, and in {first[0]} by line "
                    f"{first[1]}; put it on one side, or leave the group column out"
                )
    if "train" not in parts:
        raise UserError(f"{path} has no images to train on")
    lines = list(line_of.values())
    values = np.frombuffer(codes, np.uint8).reshape(len(lines), len(attributes))
    return _Table(
        attributes,
        list(line_of),
        lines,
        _labels_of_codes(path, attributes, lines, values),
        np.array(parts),
        np.array(groups, np.int64) if group_at is not None else None,
    )


def _part(
    root: Path,
    names: Sequence[str],
    labels: np.ndarray,
    attributes: tuple[str, ...],
    groups: np.ndarray | None = None,
) -> Part:
    files, names = Files(root), np.array([os.fsencode(name) for name in names])
    return part_of_files(
        labels,
        files.reader(names),
        lambda index: os.fsdecode(names[index]),
        lambda start, stop: files.fingerprint(names[start:stop], labels[start:stop], attributes),
        groups,
    )


def _source_of_table(root: Path) -> Source:
    path = root / LABELS_FILE
    table = _read_table(path)
    for name, line in zip(table.names, table.lines, strict=True):
        if not os.path.isfile(f"{root}/{name}"):
            raise UserError(f"{path}, line {line}: there is no file {name!r}")
    parts = {}
    for part in dict.fromkeys(PART_NAMES.values()):
        chosen = np.flatnonzero(table.parts == part)
        if len(chosen):
            parts[part] = _part(
                root,
                [table.names[index] for index in chosen],
                table.labels[chosen],
                table.attributes,
                None if table.groups is None else table.groups[chosen],
            )
    return Source(table.attributes, parts)


def _folders(folder: Path) -> list[str]:
    """Returns the names of the sub-folders that are not hidden, sorted."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        _unreadable(error)
    return sorted(name for name in names if not name.startswith("."))


def _images_below(root: Path, folder: str) -> list[str]:
    """Returns the images below a folder of `root`, named from `root`, sorted."""
    names = []
    for place, folders, files in os.walk(root / folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(root).as_posix()
        names += [
            f"{below}/{name}"
            for name in files
            if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")
        ]
    if not names:
        raise UserError(f"{root / folder} has no images ({', '.join(IMAGE_ENDINGS)})")
    return sorted(names)


def _part_folders(root: Path) -> dict[str, str]:
    """Returns {part: its folder}, `` where the class folders are in `root` itself.

    A class may be called `train`: only beside folders of other parts, or alone, it is a part.
    """
    folders = _folders(root)
    if not folders:
        raise UserError(
            f"--data_dir {root} must hold {LABELS_FILE}, or one folder of images for each class"
        )
    found = [name for name in folders if name in PART_NAMES]
    others = [name for name in folders if name not in PART_NAMES]
    if others and ("train" not in found or len(found) == 1):
        return {"train": ""}
    if others:
        raise UserError(
            f"{root} must hold folders of parts ({', '.join(found)}) or of classes. "
            f"Received: {others[0]!r} too"
        )
    if "train" not in found:
        raise UserError(f"{root} has no folder train. Received: {', '.join(found)}")
    if {"val", "validation"} <= set(found):
        raise UserError(f"{root} has both val and validation; expected one of them")
    return {PART_NAMES[name]: name for name in found}


def _source_of_folders(root: Path) -> Source:
    part_folders = _part_folders(root)
    classes = tuple(_folders(root / part_folders["train"]))
    if len(classes) < 2:
        raise UserError(
            f"{root / part_folders['train']} must hold one folder of images for each of two or "
            f"more classes. Received: {', '.join(classes) or 'none'}"
        )
    parts = {}
    for part, folder in part_folders.items():
        names, labels = [], []
        for class_name in _folders(root / folder):
            if class_name not in classes:
                raise UserError(
                    f"{root / folder / class_name}: expected a class that "
                    f"{part_folders['train']} has too. Received: {class_name!r}"
                )
            images = _images_below(root, posixpath.join(folder, class_name))
            names += images
            labels += [classes.index(class_name)] * len(images)
        if not names:
            raise UserError(f"{root / folder} has no class folders")
        parts[part] = _part(root, names, np.array(labels, np.int64), classes)
    return Source(classes, parts, exclusive=True)


def source(config: DataConfig) -> Source:
    """Reads the names and labels of the user's own images.

    The folder holds either `labels.csv`, a table with file names in the first column, 0 and 1 (or
    -1 and 1) in one column an attribute, and optionally `split` (train, validation or test) and
    `group` (a person, a photo); or one folder of images for each class, in the folder itself or
    in its `train/`, `validation/` and `test/`.

    Args:
        config: `data_dir` is used.

    Returns:
        The parts that the folder tells apart, `train` at least; attributes in the table's order,
        classes sorted by name.

    Raises:
        UserError: if a file is not there, or a table or folder is not of this form.
    """
    if config.data_dir is None:
        raise UserError("--dataset folder needs --data_dir DIR, the folder with your images")
    root = Path(config.data_dir)
    require_there(root)
    if not root.is_dir():
        raise UserError(f"--data_dir {root} is not a folder")
    return _source_of_table(root) if (root / LABELS_FILE).is_file() else _source_of_folders(root)
