"""An analysis as text: tables 1 and 2 of Kimura & Tanaka 2019, and channels used apart."""

from collections.abc import Sequence

import numpy as np

from mcattn_tf.explain.feature_space.correlation import (
    ATTRIBUTE_CORRELATIONS,
    DEFAULT_CORRELATION,
    UNUSED,
    USED,
    Analysis,
)
from mcattn_tf.tables import Column, lay_out

TOP = 5  # as in the paper's tables
CHANNELS = 8  # rows of table 1 where none are chosen
LISTED = 8  # channels in a cell


def most_correlated(correlation: np.ndarray, target: int, count: int = TOP) -> list[int]:
    """Returns the indices that correlate most with `target`, by |r|, at most `count`.

    Args:
        correlation: (D, D), in [-1, 1]; NaN where it is not defined.
        target: index that is left out.
        count: number of indices; fewer where fewer correlations are defined.
    """
    size = np.abs(correlation[target])
    order = np.argsort(-np.nan_to_num(size, nan=-1), kind="stable").tolist()
    return [index for index in order if index != target and np.isfinite(size[index])][:count]


def agreement_with_labels(correlations: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns {name: Pearson's r of a correlation with the labels'} over pairs of attributes.

    It is NaN where fewer than three pairs are defined; the dict is empty without labels.

    Args:
        correlations: result of `Analysis.correlations`.
    """
    if "labels" not in correlations:
        return {}
    upper = np.triu_indices(len(correlations["labels"]), 1)
    labels = correlations["labels"][upper]
    agreements = {}
    for name, correlation in correlations.items():
        if name != "labels":
            values = correlation[upper]
            defined = np.isfinite(values) & np.isfinite(labels)
            enough = defined.sum() > 2
            r = np.corrcoef(labels[defined], values[defined])[0, 1] if enough else np.nan
            agreements[name] = float(r)
    return agreements


def format_analysis(
    analysis: Analysis,
    attributes: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
) -> str:
    """Returns the tables of an analysis.

    Args:
        analysis: analysis of a network.
        attributes: indices of the attributes that have rows; None for all.
        channels: channels that have rows; None for the most used.
    """
    rows = range(len(analysis.attributes)) if attributes is None else attributes
    chosen = analysis.most_used_channels(CHANNELS) if channels is None else channels
    parts = [
        _channel_lines(analysis, chosen, "most used" if channels is None else "chosen"),
        *_attribute_lines(analysis, rows),
        _apart_lines(analysis, rows, every_pair=attributes is not None),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def _ranked(correlation: np.ndarray, target: int, names: Sequence[str]) -> list[str]:
    """Returns the cells of a row of table 1 or 2."""
    indices = most_correlated(correlation, target)
    cells = [f"{names[index]} {correlation[target, index]:+.2f}" for index in indices]
    return cells + ["-"] * (TOP - len(cells))


def _columns(group: str, cells: list[list[str]]) -> list[Column]:
    return [Column(group, str(rank + 1), [row[rank] for row in cells]) for rank in range(TOP)]


def _channel_lines(analysis: Analysis, channels: Sequence[int], which: str) -> list[str]:
    correlation = analysis.channel_correlation()
    names = [str(channel) for channel in range(len(correlation))]
    cells = [_ranked(correlation, channel, names) for channel in channels]
    title = f"channels that correlate most with the {which} ones, by their mean masks (table 1)"
    rows = [f"channel {channel}" for channel in channels]
    return [title, *lay_out(rows, _columns("", cells))[1:]]


def _attribute_lines(analysis: Analysis, rows: Sequence[int]) -> list[list[str]]:
    """Returns table 2 by each measure, with the labels' correlation in brackets."""
    correlations = analysis.correlations()
    agreements = agreement_with_labels(correlations)
    names = analysis.attributes
    parts = []
    for measure, correlation in correlations.items():
        if measure == "labels":
            continue
        cells = [_ranked(correlation, row, names) for row in rows]
        if "labels" in correlations:
            for row, line in zip(rows, cells, strict=True):
                for rank, other in enumerate(most_correlated(correlation, row)):
                    line[rank] += f" ({correlations['labels'][row, other]:+.2f})"
        title = f"attributes that correlate most, by {ATTRIBUTE_CORRELATIONS[measure]} (table 2)"
        if measure in agreements:
            title += (
                "; in brackets by labels. Over all pairs of attributes the two correlate "
                f"by {agreements[measure]:.2f}"
            )
        parts.append([title, *lay_out([names[row] for row in rows], _columns("", cells))[1:]])
    return parts


def _apart_lines(analysis: Analysis, rows: Sequence[int], every_pair: bool) -> list[str]:
    """Returns which channels each attribute uses and another does not: the nearest, or all rows."""
    correlation = analysis.correlations()[DEFAULT_CORRELATION]
    names = analysis.attributes
    if every_pair:
        pairs = [(row, other) for row in rows for other in rows if row != other]
    else:
        pairs = [(row, other) for row in rows for other in most_correlated(correlation, row, 1)]
    if not pairs:
        return ["which channels attributes use apart: there is no pair of attributes"]
    cells = []
    for pair in pairs:
        apart = analysis.channels_apart(*pair)
        more = " ..." if len(apart) > LISTED else ""
        cells.append(" ".join(map(str, apart[:LISTED])) + more or "none")
    title = (
        f"channels that carry {USED:.0%} of the one attribute and are not among those that carry "
        f"{UNUSED:.0%} of the other, the most important first"
    )
    columns = [Column("", "but not", [names[other] for _, other in pairs])]
    columns += [Column("", "channels", cells)]
    return [title, *lay_out([names[row] for row, _ in pairs], columns)[1:]]
