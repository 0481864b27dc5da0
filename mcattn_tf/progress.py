"""Progress of long work: one line on a terminal or in a notebook, silent elsewhere."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm.auto import tqdm

NARROW = 90  # columns below which a bar leaves out words
WIDE_LINE = "{desc} |{bar}| {n_fmt}/{total_fmt} {unit}s, {remaining} left{postfix}"
NARROW_LINE = "{desc} |{bar}| {n_fmt}/{total_fmt}, {remaining}{postfix}"
UNKNOWN_LINE = "{desc} {n_fmt} {unit}s{postfix}"  # of a total that is not known
IN_NOTEBOOK = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)


class Bar(tqdm):
    """A bar that fits into the width of its terminal, of 60 columns or more."""

    @property
    def format_dict(self) -> dict[str, Any]:
        """What is shown, with the line for the current width."""
        shown = super().format_dict
        line = NARROW_LINE if self.is_narrow else WIDE_LINE
        return {**shown, "bar_format": UNKNOWN_LINE if shown["total"] is None else line}

    def close(self) -> None:
        """Removes the bar at once: what is printed next may go to another stream."""
        super().close()
        sys.stderr.flush()

    @property
    def is_narrow(self) -> bool:
        """Whether words have to be short; a notebook's bar is "100%" wide."""
        return isinstance(self.ncols, int) and self.ncols < NARROW

    @property
    def speed(self) -> float:
        """Units in a second, of late."""
        shown = self.format_dict
        return shown["rate"] or (shown["n"] - shown["initial"]) / max(shown["elapsed"], 1e-9)


def progress(total: int | None, label: str, unit: str = "image", done: int = 0) -> Bar:
    """Returns a progress bar with the time left, on stderr; it vanishes at its end.

    Nothing is shown where stderr is no terminal and the process has no notebook.

    Args:
        total: Number of units; None if it is not known.
        label: Name of the work.
        unit: Name of what `update(n)` counts.
        done: Number of units that were done before.
    """
    shown = IN_NOTEBOOK or sys.stderr.isatty()  # a notebook's stream is no terminal
    texts = {"total": total, "desc": label, "unit": unit, "initial": done}
    return Bar(**texts, disable=not shown, dynamic_ncols=True, leave=False)


class Stages:
    """Bars of the stages of a long work, each with its number, such as `2/5 localisation`.

    `count` is the number of stages; 0 for a single one without a number.
    """

    def __init__(self) -> None:
        self.count = self._number = 0
        self._bar: Bar | None = None

    def bar(self, total: int, label: str, unit: str = "image") -> Bar:
        """Returns the bar of the next stage."""
        if self.count:
            self._number += 1
            label = f"{self._number}/{self.count} {label}"
        self._bar = progress(total, label, unit)
        return self._bar

    def show(self, part: str) -> None:
        """Shows the part of the present stage that is worked on."""
        self._bar.set_postfix_str(part)


def tracked(items: Iterable, total: int, label: str, unit: str) -> Iterator:
    """Yields items with a progress bar; of names it shows the one that is worked on."""
    with progress(total, label, unit) as bar:
        for item in items:
            if isinstance(item, str):
                bar.set_postfix_str(item)
            yield item
            bar.update()
