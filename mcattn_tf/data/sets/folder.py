"""The user's own images: a folder with a table of labels, or with one sub-folder a class."""

import ntpath
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from mcattn_tf.data.files import Files, kinds_of, report_unused, require_there
from mcattn_tf.data.lists import (
    BLANK,
    LABELS,
    csv_rows,
    labels_of,
    read_label,
    refuse,
    require_names,
)
from mcattn_tf.data.split import Part, Source
from mcattn_tf.errors import UserError
from mcattn_tf.files import read_text
from mcattn_tf.settings.data import DataConfig

LABELS_FILE = "labels.csv"
REGIONS = "regions"  # folder of masks, or table of boxes, that explanations are measured with
# Spellings of the parts, in any case, also as `seg_train`, `test_set` or `val-images`.
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_AROUND = re.compile(r"^seg_|[ _-]?(set|data|images)$")
RESERVED = ("split", "group")  # names of columns, in any case


class _Row(NamedTuple):
    """A row of `labels.csv`; `group` is None without such a column."""

    line: int
    name: str
    values: tuple[str, ...]
    part: str
    group: str | None


def source(config: DataConfig) -> Source:
    """Reads the names and labels of the user's own images in `config.data_dir`.

    The folder holds either `labels.csv`, a table with file names in the first column, labels as in
    `lists.read_label` in one column an attribute or class names in a single one, and optionally
    `split` (train, validation or test) and `group` (a person, a photo); or one folder of images for
    each class, in the folder itself or in its `train/`, `validation/` and `test/`. Classes are
    sorted by name. Prints what kinds of files are not used.
    """
    if config.data_dir is None:
        raise UserError("--dataset folder needs --data_dir DIR, the folder with your images")
    root = Path(config.data_dir)
    require_there(root)
    if not root.is_dir():
        raise UserError(f"--data_dir {root} is not a folder")
    if (root / LABELS_FILE).is_file():
        loaded, used = _source_of_table(root, config.zero_is_unknown), {LABELS_FILE}
    else:
        loaded, used = _source_of_folders(root), set()
    if loaded.exclusive and config.zero_is_unknown:
        raise UserError(
            f"--zero_is_unknown: the labels of {root} are classes, which are known; leave it out"
        )
    for part in loaded.parts.values():
        used.update(map(part.name, range(part.count)))
    others = set(_below(root)) - used
    report_unused(root, {x for x in others if not x.startswith((f"{REGIONS}/", f"{REGIONS}.csv"))})
    return loaded


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


def _source_of_table(root: Path, zero_is_unknown: bool) -> Source:
    path = root / LABELS_FILE
    attributes, rows = _read_rows(path)
    exclusive = _are_classes(rows)
    if exclusive:
        attributes, labels = _classes(path, rows)
    else:
        labels = _labels(path, attributes, rows, zero_is_unknown)
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
    return Source(attributes, parts, exclusive)


def _require_files(path: Path, rows: list[_Row]) -> None:
    """Refuses rows of a table that name no file."""
    for row in rows:
        if not os.path.isfile(f"{path.parent}/{row.name}"):
            hint = "; write / between folders, not \\" if "\\" in row.name else ""
            raise UserError(f"{path}, line {row.line}: there is no file {row.name!r}{hint}")


def _read_rows(path: Path) -> tuple[tuple[str, ...], list[_Row]]:
    """Returns the attributes and the rows of a table."""
    cells_of_lines = csv_rows(path, read_text(path))
    columns = _columns(path, *next(cells_of_lines, (1, [])))
    attributes = tuple(column for column in columns[1:] if column not in RESERVED)
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
    columns[1:] = [c.lower() if c.lower() in RESERVED else c for c in columns[1:]]
    for column in columns:
        if ";" in column or "\t" in column:
            refuse(path, line, "columns divided by commas", repr(column))
        if not column:
            position = columns.index(column) + 1
            raise UserError(f"{path}, line {line}: column {position} has no name")
        if columns.count(column) > 1:
            raise UserError(f"{path}, line {line}: two columns are called {column!r}")
    if not set(columns[1:]) - set(RESERVED):
        expected = "a column of file names and one or more of attributes"
        refuse(path, line, expected, repr(",".join(columns)))
    require_names(f"{path}, line {line}", columns)
    return columns


def _row(path: Path, line: int, columns: list[str], cells: list[str]) -> _Row:
    if len(cells) != len(columns):
        refuse(path, line, f"{len(columns)} values", str(len(cells)))
    cell_of = dict(zip(columns[1:], cells[1:], strict=True))
    spelling, group = cell_of.pop("split", "train"), cell_of.pop("group", None)
    part = _part_of(spelling)
    if part is None:
        refuse(path, line, f"a split of {', '.join(PART_NAMES)}", repr(spelling))
    if group is not None and not group.strip():
        refuse(path, line, "a group", repr(group))
    name = posixpath.normpath(cells[0])
    absolute = cells[0].startswith(("/", "\\")) or ntpath.splitdrive(cells[0])[0]
    if absolute or name == ".." or name.startswith("../"):
        refuse(path, line, f"the name of a file in the folder of {LABELS_FILE}", repr(cells[0]))
    if not cells[0].strip():
        refuse(path, line, "the name of an image", repr(cells[0]))
    values = tuple(cell.strip() for cell in cell_of.values())
    return _Row(line, name, values, part, group and group.strip())


def _are_classes(rows: list[_Row]) -> bool:
    """Returns whether the table has a single column of words, none of them a label."""
    cells = {row.values[0] for row in rows if len(row.values) == 1}
    values = set(map(read_label, cells))
    return None in values and values <= {None, BLANK}


def _classes(path: Path, rows: list[_Row]) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the classes of a single column of names, sorted, and the class of each row (N,)."""
    training = [row for row in rows if row.part == "train"]
    classes = sorted({row.values[0] for row in training or rows} - {"", "?"})
    for row in rows:
        if row.values[0] not in classes:
            expected = "the name of a class that train has, in every row"
            refuse(path, row.line, expected, f"{row.values[0]!r}; correct it or delete the row")
        require_names(f"{path}, line {row.line}", row.values)
    if training and len(classes) < 2:
        raise UserError(f"{path} must name two or more classes. Received: {classes[0]}")
    labels = [classes.index(row.values[0]) for row in rows]
    return tuple(classes), np.array(labels, np.int64)


def _labels(
    path: Path, attributes: tuple[str, ...], rows: list[_Row], zero_is_unknown: bool
) -> np.ndarray:
    """Returns the labels (N, K), int8, as `labels_of` does."""
    values = [list(map(read_label, row.values)) for row in rows]
    for row, numbers in zip(rows, values, strict=True):
        if None in numbers:
            wrong = numbers.index(None)
            or_classes = ", or names of classes alone" if len(attributes) == 1 else ""
            expected = f"{LABELS.kind} for {attributes[wrong]!r}{or_classes}"
            refuse(path, row.line, expected, repr(row.values[wrong]))
    lines = [row.line for row in rows]
    return labels_of(path, attributes, lines, np.array(values), zero_is_unknown)


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
    require_names(root / (training or ""), classes)
    if training == "":
        _require_no_parts(root, classes)
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


def _require_no_parts(root: Path, classes: tuple[str, ...]) -> None:
    """Raises a UserError where the folders look like parts that each hold the same classes."""
    inner = [set(_folders(root / class_name)) for class_name in classes]
    largest = max(inner, key=len)
    if all(names and names <= largest for names in inner):
        raise UserError(
            f"{root}: expected one folder of images for each class. Received: "
            f"{', '.join(classes)}, which all hold folders of the same names "
            f"({', '.join(sorted(largest))}); call parts train, validation and test, and put all "
            "images of a class into one folder"
        )


def _part_of(spelling: str) -> str | None:
    """Returns the part that a folder or a cell of the column `split` names; None for others."""
    return PART_NAMES.get(_AROUND.sub("", spelling.strip().lower()))


def _part_folders(root: Path) -> dict[str, str]:
    """Returns {part: its folder}, `` where the class folders are in `root` itself.

    A class may be called `train`: only beside folders of other parts, or alone, it is a part.
    """
    folders = _folders(root)
    if not folders:
        raise UserError(
            f"--data_dir {root} must hold {LABELS_FILE}, or one folder of images for each class"
        )
    parts = [name for name in folders if _part_of(name)]
    others = [name for name in folders if not _part_of(name)]
    folder_of = {_part_of(name): name for name in parts}
    if others and ("train" not in folder_of or len(parts) == 1):
        return {"train": ""}
    if others:
        raise UserError(
            f"{root} must hold folders of parts ({', '.join(parts)}) or of classes. "
            f"Received: {others[0]!r} too"
        )
    for name in parts:
        if folder_of[_part_of(name)] != name:
            both = f"{name} and {folder_of[_part_of(name)]}"
            raise UserError(f"{root} has both {both}; expected one of them")
    # Archives often unpack to train/train/CLASS.
    return {
        part: f"{name}/{name}" if _folders(root / name) == [name] else name
        for part, name in folder_of.items()
    }


def _folders(folder: Path) -> list[str]:
    """Returns the names of the sub-folders that are not hidden or of regions, sorted."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        _unreadable(error)
    return sorted(name for name in names if not name.startswith(".") and name != REGIONS)


def _below(root: Path, folder: str = "") -> Iterable[str]:
    """Yields the files below a folder of `root`, named from `root`, and hidden folders."""
    for place, folders, files in os.walk(root / folder, onerror=_unreadable, followlinks=True):
        below = Path(place).relative_to(root)
        # A link to a folder that it lies in would be followed without end.
        inside = os.path.realpath(place)
        entered = [
            name
            for name in folders
            if not name.startswith(".")
            and not f"{inside}/".startswith(f"{os.path.realpath(os.path.join(place, name))}/")
        ]
        yield from ((below / name).as_posix() for name in {*files, *folders} - {*entered})
        folders[:] = entered


def _images_below(root: Path, folder: str) -> list[str]:
    """Returns the images below a folder of `root`, named from `root`, sorted."""
    files, names = Files(root), sorted(_below(root, folder))
    images = [name for name in names if files.is_image(name)]
    if not images:
        received = kinds_of(names) or "no file"
        raise UserError(f"{root / folder} has no JPEG or PNG images. Received: {received}")
    return images


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}") from None
