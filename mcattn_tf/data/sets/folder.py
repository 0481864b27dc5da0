"""The user's own images: a folder with a table of labels, or with one sub-folder a class."""

import ntpath
import os
import posixpath
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from mcattn_tf.data.files import IMAGE_ENDINGS, Files, require_there
from mcattn_tf.data.lists import csv_rows, refuse
from mcattn_tf.data.split import Part, Source
from mcattn_tf.errors import UserError
from mcattn_tf.files import read_text
from mcattn_tf.settings.data import DataConfig

LABELS_FILE = "labels.csv"
PART_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
VALUES = {"0", "1", "-1"}


class _Row(NamedTuple):
    """A row of `labels.csv`; `group` is None without such a column."""

    line: int
    name: str
    values: tuple[str, ...]
    part: str
    group: str | None


def source(config: DataConfig) -> Source:
    """Reads the names and labels of the user's own images in `config.data_dir`.

    The folder holds either `labels.csv`, a table with file names in the first column, 0 and 1 (or
    -1 and 1) in one column an attribute, and optionally `split` (train, validation or test) and
    `group` (a person, a photo); or one folder of images for each class, in the folder itself or
    in its `train/`, `validation/` and `test/`. Classes are sorted by name.
    """
    if config.data_dir is None:
        raise UserError("--dataset folder needs --data_dir DIR, the folder with your images")
    root = Path(config.data_dir)
    require_there(root)
    if not root.is_dir():
        raise UserError(f"--data_dir {root} is not a folder")
    return _source_of_table(root) if (root / LABELS_FILE).is_file() else _source_of_folders(root)


def _part(
    root: Path,
    names: Sequence[str],
    labels: np.ndarray,
    attributes: tuple[str, ...],
    groups: np.ndarray | None = None,
    check: Callable[[], object] = lambda: None,
) -> Part:
    files, names = Files(root), np.array([os.fsencode(name) for name in names])
    return Part(
        len(names),
        lambda index: os.fsdecode(names[index]),
        lambda: files.fingerprint(names, labels, attributes),
        files.reader(names),
        labels,
        groups,
        check=check,
    )


def _source_of_table(root: Path) -> Source:
    path = root / LABELS_FILE
    attributes, rows = _read_rows(path)
    labels = _labels(path, attributes, rows)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(r.group for r in rows))}
    groups = None if None in numbers else np.array([numbers[row.group] for row in rows], np.int64)
    parts = {}
    for part in dict.fromkeys(PART_NAMES.values()):
        inside = [index for index, row in enumerate(rows) if row.part == part]
        if inside:
            of_part = [rows[index] for index in inside]
            names, check = [row.name for row in of_part], partial(_require_files, path, of_part)
            inside_groups = None if groups is None else groups[inside]
            parts[part] = _part(root, names, labels[inside], attributes, inside_groups, check)
    return Source(attributes, parts)


def _require_files(path: Path, rows: list[_Row]) -> None:
    """Refuses rows of a table that name no file."""
    for row in rows:
        if not os.path.isfile(f"{path.parent}/{row.name}"):
            raise UserError(f"{path}, line {row.line}: there is no file {row.name!r}")


def _read_rows(path: Path) -> tuple[tuple[str, ...], list[_Row]]:
    """Returns the attributes and the rows of a table."""
    cells_of_lines = csv_rows(path, read_text(path))
    columns = _columns(path, *next(cells_of_lines, (1, [])))
    attributes = tuple(column for column in columns[1:] if column not in ("split", "group"))
    row_of: dict[str, _Row] = {}
    first_of: dict[str, _Row] = {}
    for line, cells in cells_of_lines:
        row = _row(path, line, columns, cells)
        if (first := row_of.setdefault(row.name, row)) is not row:
            raise UserError(f"{path}, lines {first.line} and {line}: both name {row.name!r}")
        if row.group is not None:
            first = first_of.setdefault(row.group, row)
            if first.part != row.part:
                other = f"{first.part} by line {first.line}"
                raise UserError(
                    f"{path}, line {line}: group {row.group!r} is in {row.part}, and in {other}; "
                    "put it on one side, or leave the group column out"
                )
    if not row_of:
        raise UserError(f"{path} has no rows of images")
    return attributes, list(row_of.values())


def _columns(path: Path, line: int, header: list[str]) -> list[str]:
    """Returns the names of the columns."""
    columns = [column.strip() for column in header]
    for column in columns:
        if ";" in column or "\t" in column:
            refuse(path, line, "columns divided by commas", repr(column))
        if not column:
            position = columns.index(column) + 1
            raise UserError(f"{path}, line {line}: column {position} has no name")
        if columns.count(column) > 1:
            raise UserError(f"{path}, line {line}: two columns are called {column!r}")
    if not set(columns[1:]) - {"split", "group"}:
        expected = "a column of file names and one or more of attributes"
        refuse(path, line, expected, repr(",".join(columns)))
    return columns


def _row(path: Path, line: int, columns: list[str], cells: list[str]) -> _Row:
    if len(cells) != len(columns):
        refuse(path, line, f"{len(columns)} values", str(len(cells)))
    cell_of = dict(zip(columns[1:], cells[1:], strict=True))
    part, group = cell_of.pop("split", "train").strip(), cell_of.pop("group", None)
    for attribute, cell in cell_of.items():
        if cell.strip() not in VALUES:
            refuse(path, line, f"0, 1 or -1 for {attribute!r}", repr(cell))
    if part not in PART_NAMES:
        refuse(path, line, f"a split of {', '.join(PART_NAMES)}", repr(part))
    if group is not None and not group.strip():
        refuse(path, line, "a group", repr(group))
    name = posixpath.normpath(cells[0])
    absolute = cells[0].startswith(("/", "\\")) or ntpath.splitdrive(cells[0])[0]
    if absolute or name == ".." or name.startswith("../"):
        refuse(path, line, f"the name of a file in the folder of {LABELS_FILE}", repr(cells[0]))
    if not name.lower().endswith(IMAGE_ENDINGS):
        refuse(path, line, f"the name of an image ({', '.join(IMAGE_ENDINGS)})", repr(cells[0]))
    values = tuple(cell.strip() for cell in cell_of.values())
    return _Row(line, name, values, PART_NAMES[part], group and group.strip())


def _labels(path: Path, attributes: tuple[str, ...], rows: list[_Row]) -> np.ndarray:
    """Returns the labels (N, K), uint8; a column with both 0 and -1 may mean `not known` by 0."""
    values = np.array([row.values for row in rows])
    for column, attribute in enumerate(attributes):
        first = [np.flatnonzero(values[:, column] == value)[:1] for value in ("0", "-1")]
        if all(map(len, first)):
            expected = f"0 and 1, or -1 and 1, for {attribute!r}"
            refuse(path, rows[max(first)[0]].line, expected, "both 0 and -1")
    return (values == "1").astype(np.uint8)


def _source_of_folders(root: Path) -> Source:
    part_folders = _part_folders(root)
    training = part_folders.get("train")
    naming = part_folders.values() if training is None else [training]
    classes = tuple(sorted({name for folder in naming for name in _folders(root / folder)}))
    if training is not None and len(classes) < 2:
        raise UserError(
            f"{root / training} must hold one folder of images for each of two or more classes. "
            f"Received: {', '.join(classes) or 'none'}"
        )
    parts = {}
    for part, folder in part_folders.items():
        names, labels = [], []
        for class_name in _folders(root / folder):
            if class_name not in classes:
                expected = f"expected a class that {training} has too"
                path = root / folder / class_name
                raise UserError(f"{path}: {expected}. Received: {class_name!r}")
            images = _images_below(root, posixpath.join(folder, class_name))
            names += images
            labels += [classes.index(class_name)] * len(images)
        if not names:
            raise UserError(f"{root / folder} has no class folders")
        parts[part] = _part(root, names, np.array(labels, np.int64), classes)
    return Source(classes, parts, exclusive=True)


def _part_folders(root: Path) -> dict[str, str]:
    """Returns {part: its folder}, `` where the class folders are in `root` itself.

    A class may be called `train`: only beside folders of other parts, or alone, it is a part.
    """
    folders = _folders(root)
    if not folders:
        raise UserError(
            f"--data_dir {root} must hold {LABELS_FILE}, or one folder of images for each class"
        )
    parts = [name for name in folders if name in PART_NAMES]
    others = [name for name in folders if name not in PART_NAMES]
    if others and ("train" not in parts or len(parts) == 1):
        return {"train": ""}
    if others:
        raise UserError(
            f"{root} must hold folders of parts ({', '.join(parts)}) or of classes. "
            f"Received: {others[0]!r} too"
        )
    if {"val", "validation"} <= set(parts):
        raise UserError(f"{root} has both val and validation; expected one of them")
    return {PART_NAMES[name]: name for name in parts}


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
        images = [name for name in files if name.lower().endswith(IMAGE_ENDINGS)]
        names += [f"{below}/{name}" for name in images if not name.startswith(".")]
    if not names:
        raise UserError(f"{root / folder} has no images ({', '.join(IMAGE_ENDINGS)})")
    return sorted(names)


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}") from None
