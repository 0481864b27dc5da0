"""Correlation of the masks' channels, as numbered and clustered."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1 import make_axes_locatable
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from mcattn_tf.figures.panels import Scale, color_bar, names_as_written
from mcattn_tf.figures.scene import Scene, TooFew

# Purple to orange: colour-blind-safe (ColorBrewer), and as contributions are drawn.
CORRELATION_COLORS = colormaps["PuOr_r"].with_extremes(bad="0.85")
CHANNEL = 0.066  # inches of a channel with its number


class Clustering(NamedTuple):
    """Hierarchical clustering in which the most alike are joined first.

    Attributes:
        order: (D,), order in which similar rows are neighbours.
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


def limit_of_correlations(correlations: Iterable[np.ndarray]) -> float:
    """Returns the value of the last colour of correlations: the strongest, rounded up to a tenth.

    Args:
        correlations: each (D, D), in [-1, 1]; the diagonal and NaN do not count.

    Returns:
        A limit from 0.1 to 1.
    """
    apart = [values[~np.eye(len(values), dtype=bool)] for values in correlations]
    strongest = np.nanmax(np.abs([0.0, *np.concatenate(apart)]))
    return float(np.clip(np.ceil(10 * strongest) / 10, 0.1, 1))


def draw_matrix(axis: Axes, correlation: np.ndarray, limit: float) -> None:
    """Draws a correlation matrix (D, D) with colours from -limit to limit."""
    colors = CORRELATION_COLORS
    axis.imshow(correlation, cmap=colors, vmin=-limit, vmax=limit, interpolation="nearest")


def correlation_bar(figure: Figure, axes: np.ndarray, limit: float) -> None:
    """Draws the scale of matrices with colours from -limit to limit."""
    ends = f"colours end at ±{limit:.1f}, the diagonal is 1; " if limit < 1 else ""
    label = f"correlation; {ends}grey: constant"
    color_bar(figure, axes, Scale(CORRELATION_COLORS, -limit, limit), label, limit < 1)


@names_as_written
def channel_correlation_figure(correlation: np.ndarray, title: str) -> Figure:
    """Draws how the channels of the masks correlate, as numbered and clustered.

    Source: Kimura & Tanaka 2019, fig. 4.

    Args:
        correlation: (C, C), in [-1, 1]; NaN for a constant channel.
        title: title of the figure.
    """
    count = len(correlation)
    clustering, limit = cluster(correlation), limit_of_correlations([correlation])
    side = max(4.0, CHANNEL * count)
    figure = Figure(figsize=(2 * side + 1.4, side + 2.4), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, 2)
    raw, clustered = axes
    draw_matrix(raw, correlation, limit)
    raw.set_xticks([])
    raw.set_xlabel("channels as numbered", fontsize=10)
    order = clustering.order
    draw_matrix(clustered, correlation[np.ix_(order, order)], limit)
    clustered.set_xticks([])
    clustered.set_xlabel("channels clustered, their numbers beside the rows", fontsize=10)
    clustered.set_yticks(range(count), order, fontsize=min(8, 58 * side / count))
    clustered.tick_params(axis="y", length=0, pad=1)
    # As wide as the matrix, whatever its width turns out to be; as much above the one as the other.
    beside, above = (make_axes_locatable(axis).append_axes("top", 0.8, pad=0.03) for axis in axes)
    beside.set_axis_off()
    _draw_dendrogram(above, clustering)
    correlation_bar(figure, axes, limit)
    return figure


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


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the correlation over all images of the analysis and all attributes."""
    analysis = scene.analysis
    channels = analysis.mean_masks.shape[1]
    if channels < 2:
        raise TooFew(f"channel_correlation needs at least 2 channels. Received: {channels}")
    title = (
        f"Correlation of the masks' channels, over {analysis.images} images and "
        f"{len(analysis.attributes)} attributes"
    )
    figure = channel_correlation_figure(analysis.channel_correlation(), title)
    return {"channel_correlation": figure}
