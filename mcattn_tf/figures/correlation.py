"""Correlation of the masks' channels and of attributes, clustered."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mpl_toolkits.axes_grid1 import make_axes_locatable
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from mcattn_tf.explain.feature_space.correlation import ATTRIBUTE_CORRELATIONS, DEFAULT_CORRELATION
from mcattn_tf.figures.panels import Scale, color_bar, names_as_written, readable
from mcattn_tf.figures.scene import Scene, Undrawable

# Purple to orange: colour-blind-safe (ColorBrewer), and as contributions are drawn.
CORRELATION_COLORS = colormaps["PuOr_r"].with_extremes(bad="0.85")
CHANNEL = 0.066  # inches of a channel with its number
CLUSTER = 0.7  # height of the cut through the tree of clusters, relative to the tree's
WRITTEN = 20  # up to so many attributes a cell has room for its number


def cluster(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clusters by average linkage of the distance 1 - r.

    Args:
        correlation: (D, D), in [-1, 1]; NaN counts as 0. D must be 2 or more.

    Returns:
        The order (D,) in which similar rows are neighbours, and the linkage (D - 1, 4) of SciPy.
    """
    distance = 1 - np.nan_to_num(correlation)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    linkage = hierarchy.linkage(condensed, "average", optimal_ordering=True)
    return hierarchy.leaves_list(linkage), linkage


def mark_clusters(axis: Axes, linkage: np.ndarray) -> None:
    """Draws a frame around each cluster of two or more rows of a clustered matrix."""
    numbers = hierarchy.fcluster(linkage, CLUSTER * linkage[:, 2].max(), "distance")
    _, starts, sizes = np.unique(
        numbers[hierarchy.leaves_list(linkage)], return_index=True, return_counts=True
    )
    for start, size in zip(starts, sizes, strict=True):
        if 1 < size < len(numbers):
            frame = {"fill": False, "edgecolor": "black", "linewidth": 0.9, "clip_on": False}
            axis.add_patch(Rectangle((start - 0.5, start - 0.5), size, size, **frame))


def limit_of_correlations(correlations: Iterable[np.ndarray]) -> float:
    """Returns the strongest of correlations (D, D) rounded up to a tenth, without the diagonals."""
    apart = [values[~np.eye(len(values), dtype=bool)] for values in correlations]
    strongest = np.nanmax(np.abs([0.0, *np.concatenate(apart)]))
    return float(np.clip(np.ceil(10 * strongest) / 10, 0.1, 1))


def _draw_matrix(axis: Axes, correlation: np.ndarray, limit: float) -> None:
    colors = CORRELATION_COLORS
    axis.imshow(correlation, cmap=colors, vmin=-limit, vmax=limit, interpolation="nearest")


def _draw_bar(figure: Figure, axes: np.ndarray, limit: float) -> None:
    ends = f"colours end at ±{limit:.1f}, the diagonal is 1; " if limit < 1 else ""
    label = f"correlation; {ends}grey: constant; frames: clusters"
    color_bar(figure, axes, Scale(CORRELATION_COLORS, -limit, limit), label, limit < 1)


@names_as_written
def channel_correlation_figure(correlation: np.ndarray, title: str) -> Figure:
    """Draws a correlation of channels (C, C), NaN for a constant one, as numbered and clustered.

    Source: Kimura & Tanaka 2019, fig. 4.
    """
    count, limit = len(correlation), limit_of_correlations([correlation])
    order, linkage = cluster(correlation)
    side = max(4.0, CHANNEL * count)
    figure = Figure(figsize=(2 * side + 1.4, side + 2.4), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, 2)
    raw, clustered = axes
    _draw_matrix(raw, correlation, limit)
    raw.set_xticks([])
    raw.set_xlabel("channels as numbered", fontsize=10)
    _draw_matrix(clustered, correlation[np.ix_(order, order)], limit)
    mark_clusters(clustered, linkage)
    clustered.set_xticks([])
    clustered.set_xlabel("channels clustered, their numbers beside the rows", fontsize=10)
    clustered.set_yticks(range(count), order, fontsize=min(8, 58 * side / count))
    clustered.tick_params(axis="y", length=0, pad=1)
    # As wide as the matrix, whatever its width turns out to be; as much above the one as the other.
    beside, above = (make_axes_locatable(axis).append_axes("top", 0.8, pad=0.03) for axis in axes)
    beside.set_axis_off()
    style = {"color_threshold": 0, "above_threshold_color": "0.3"}
    hierarchy.dendrogram(linkage, ax=above, no_labels=True, **style)
    for lines in above.collections:
        lines.set_linewidth(0.6)
    above.set_ylabel("1 - r", fontsize=8)
    above.tick_params(axis="y", labelsize=7)
    above.spines[["top", "right", "bottom"]].set_visible(False)
    _draw_bar(figure, axes, limit)
    return figure


@names_as_written
def attribute_correlation_figure(
    correlations: Mapping[str, np.ndarray], by: str, attributes: Sequence[str], title: str
) -> Figure:
    """Draws {measure: correlation of k attributes (k, k)}, in one order, clustered by a measure.

    Source: Kimura & Tanaka 2019, table 2.
    """
    count = len(attributes)
    order, linkage = cluster(correlations[by])
    limit = limit_of_correlations(correlations.values())
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
        if measure == by:
            mark_clusters(axis, linkage)
        axis.set_title(measure, fontsize=10)
        axis.set_xticks(range(count), names, fontsize=7.5, rotation=90)
        axis.set_yticks(range(count), names, fontsize=7.5)
        if count <= WRITTEN:
            _write_values(axis, values, limit)
    _draw_bar(figure, axes, limit)
    return figure


def _write_values(axis: Axes, values: np.ndarray, limit: float) -> None:
    for (row, column), value in np.ndenumerate(np.round(values, 2) + 0.0):  # no -0
        if row != column and np.isfinite(value):
            color = "white" if abs(value) > 0.55 * limit else "black"
            text = f"{value:.2f}".replace("0.", ".")
            axis.text(column, row, text, color=color, fontsize=6, ha="center", va="center")


def draw_channels(scene: Scene) -> dict[str, Figure]:
    """Draws the correlation of channels over all images of the analysis and all attributes."""
    analysis = scene.analysis
    channels = analysis.mean_masks.shape[1]
    if channels < 2:
        raise Undrawable(f"channel_correlation needs at least 2 channels. Received: {channels}")
    title = (
        f"Correlation of the masks' channels, over {analysis.images} images and "
        f"{len(analysis.attributes)} attributes"
    )
    figure = channel_correlation_figure(analysis.channel_correlation(), title)
    return {"channel_correlation": figure}


def draw_attributes(scene: Scene) -> dict[str, Figure]:
    """Draws the correlation of attributes over all images of the analysis."""
    analysis, indices = scene.analysis, np.ix_(scene.indices, scene.indices)
    for things, count in {"images": analysis.images, "attributes": len(scene.indices)}.items():
        if count < 2:
            raise Undrawable(f"attribute_correlation needs at least 2 {things}. Received: {count}")
    correlations = analysis.correlations().items()
    panels = {ATTRIBUTE_CORRELATIONS[name]: values[indices] for name, values in correlations}
    first = ATTRIBUTE_CORRELATIONS[DEFAULT_CORRELATION]
    title = f"Correlation of attributes over {analysis.images} images, clustered by the first panel"
    figure = attribute_correlation_figure(panels, first, scene.labels, title)
    return {"attribute_correlation": figure}
