"""From arrays to matplotlib Figures; no model is touched here."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

CELL = 1.5  # inches of one picture
CONTRIBUTION_COLORS = "PuOr_r"
MASK_COLORS = "viridis"


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(columns * width, rows * height + 1.2), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _readable(attribute: str) -> str:
    return attribute.replace("_", " ")


def _show_grey(axis: Axes, image: np.ndarray) -> None:
    axis.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=1)


def _overlay(axis: Axes, image: np.ndarray, values: np.ndarray, alpha, **color) -> None:
    """Lays a map of feature cells over a grey image; each cell keeps its own colour."""
    height, width = image.shape[:2]
    _show_grey(axis, image)
    rows, columns = height // values.shape[0], width // values.shape[1]
    values = values.repeat(rows, axis=0).repeat(columns, axis=1)
    if isinstance(alpha, np.ndarray):
        alpha = alpha.repeat(rows, axis=0).repeat(columns, axis=1)
    axis.imshow(values, alpha=alpha, interpolation="nearest", **color)


def _overlay_contributions(
    axis: Axes, image: np.ndarray, contributions: np.ndarray, limit: float
) -> None:
    """Lays a signed map over an image: strong cells opaque, cells that say nothing clear."""
    strength = np.clip(np.abs(contributions) / limit, 0, 1)
    _overlay(
        axis,
        image,
        contributions,
        0.9 * strength**0.7,
        cmap=CONTRIBUTION_COLORS,
        vmin=-limit,
        vmax=limit,
    )


def _color_bar(
    figure: Figure, axes: np.ndarray, low: float, high: float, colors: str, label: str
) -> None:
    figure.colorbar(
        ScalarMappable(Normalize(low, high), colors),
        ax=axes,
        location="bottom",
        shrink=0.9,
        aspect=30,
        label=label,
    )


def _contribution_bar(figure: Figure, axes: np.ndarray, limit: float) -> None:
    label = "contribution of a cell to the logit"
    _color_bar(figure, axes, -limit, limit, CONTRIBUTION_COLORS, label)


def _limit(contributions: np.ndarray) -> float:
    return max(float(np.quantile(np.abs(contributions), 0.999)), 1e-9)


def contributions_figure(
    image: np.ndarray,
    contributions: np.ndarray,
    probabilities: np.ndarray,
    attributes: Sequence[str],
    title: str,
) -> Figure:
    """Draws where the evidence for each attribute of one image lies.

    Args:
        image: (H, W, 3), in [0, 1].
        contributions: (h, w, k), signed; their sum over cells plus a bias is the logit.
        probabilities: (k,), in [0, 1].
        attributes: names of the k attributes.
        title: of the figure.

    Returns:
        The image, then a map for each attribute, all on one colour scale centred at zero.
    """
    count = len(attributes) + 1
    columns = min(count, 8 if count > 18 else 6)
    height = CELL * image.shape[0] / image.shape[1] + 0.45
    figure, axes = _grid(math.ceil(count / columns), columns, CELL, height)
    figure.suptitle(title)
    axes.flat[0].imshow(image)
    axes.flat[0].set_title("image", fontsize=8)
    limit = _limit(contributions)
    for index, (attribute, axis) in enumerate(zip(attributes, axes.flat[1:], strict=False)):
        _overlay_contributions(axis, image, contributions[..., index], limit)
        axis.set_title(f"{_readable(attribute)}\np = {probabilities[index]:.2f}", fontsize=8)
    _contribution_bar(figure, axes, limit)
    return figure


def masks_figure(
    image: np.ndarray,
    contributions: np.ndarray,
    masks: np.ndarray,
    channels: Sequence[Sequence[int]],
    probabilities: np.ndarray,
    attributes: Sequence[str],
    title: str,
) -> Figure:
    """Draws the masks of the most important channels of each attribute (paper 000, fig. 3).

    Args:
        image: (H, W, 3), in [0, 1].
        contributions: (h, w, k), signed.
        masks: (h, w, k, top), in (0, 1): of each attribute's own top channels.
        channels: for each attribute the numbers of those channels, the most important first.
        probabilities: (k,), in [0, 1].
        attributes: names of the k attributes.
        title: of the figure.

    Returns:
        For each attribute its contribution map, then its masks, each named by its channel; a row
        holds one attribute, or two where there are many.
    """
    count, columns = len(attributes), masks.shape[-1] + 1
    blocks = 1 if count <= 6 else 2
    height = CELL * image.shape[0] / image.shape[1] + 0.45
    figure, axes = _grid(math.ceil(count / blocks), columns * blocks, CELL, height)
    figure.suptitle(title)
    limit = _limit(contributions)
    for index, attribute in enumerate(attributes):
        row, block = divmod(index, blocks)
        first, *others = axes[row, block * columns : (block + 1) * columns]
        _overlay_contributions(first, image, contributions[..., index], limit)
        name = f"{_readable(attribute)}\np = {probabilities[index]:.2f}"
        first.set_title(name, fontsize=8, fontweight="bold")
        for rank, axis in enumerate(others):
            _overlay(axis, image, masks[..., index, rank], 0.7, cmap=MASK_COLORS, vmin=0, vmax=1)
            axis.set_title(f"channel {channels[index][rank]}", fontsize=8)
    middle = columns * blocks // 2
    _contribution_bar(figure, axes[:, :middle], limit)
    _color_bar(figure, axes[:, middle:], 0, 1, MASK_COLORS, "mask")
    return figure


def mean_masks_figure(mean_masks: np.ndarray, attributes: Sequence[str], title: str) -> Figure:
    """Draws the mean of every mask channel, a grid of C cells an attribute (paper 000, fig. 1).

    Args:
        mean_masks: (k, C), in (0, 1).
        attributes: names of the k attributes.
        title: of the figure.

    Returns:
        k grids on one colour scale; the channels run along the rows.
    """
    channels = mean_masks.shape[1]
    grid_columns = 2 ** math.ceil(math.log2(max(channels, 1)) / 2)
    cells = np.full((len(attributes), math.ceil(channels / grid_columns) * grid_columns), np.nan)
    cells[:, :channels] = mean_masks
    columns = min(len(attributes), 8 if len(attributes) > 18 else 4)
    figure, axes = _grid(math.ceil(len(attributes) / columns), columns, 1.9, 1.4)
    figure.suptitle(title)
    highest = max(float(mean_masks.max()), 1e-9)
    for attribute, values, axis in zip(attributes, cells, axes.flat, strict=False):
        axis.imshow(values.reshape(-1, grid_columns), cmap=MASK_COLORS, vmin=0, vmax=highest)
        axis.set_title(_readable(attribute), fontsize=9)
    _color_bar(figure, axes, 0, highest, MASK_COLORS, "mean mask")
    return figure


def reconstruction_figure(images: np.ndarray, reconstructions: np.ndarray, title: str) -> Figure:
    """Draws images above what the reconstructor makes of their features (paper 000, eq. 5).

    Args:
        images: (B, H, W, 3), in [0, 1].
        reconstructions: (B, H, W, 3), in [0, 1].
        title: of the figure.
    """
    errors = np.mean(np.square(images - reconstructions), axis=(1, 2, 3))
    height = CELL * images.shape[1] / images.shape[2] + 0.3
    figure, axes = _grid(2, len(images), CELL, height)
    figure.suptitle(title)
    for index, error in enumerate(errors):
        axes[0, index].imshow(images[index])
        axes[0, index].set_title("image", fontsize=8)
        axes[1, index].imshow(reconstructions[index])
        axes[1, index].set_title(f"MSE {error:.4f}", fontsize=8)
    return figure
