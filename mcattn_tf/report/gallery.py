"""Images and their maps as small pictures inside the page of a report."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from PIL import Image

from mcattn_tf.explain.feature_space.correlation import Analysis
from mcattn_tf.explain.methods import METHODS, Attributor, Pairs, has_negative_values, methods_of
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.figures.panels import MASK_SCALE, Scale, limit_of, scale_of, strongest_cells
from mcattn_tf.models.receptive_field import ReceptiveField, receptive_field

TOP_CHANNELS = 3
MOST_BYTES = 8 * 2**20  # limit of all pictures together; images beyond it are left out
MOST_ATTRIBUTES = 100  # limit of attributes of an image: 1,000 classes would have no room


class Examples(NamedTuple):
    """Images of a gallery."""

    images: np.ndarray  # (B, H, W, 3), in [0, 1]
    names: Sequence[str]
    labels: np.ndarray | None  # (B, K), 1, 0 or -1 (unknown); None where none is known


def as_uri(picture: Image.Image) -> str:
    """Returns a picture as a `data:` address of PNG, which needs no file beside the page."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def sprite(maps: np.ndarray, scale: Scale) -> str:
    """Returns maps (rows, columns, h, w) as one picture of at most 256 colours, a pixel a cell."""
    rows, columns, height, width = maps.shape
    colors, low, high = scale
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
    indices: Sequence[int],
    analysis: Analysis | None,
) -> dict[str, Any]:
    """Explains images for the page of a report.

    Args:
        model: any network of ours.
        attributes: names of the K attributes or classes.
        examples: images; the first that have room are shown.
        indices: indices of the attributes, of which the first `MOST_ATTRIBUTES` are shown.
        analysis: ranks the channels of masks; None for a network without sub-networks.

    Returns:
        Input of the page's script. `method`: name of the maps' method. `signed`: whether maps may
        be negative. `evidence`: whether negative values are evidence against an attribute. `size`:
        (H, W). `cells`: (h, w). `attributes`: k names. `first`: index of the attribute with the
        strongest evidence in the first image, of several the most probable. `images`: for each
        image its `name`, `photo`, `maps` (a picture of k maps below each other), `limit` (value of
        the last colour), and for each attribute `probabilities`, `labels` (-1 or None if unknown),
        `strongest` (value, row and column of the strongest cell) and `boxes` (top, left, bottom
        and right of what that cell sees, as shares of the image; None where maps have other
        cells). With an analysis also `masks` (a picture of k rows of masks) and `channels` (for
        each mask the channel's number and its contribution to the logit).
    """
    indices = list(indices)[:MOST_ATTRIBUTES]
    method = methods_of(model)[0]
    attributor = Attributor(model, [method])
    field, signed = receptive_field(model), has_negative_values(model, method)
    explainer = build_explainer(model, indices) if analysis else None
    entries, size = [], 0
    for index, (image, name) in enumerate(zip(examples.images, examples.names, strict=True)):
        outputs = attributor.forward(image[None])
        maps = attributor.maps(image[None], outputs, Pairs.product(1, indices))[method]
        labels = None if examples.labels is None else examples.labels[index, indices].tolist()
        probabilities = outputs["probabilities"][0, indices].tolist()
        entry = {"name": name, "probabilities": probabilities, "labels": labels}
        entry |= _pictures(image, maps, signed) | _strongest(maps, field)
        if analysis:
            entry |= _masks(explainer.predict_on_batch(image[None]), analysis, indices)
        size += sum(len(value) for value in entry.values() if isinstance(value, str))
        if entries and size > MOST_BYTES:
            break
        entries.append(entry)
    evidence = [value for value, _, _ in entries[0]["strongest"]]
    return {
        "method": method,
        "signed": signed,
        "evidence": METHODS[method].signed,
        "size": list(examples.images.shape[1:3]),
        "cells": list(maps.shape[1:]),
        "attributes": [attributes[index] for index in indices],
        "first": int(np.lexsort((entries[0]["probabilities"], evidence))[-1]),
        "images": entries,
    }


def _pictures(image: np.ndarray, maps: np.ndarray, signed: bool) -> dict[str, str | float]:
    """Returns an image and its k maps, (k, h, w), as pictures."""
    limit = limit_of(maps)
    return {
        "photo": as_uri(Image.fromarray(np.rint(255 * image).astype(np.uint8))),
        "maps": sprite(maps[:, None], scale_of(limit, signed)),
        "limit": limit,
    }


def _strongest(maps: np.ndarray, field: ReceptiveField) -> dict[str, list | None]:
    """Returns the strongest cell of each of k maps, (k, h, w), and the box that it sees."""
    cells, boxes = strongest_cells(maps), None
    if tuple(field.cells) == maps.shape[1:]:
        boxes = [(np.array(field.box(*x)) / (field.image_size * 2)).tolist() for x in cells]
    strongest = [(float(values[cell]), *cell) for values, cell in zip(maps, cells, strict=True)]
    return {"strongest": strongest, "boxes": boxes}


def _masks(
    explanation: dict[str, np.ndarray], analysis: Analysis, indices: Sequence[int]
) -> dict[str, Any]:
    """Returns the masks of each attribute's most important channels in one image."""
    masks, amounts = explanation["masks"][0], explanation["channel_contributions"][0]
    channels = [analysis.top_channels(index, TOP_CHANNELS) for index in indices]
    own = [masks[:, :, row, numbers] for row, numbers in enumerate(channels)]
    return {
        "masks": sprite(np.stack(own).transpose(0, 3, 1, 2), MASK_SCALE),
        "channels": [
            [(number, float(amounts[row, number])) for number in numbers]
            for row, numbers in enumerate(channels)
        ],
    }
