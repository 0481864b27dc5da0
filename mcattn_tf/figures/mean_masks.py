"""Mean mask of every channel: a grid of channels for each attribute."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcattn_tf.figures import panels
from mcattn_tf.figures.correlation import cluster
from mcattn_tf.figures.panels import MASK_COLORS, Scale, names_as_written, readable
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
    """Draws the mean of every mask channel, (k, C), as a grid of C cells for each attribute.

    With an order (C,) of the channels, the first grid names the channel of each cell.
    Source: Kimura & Tanaka 2019, fig. 1.
    """
    grids = panels.channel_grids(mean_masks if order is None else mean_masks[:, order])
    count = len(attributes) + (order is not None)
    across = min(count, 8 if count > 18 else 4)
    figure, axes = panels.grid(math.ceil(count / across), across, 1.9, 1.4)
    figure.suptitle(title)
    highest = max(float(mean_masks.max()), 1e-9)
    cells = list(axes.flat)
    if order is not None:
        _name_cells(cells.pop(0), order, grids.shape[2])
    for attribute, values, axis in zip(attributes, grids, cells, strict=False):
        axis.imshow(values, cmap=MASK_COLORS, vmin=0, vmax=highest)
        axis.set_title(readable(attribute), fontsize=9)
    panels.color_bar(figure, axes, Scale(MASK_COLORS, 0, highest), "mean mask")
    return figure


def _name_cells(axis: Axes, numbers: Sequence[int], columns: int) -> None:
    axis.imshow(np.ones((math.ceil(len(numbers) / columns), columns)), cmap="gray", vmin=0, vmax=1)
    for place, number in enumerate(numbers):
        row, column = divmod(place, columns)
        axis.text(column, row, number, fontsize=min(8, 64 / columns), ha="center", va="center")
    axis.set_title("channel of each cell", fontsize=9)


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the means over all images of the analysis."""
    analysis, order = scene.analysis, None
    if scene.order == "sorted":
        order = np.argsort(-analysis.mean_masks.mean(axis=0), kind="stable")
    elif scene.order == "clustered":
        order, _ = cluster(analysis.channel_correlation())
    title = (
        f"Mean mask of each of {analysis.mean_masks.shape[1]} channels over {analysis.images} "
        f"images,\nchannels along the rows, {ORDERS[scene.order]}"
    )
    figure = mean_masks_figure(analysis.mean_masks[scene.indices], scene.labels, title, order)
    return {"mean_masks": figure}
