"""Shared pieces of figures: grids of pictures, maps over images, colours and their scales."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple
from unicodedata import east_asian_width

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

CELL = 1.5  # inches of one picture
NARROWEST = 6.5  # inches of a figure that titles and labels fit into
LONGEST_NAME = 27  # columns of a name above a picture
MISTAKE = "#b2182b"  # colour of the heading of a wrong answer
CONSTANT = 1e-6  # range of a map, relative to its largest value, up to which it is constant
OWN_SCALE_LABEL = "relative to the strongest values of the same map"
ROW_SCALE_LABEL = "relative to the strongest values of the same row"

Box = tuple[int, int, int, int]  # top, left, bottom and right in pixels, the last two exclusive


class Scale(NamedTuple):
    """Colours of the values of a map."""

    colors: Colormap
    low: float  # value of the first colour
    high: float  # value of the last colour


def _clear_at_zero() -> ListedColormap:
    """Returns purple for negative, orange for positive values, the clearer the nearer to zero."""
    values = np.linspace(-1, 1, 255)
    colors = np.where(values[:, None] < 0, to_rgb("#542788"), to_rgb("#d95f02"))
    return ListedColormap(np.column_stack([colors, 0.9 * np.abs(values)]))


CONTRIBUTION_COLORS = _clear_at_zero()
MASK_COLORS = colormaps["viridis"]
MASK_OVERLAY_COLORS = ListedColormap([(*color, 0.7) for color in MASK_COLORS.colors])
MASK_SCALE = Scale(MASK_OVERLAY_COLORS, 0.0, 1.0)

PLAIN_TEXT = {"text.usetex": False}  # whatever a file matplotlibrc says: names are no LaTeX
# Decorates functions that make figures: text between two `$` of a name is no formula. Set for the
# whole process, it would spoil the logarithmic axes of a caller's own figures.
names_as_written = rc_context({"text.parse_math": False, **PLAIN_TEXT})


def scale_of(limit: float, signed: bool) -> Scale:
    """Returns the scale of maps up to a limit: from -limit if `signed`, else from zero."""
    if signed:
        return Scale(CONTRIBUTION_COLORS, -limit, limit)
    return Scale(MASK_OVERLAY_COLORS, 0.0, limit)


def limit_of(maps: np.ndarray) -> float:
    """Returns the 99.9th percentile of absolute values, the last colour of maps with one scale."""
    # Of a value that occurs: the same for cells and for pixels that have their cell's value.
    return max(float(np.quantile(np.abs(maps), 0.999, method="inverted_cdf")), 1e-9)


def readable(name: str) -> str:
    """Returns the name of an attribute or method as a title has it; of a long one, both ends."""
    name = name.replace("_", " ")
    # Wide characters, such as those of Chinese and Japanese, take two columns.
    columns = np.cumsum([2 if east_asian_width(x) in "WF" else 1 for x in name])
    if not name or columns[-1] <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 1) // 2
    head, tail = np.sum(columns <= half), np.sum(columns < columns[-1] - half)
    return f"{name[:head].rstrip()}…{name[tail + 1 :].lstrip()}"


def strongest_cells(maps: np.ndarray) -> list[tuple[int, int]]:
    """Returns row and column of the strongest value of each of k maps, (k, h, w)."""
    cells = np.abs(maps).reshape(len(maps), -1).argmax(axis=1)
    return [divmod(int(cell), maps.shape[2]) for cell in cells]


def fitting_size(text: str, width: float) -> float:
    """Returns the size of letters, at most 8 points, of which a text is at most `width` inches."""
    return 8 * min(1.0, 72 * width / max(1.0, *map(_line_width, text.split("\n"))))


@functools.cache  # figures repeat their names, and a width takes 10 ms
def _line_width(line: str) -> float:
    """Returns the width of a line of 8 points, in points."""
    line = "".join("W" if east_asian_width(x) in "WF" else x for x in line)
    return TextPath((0, 0), line or " ", size=8).get_extents().width


class Heading(NamedTuple):
    """Heading of a picture."""

    text: str
    bold: bool = False
    mistake: bool = False

    def write(self, axis: Axes) -> None:
        """Writes the heading above a picture."""
        weight, color = "bold" if self.bold else "normal", MISTAKE if self.mistake else "black"
        size = fitting_size(self.text, CELL * (0.84 if self.bold else 0.96))
        axis.set_title(self.text, fontsize=size, fontweight=weight, color=color)


def answers_of(probabilities: np.ndarray, exclusive: bool) -> np.ndarray:
    """Returns which labels are answered present, bool (..., K), from probabilities (..., K)."""
    if exclusive:
        return probabilities == probabilities.max(axis=-1, keepdims=True)
    return probabilities > 0.5


def headings_of(
    attributes: Sequence[str],
    numbers: Sequence[str],
    answers: Sequence[bool],
    labels: Sequence[int] | None = None,
) -> list[Heading]:
    """Returns the heading of each attribute's map: its name above its numbers, and the mistake.

    Args:
        attributes: k names.
        numbers: k texts, such as `p = 0.93`.
        answers: whether each attribute is answered present; such headings are in bold.
        labels: 1 present, 0 absent and -1 unknown; None where none is known.
    """
    words = {(1, True): "present", (1, False): "missed", (0, True): "false"}
    headings = []
    labels = [-1] * len(attributes) if labels is None else labels
    for name, number, answer, label in zip(attributes, numbers, answers, labels, strict=True):
        word = words.get((int(label), bool(answer)), "")
        text = f"{readable(name)}\n{number}{', ' * bool(word)}{word}"
        headings.append(Heading(text, bool(answer), word in ("missed", "false")))
    return headings


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """Returns a figure and its empty axes, each `width` and, with its title, `height` inches."""
    size = (max(columns * width, NARROWEST), rows * height + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set(xticks=[], yticks=[])  # else ticks that nobody sees are made and laid out
    return figure, axes


def image_height(images: np.ndarray) -> float:
    """Returns the height in inches of a picture of images (..., H, W, 3), `CELL` wide."""
    return CELL * images.shape[-3] / images.shape[-2]


def _enlarged(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape[0] // values.shape[0], image.shape[1] // values.shape[1]
    return values.repeat(rows, axis=0).repeat(columns, axis=1)


def _pale(image: np.ndarray) -> np.ndarray:
    return 0.4 + 0.6 * image.mean(axis=-1)


def overlay(axis: Axes, image: np.ndarray, values: np.ndarray, scale: Scale) -> None:
    """Draws a map (h, w) over a pale grey image (H, W, 3); h divides H and w divides W."""
    axis.imshow(_pale(image), cmap="gray", vmin=0, vmax=1)
    colors, low, high = scale
    axis.imshow(_enlarged(values, image), cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    if np.ptp(values) <= CONSTANT * np.abs(values).max():
        text = "constant" if values.any() else "zero\neverywhere"
        axis.text(0.5, 0.5, text, fontsize=8, ha="center", va="center", transform=axis.transAxes)


def balanced(count: int, most: int) -> tuple[int, int]:
    """Returns rows and columns of `count` pictures, at most so many to a row, of similar rows."""
    rows = math.ceil(count / most)
    return rows, math.ceil(count / rows)


def overlaid(image: np.ndarray, values: np.ndarray, scale: Scale) -> np.ndarray:
    """Returns the picture that `overlay` draws as pixels, (H, W, 3) in [0, 1]."""
    shares = (_enlarged(values, image) - scale.low) / (scale.high - scale.low)
    painted = scale.colors(shares)
    alpha = painted[..., 3:]
    return alpha * painted[..., :3] + (1 - alpha) * _pale(image)[..., None]


def dashed_box(axis: Axes, box: Box) -> None:
    """Draws the border of a box of pixels."""
    top, left, bottom, right = box
    style = {"fill": False, "edgecolor": "black", "linewidth": 0.7, "linestyle": (0, (4, 3))}
    style["clip_on"] = False  # all of the line where it is the image's border
    corner = left - 0.5, top - 0.5  # a pixel is drawn around its number
    axis.add_patch(Rectangle(corner, right - left, bottom - top, **style))


def outline(axis: Axes, image: np.ndarray, cells: np.ndarray) -> None:
    """Draws the border of the cells (h, w), bool, of a map over an image (H, W, 3)."""
    rows, columns = image.shape[0] // cells.shape[0], image.shape[1] // cells.shape[1]
    padded = np.pad(cells, 1)
    # Between cells that differ: (row, column) of the cell below or right of the border.
    across, down = (np.argwhere(np.diff(padded, axis=axis)) for axis in (0, 1))
    lines = [((x - 1, y), (x, y)) for y, x in across] + [((x, y - 1), (x, y)) for y, x in down]
    corners = np.array(lines, float).reshape(-1, 2, 2) * (columns, rows) - 0.5
    axis.add_collection(LineCollection(corners, colors="black", linewidths=0.9, clip_on=False))


def color_bar(
    figure: Figure, axes: np.ndarray, scale: Scale, label: str, beyond: bool = False
) -> None:
    """Draws a scale below the axes of pictures; with `beyond`, values may lie beyond its ends."""
    colors, low, high = scale
    thickness = 0.15 / figure.get_figheight()
    style = {"fraction": thickness, "pad": thickness, "aspect": figure.get_figwidth() * 4}
    style["extend"] = ("both" if low < 0 else "max") if beyond else "neither"
    mappable = ScalarMappable(Normalize(low, high), colors)
    bar = figure.colorbar(mappable, ax=axes, location="bottom", ticks=MaxNLocator(4), **style)
    bar.set_label(label, fontsize=8)


@names_as_written
def maps_figure(
    image: np.ndarray,
    maps: np.ndarray,
    headings: Sequence[Heading],
    label: str,
    title: str,
    *,
    signed: bool = True,
    own_scales: bool = False,
    limit: float | None = None,
    boxes: Sequence[Box] = (),
    outlined: np.ndarray | None = None,
    heading_height: float = 0.45,
) -> Figure:
    """Draws an image, then maps over it.

    Args:
        image: (H, W, 3), in [0, 1].
        maps: (k, h, w); h divides H and w divides W.
        headings: heading of each map.
        label: label of the scale.
        title: title of the figure.
        signed: whether there may be negative values.
        own_scales: whether each map has a scale of its own rather than one for all.
        limit: value of the last colour of all maps; None to take it from them.
        boxes: box of pixels drawn on each map; none if empty.
        outlined: cells of each map to draw a line around, bool (k, h, w).
        heading_height: height of a heading in inches.
    """
    count = len(maps) + 1
    rows, columns = balanced(count, 8 if count > 18 else 6)
    figure, axes = grid(rows, columns, CELL, image_height(image) + heading_height)
    figure.suptitle(title)
    axes.flat[0].imshow(image)
    axes.flat[0].set_title("image", fontsize=8)
    shared_limit = None if own_scales else limit or limit_of(maps)
    for index, (values, axis) in enumerate(zip(maps, axes.flat[1:], strict=False)):
        overlay(axis, image, values, scale_of(shared_limit or limit_of(values), signed))
        if boxes:
            dashed_box(axis, boxes[index])
        if outlined is not None:
            outline(axis, image, outlined[index])
        headings[index].write(axis)
    beyond = limit is None
    color_bar(figure, axes, scale_of(shared_limit or 1.0, signed), label, beyond)
    return figure


@names_as_written
def overview_figure(
    images: np.ndarray,
    maps: np.ndarray,
    headings: Sequence[Sequence[Heading]],
    label: str,
    title: str,
    signed: bool,
) -> Figure:
    """Draws a row for each image: the image, then maps of its own on a scale of its own.

    Args:
        images: (B, H, W, 3), in [0, 1].
        maps: (B, k, h, w); h divides H and w divides W.
        headings: k headings of each image.
        label: label of the scale.
        title: title of the figure.
        signed: whether there may be negative values.
    """
    figure, axes = grid(len(images), maps.shape[1] + 1, CELL, image_height(images) + 0.45)
    figure.suptitle(title)
    for image, values, texts, row in zip(images, maps, headings, axes, strict=True):
        row[0].imshow(image)
        scale = scale_of(limit_of(values), signed)
        for part, heading, axis in zip(values, texts, row[1:], strict=True):
            overlay(axis, image, part, scale)
            heading.write(axis)
    color_bar(figure, axes, scale_of(1.0, signed), label, True)
    return figure


@names_as_written
def two_rows_figure(
    images: np.ndarray,
    others: np.ndarray,
    headings: Sequence[str],
    other_headings: Sequence[str],
    title: str,
) -> Figure:
    """Draws images (B, H, W, 3), in [0, 1], in a row and another picture of each below."""
    figure, axes = grid(2, len(images), CELL, image_height(images) + 0.3)
    figure.suptitle(title)
    pictures, texts = [*images, *others], [*headings, *other_headings]
    for axis, picture, text in zip(axes.flat, pictures, texts, strict=True):
        axis.imshow(picture)
        axis.set_title(text, fontsize=8)
    return figure


def channel_grids(values: np.ndarray) -> np.ndarray:
    """Arranges channels (k, C) row by row as grids (k, rows, columns), NaN in the cells left."""
    count, channels = values.shape
    columns = 2 ** math.ceil(math.log2(max(channels, 1)) / 2)
    cells = np.full((count, math.ceil(channels / columns) * columns), np.nan)
    cells[:, :channels] = values
    return cells.reshape(count, -1, columns)
