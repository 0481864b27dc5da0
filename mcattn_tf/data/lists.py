"""CelebA's lists of image files: text as the authors publish it, or CSV as others copy it."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from mcattn_tf.data.files import IMAGE_ENDINGS, Files
from mcattn_tf.errors import UserError

DIGITS = 9  # what fits int32, and more than any list has


@dataclasses.dataclass(frozen=True)
class Table:
    """What a list says of each of its images.

    Attributes:
        path: of the list, for messages.
        columns: names of the V values.
        names: (N,), bytes, of the image files; no two alike.
        values: (N, V), int32.
        lines: (N,), the line that each row is on.
    """

    path: Path
    columns: tuple[str, ...]
    names: np.ndarray
    values: np.ndarray
    lines: np.ndarray

    def rows_of(self, names: np.ndarray) -> np.ndarray:
        """Returns the row of each name (n,), -1 where it has none.

        Args:
            names: (n,), bytes.
        """
        if not len(self.names):
            return np.full(len(names), -1)
        order = np.argsort(self.names)
        places = np.searchsorted(self.names, names, sorter=order)
        rows = order[np.minimum(places, len(order) - 1)]
        return np.where(self.names[rows] == names, rows, -1)


def find_list(files: Files, stem: str) -> str | None:
    """Returns the name of a list among `files`; None if it is not there.

    Args:
        files: to look among.
        stem: the list's name without its ending.
    """
    names = (f"{stem}.txt", f"{stem}.csv", f"Anno/{stem}.txt", f"Eval/{stem}.txt")
    return next((name for name in names if name in files), None)


def read_columns(files: Files, name: str) -> tuple[str, ...]:
    """Returns what a list with a header calls its columns.

    Args:
        files: that the list is among.
        name: of the list.

    Raises:
        UserError: if it cannot be read.
    """
    return _columns(files.path(name), _text(files, name))


def read_list(
    files: Files,
    name: str,
    columns: tuple[str, ...] = (),
    allowed: Sequence[int] = (),
    headed: bool = True,
) -> Table:
    """Reads a list.

    As text (`.txt`), a list begins with the number of its rows and the names of its columns if it
    is `headed`; a row is an image name and V whole numbers. As CSV (`.csv`) it begins with
    `image_id` and the names of its columns.

    Args:
        files: that the list is among.
        name: of the list.
        columns: the V that are wanted; all where none is named.
        allowed: values that a row may have; any whole number where none is named.
        headed: whether the list has a header as text too.

    Raises:
        UserError: if it cannot be read, for a row of another form, and for an image with two rows.
    """
    path, text = files.path(name), _text(files, name)
    header = 1 if path.suffix == ".csv" else 2 if headed else 0
    given = _columns(path, text) if header else columns
    for column in columns:
        if column not in given:
            _fail(path, header, f"a column {column!r}", _shown(text.split(b"\n")[header - 1]))
    table = _parse(path, given, text, header, allowed)
    if header == 2 and int(text.split(b"\n", 1)[0]) != len(table.names):
        count = int(text.split(b"\n", 1)[0])
        mend = "get the whole list" if count > len(table.names) else "correct it"
        expected = f"the number of rows that follow, {len(table.names)}"
        _fail(path, 1, expected, f"{count}; {mend}")
    _refuse_duplicates(table)
    if not columns:
        return table
    chosen = [given.index(column) for column in columns]
    return dataclasses.replace(table, columns=columns, values=table.values[:, chosen])


def _fail(path: Path, line: int, expected: str, received: str) -> NoReturn:
    raise UserError(f"{path}, line {line}: expected {expected}. Received: {received}")


def _shown(text: bytes) -> str:
    """Returns a text as messages quote it, its beginning alone where it is long."""
    shown = text.decode(errors="replace").strip()
    return repr(shown if len(shown) <= 80 else f"{shown[:77]}...")


def _text(files: Files, name: str) -> bytes:
    """Returns a list's text in UTF-8, with plain line ends and without a byte order mark."""
    text = files.read(name)
    try:
        text.decode()
        position = text.find(b"\0")
    except UnicodeDecodeError as error:
        position = error.start
    if position >= 0:
        line = text.count(b"\n", 0, position) + 1
        received = f"a byte {text[position]:#04x}; save or get the list anew"
        _fail(files.path(name), line, "text in UTF-8", received)
    return text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _columns(path: Path, text: bytes) -> tuple[str, ...]:
    """Returns the names of the columns that a list's header gives."""
    first, second, *_ = *text.split(b"\n", 2), b""
    if path.suffix == ".csv":
        line, header = 1, first
        image_id, *columns = (name.strip(' "') for name in header.decode().split(","))
        if image_id != "image_id" or not all(columns or [""]):
            _fail(path, line, "'image_id' and a name for each column", _shown(header))
    else:
        line, header = 2, second
        if not first.strip().isdigit():
            _fail(path, 1, "the number of images", _shown(first))
        columns = header.decode().split()
        if not columns or columns[0].lower().endswith(IMAGE_ENDINGS):
            _fail(path, line, "the names of the columns", _shown(header))
    name, count = Counter(columns).most_common(1)[0]
    if count > 1:
        _fail(path, line, "a name of its own for each column", f"{name!r} {count} times")
    return tuple(columns)


def _parse(
    path: Path, columns: tuple[str, ...], text: bytes, header: int, allowed: Sequence[int]
) -> Table:
    """Parses all rows at once, as bytes: CelebA's attribute list has 8 million values."""
    csv = path.suffix == ".csv"
    body = (text.split(b"\n", header)[header:] or [b""])[0] + b"\n"
    if csv:
        body = body.replace(b'"', b" ")
    characters = np.frombuffer(body, np.uint8)
    breaks = np.flatnonzero(characters == ord("\n"))
    gaps = characters <= ord(" ")
    if csv:
        commas = characters == ord(",")
        gaps |= commas
    edges = np.flatnonzero(np.diff(gaps, prepend=True))
    starts, ends = edges[::2], edges[1::2]
    counts = np.diff(np.searchsorted(starts, breaks), prepend=0)
    wrong = (counts > 0) & (counts != len(columns) + 1)
    if csv:  # of two commas in a row, too: a value is missing
        separators = np.diff(np.searchsorted(np.flatnonzero(commas), breaks), prepend=0)
        wrong |= separators != np.where(counts > 0, len(columns), 0)

    lines = np.flatnonzero(counts) + header + 1
    if wrong.any():
        index = int(np.argmax(wrong))
        expected = f"an image name and {len(columns)} whole numbers"
        received = _shown(body.split(b"\n")[index])
        _fail(path, index + header + 1, expected, f"{max(counts[index] - 1, 0)} in {received}")
    starts, ends = (edge.reshape(len(lines), len(columns) + 1) for edge in (starts, ends))
    names = [body[start:end] for start, end in zip(starts[:, 0], ends[:, 0], strict=True)]
    values = np.empty((len(lines), len(columns)), np.int32)
    for column in range(len(columns)):
        places = starts[:, column + 1], ends[:, column + 1]
        values[:, column], valid = _whole_numbers(characters, *places)
        if allowed:
            valid &= np.isin(values[:, column], allowed)
        if not valid.all():
            row = int(np.argmin(valid))
            received = _shown(body[places[0][row] : places[1][row]])
            expected = f"one of {', '.join(map(str, allowed))}" if allowed else "a whole number"
            _fail(path, int(lines[row]), f"{expected} for {columns[column]}", received)
    return Table(path, columns, np.array(names, "S"), values, lines)


def _whole_numbers(
    characters: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers (n,) between these places, and which of them are whole numbers."""
    if not len(starts):
        return np.zeros(0, np.int32), np.zeros(0, bool)
    negative = characters[starts] == ord("-")
    starts = starts + negative
    lengths = ends - starts
    valid = (lengths > 0) & (lengths <= DIGITS)
    values = np.zeros(len(starts), np.int32)
    for place in range(min(int(lengths.max()), DIGITS)):
        within = place < lengths
        digits = characters[np.minimum(starts + place, len(characters) - 1)] - np.uint8(ord("0"))
        valid &= ~within | (digits < 10)
        values = np.where(within, values * 10 + digits, values)
    return np.where(negative, -values, values), valid


def _refuse_duplicates(table: Table) -> None:
    order = np.argsort(table.names, kind="stable")
    same = np.flatnonzero(table.names[order[1:]] == table.names[order[:-1]])
    if len(same):
        first, second = table.lines[order[same[0] : same[0] + 2]]
        name = table.names[order[same[0]]].decode()
        received = f"{name} again, which line {first} has; delete one of the two"
        _fail(table.path, int(second), "one row for each image", received)
