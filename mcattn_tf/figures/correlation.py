"""Figures of what channels and attributes have in common; arrays alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1 import make_axes_locatable
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from mcattn_tf.figures.panels import (
    MASK_COLORS,
    channel_grids,
    color_bar,
    grid,
    names_as_written,
    readable,
)

# Purple to orange: colour-blind-safe (ColorBrewer), and as contributions are drawn.
CORRELATION_COLORS = colormaps["PuOr_r"].with_extremes(bad="0.85")
WRITTEN = 20  # up to so many attributes a cell has room for its number
CHANNEL = 0.066  # inches of a channel with its number


class Clustering(NamedTuple):
    """What lies together when the most alike are joined first.

    Attributes:
        order: (D,), in which like ones are neighbours.
        linkage: (D - 1, 4), as `scipy.cluster.hierarchy.linkage` returns it.
    """

    order: np.ndarray
    linkage: np.ndarray


def cluster(correlation: np.ndarray) -> Clustering:
    """Clusters by average linkage of the distance 1 - r.

    Args:
        correlation: (D, D), in [-1, 1]; NaN counts as 0. D must be 2 or more.
    """
    distance = 1 - np.nan_to_num(correlation)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    linkage = hierarchy.linkage(condensed, "average", optimal_ordering=True)
    return Clustering(hierarchy.leaves_list(linkage), linkage)


@names_as_written
def mean_masks_figure(
    mean_masks: np.ndarray,
    attributes: Sequence[str],
    title: str,
    order: Sequence[int] | None = None,
) -> Figure:
    """Draws the mean of every mask channel, a grid of C cells an attribute.

    Source: Kimura & Tanaka 2019, fig. 1.

    Args:
        mean_masks: (k, C), in (0, 1).
        attributes: names of the k attributes.
        title: of the figure.
        order: (C,), the channels as they are laid out; as they are numbered for None.

    Returns:
        k grids on one colour scale; the channels run along the rows. Where an order is given, the
        first grid names the channel of each cell.
    """
    numbers = None if order is None else np.asarray(order)
    grids = channel_grids(mean_masks if numbers is None else mean_masks[:, numbers])
    count = len(attributes) + (numbers is not None)
    across = min(count, 8 if count > 18 else 4)
    figure, axes = grid(math.ceil(count / across), across, 1.9, 1.4)
    figure.suptitle(title)
    highest = max(float(mean_masks.max()), 1e-9)
    panels = list(axes.flat)
    if numbers is not None:
        _name_cells(panels.pop(0), numbers, grids.shape[2])
    for attribute, values, axis in zip(attributes, grids, panels, strict=False):
        axis.imshow(values, cmap=MASK_COLORS, vmin=0, vmax=highest)
        axis.set_title(readable(attribute), fontsize=9)
    color_bar(figure, axes, 0, highest, MASK_COLORS, "mean mask")
    return figure


def _name_cells(axis: Axes, numbers: np.ndarray, columns: int) -> None:
    rows = math.ceil(len(numbers) / columns)
    axis.imshow(np.ones((rows, columns)), cmap="gray", vmin=0, vmax=1)
    for place, number in enumerate(numbers):
        row, column = divmod(place, columns)
        axis.text(column, row, number, fontsize=min(8, 64 / columns), ha="center", va="center")
    axis.set_title("channel of each cell", fontsize=9)


@names_as_written
def channel_correlation_figure(correlation: np.ndarray, title: str) -> Figure:
    """Draws how the channels of the masks correlate, as numbered and clustered.

    Source: Kimura & Tanaka 2019, fig. 4.

    Args:
        correlation: (C, C), in [-1, 1]; NaN for a channel that does not vary.
        title: of the figure.
    """
    count = len(correlation)
    clustering, limit = cluster(correlation), limit_of_correlations([correlation])
    side = max(4.0, CHANNEL * count)
    figure = Figure(figsize=(2 * side + 1.4, side + 2.4), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, 2)
    raw, clustered = axes
    _draw_matrix(raw, correlation, limit)
    raw.set_xticks([])
    raw.set_xlabel("channels as numbered", fontsize=10)
    order = clustering.order
    _draw_matrix(clustered, correlation[np.ix_(order, order)], limit)
    clustered.set_xticks([])
    clustered.set_xlabel("channels clustered, their numbers beside the rows", fontsize=10)
    clustered.set_yticks(range(count), order, fontsize=min(8, 58 * side / count))
    clustered.tick_params(axis="y", length=0, pad=1)
    # As wide as the matrix, whatever its width turns out to be; as much above the one as the other.
    beside, above = (make_axes_locatable(axis).append_axes("top", 0.8, pad=0.03) for axis in axes)
    beside.set_axis_off()
    _draw_dendrogram(above, clustering)
    _correlation_bar(figure, axes, limit)
    return figure


@names_as_written
def attribute_correlation_figure(
    correlations: Mapping[str, np.ndarray], by: str, attributes: Sequence[str], title: str
) -> Figure:
    """Draws how attributes correlate, by each of several measures in one clustered order.

    Source: Kimura & Tanaka 2019, table 2.

    Args:
        correlations: {measure: (k, k)}, in [-1, 1]; NaN for an attribute that does not vary.
        by: the measure that they are clustered by.
        attributes: names of the k attributes.
        title: of the figure.
    """
    count = len(attributes)
    order, limit = cluster(correlations[by]).order, limit_of_correlations(correlations.values())
    names = [readable(attributes[index]) for index in order]
    rows = math.ceil(len(correlations) / 2)
    side = max(3.0, 0.16 * count if count > WRITTEN else 0.3 * count)
    size = 2 * (side + 1.4), rows * (side + 1.6) + 1
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, 2, squeeze=False)
    for axis in axes.flat[len(correlations) :]:
        axis.set_axis_off()
    for axis, (measure, correlation) in zip(axes.flat, correlations.items(), strict=False):
        values = correlation[np.ix_(order, order)]
        _draw_matrix(axis, values, limit)
        axis.set_title(measure, fontsize=10)
        axis.set_xticks(range(count), names, fontsize=7.5, rotation=90)
        axis.set_yticks(range(count), names, fontsize=7.5)
        if count <= WRITTEN:
            _write_values(axis, values, limit)
    _correlation_bar(figure, axes, limit)
    return figure


def limit_of_correlations(correlations: Iterable[np.ndarray]) -> float:
    """Returns the value of the last colour of correlations: the strongest, rounded up to a tenth.

    Args:
        correlations: each (D, D), in [-1, 1]; what a thing has with itself and NaN do not count.

    Returns:
        From 0.1 to 1.
    """
    apart = [values[~np.eye(len(values), dtype=bool)] for values in correlations]
    strongest = np.nanmax(np.abs([0.0, *np.concatenate(apart)]))
    return float(np.clip(np.ceil(10 * strongest) / 10, 0.1, 1))


def _draw_matrix(axis: Axes, correlation: np.ndarray, limit: float) -> None:
    axis.imshow(
        correlation, cmap=CORRELATION_COLORS, vmin=-limit, vmax=limit, interpolation="nearest"
    )


def _correlation_bar(figure: Figure, axes: np.ndarray, limit: float) -> None:
    ends = f"colours end at ±{limit:.1f}, the diagonal is 1; " if limit < 1 else ""
    label = f"correlation; {ends}grey: does not vary"
    color_bar(figure, axes, -limit, limit, CORRELATION_COLORS, label, limit < 1)


def _draw_dendrogram(axis: Axes, clustering: Clustering) -> None:
    """Draws which were joined at which distance, over the columns of a matrix in their order."""
    hierarchy.dendrogram(
        clustering.linkage, ax=axis, no_labels=True, color_threshold=0, above_threshold_color="0.3"
    )
    for lines in axis.collections:
        lines.set_linewidth(0.6)
    axis.set_ylabel("1 - r", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)


def _write_values(axis: Axes, values: np.ndarray, limit: float) -> None:
    for (row, column), value in np.ndenumerate(np.round(values, 2) + 0.0):  # no -0
        if row != column and np.isfinite(value):
            color = "white" if abs(value) > 0.55 * limit else "black"
            text = f"{value:.2f}".replace("0.", ".")
            axis.text(column, row, text, color=color, fontsize=6, ha="center", va="center")
