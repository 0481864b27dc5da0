"""Text of an analysis: tables 1 and 2 of Kimura & Tanaka 2019, and channels used apart."""

import itertools
from collections.abc import Sequence

import numpy as np

from mcattn_tf.explain.feature_space.correlation import (
    ATTRIBUTE_CORRELATIONS,
    DEFAULT_CORRELATION,
    UNUSED,
    USED,
    Analysis,
)
from mcattn_tf.tables import Column, lay_out, paragraph, width

TOP = 5  # as in the paper's tables
SHORT = 8  # attributes in a short text
CHANNELS = 8  # default rows of table 1
LISTED = 8  # channels in a cell


def most_correlated(correlation: np.ndarray, target: int, count: int = TOP) -> list[int]:
    """Returns up to `count` indices whose correlation (D, D) with `target` is highest, by |r|."""
    size = np.abs(correlation[target])
    order = np.argsort(-np.nan_to_num(size, nan=-1), kind="stable").tolist()
    return [index for index in order if index != target and np.isfinite(size[index])][:count]


def format_analysis(
    analysis: Analysis,
    attributes: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
    full: bool = True,
) -> str:
    """Returns the tables of an analysis, with lines of all rows or of the strongest ones.

    Args:
        analysis: analysis of a network.
        attributes: indices of the attributes that have rows; None for all.
        channels: channels that have rows; None for the most used.
        full: whether all attributes have rows; else those that correlate most with another, where
            no attributes are chosen.
    """
    rows = range(len(analysis.attributes)) if attributes is None else attributes
    if not full and attributes is None and len(rows) > SHORT:
        correlation = analysis.correlations()[DEFAULT_CORRELATION]
        nearest = {row: most_correlated(correlation, row, 1) for row in rows}
        size = {row: abs(correlation[row, other[0]]) for row, other in nearest.items() if other}
        rows = sorted(size, key=size.get, reverse=True)[:SHORT]
    parts = [
        _channel_table(analysis, channels),
        *_attribute_tables(analysis, rows),
        _apart_table(analysis, rows, every_pair=attributes is not None),
    ]
    return "\n\n".join(parts)


def _ranked(correlation: np.ndarray, target: int, names: Sequence[str]) -> list[str]:
    """Returns the names that correlate most with `target`, each with its correlation."""
    indices = most_correlated(correlation, target)
    return [f"{names[index]} {correlation[target, index]:+.2f}" for index in indices]


def _table(title: str, names: list[str], rows: list[list[str]]) -> str:
    """Returns a title, and each name before its ranked cells, on as many lines as they need."""
    longest = max(map(len, names), default=0) + 2
    wide = max((len(cell) for cells in rows for cell in cells), default=0) + 2
    count = max(1, (width() - longest + 2) // wide)  # on a line
    lines = [paragraph(title)]
    for name, cells in zip(names, rows, strict=True):
        for start in range(0, max(len(cells), 1), count):
            head = "" if start else name
            words = [cell.ljust(wide) for cell in cells[start : start + count] or ["-"]]
            lines.append("".join([head.ljust(longest), *words]).rstrip())
    return "\n".join(lines)


def _channel_table(analysis: Analysis, channels: Sequence[int] | None) -> str:
    """Returns table 1."""
    which = "most used" if channels is None else "chosen"
    title = f"channels that correlate most with the {which} ones, by their mean masks (table 1)"
    channels = analysis.most_used_channels(CHANNELS) if channels is None else channels
    correlation = analysis.channel_correlation()
    names = [str(channel) for channel in range(len(correlation))]
    cells = [_ranked(correlation, channel, names) for channel in channels]
    return _table(title, [f"channel {channel}" for channel in channels], cells)


def _attribute_tables(analysis: Analysis, rows: Sequence[int]) -> list[str]:
    """Returns table 2 by each measure, with the labels' correlation in brackets."""
    correlations, names = analysis.correlations(), analysis.attributes
    labels = correlations.pop("labels", None)
    tables = []
    for measure, correlation in correlations.items():
        title = f"attributes that correlate most, by {ATTRIBUTE_CORRELATIONS[measure]} (table 2)"
        cells = [_ranked(correlation, row, names) for row in rows]
        if labels is not None:
            for row, line in zip(rows, cells, strict=True):
                for rank, other in enumerate(most_correlated(correlation, row)):
                    value = labels[row, other]
                    line[rank] += f" ({value:+.2f})" if np.isfinite(value) else " (-)"
            title += (
                "; in brackets by labels, - where these images do not tell. "
                f"{_agreement(labels, correlation)}"
            )
        tables.append(_table(title, [names[row] for row in rows], cells))
    return tables


def _agreement(labels: np.ndarray, correlation: np.ndarray) -> str:
    """Returns Pearson's r of two correlations over pairs of attributes in words."""
    upper = np.triu_indices(len(labels), 1)
    pairs = np.stack([labels[upper], correlation[upper]])
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if pairs.shape[1] <= 2 or not pairs.std(axis=1).all():
        return "There are too few pairs of attributes to compare the two"
    return f"Over all pairs of attributes the two correlate by {np.corrcoef(pairs)[0, 1]:.2f}"


def _apart_table(analysis: Analysis, rows: Sequence[int], every_pair: bool) -> str:
    """Returns which channels an attribute uses and another does not: the nearest, or all rows."""
    correlation, names = analysis.correlations()[DEFAULT_CORRELATION], analysis.attributes
    if every_pair:
        pairs = list(itertools.permutations(rows, 2))
    else:
        pairs = [(row, other) for row in rows for other in most_correlated(correlation, row, 1)]
    if not pairs:
        return "which channels attributes use apart: there is no pair of attributes"
    cells = []
    for pair in pairs:
        apart = analysis.channels_apart(*pair)
        more = " ..." if len(apart) > LISTED else ""
        cells.append(" ".join(map(str, apart[:LISTED])) + more or "none")
    title = (
        f"channels that carry {USED:.0%} of the one attribute and are not among those that carry "
        f"{UNUSED:.0%} of the other, the most important first"
    )
    others = Column("", "but not", [names[other] for _, other in pairs])
    table = lay_out([names[row] for row, _ in pairs], [others, Column("", "channels", cells)])
    return "\n".join([paragraph(title), *table])
