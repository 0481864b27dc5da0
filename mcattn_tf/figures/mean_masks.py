"""Mean mask of every channel: a grid of channels for each attribute."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcattn_tf.explain.feature_space.correlation import Analysis
from mcattn_tf.figures.channel_correlation import cluster
from mcattn_tf.figures.panels import (
    MASK_COLORS,
    Scale,
    channel_grids,
    color_bar,
    grid,
    names_as_written,
    readable,
)
from mcattn_tf.figures.scene import Scene

ORDERS = {
    "channel": "as numbered",
    "sorted": "sorted by their mean over all attributes",
    "clustered": "clustered by correlation",
}


@names_as_written
def mean_masks_figure(
    mean_masks: np.ndarray,
    attributes: Sequence[str],
    title: str,
    order: Sequence[int] | None = None,
) -> Figure:
    """Draws the mean of every mask channel, a grid of C cells for each attribute.

    Source: Kimura & Tanaka 2019, fig. 1.

    Args:
        mean_masks: (k, C), in (0, 1).
        attributes: names of the k attributes.
        title: title of the figure.
        order: (C,), channels in the order of the cells; None for the order of their numbers.

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
    color_bar(figure, axes, Scale(MASK_COLORS, 0, highest), "mean mask")
    return figure


def _name_cells(axis: Axes, numbers: np.ndarray, columns: int) -> None:
    rows = math.ceil(len(numbers) / columns)
    axis.imshow(np.ones((rows, columns)), cmap="gray", vmin=0, vmax=1)
    for place, number in enumerate(numbers):
        row, column = divmod(place, columns)
        axis.text(column, row, number, fontsize=min(8, 64 / columns), ha="center", va="center")
    axis.set_title("channel of each cell", fontsize=9)


def _ordered(analysis: Analysis, order: str) -> np.ndarray | None:
    """Returns the channels in an order; None for that of their numbers."""
    if order == "sorted":
        return np.argsort(-analysis.mean_masks.mean(axis=0), kind="stable")
    return cluster(analysis.channel_correlation()).order if order == "clustered" else None


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the means over all images of the analysis."""
    analysis = scene.analysis
    title = (
        f"Mean mask of each of {analysis.mean_masks.shape[1]} channels over {analysis.images} "
        f"images,\nchannels along the rows, {ORDERS[scene.order]}"
    )
    means, order = analysis.mean_masks[scene.indices], _ordered(analysis, scene.order)
    return {"mean_masks": mean_masks_figure(means, scene.labels, title, order)}
