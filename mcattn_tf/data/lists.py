"""Lists of image files: CelebA's text lists, copies of them as CSV, and other CSV tables."""

import csv
import dataclasses
import functools
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from mcattn_tf.data.files import IMAGE_ENDINGS, Files, open_files
from mcattn_tf.data.split import SPLITS, Split
from mcattn_tf.errors import UserError, choose

UNKNOWN = -1  # in arrays of labels, where 1 is present and 0 absent
BLANK, FALSE = -2, -3  # of a file: an unknown label, and one that is absent whatever 0 means
LONGEST_NAME = 200  # characters of an attribute's or class's name
# Control characters, halves of a pair (bytes that are not UTF-8), ends of a line and a paragraph.
NOT_PRINTED = ("Cc", "Cs", "Zl", "Zp")


class Cells(NamedTuple):
    """Contents of a list's cells."""

    kind: str  # in messages
    number: Callable[[str], int | None]  # from a cell to its number; None for other text


def whole_numbers(kind: str, allowed: range) -> Cells:
    """Returns the cells of whole numbers that are `allowed`."""

    @functools.cache
    def number(cell: str) -> int | None:
        is_number = re.fullmatch(r"\s*[+-]?[0-9]+\s*", cell)
        return int(cell) if is_number and int(cell) in allowed else None

    return Cells(kind, number)


@functools.cache  # CelebA's list has 8 million cells of few kinds
def read_label(cell: str) -> int | None:
    """Returns the 1, 0 or -1 in a cell, None for other text.

    `True` is 1, `False` is `FALSE`; an empty cell and `?` are `BLANK`.
    """
    word = cell.strip().lower()
    if word in ("", "?"):
        return BLANK
    if word in ("true", "false"):
        return 1 if word == "true" else FALSE
    try:
        value = float(word)
    except ValueError:
        return None
    return int(value) if value in (1, 0, -1) else None


INT32 = whole_numbers("a whole number", range(-(2**31), 2**31))
PARTITIONS = whole_numbers("one of 0, 1, 2", range(len(SPLITS)))
LABELS = Cells("0, 1, -1 or ? (unknown)", read_label)


@dataclasses.dataclass(frozen=True)
class Table:
    """List of V named values (N, V), int32, of N image files, with the line numbers of the rows.

    `names` (N,) are bytes, without repeats.
    """

    path: Path
    columns: tuple[str, ...]
    names: np.ndarray
    values: np.ndarray
    lines: np.ndarray

    def rows_of(self, names: np.ndarray) -> np.ndarray:
        """Returns the row (n,) of each name (n,), bytes; -1 where it has none."""
        rows = {name: row for row, name in enumerate(self.names.tolist())}
        return np.array([rows.get(name, -1) for name in names.tolist()], np.int64)


def csv_rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a CSV table that are not blank, each with its line number."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a row of a table: {error}") from None


def find_lists(files: Files, stem: str) -> list[str]:
    """Returns the names of all lists `stem` (`.txt` or `.csv`), the one that is used first."""
    names = (f"{stem}.txt", f"{stem}.csv", f"Anno/{stem}.txt", f"Eval/{stem}.txt")
    return [name for name in names if name in files]


def find_list(files: Files, stem: str) -> str | None:
    """Returns the name of the list `stem` that is used; None if there is none."""
    return next(iter(find_lists(files, stem)), None)


def read_columns(files: Files, name: str) -> tuple[str, ...]:
    """Returns the column names of a list that has a header."""
    return _header(files.path(name), _rows(files, name))[1]


def read_list(
    files: Files, name: str, columns: tuple[str, ...] = (), kind: Cells = INT32, headed: bool = True
) -> Table:
    """Returns `columns` of a list, all by default, whose cells are of a kind.

    A text list (`.txt`) begins with the number of its rows and a line of column names, if it is
    `headed`. A row is an image name and V values. A `.csv` list begins with `image_id` and
    the column names.
    """
    path, rows = files.path(name), _rows(files, name)
    header_line, given, count = 0, columns, None
    if path.suffix == ".csv" or headed:
        header_line, given, count = _header(path, rows)
    for column in columns:
        if column not in given:
            refuse(path, header_line, f"a column {column!r}", _shown(" ".join(given)))

    line_of: dict[str, int] = {}
    values: list[int] = []
    for line, (image, *cells) in rows:
        if len(cells) != len(given):
            expected = f"an image name and {len(given)} values"
            received = f"{len(cells)} in {_shown(' '.join((image, *cells)))}"
            refuse(path, line, expected, received)
        image = image.strip()
        if line_of.setdefault(image, line) != line:
            received = f"{image} again, which line {line_of[image]} has; delete one of the two"
            refuse(path, line, "one row for each image", received)
        numbers = list(map(kind.number, cells))
        if None in numbers:
            wrong = numbers.index(None)
            refuse(path, line, f"{kind.kind} for {given[wrong]}", repr(cells[wrong].strip()))
        values += numbers
    if count not in (None, len(line_of)):
        mend = "get the whole list" if count > len(line_of) else "correct it"
        refuse(path, 1, f"the number of rows that follow, {len(line_of)}", f"{count}; {mend}")
    table = np.array(values, np.int32).reshape(len(line_of), len(given))
    kept = [given.index(column) for column in columns or given]
    names, lines = np.array([n.encode() for n in line_of], "S"), np.array(list(line_of.values()))
    return Table(path, columns or given, names, table[:, kept], lines)


def file_names(split: Split) -> np.ndarray:
    """Returns the names (N,), bytes, of the image files of a split, without their folders."""
    names = map(split.name_of, range(split.count))
    return np.array([name.rsplit("/", 1)[-1].encode() for name in names], "S")


def read_people(names: np.ndarray, path: Path) -> np.ndarray:
    """Returns a number for the person on each of the images `names` (N,), bytes.

    The list is like CelebA's `identity_CelebA.txt` and names all of them.
    """
    table = read_list(open_files(path.parent), path.name, ("identity",), headed=False)
    rows = table.rows_of(names)
    if (rows < 0).any():
        missing = names[rows < 0]
        raise UserError(
            f"{path} has no row for {missing[0].decode()}, and for {len(missing)} images in all; "
            "add who is on them"
        )
    return table.values[rows, 0]


def in_part(names: np.ndarray, path: Path, split: str) -> np.ndarray:
    """Returns which of the images `names` (N,), bytes, a list gives to a split, (N,), bool.

    The list is like CelebA's `list_eval_partition.txt`: 0 to train, 1 to validate, 2 to test. It
    need not name all images, but one of the split.
    """
    choose("split", split, SPLITS)
    files = open_files(path.parent)
    table = read_list(files, path.name, ("partition",), PARTITIONS, headed=False)
    rows = table.rows_of(names)
    inside = (rows >= 0) & np.isin(rows, np.flatnonzero(table.values[:, 0] == SPLITS.index(split)))
    if not inside.any():
        raise UserError(f"{path} gives none of the run's {split} images to {split}")
    return inside


def _rows(files: Files, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a list that are not blank, each with its line number."""
    path, content = files.path(name), files.read(name)
    try:
        text, position = content.decode(), content.find(b"\0")
    except UnicodeDecodeError as error:
        position = error.start
    if position >= 0:
        line = content.count(b"\n", 0, position) + 1
        received = f"a byte {content[position]:#04x}; save or get the list anew"
        refuse(path, line, "text in UTF-8", received)
    if path.suffix == ".csv":
        return csv_rows(path, text)
    lines = enumerate(io.StringIO(text.removeprefix("\ufeff"), newline=None), start=1)
    return ((number, cells) for number, line in lines if (cells := line.split()))


def _header(
    path: Path, rows: Iterator[tuple[int, list[str]]]
) -> tuple[int, tuple[str, ...], int | None]:
    """Returns the line of the header, the column names, and the row count of a text list."""
    line, first = next(rows, (1, []))
    count = None
    if path.suffix == ".csv":
        image_id, *columns = (name.strip() for name in first or [""])
        if image_id != "image_id" or not all(columns or [""]):
            refuse(path, line, "'image_id' and a name for each column", _shown(",".join(first)))
    else:
        if len(first) != 1 or not first[0].isdecimal():
            refuse(path, line, "the number of images", _shown(" ".join(first)))
        count = int(first[0])
        line, columns = next(rows, (2, []))
        if not columns or columns[0].lower().endswith(IMAGE_ENDINGS):
            refuse(path, line, "the names of the columns", _shown(" ".join(columns)))
    name, times = Counter(columns).most_common(1)[0] if columns else ("", 0)
    if times > 1:
        refuse(path, line, "a name of its own for each column", f"{name!r} {times} times")
    require_names(f"{path}, line {line}", columns)
    return line, tuple(columns), count


def labels_of(
    path: Path,
    attributes: Sequence[str],
    lines: Sequence[int],
    values: np.ndarray,
    zero_is_unknown: bool,
) -> np.ndarray:
    """Returns the labels of a list: 1 present, 0 absent, -1 unknown.

    Args:
        path: File of the list, for messages.
        attributes: Names of the K columns.
        lines: Line numbers of the N rows.
        values: (N, K), results of `read_label`.
        zero_is_unknown: Whether 0 is an unknown label, and -1 alone an absent one. Otherwise a
            column has 0 or -1, not both, for an absent label.

    Returns:
        (N, K), int8.

    Raises:
        UserError: If a column has both 0 and -1, and `zero_is_unknown` is not set.
    """
    for attribute, column in zip(attributes, values.T, strict=True):
        if not zero_is_unknown and (column == 0).any() and (column == -1).any():
            row = max(np.argmax(column == 0), np.argmax(column == -1))
            mend = "pass --zero_is_unknown if 0 means unknown and -1 absent"
            expected = f"0 and 1, or -1 and 1, for {attribute!r}"
            refuse(path, lines[row], expected, f"both 0 and -1; {mend}")
    labels = (values == 1).astype(np.int8)
    labels[(values == BLANK) | ((values == 0) & zero_is_unknown)] = UNKNOWN
    return labels


def require_names(where: object, names: Sequence[str]) -> None:
    """Raises a UserError for a name of an attribute or class that cannot be printed on a line.

    Such names would break tables, figures and files after the training. `where` is the file, with
    its line, that has the names.
    """
    for name in names:
        printed = not any(unicodedata.category(letter) in NOT_PRINTED for letter in name)
        if not (printed and name.strip() and len(name) <= LONGEST_NAME):
            raise UserError(
                f"{where}: expected a name of 1 to {LONGEST_NAME} characters that can be printed "
                f"on a line. Received: {_shown(name)}; rename it"
            )


def refuse(path: Path, line: int, expected: str, received: str) -> NoReturn:
    """Raises a UserError for a line of a list or table."""
    raise UserError(f"{path}, line {line}: expected {expected}. Received: {received}")


def _shown(text: str) -> str:
    """Returns a text as messages quote it, its beginning alone where it is long."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
