"""Tables as text."""

from collections.abc import Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        group: printed above the first of several neighbours of one group.
        heading: of the column.
        cells: as many as the table has rows.
    """

    group: str
    heading: str
    cells: list[str]


def lay_out(names: list[str], columns: list[Column]) -> list[str]:
    """Returns the lines of a table.

    Args:
        names: of the rows.
        columns: what stands beside the names.
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
    """Returns a share in [0, 1] in per cent, with its interval if there is one; `-` for None."""
    if share is None:
        return "-"
    sign = "+" if signed else ""
    number, *ends = (f"{100 * value:{sign}.2f}" for value in (share, *(interval or ())))
    return f"{number} [{', '.join(ends)}]" if ends else number


def difference(values: dict) -> str:
    """Returns a difference of shares, {`mean`, `interval`}, as `percent` has it."""
    return percent(values["mean"], values["interval"], signed=True)
