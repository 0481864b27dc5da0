"""What figures are made of: grids of pictures, maps over images, colours and their scale."""

import math

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

CELL = 1.5  # inches of one picture
NARROWEST = 6.5  # inches of a figure that titles and labels fit into


def _clear_at_zero() -> ListedColormap:
    """Returns purple for negative, orange for positive values, the clearer the nearer to zero."""
    values = np.linspace(-1, 1, 255)
    colors = np.where(values[:, None] < 0, to_rgb("#542788"), to_rgb("#d95f02"))
    return ListedColormap(np.column_stack([colors, 0.9 * np.abs(values)]))


def _with_alpha(name: str, alpha: float) -> ListedColormap:
    colors = colormaps[name](np.linspace(0, 1, 256))
    return ListedColormap(np.column_stack([colors[:, :3], np.full(256, alpha)]))


CONTRIBUTION_COLORS = _clear_at_zero()
MASK_COLORS = colormaps["viridis"]
MASK_OVERLAY_COLORS = _with_alpha("viridis", 0.7)

# Decorates what makes a figure: what stands between two `$` of a name is no formula. Set for the
# whole process, it would spoil the logarithmic axes of a caller's own figures.
names_as_written = rc_context({"text.parse_math": False})


def scale_of(limit: float, signed: bool) -> tuple[Colormap, float]:
    """Returns the colours of maps, and the value of the first one.

    Args:
        limit: value of the last colour.
        signed: whether there may be negative values.
    """
    return (CONTRIBUTION_COLORS, -limit) if signed else (MASK_OVERLAY_COLORS, 0.0)


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """Returns a figure of empty pictures, and their axes (rows, columns).

    Args:
        rows: of pictures.
        columns: of pictures.
        width: of a picture in inches.
        height: of a picture and its title in inches.
    """
    size = (max(columns * width, NARROWEST), rows * height + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def readable(attribute: str) -> str:
    """Returns the name of an attribute or method as a title has it."""
    return attribute.replace("_", " ")


def overlay(
    axis: Axes, image: np.ndarray, values: np.ndarray, colors: Colormap, low: float, high: float
) -> None:
    """Lays a map of feature cells over a pale grey image; each cell keeps its own colour.

    Args:
        axis: of the picture.
        image: (H, W, 3), in [0, 1].
        values: (h, w), of which h divides H and w divides W.
        colors: of the map.
        low: value of the first colour.
        high: value of the last colour.
    """
    axis.imshow(_pale(image), cmap="gray", vmin=0, vmax=1)
    axis.imshow(_enlarged(values, image), cmap=colors, vmin=low, vmax=high, interpolation="nearest")


def _pale(image: np.ndarray) -> np.ndarray:
    return 0.4 + 0.6 * image.mean(axis=-1)


def _enlarged(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape[0] // values.shape[0], image.shape[1] // values.shape[1]
    return values.repeat(rows, axis=0).repeat(columns, axis=1)


def overlaid(image: np.ndarray, values: np.ndarray, colors: Colormap) -> np.ndarray:
    """Returns the same picture as pixels, (H, W, 3) in [0, 1].

    Args:
        image: (H, W, 3), in [0, 1].
        values: (h, w), in [0, 1], of which h divides H and w divides W.
        colors: of the map.
    """
    painted = colors(_enlarged(values, image))
    alpha = painted[..., 3:]
    return alpha * painted[..., :3] + (1 - alpha) * _pale(image)[..., None]


def channel_grids(values: np.ndarray) -> np.ndarray:
    """Lays C channels out as grids, along the rows, about as high as they are wide.

    Args:
        values: (k, C).

    Returns:
        (k, rows, columns), NaN in cells without a channel.
    """
    count, channels = values.shape
    columns = 2 ** math.ceil(math.log2(max(channels, 1)) / 2)
    cells = np.full((count, math.ceil(channels / columns) * columns), np.nan)
    cells[:, :channels] = values
    return cells.reshape(count, -1, columns)


def below(axis: Axes, text: str) -> None:
    """Writes under a picture."""
    axis.text(
        0.5, -0.03, text, transform=axis.transAxes, fontsize=8, ha="center", va="top", clip_on=False
    )


def dashed_box(axis: Axes, box: tuple[int, int, int, int]) -> None:
    """Draws the border of (top, left, bottom, right), in pixels, the last two exclusive."""
    top, left, bottom, right = box
    rectangle = Rectangle(
        (left - 0.5, top - 0.5),  # a pixel is drawn around its number
        right - left,
        bottom - top,
        fill=False,
        edgecolor="black",
        linewidth=0.7,
        linestyle=(0, (4, 3)),
        clip_on=False,  # all of the line where it is the image's border
    )
    axis.add_patch(rectangle)


def color_bar(
    figure: Figure,
    axes: np.ndarray,
    low: float,
    high: float,
    colors: Colormap,
    label: str,
    beyond: bool = False,
) -> None:
    """Draws a scale below pictures.

    Args:
        figure: with the pictures.
        axes: of the pictures that it is the scale of.
        low: value of the first colour.
        high: value of the last colour.
        colors: of the scale.
        label: below it.
        beyond: whether there are values beyond these.
    """
    height = figure.get_figheight()
    figure.colorbar(
        ScalarMappable(Normalize(low, high), colors),
        ax=axes,
        location="bottom",
        fraction=0.15 / height,
        pad=0.15 / height,
        aspect=figure.get_figwidth() * 4,
        ticks=MaxNLocator(4),
        extend=("both" if low < 0 else "max") if beyond else "neither",
    ).set_label(label, fontsize=8)


def limit_of(maps: np.ndarray) -> float:
    """Returns the value of the last colour of maps that share a scale, wherever they are drawn.

    All but the strongest thousandth of their values are no larger. It is the same for cells and for
    pixels that each have the value of the cell that they lie in.

    Args:
        maps: of one image, of any shape.
    """
    return max(float(np.quantile(np.abs(maps), 0.999, method="inverted_cdf")), 1e-9)


def image_and_maps(
    image: np.ndarray, maps: int, heading: float, title: str
) -> tuple[Figure, np.ndarray]:
    """Makes a figure that begins with an image and has room for its maps.

    Args:
        image: (H, W, 3), in [0, 1].
        maps: how many.
        heading: room above each, in inches.
        title: of the figure.

    Returns:
        The figure and its axes, rows by columns; the first holds the image.
    """
    count = maps + 1
    columns = min(count, 8 if count > 18 else 6)
    height = CELL * image.shape[0] / image.shape[1] + heading
    figure, axes = grid(math.ceil(count / columns), columns, CELL, height)
    figure.suptitle(title)
    axes.flat[0].imshow(image)
    axes.flat[0].set_title("image", fontsize=8)
    return figure, axes
