"""Masks of each attribute's most important channels: on each image, and on all images together."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mcattn_tf.figures import panels
from mcattn_tf.figures.contributions import CONTRIBUTION_LABEL, Explanation, explanations_of
from mcattn_tf.figures.panels import MASK_SCALE, names_as_written, overlaid, overlay, readable
from mcattn_tf.figures.scene import Scene

BLOCKS = ((6, 1), (16, 2), (math.inf, 4))  # up to so many attributes, so many to a row
PICTURE, NAME = 0.85, 1.45  # inches of a picture and of an attribute's name, of many images
UNASKED = 8  # attributes drawn where none were asked for
ONE_BLOCK = 12  # up to so many attributes are one column of many images


@names_as_written
def masks_figure(explanation: Explanation, channels: Sequence[Sequence[int]]) -> Figure:
    """Draws for each of k attributes its contributions, then the masks of its own top channels.

    `channels` are the numbers of those channels; `explanation` has their masks alone.
    Source: Kimura & Tanaka 2019, fig. 3.
    """
    name, image, contributions, masks, boxes, _, headings = explanation
    count, columns = len(headings), masks.shape[-1] + 1
    blocks = next(blocks for most, blocks in BLOCKS if count <= most)
    rows, height = math.ceil(count / blocks), panels.image_height(image) + 0.45
    figure, axes = panels.grid(rows, columns * blocks, panels.CELL, height)
    figure.suptitle(f"Masks of each attribute's most important channels: {name}")
    scale = panels.scale_of(panels.limit_of(contributions), signed=True)
    for index, heading in enumerate(headings):
        row, block = divmod(index, blocks)
        first, *others = axes[row, block * columns : (block + 1) * columns]
        overlay(first, image, contributions[..., index], scale)
        panels.dashed_box(first, boxes[index])
        heading.write(first)
        for rank, axis in enumerate(others):
            overlay(axis, image, masks[..., index, rank], MASK_SCALE)
            text, style = f"channel {channels[index][rank]}", {"ha": "center", "va": "top"}
            axis.text(0.5, -0.03, text, transform=axis.transAxes, fontsize=8, **style)
    middle = columns * blocks // 2
    panels.color_bar(figure, axes[:, :middle], scale, CONTRIBUTION_LABEL, True)
    panels.color_bar(figure, axes[:, middle:], MASK_SCALE, "mask")
    return figure


@names_as_written
def shared_masks_figure(
    explanations: Sequence[Explanation],
    channels: Sequence[Sequence[int]],
    attributes: Sequence[str],
) -> Figure:
    """Draws the masks of each attribute's own top channels on every image, as `masks_figure`.

    An attribute has a row; many attributes are in two columns.
    Source: Kimura & Tanaka 2019, fig. 3.
    """
    rows, columns, _ = explanations[0].image.shape
    height, width, top = PICTURE * rows / columns, PICTURE, len(channels[0])
    blocks = 1 if len(attributes) <= ONE_BLOCK else 2
    rows = math.ceil(len(attributes) / blocks)
    group, row_height = top * width + 0.1, height + 0.22
    block_width = NAME + len(explanations) * group
    size = max(blocks * block_width + 0.2, panels.NARROWEST), (rows + 1) * row_height + 1.4
    figure = Figure(figsize=size)
    title = f"Masks of each attribute's {top} most important channels"
    figure.suptitle(title, y=1 - 0.2 / size[1])
    # In inches from the left upper corner: hundreds of axes would take minutes to lay out.
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axis.set_axis_off()

    def place(picture: np.ndarray, left: float, upper: float, text: str) -> None:
        extent = left, left + 0.96 * width, upper + height, upper
        axis.imshow(picture, extent=extent, aspect="auto")
        axis.text(left + 0.48 * width, upper + height, text, fontsize=7, ha="center", va="top")

    for block, (number, x) in itertools.product(range(blocks), enumerate(explanations)):
        place(x.image, NAME + block * block_width + number * group, 0.6, x.name)
    for index, attribute in enumerate(attributes):
        block, row = divmod(index, rows)
        left, upper = NAME + block * block_width, 0.6 + (row + 1) * row_height
        label = readable(attribute)
        style = {"fontsize": panels.fitting_size(label, NAME - 0.1), "ha": "right", "va": "center"}
        axis.text(left - 0.08, upper + height / 2, label, **style)
        for (number, x), rank in itertools.product(enumerate(explanations), range(top)):
            picture = overlaid(x.image, x.masks[:, :, index, rank], MASK_SCALE)
            place(picture, left + number * group + rank * width, upper, channels[index][rank])
    scale = figure.add_axes((0.2, 0.45 / size[1], 0.6, 0.08 / size[1]))
    colors = ScalarMappable(Normalize(0, 1), MASK_SCALE.colors)
    figure.colorbar(colors, cax=scale, orientation="horizontal").set_label("mask", fontsize=8)
    return figure


def _of_attributes(
    explanation: Explanation, rows: Sequence[int], channels: Sequence[Sequence[int]]
) -> Explanation:
    """Returns what is said of some attributes, with the masks of their own channels alone."""
    own = [explanation.masks[:, :, k, numbers] for k, numbers in zip(rows, channels, strict=True)]
    return explanation._replace(
        contributions=explanation.contributions[..., rows],
        masks=np.stack(own, axis=2),
        boxes=[explanation.boxes[k] for k in rows],
        headings=[explanation.headings[k] for k in rows],
    )


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the masks on each image, and of several images one more figure with all.

    Where no attributes were asked for, these are the 8 that are most probable: in an image, or on
    average over the images.
    """
    most, figures, explanations = len(scene.indices), {}, list(explanations_of(scene))

    def shown(probabilities: np.ndarray) -> tuple[list[int], list[Sequence[int]]]:
        """Returns the places of the attributes to draw among `scene.indices`, and channels."""
        rows = list(range(most))
        if not scene.asked and most > UNASKED:
            rows = np.argsort(-probabilities, kind="stable")[:UNASKED].tolist()
        return rows, [scene.analysis.top_channels(scene.indices[k], scene.top) for k in rows]

    for x in explanations:
        rows, channels = shown(x.probabilities)
        figures[f"masks_{x.name}"] = masks_figure(_of_attributes(x, rows, channels), channels)
    if len(explanations) > 1:
        rows, channels = shown(np.mean([x.probabilities for x in explanations], axis=0))
        shared = [_of_attributes(x, rows, channels) for x in explanations]
        names = [scene.labels[k] for k in rows]
        figures["masks"] = shared_masks_figure(shared, channels, names)
    return figures
