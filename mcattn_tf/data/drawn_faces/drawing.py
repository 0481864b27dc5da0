"""Rendering of the drawn faces and of their regions.

Every part is painted, anti-aliased, in a small window of the picture.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mcattn_tf.data.drawn_faces.geometry import (
    LARGEST,
    PARAMETERS,
    Columns,
    colours_of,
    geometry_of,
    hue_colour,
)
from mcattn_tf.data.drawn_faces.parts import PARTS, REGIONS, Part, ellipse, triangle_wave


class _Window(NamedTuple):
    """Rectangles of one size in the pictures `items`, and geometry g and frame (u, v) in them."""

    g: Columns
    items: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    size: tuple[int, int]
    u: np.ndarray
    v: np.ndarray


def _window(
    part: Part, geometry: Columns, items: np.ndarray, image_size: tuple[int, int]
) -> _Window:
    """Returns the part's rectangles, moved into the picture where they would leave it."""
    # 0.21 is the sine of the largest tilt; one pixel on either side is for the soft edge.
    largest = LARGEST * min(image_size)
    reach = (part.half_height + 0.21 * part.half_width, part.half_width + 0.21 * part.half_height)
    size = tuple(
        min(length, 2 * int(half * largest + 1) + 2)
        for length, half in zip(image_size, reach, strict=True)
    )
    g = {name: values[items][:, None, None] for name, values in geometry.items()}
    scale, cos, sin, x, y = (g[name][:, 0] for name in ("scale", "cos", "sin", "x", "y"))
    middle = (y + cos * scale * part.centre, x - sin * scale * part.centre)
    rows, columns = (
        np.clip(np.floor(place - 0.5 * length + 0.5), 0, whole - length).astype(np.int64)
        for place, length, whole in zip(middle, size, image_size, strict=True)
    )
    down = ((rows + np.arange(size[0])).astype(np.float32) + 0.5 - y) / scale
    right = ((columns + np.arange(size[1])).astype(np.float32) + 0.5 - x) / scale
    u = (sin * down)[:, :, None] + (cos * right)[:, None, :]
    v = (cos * down)[:, :, None] - (sin * right)[:, None, :]
    return _Window(g, items, rows[:, 0], columns[:, 0], size, u, v)


def _coverage(part: Part, window: _Window) -> np.ndarray:
    """Returns how much of each of the window's pixels the shape covers, in 0 ... 1."""
    coverage = part.shape(window.g, window.u, window.v)
    coverage *= -window.g["scale"]
    coverage += 0.5
    return np.clip(coverage, 0, 1, out=coverage)


def _paint(canvas: np.ndarray, window: _Window, coverage: np.ndarray, colours: np.ndarray) -> None:
    """Blends colours (items, 3, height, width) into the canvas (n, 3, height, width)."""
    view = sliding_window_view(canvas, window.size, axis=(2, 3), writeable=True)
    index = (window.items, slice(None), window.rows, window.columns)
    patch = view[index]
    # Not patch + coverage * (colours - patch): full coverage must leave nothing of the patch.
    patch *= (1 - coverage)[:, None]
    patch += colours * coverage[:, None]
    view[index] = patch


def _shown(part: Part, labels: Columns) -> np.ndarray:
    """Returns the images that show the part."""
    if part.shown is None:
        return np.arange(len(labels["Bald"]))
    attribute, value = part.shown
    return np.flatnonzero(labels[attribute] == value)


def _paint_faces(canvas: np.ndarray, labels: Columns, p: Columns) -> None:
    geometry = geometry_of(labels, p, canvas.shape[2:])
    colours = colours_of(labels, p)
    for part in PARTS.values():
        items = _shown(part, labels)
        window = _window(part, geometry, items, canvas.shape[2:])
        coverage = _coverage(part, window)
        colour = colours[part.colour][items][:, :, None, None]
        if part.shade:
            colour = colour * part.shade(window.g, window.u, window.v)[:, None]
        if part.opacity < 1:
            coverage *= np.float32(part.opacity)
        _paint(canvas, window, coverage, colour)


def _pixelwise(values: np.ndarray) -> np.ndarray:
    """Shapes values (n,) to meet the pixels of n planes."""
    return values.astype(np.float32)[:, None, None]


def _pixel_axes(image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels' vertical (height, 1) and horizontal (width,) places in 0 ... 1."""
    height, width = image_size
    down = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    return down, (np.arange(width, dtype=np.float32) + 0.5) / width


def _background(p: Columns, image_size: tuple[int, int]) -> np.ndarray:
    """Returns two-colour gradients, some striped: float32 (n, 3, height, width)."""
    down, right = _pixel_axes(image_size)
    mix = _pixelwise(p["ground_x"] * 2 - 1) * (right - 0.5) + 0.5
    mix = mix + _pixelwise(p["ground_y"] * 2 - 1) * (down - 0.5)
    wave = _pixelwise(4 + 6 * p["stripe_x"]) * right + _pixelwise(10 * p["stripe_y"]) * down
    stripes = _pixelwise(np.maximum(p["stripes"] - 0.5, 0))
    mix += stripes * np.clip(6 * triangle_wave(wave) - 3, 0, 1)
    near, far = (
        hue_colour(p["ground_hue" + i], 0.7 * p["ground_saturation" + i], 0.3 + 0.7 * value).astype(
            np.float32
        )[:, :, None, None]
        for i, value in (("", p["ground_value"]), ("_2", p["ground_value_2"]))
    )
    return near + (far - near) * mix[:, None]


def _paint_blob(canvas: np.ndarray, p: Columns, suffix: str) -> None:
    """Paints one distracting ellipse on every background."""
    height, width = canvas.shape[2:]
    side = min(height, width)
    x, y = p[f"blob_x{suffix}"] * width, p[f"blob_y{suffix}"] * height
    one = np.ones_like(x)
    geometry = {"scale": one, "cos": one, "sin": np.zeros_like(x), "x": x, "y": y}
    for name in ("width", "height"):
        geometry[name] = side * (0.03 + 0.12 * p[f"blob_{name}{suffix}"])
    geometry = {name: value.astype(np.float32) for name, value in geometry.items()}
    reach = 0.15 / LARGEST
    part = Part(lambda g, u, v: ellipse(u, v, g["width"], g["height"]), "", 0.0, reach, reach)
    window = _window(part, geometry, np.arange(len(x)), (height, width))
    colour = hue_colour(p[f"blob_hue{suffix}"], 0.6, 0.2 + 0.8 * p[f"blob_value{suffix}"])
    coverage = _coverage(part, window)
    _paint(canvas, window, coverage, colour.astype(np.float32)[:, :, None, None])


def _expose(canvas: np.ndarray, p: Columns, noise: np.ndarray) -> np.ndarray:
    """Applies light and noise and returns uint8 images (n, height, width, 3)."""
    down, right = _pixel_axes(canvas.shape[2:])
    light = _pixelwise(0.3 * (p["light_x"] - 0.5)) * (right - 0.5)
    light = light + _pixelwise(0.3 * (p["light_y"] - 0.5)) * (down - 0.5)
    light += _pixelwise(0.75 + 0.35 * p["light"])
    grain = (noise.astype(np.float32) - 127.5) * _pixelwise((2 + 8 * p["noise"]) / 127.5)
    # Half a level makes the truncation below round to nearest.
    grain += 0.5
    canvas *= light[:, None]
    canvas += grain[:, None]
    np.clip(canvas, 0, 255, out=canvas)
    return canvas.transpose(0, 2, 3, 1).astype(np.uint8)


def render(labels: Columns, parameters: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Draws faces, uint8 (n, height, width, 3) in RGB.

    `labels` has a boolean column (n,) for each attribute, `parameters` (n, parameters), float64,
    the values of `PARAMETERS` in [0, 1), and `noise` uint8 (n, height, width).
    """
    p = dict(zip(PARAMETERS, parameters.T, strict=True))
    canvas = _background(p, noise.shape[1:])
    for suffix in ("", "_2"):
        _paint_blob(canvas, p, suffix)
    _paint_faces(canvas, labels, p)
    return _expose(canvas, p, noise)


def render_regions(
    labels: Columns, parameters: np.ndarray, image_size: tuple[int, int]
) -> np.ndarray:
    """Draws the regions of the faces of `render`, bool (n, height, width, attributes)."""
    p = dict(zip(PARAMETERS, parameters.T, strict=True))
    present = np.ones(len(parameters), bool)
    # The larger variant of a part covers the smaller.
    larger = dict.fromkeys(("Big_Nose", "Bushy_Eyebrows", "Mouth_Slightly_Open"), present)
    geometry = geometry_of(labels | larger, p, image_size)
    regions = np.zeros((len(parameters), *image_size, len(labels)), bool)
    order = list(labels)
    for attributes, parts in REGIONS:
        for part in parts:
            items = _shown(part, labels)
            window = _window(part, geometry, items, image_size)
            inside = _coverage(part, window) > 0
            if part.colour == "hair":
                for cover in (PARTS[name] for name in ("ears", "earrings", "hat")):
                    shown = np.isin(items, _shown(cover, labels))[:, None, None]
                    inside &= ~((_coverage(cover, window) == 1) & shown)
            view = sliding_window_view(regions, window.size, axis=(1, 2), writeable=True)
            for attribute in attributes:
                view[items, window.rows, window.columns, order.index(attribute)] |= inside
    return regions
