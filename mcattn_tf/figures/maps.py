"""Figures of GCM's contribution maps, of several methods side by side, and of feature spaces."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcattn_tf.figures.panels import (
    CELL,
    CONTRIBUTION_COLORS,
    color_bar,
    grid,
    image_and_maps,
    limit_of,
    names_as_written,
    overlay,
    readable,
    scale_of,
)

CLASSES_NAMED = 20  # as many colours as the palette has; of more classes no name is drawn
CONTRIBUTION_MAP_LABEL = "weight times pixel, mean of the colours; its mean is the score"
SCALE_HEIGHT = 0.6  # inches of a scale and its label
OWN_SCALE_LABEL = "relative to the strongest values of the same map"


class Map(NamedTuple):
    """A map to be drawn.

    Attributes:
        values: (h, w), of which h divides H and w divides W of the image.
        signed: whether there may be negative values.
    """

    values: np.ndarray
    signed: bool


@names_as_written
def contribution_maps_figure(
    image: np.ndarray,
    contribution_maps: np.ndarray,
    scores: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Draws what each pixel of an image says for and against each class.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 6 and 7.

    Args:
        image: (H, W, 3), in [0, 1].
        contribution_maps: (H, W, N), signed; the mean of each is its class's score.
        scores: (N,).
        probabilities: (N,), in [0, 1].
        classes: names of the N classes or attributes.
        title: of the figure.

    Returns:
        The image, then a map for each class with its score, all on one colour scale centred at
        zero; the most probable class in bold.
    """
    figure, axes = image_and_maps(image, len(classes), 0.6, title)
    limit, best = limit_of(contribution_maps), int(np.argmax(probabilities))
    for index, (name, axis) in enumerate(zip(classes, axes.flat[1:], strict=False)):
        overlay(axis, image, contribution_maps[..., index], CONTRIBUTION_COLORS, -limit, limit)
        axis.set_title(
            f"{readable(name)}\nscore {scores[index]:.2f}, p = {probabilities[index]:.2f}",
            fontsize=8,
            fontweight="bold" if index == best else "normal",
        )
    color_bar(figure, axes, -limit, limit, CONTRIBUTION_COLORS, CONTRIBUTION_MAP_LABEL, True)
    return figure


@names_as_written
def task_attention_figure(
    image: np.ndarray,
    maps: np.ndarray,
    signed: bool,
    probabilities: np.ndarray,
    attributes: Sequence[str],
    title: str,
) -> Figure:
    """Draws the attention map of each attribute over an image.

    Source: Fukui et al. 2019, fig. 7.

    Args:
        image: (H, W, 3), in [0, 1].
        maps: (T, h, w), each of which is drawn on a scale of its own.
        signed: whether there may be negative values.
        probabilities: (T,), of the perception branch, in [0, 1].
        attributes: names of the T attributes.
        title: of the figure.

    Returns:
        The image, then a map for each attribute with its probability, those present in bold, and
        the scale.
    """
    figure, axes = image_and_maps(image, len(attributes), 0.45, title)
    for index, (name, axis) in enumerate(zip(attributes, axes.flat[1:], strict=False)):
        _draw_on_own_scale(axis, image, Map(maps[index], signed))
        axis.set_title(
            f"{readable(name)}\np = {probabilities[index]:.2f}",
            fontsize=8,
            fontweight="bold" if probabilities[index] > 0.5 else "normal",
        )
    _own_scale(figure, axes, signed)
    return figure


def _draw_on_own_scale(axis: Axes, image: np.ndarray, drawn: Map) -> None:
    limit = limit_of(drawn.values)
    colors, low = scale_of(limit, drawn.signed)
    overlay(axis, image, drawn.values, colors, low, limit)


def _own_scale(figure: Figure, axes: np.ndarray, signed: bool) -> None:
    """Draws the scale of maps that each have one of their own."""
    colors, low = scale_of(1.0, signed)
    color_bar(figure, axes, low, 1.0, colors, OWN_SCALE_LABEL, True)


@names_as_written
def comparison_figure(
    images: np.ndarray, explained: Sequence[str], maps: dict[str, list[Map]], title: str
) -> Figure:
    """Draws the maps of several methods side by side.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 10.

    Args:
        images: (B, H, W, 3), in [0, 1].
        explained: for each image the name of the class or attribute that is explained.
        maps: {method: a map of each image}.
        title: of the figure.

    Returns:
        A row an image, a column a method; each map on a scale of its own, which is drawn for signed
        maps and for others.
    """
    height = CELL * images.shape[1] / images.shape[2] + 0.45
    figure, axes = grid(len(images), len(maps) + 1, CELL, height)
    kinds = sorted({of_images[0].signed for of_images in maps.values()})
    figure.set_figheight(figure.get_figheight() + SCALE_HEIGHT * (len(kinds) - 1))
    figure.suptitle(title)
    for row, image in enumerate(images):
        axes[row, 0].imshow(image)
        axes[row, 0].set_title(readable(explained[row]), fontsize=8, fontweight="bold")
        for (method, of_images), axis in zip(maps.items(), axes[row, 1:], strict=True):
            _draw_on_own_scale(axis, image, of_images[row])
            axis.set_title(readable(method), fontsize=8)
    for signed in kinds:
        _own_scale(figure, axes, signed)
    return figure


@names_as_written
def nonnegative_figure(
    images: np.ndarray, contribution_maps: np.ndarray, explained: Sequence[str], title: str
) -> Figure:
    """Draws images above what of them speaks for a class, in their own colours.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 8.

    Args:
        images: (B, H, W, 3), in [0, 1].
        contribution_maps: (B, H, W, 3), zero or more.
        explained: for each image the name of the class or attribute.
        title: of the figure.

    Returns:
        Two rows; the strongest contributions of an image are as bright as can be.
    """
    height = CELL * images.shape[1] / images.shape[2] + 0.3
    figure, axes = grid(2, len(images), CELL, height)
    figure.suptitle(title)
    for column, (image, contributions) in enumerate(zip(images, contribution_maps, strict=True)):
        axes[0, column].imshow(image)
        axes[1, column].imshow(np.clip(contributions / limit_of(contributions), 0, 1))
        axes[1, column].set_title(readable(explained[column]), fontsize=8)
    return figure


@names_as_written
def answer_figure(
    image: np.ndarray,
    maps: np.ndarray,
    signed: bool,
    probabilities: np.ndarray,
    attributes: Sequence[str],
    label: str,
    title: str,
) -> Figure:
    """Draws an image and the maps that a served network explains its answers by.

    Args:
        image: (H, W, 3), in [0, 1].
        maps: (H, W, k), or (H, W, 1) if one stands for all.
        signed: whether there may be negative values.
        probabilities: (k,), in [0, 1].
        attributes: names of the k attributes or classes.
        label: of the scale.
        title: of the figure.

    Returns:
        The image, then a map for each attribute, all on one colour scale.
    """
    figure, axes = image_and_maps(image, maps.shape[-1], 0.45, title)
    limit = limit_of(maps)
    colors, low = scale_of(limit, signed)
    for index, axis in enumerate(axes.flat[1 : maps.shape[-1] + 1]):
        overlay(axis, image, maps[..., index], colors, low, limit)
        axis.set_title(f"{readable(attributes[index])}\np = {probabilities[index]:.2f}", fontsize=8)
    color_bar(figure, axes, low, limit, colors, label, True)
    return figure


@names_as_written
def scatter_figure(
    panels: dict[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str], title: str
) -> Figure:
    """Draws points in the plane, each in the colour of its class.

    Source: Fukui et al. 2019, fig. 6.

    Args:
        panels: {title: (points (P, 2), index of the class of each (P,))}.
        classes: names of the N classes.
        title: of the figure.

    Returns:
        A panel each, side by side; classes that occur are named where they are few.
    """
    figure = Figure(figsize=(4.2 * len(panels) + 1.6, 4.6), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    palette = colormaps["tab20"]
    seen = np.unique(np.concatenate([of_points for _, of_points in panels.values()]))
    for axis, (name, (points, of_points)) in zip(axes, panels.items(), strict=True):
        for index in seen:
            chosen = points[of_points == index]
            color = palette(index % palette.N)
            axis.scatter(*chosen.T, s=6, color=color, label=readable(classes[index]))
        axis.set_title(name, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    if len(seen) <= CLASSES_NAMED:
        handles, names = axes[-1].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="outside right center",
            fontsize=8,
            markerscale=2,
            title="most probable",
        )
    return figure
