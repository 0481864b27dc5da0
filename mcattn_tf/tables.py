"""Text tables and paragraphs that fit the terminal."""

import math
import os
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import NamedTuple

WIDTH = 100  # characters of a line where the output is no terminal, and at most on one
NARROWEST = 40


def width() -> int:
    """Returns the number of characters that a line of output may have."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):  # a file, a pipe, a notebook
        columns = 0
    return max(NARROWEST, min(columns or WIDTH, WIDTH))


def paragraph(text: str, indent: str = "  ") -> str:
    """Returns a text with line breaks; later lines begin with `indent`. Paths stay whole."""
    how = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": indent}
    return textwrap.fill(text, width(), **how)


class Column(NamedTuple):
    """A column of a table."""

    group: str  # printed above the first of neighbouring columns with the same
    heading: str
    cells: list[str]  # one a row


def lay_out(names: list[str], columns: list[Column]) -> list[str]:
    """Returns the lines of a table of columns beside the names of its rows."""
    groups = heads = " " * max(map(len, names))
    lines = [name.ljust(len(heads)) for name in names]
    group = ""
    for column in columns:
        gap = "  " if column.group == group else "   "
        if column.group != group:
            group = column.group
            groups = f"{groups.ljust(len(heads))}{gap}{group}"
        width = max(len(column.heading), *map(len, column.cells))
        heads += gap + column.heading.rjust(width)
        rows = zip(lines, column.cells, strict=True)
        lines = [line + gap + cell.rjust(width) for line, cell in rows]
    return [groups, heads, *lines]


def percent(
    share: float | None, interval: Sequence[float] | None = None, signed: bool = False
) -> str:
    """Formats a share in [0, 1] in per cent, with its interval if it has one; `-` for none."""
    if share is None or math.isnan(share):
        return "-"
    sign = "+" if signed else ""
    number, *ends = (f"{100 * value:{sign}.2f}" for value in (share, *(interval or ())))
    return f"{number} [{', '.join(ends)}]" if ends else number


def listed(names: Collection[str], most: int = 3) -> str:
    """Returns names as a list in a sentence: all of up to `most`, else the first and a number."""
    *first, last = names
    if len(names) > most:
        first, last = first[: most - 1], f"{len(names) - most + 1} more"
    return f"{', '.join(first)} and {last}" if first else last


def difference(values: dict) -> str:
    """Formats a difference of shares, {`mean`, `interval`}, like `percent`, with its sign."""
    return percent(values["mean"], values["interval"], signed=True)
