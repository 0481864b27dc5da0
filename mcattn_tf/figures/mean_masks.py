"""Mean mask of every channel: a grid for each attribute, and all attributes by channels."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcattn_tf.figures import panels
from mcattn_tf.figures.correlation import CHANNEL, cluster
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


@names_as_written
def clustered_mean_masks_figure(
    mean_masks: np.ndarray, attributes: Sequence[str], title: str
) -> Figure:
    """Draws the mean of every mask channel, (k, C), attributes and channels clustered.

    Neighbouring rows use the same channels, neighbouring columns serve the same attributes.
    """
    with np.errstate(invalid="ignore"):  # a constant row or column has no correlation
        rows, columns = (
            cluster(np.corrcoef(x))[0] if len(x) > 1 else [0] for x in (mean_masks, mean_masks.T)
        )
    count, channels = mean_masks.shape
    size = max(6.5, CHANNEL * channels + 2.2), max(2.6, 0.17 * count + 1.7)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    axis, highest = figure.subplots(), max(float(mean_masks.max()), 1e-9)
    values = mean_masks[np.ix_(rows, columns)]
    style = {"cmap": MASK_COLORS, "vmin": 0, "vmax": highest, "aspect": "auto"}
    axis.imshow(values, interpolation="nearest", **style)
    axis.set_yticks(range(count), [readable(attributes[k]) for k in rows], fontsize=8)
    axis.set_xticks(range(channels), columns, fontsize=min(8, 5 * size[0] / 8), rotation=90)
    axis.set_xlabel("channel", fontsize=8)
    axis.tick_params(length=0, pad=1)
    panels.color_bar(figure, axis, Scale(MASK_COLORS, 0, highest), "mean mask")
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
    means = analysis.mean_masks[scene.indices]
    title = f"Mean mask of each of {means.shape[1]} channels over {analysis.images} images,\n"
    grids = mean_masks_figure(
        means, scene.labels, f"{title}channels along the rows, {ORDERS[scene.order]}", order
    )
    clustered = clustered_mean_masks_figure(
        means, scene.labels, f"{title}attributes and channels clustered by correlation"
    )
    return {"mean_masks": grids, "mean_masks_clustered": clustered}
