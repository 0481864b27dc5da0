"""Text tables and paragraphs that fit the terminal."""

import itertools
import math
import os
import sys
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

WIDTH = 100  # characters of a line where the output is no terminal, and at most on one
NARROWEST = 40
EXTREMES = 5  # best and worst rows of a short table
UNDEFINED = "-: not defined, because these images do not have all that it needs"


def width() -> int:
    """Returns the number of characters that a line of output may have."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):  # a file, a pipe, a notebook
        columns = 0
    return max(NARROWEST, min(columns or WIDTH, WIDTH))


def paragraph(text: str) -> str:
    """Returns a text with line breaks; later lines are indented. Paths stay whole."""
    how = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": "  "}
    return textwrap.fill(text, width(), **how)


class Column(NamedTuple):
    """A column of a table."""

    group: str  # printed above the first of neighbouring columns with the same
    heading: str
    cells: list[str]  # one a row


def lay_out(names: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Returns the lines of a table of columns beside the names of its rows.

    Columns that do not fit `width()` stand below, beside the names again. Groups stay together
    where they can.
    """
    names = [_cut(name, width() // 2) for name in names]

    def fits(block: Sequence[Column]) -> bool:
        return max(map(len, _block(names, block))) <= width()

    blocks: list[list[Column]] = [[]]
    for group, members in itertools.groupby(columns, lambda column: column.group):
        together = list(members)
        whole = group and fits(together)
        if group and not whole and blocks[-1]:
            blocks.append([])
        for part in [together] if whole else [[column] for column in together]:
            if blocks[-1] and not fits([*blocks[-1], *part]):
                blocks.append([])
            blocks[-1] += part
    lines = _block(names, blocks[0])
    for block in blocks[1:]:
        lines += ["", *_block(names, block)]
    return lines


def _block(names: Sequence[str], columns: Sequence[Column]) -> list[str]:
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
    return [*([groups] if groups.strip() else []), heads, *(line.rstrip() for line in lines)]


def _cut(text: str, most: int) -> str:
    """Returns a text of at most `most` characters; the middle of a longer one is left out."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def extremes(
    names: Sequence[str], columns: Sequence[Column], values: Sequence[float | None], first: int = 0
) -> tuple[list[str], list[Column]]:
    """Returns the rows with the highest and the lowest values, five of each.

    Args:
        names: Names of the rows.
        columns: Columns of the table.
        values: A value for each row, None for one that is not ranked.
        first: Number of the last rows, such as means, that stand first.

    Returns:
        The names and columns, the highest value first, with a row that counts those left out. A
        table of few rows keeps them all and their order.
    """
    rows = list(range(len(names)))
    head, rows = rows[len(rows) - first :], rows[: len(rows) - first]
    ranked = sorted((x for x in rows if values[x] is not None), key=lambda x: -values[x])
    chosen: list[int | None] = [*head, *rows]
    if len(rows) > 2 * EXTREMES + 1 and len(ranked) > 2 * EXTREMES:
        chosen = [*head, *ranked[:EXTREMES], None, *ranked[-EXTREMES:]]
    left = f"... {len(rows) - 2 * EXTREMES} more"
    return (
        [left if row is None else names[row] for row in chosen],
        [
            column._replace(cells=["" if row is None else column.cells[row] for row in chosen])
            for column in columns
        ],
    )


def legend(columns: Sequence[Column], meanings: Mapping[str, str]) -> str:
    """Returns what the headings mean that {heading: text} knows, and a dash if there is one."""
    headings = dict.fromkeys(column.heading for column in columns)
    words = [f"{heading}: {meanings[heading]}" for heading in headings if heading in meanings]
    if any("-" in column.cells for column in columns):
        words.append(UNDEFINED)
    return "; ".join(words)


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
