"""Text tables."""

from collections.abc import Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        group: Group name, printed above the first of its neighbouring columns.
        heading: Heading of the column.
        cells: One cell a row.
    """

    group: str
    heading: str
    cells: list[str]


def lay_out(names: list[str], columns: list[Column]) -> list[str]:
    """Returns the lines of a table.

    Args:
        names: Names of the rows.
        columns: Columns beside the names.
    """
    name_width = max(map(len, names))
    groups = heads = " " * name_width
    lines = [name.ljust(name_width) for name in names]
    group = ""
    for column in columns:
        gap = "  " if column.group == group else "   "
        if column.group != group:
            group = column.group
            groups = f"{groups.ljust(len(heads))}{gap}{group}"
        width = max(len(column.heading), *map(len, column.cells))
        heads += gap + column.heading.rjust(width)
        lines = [
            line + gap + cell.rjust(width) for line, cell in zip(lines, column.cells, strict=True)
        ]
    return [groups, heads, *lines]


def percent(
    share: float | None, interval: Sequence[float] | None = None, signed: bool = False
) -> str:
    """Formats a share in [0, 1] in per cent, with its interval if there is one; `-` for None."""
    if share is None:
        return "-"
    sign = "+" if signed else ""
    number, *ends = (f"{100 * value:{sign}.2f}" for value in (share, *(interval or ())))
    return f"{number} [{', '.join(ends)}]" if ends else number


def difference(values: dict) -> str:
    """Formats a difference of shares, {`mean`, `interval`}, like `percent`, with its sign."""
    return percent(values["mean"], values["interval"], signed=True)
