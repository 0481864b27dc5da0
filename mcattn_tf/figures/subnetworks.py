"""From arrays to matplotlib Figures; no model is touched here."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mcattn_tf.figures.panels import (
    CELL,
    CONTRIBUTION_COLORS,
    MASK_COLORS,
    MASK_OVERLAY_COLORS,
    NARROWEST,
    below,
    color_bar,
    dashed_box,
    grid,
    image_and_maps,
    limit_of,
    names_as_written,
    overlaid,
    overlay,
    readable,
)

BLOCKS = ((6, 1), (16, 2), (math.inf, 4))  # up to so many attributes, so many to a row
PICTURE, NAME = 0.85, 1.45  # inches of a picture and of an attribute's name, of many images
ONE_BLOCK = 12  # attributes that stand below each other
CONTRIBUTION_LABEL = "contribution of a cell to the logit\nbox: what the strongest cell sees"


@names_as_written
def contributions_figure(
    image: np.ndarray,
    contributions: np.ndarray,
    boxes: Sequence[tuple[int, int, int, int]],
    probabilities: np.ndarray,
    attributes: Sequence[str],
    title: str,
) -> Figure:
    """Draws where the evidence for each attribute of one image lies.

    Args:
        image: (H, W, 3), in [0, 1].
        contributions: (h, w, k), signed; their sum over cells plus a bias is the logit.
        boxes: for each attribute (top, left, bottom, right) of what its strongest cell
            sees, in pixels, the last two exclusive.
        probabilities: (k,), in [0, 1].
        attributes: names of the k attributes.
        title: of the figure.

    Returns:
        The image, then a map for each attribute, all on one colour scale centred at zero.
    """
    figure, axes = image_and_maps(image, len(attributes), 0.45, title)
    limit = limit_of(contributions)
    for index, (attribute, axis) in enumerate(zip(attributes, axes.flat[1:], strict=False)):
        overlay(axis, image, contributions[..., index], CONTRIBUTION_COLORS, -limit, limit)
        dashed_box(axis, boxes[index])
        axis.set_title(f"{readable(attribute)}\np = {probabilities[index]:.2f}", fontsize=8)
    color_bar(figure, axes, -limit, limit, CONTRIBUTION_COLORS, CONTRIBUTION_LABEL, True)
    return figure


@names_as_written
def masks_figure(
    image: np.ndarray,
    contributions: np.ndarray,
    boxes: Sequence[tuple[int, int, int, int]],
    masks: np.ndarray,
    channels: Sequence[Sequence[int]],
    probabilities: np.ndarray,
    attributes: Sequence[str],
    title: str,
) -> Figure:
    """Draws the masks of the most important channels of each attribute.

    Source: Kimura & Tanaka 2019, fig. 3.

    Args:
        image: (H, W, 3), in [0, 1].
        contributions: (h, w, k), signed.
        boxes: for each attribute (top, left, bottom, right) of what its strongest cell
            sees, in pixels, the last two exclusive.
        masks: (h, w, k, top), in (0, 1): of each attribute's own top channels.
        channels: for each attribute the numbers of those channels, the most important first.
        probabilities: (k,), in [0, 1].
        attributes: names of the k attributes.
        title: of the figure.

    Returns:
        For each attribute its contribution map, then its masks, with the channel's number below; a
        row holds one attribute, or several where there are many.
    """
    count, columns = len(attributes), masks.shape[-1] + 1
    blocks = next(blocks for most, blocks in BLOCKS if count <= most)
    height = CELL * image.shape[0] / image.shape[1] + 0.45
    figure, axes = grid(math.ceil(count / blocks), columns * blocks, CELL, height)
    figure.suptitle(title)
    limit = limit_of(contributions)
    for index, attribute in enumerate(attributes):
        row, block = divmod(index, blocks)
        first, *others = axes[row, block * columns : (block + 1) * columns]
        overlay(first, image, contributions[..., index], CONTRIBUTION_COLORS, -limit, limit)
        dashed_box(first, boxes[index])
        name = f"{readable(attribute)}\np = {probabilities[index]:.2f}"
        first.set_title(name, fontsize=8, fontweight="bold")
        for rank, axis in enumerate(others):
            overlay(axis, image, masks[..., index, rank], MASK_OVERLAY_COLORS, 0, 1)
            below(axis, f"channel {channels[index][rank]}")
    middle = columns * blocks // 2
    left, right = axes[:, :middle], axes[:, middle:]
    color_bar(figure, left, -limit, limit, CONTRIBUTION_COLORS, CONTRIBUTION_LABEL, True)
    color_bar(figure, right, 0, 1, MASK_OVERLAY_COLORS, "mask")
    return figure


@names_as_written
def shared_masks_figure(
    images: np.ndarray,
    masks: np.ndarray,
    channels: Sequence[Sequence[int]],
    names: Sequence[str],
    attributes: Sequence[str],
    title: str,
) -> Figure:
    """Draws the masks of each attribute's most important channels on every image.

    Source: Kimura & Tanaka 2019, fig. 3.

    Args:
        images: (B, H, W, 3), in [0, 1].
        masks: (B, h, w, k, top), in (0, 1): of each attribute's own top channels.
        channels: for each attribute the numbers of those channels, the most important first.
        names: of the B images.
        attributes: names of the k attributes.
        title: of the figure.

    Returns:
        A row of masks an attribute, side by side in two columns where there are many; under each
        mask the number of its channel.
    """
    height, width = PICTURE * images.shape[1] / images.shape[2], PICTURE
    top = masks.shape[-1]
    blocks = 1 if len(attributes) <= ONE_BLOCK else 2
    rows = math.ceil(len(attributes) / blocks)
    group, row_height = top * width + 0.1, height + 0.22
    block_width = NAME + len(images) * group
    size = max(blocks * block_width + 0.2, NARROWEST), (rows + 1) * row_height + 1.4
    figure = Figure(figsize=size)
    figure.suptitle(title, y=1 - 0.2 / size[1])
    # In inches from the left upper corner: hundreds of axes would take minutes to lay out.
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axis.set_axis_off()

    def place(picture: np.ndarray, left: float, upper: float, text: str) -> None:
        axis.imshow(
            picture, extent=(left, left + 0.96 * width, upper + height, upper), aspect="auto"
        )
        axis.text(left + 0.48 * width, upper + height, text, fontsize=7, ha="center", va="top")

    for block, (index, name) in itertools.product(range(blocks), enumerate(names)):
        place(images[index], NAME + block * block_width + index * group, 0.6, name)
    for index, attribute in enumerate(attributes):
        block, row = divmod(index, rows)
        left, upper = NAME + block * block_width, 0.6 + (row + 1) * row_height
        label = readable(attribute)
        axis.text(left - 0.08, upper + height / 2, label, fontsize=8, ha="right", va="center")
        for (which, image), rank in itertools.product(enumerate(images), range(top)):
            mask = masks[which, :, :, index, rank]
            picture = overlaid(image, mask, MASK_OVERLAY_COLORS)
            place(picture, left + which * group + rank * width, upper, channels[index][rank])
    scale = figure.add_axes((0.2, 0.45 / size[1], 0.6, 0.08 / size[1]))
    colors = ScalarMappable(Normalize(0, 1), MASK_OVERLAY_COLORS)
    figure.colorbar(colors, cax=scale, orientation="horizontal").set_label("mask", fontsize=8)
    return figure


@names_as_written
def reconstruction_figure(
    images: np.ndarray, reconstructions: np.ndarray, names: Sequence[str], title: str
) -> Figure:
    """Draws images above what the reconstructor makes of their features.

    Source: Kimura & Tanaka 2019, eq. 5.

    Args:
        images: (B, H, W, 3), in [0, 1].
        reconstructions: (B, H, W, 3), in [0, 1].
        names: of the B images.
        title: of the figure.
    """
    errors = np.mean(np.square(images - reconstructions), axis=(1, 2, 3))
    height = CELL * images.shape[1] / images.shape[2] + 0.3
    figure, axes = grid(2, len(images), CELL, height)
    figure.suptitle(title)
    for index, error in enumerate(errors):
        axes[0, index].imshow(images[index])
        axes[0, index].set_title(names[index], fontsize=8)
        axes[1, index].imshow(reconstructions[index])
        axes[1, index].set_title(f"MSE {error:.4f}", fontsize=8)
    return figure


YARDSTICKS = ("random", "center")  # no explanations: what others are compared with
# Metric of explanations: its title, and which end is the better one.
MEASURES = {
    "pointing_game": ("pointing game, bar: chance", "higher is better"),
    "normalized_energy": ("normalized energy", "higher is better"),
    "deletion_auc": ("deletion AUC", "lower is better"),
    "insertion_auc": ("insertion AUC", "higher is better"),
    "sanity_rank_correlation": ("rank correlation with\nrandomised weights", "lower is better"),
}


@names_as_written
def explanations_figure(methods: dict[str, dict], default_method: str, title: str) -> Figure:
    """Draws how far each method's maps can be trusted.

    Args:
        methods: {method: {metric: value, "intervals": {metric: [low, high]}, "per_attribute":
            {name: {metric: value}}}}, values None where nothing was measured.
        default_method: is drawn in a colour of its own.
        title: of the figure.

    Returns:
        A panel for each measure with a dot and a 95 % interval a method; below them, where regions
        are known, the pointing game of every method and attribute.
    """
    drawn = [
        name
        for name in MEASURES
        if any(values.get(name) is not None for values in methods.values())
    ]
    attributes = [
        name
        for name, values in methods[default_method]["per_attribute"].items()
        if values.get("pointing_game") is not None
    ]
    dots_height = 0.8 + 0.27 * len(methods)
    height = dots_height + (1.9 + 0.27 * len(methods) if attributes else 0) + 0.4
    figure = Figure(figsize=(13, height), layout="constrained")
    figure.suptitle(title)
    rows = [dots_height, height - dots_height] if attributes else [dots_height]
    parts = figure.subfigures(len(rows), 1, height_ratios=rows, squeeze=False)[:, 0]
    panels = parts[0].subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    for name, panel in zip(drawn, panels, strict=True):
        _draw_dots(panel, methods, name, default_method)
    if attributes:
        values = [
            [method["per_attribute"][name]["pointing_game"] for name in attributes]
            for method in methods.values()
        ]
        _draw_attributes(parts[1], np.array(values, float), list(methods), attributes)
    return figure


def _draw_dots(axis: Axes, methods: dict[str, dict], metric: str, default_method: str) -> None:
    for row, (name, values) in enumerate(methods.items()):
        value, interval = values.get(metric), values["intervals"].get(metric)
        color = "#d95f02" if name == default_method else "#542788"
        if name in YARDSTICKS:
            color = "grey"
        if value is not None:
            axis.plot(value, row, "o", color=color, markersize=5)
        if interval is not None:
            axis.plot(interval, [row, row], color=color, linewidth=1.5)
        if metric == "pointing_game" and values.get("chance") is not None:
            axis.plot(values["chance"], row, "|", color="grey", markersize=12)
    heading, better = MEASURES[metric]
    axis.set_title(f"{heading}\n({better})", fontsize=9)
    axis.set_yticks(range(len(methods)), [readable(name) for name in methods], fontsize=8)
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.set_xlim(min(0.0, axis.get_xlim()[0]), 1.03)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", linewidth=0.4)


def _draw_attributes(
    figure: Figure, values: np.ndarray, methods: Sequence[str], attributes: Sequence[str]
) -> None:
    axis = figure.subplots()
    axis.imshow(values, cmap=MASK_COLORS, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        color = "black" if value > 0.5 else "white"
        text = f"{100 * value:.0f}"
        axis.text(column, row, text, color=color, fontsize=7, ha="center", va="center")
    axis.set_yticks(range(len(methods)), [readable(name) for name in methods], fontsize=8)
    names = [readable(name) for name in attributes]
    axis.set_xticks(range(len(names)), names, fontsize=8, rotation=40, ha="right")
    axis.set_title("pointing game by attribute, per cent", fontsize=9)
