"""Images and their maps as the page of a report takes them: small pictures inside of it."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.colors import Colormap
from PIL import Image

from mcattn_tf.explain.feature_space.correlation import Analysis
from mcattn_tf.explain.methods import (
    METHODS,
    Attributor,
    Pairs,
    has_negative_values,
    methods_of,
)
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.figures.panels import MASK_OVERLAY_COLORS, limit_of, scale_of
from mcattn_tf.models.receptive_field import ReceptiveField, receptive_field

TOP_CHANNELS = 3
MOST_BYTES = 8 * 2**20  # of all pictures as they are written; an image more is left out
MOST_ATTRIBUTES = 100  # of an image: of 1,000 classes it would have no room


class Examples(NamedTuple):
    """What a gallery shows.

    Attributes:
        images: (B, H, W, 3), in [0, 1].
        names: of the B images.
        labels: (B, K), 0 or 1; None where they are not known.
    """

    images: np.ndarray
    names: Sequence[str]
    labels: np.ndarray | None


def as_uri(picture: Image.Image) -> str:
    """Returns a picture as a `data:` address of PNG, which needs no file beside the page."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def photo(image: np.ndarray) -> str:
    """Returns an image (H, W, 3), in [0, 1], as a `data:` address."""
    return as_uri(Image.fromarray(np.rint(255 * image).astype(np.uint8)))


def sprite(maps: np.ndarray, colors: Colormap, low: float, high: float) -> str:
    """Returns maps as one picture, a pixel a cell.

    Args:
        maps: (rows, columns, h, w), as they are laid out.
        colors: of at most 256.
        low: value of the first colour.
        high: value of the last colour.
    """
    rows, columns, height, width = maps.shape
    cells = maps.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    share = np.clip((cells - low) / (high - low), 0, 1)
    picture = Image.fromarray(np.rint(share * (colors.N - 1)).astype(np.uint8), "P")
    palette = colors(np.arange(colors.N), bytes=True)
    picture.putpalette(palette[:, :3].tobytes())
    picture.info["transparency"] = palette[:, 3].tobytes()
    return as_uri(picture)


def make_gallery(
    model: keras.Model,
    attributes: Sequence[str],
    examples: Examples,
    chosen: Sequence[int],
    analysis: Analysis | None,
) -> dict[str, Any]:
    """Explains images for the page of a report.

    Args:
        model: any network of ours.
        attributes: names of the K attributes or classes.
        examples: the images; of large ones only as many are shown as have room.
        chosen: indices of the attributes that are shown, of many the first.
        analysis: of the network, by which channels are chosen; None for one without sub-networks.

    Returns:
        What the page's script reads: `method`, the name of the maps' method; `signed`, whether
        there may be negative values; `evidence`, whether these speak against what is explained;
        `size`, (H, W); `cells`, (h, w); `attributes`, k names; `first`, the index of the one with
        the strongest evidence in the first image, of several the most probable; and of each of
        `images` its `name`, `photo`, `maps` (a picture of k maps below each other), `limit` (of
        their colours), and for each attribute `probabilities`, `labels` (None if unknown),
        `strongest` (value, row and column of the cell that weighs most) and `boxes` (top, left,
        bottom and right of what it sees, as shares of the image; None where that is not of the
        maps' cells). With an analysis, too, `masks` (a picture of k rows of masks) and `channels`,
        for each mask the channel's number and its contribution to the logit.
    """
    chosen = list(chosen)[:MOST_ATTRIBUTES]
    method = methods_of(model)[0]
    attributor = Attributor(model, [method])
    field, signed = receptive_field(model), has_negative_values(model, method)
    explainer = build_explainer(model, chosen) if analysis else None
    shown, written = [], 0
    for index, (image, name) in enumerate(zip(examples.images, examples.names, strict=True)):
        outputs = attributor.forward(image[None])
        maps = attributor.maps(image[None], outputs, Pairs.product(1, chosen))[method]
        limit = limit_of(maps)
        colors, low = scale_of(limit, signed)
        entry = {
            "name": name,
            "photo": photo(image),
            "maps": sprite(maps[:, None], colors, low, limit),
            "limit": limit,
            "probabilities": outputs["probabilities"][0, chosen].tolist(),
            "labels": None if examples.labels is None else examples.labels[index, chosen].tolist(),
            **_strongest(maps, field),
        }
        if analysis:
            entry |= _masks(explainer.predict_on_batch(image[None]), analysis, chosen)
        written += sum(len(value) for value in entry.values() if isinstance(value, str))
        if shown and written > MOST_BYTES:
            break
        shown.append(entry)
    return {
        "method": method,
        "signed": signed,
        "evidence": METHODS[method].signed,
        "size": list(examples.images.shape[1:3]),
        "cells": list(maps.shape[1:]),
        "attributes": [attributes[index] for index in chosen],
        "first": max(range(len(chosen)), key=lambda row: _evidence(shown[0], row)),
        "images": shown,
    }


def _evidence(entry: dict[str, Any], row: int) -> tuple[float, float]:
    """Returns the strongest evidence for an attribute in an image, and its probability."""
    return entry["strongest"][row][0], entry["probabilities"][row]


def _strongest(maps: np.ndarray, field: ReceptiveField) -> dict[str, list]:
    """Returns the cell that weighs most in each of k maps, (k, h, w), and what it sees."""
    flat = maps.reshape(len(maps), -1)
    cells = np.abs(flat).argmax(axis=1)
    places = [divmod(int(cell), maps.shape[2]) for cell in cells]
    boxes = None
    if tuple(field.cells) == maps.shape[1:]:
        boxes = [(np.array(field.box(*p)) / (field.image_size * 2)).tolist() for p in places]
    values = [float(values[cell]) for values, cell in zip(flat, cells, strict=True)]
    return {
        "strongest": [(value, *place) for value, place in zip(values, places, strict=True)],
        "boxes": boxes,
    }


def _masks(
    explanation: dict[str, np.ndarray], analysis: Analysis, chosen: Sequence[int]
) -> dict[str, Any]:
    """Returns the masks of each attribute's most important channels in one image."""
    channels = [analysis.top_channels(index, TOP_CHANNELS) for index in chosen]
    masks = explanation["masks"][0].transpose(2, 3, 0, 1)  # (k, C, h, w)
    own = np.stack([masks[row, numbers] for row, numbers in enumerate(channels)])
    amounts = explanation["channel_contributions"][0]
    return {
        "masks": sprite(own, MASK_OVERLAY_COLORS, 0.0, 1.0),
        "channels": [
            [(number, float(amounts[row, number])) for number in numbers]
            for row, numbers in enumerate(channels)
        ],
    }
