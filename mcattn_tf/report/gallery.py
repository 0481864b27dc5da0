"""Images and their maps as small pictures inside the page of a report."""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from PIL import Image

from mcattn_tf.explain.feature_space.correlation import Analysis
from mcattn_tf.explain.methods import METHODS, Attributor, Pairs, has_negative_values, methods_of
from mcattn_tf.figures.panels import MASK_SCALE, Scale, limit_of, scale_of, strongest_cells
from mcattn_tf.models import is_exclusive, label_outputs
from mcattn_tf.models.receptive_field import ReceptiveField, receptive_field
from mcattn_tf.report.changes import Changes

TOP_CHANNELS = 3
# Methods beside the default one.
METHODS_SHOWN = ("local_probabilities", "cam", "grad_cam", "mask_mean")
# Limit of all entries together; images beyond it are left out. With plotly the page stays below
# 10 MB.
MOST_BYTES = 4_500_000
MOST_ATTRIBUTES = 100  # limit of attributes of an image: 1,000 classes would have no room


class Examples(NamedTuple):
    """Images of a gallery."""

    images: np.ndarray  # (B, H, W, 3), in [0, 1]
    names: Sequence[str]
    labels: np.ndarray | None  # (B, K), 1, 0 or -1 (unknown); None where none is known

    def with_most_wrong(
        self,
        model: keras.Model,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        first: int,
        count: int,
    ) -> "Examples":
        """Returns the first images, and those of many that a network answers worst.

        Args:
            model: network with label outputs, of which the first is looked at.
            batches: images (B, H, W, 3), in [0, 1], and labels (B, K), as in `labels`.
            first: number of first images.
            count: number of the images with the largest mean cross-entropy of known labels.
        """
        output, worst, seen = label_outputs(model)[0], [], 0
        for images, labels in batches:
            answers, known = model.predict_on_batch(images)[output], labels >= 0
            losses = -np.log(np.maximum(np.where(labels > 0, answers, 1 - answers), 1e-7))
            means = np.sum(losses * known, axis=1) / np.maximum(known.sum(axis=1), 1)
            rows = zip(-means, range(seen, seen + len(images)), images, labels, strict=True)
            worst = sorted([*worst, *rows], key=lambda row: row[:2])[:count]
            seen += len(images)
        _, places, images, labels = zip(*worst, strict=True)
        return Examples(
            np.concatenate([self.images[:first], images]),
            [*self.names[:first], *(f"{place + 1}, of the most wrong" for place in places)],
            np.concatenate([self.labels[:first], labels]),
        )


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
        Input of the page's script. `methods`: the default one first, each with its `name`, whether
        its maps may be negative (`signed`), whether these are evidence against an attribute
        (`evidence`) and its `cells` (h, w). `exclusive`: whether an image has one class. `size`:
        (H, W). `attributes`: k names. `first`: index of the most probable attribute of the first
        image, of those that are present. `sharpness` of the pooling of sub-networks. `images`: for
        each image its `name`, `photo`, for each method `maps` (a picture of k maps below each
        other), `limits` (value of the last colour), `strongest` (value, row and column of each
        attribute's strongest cell) and `boxes` (top, left, bottom and right of what that cell
        sees, as shares of the image; None where maps have other cells); and for each attribute
        `probabilities` and `labels` (-1 or None if unknown). With an analysis also `masks` (a
        picture of k rows of masks), `channels` (for each mask the channel's number and its
        contribution to the logit), and what `Changes.numbers` returns.
    """
    indices = list(indices)[:MOST_ATTRIBUTES]
    every = methods_of(model)
    methods = [every[0], *(x for x in METHODS_SHOWN if x in every[1:])]
    attributor, field = Attributor(model, methods), receptive_field(model)
    changes = Changes(model, indices) if analysis else None
    entries, cells, size = [], {}, 0
    for index, (image, name) in enumerate(zip(examples.images, examples.names, strict=True)):
        outputs = attributor.forward(image[None])
        maps = attributor.maps(image[None], outputs, Pairs.product(1, indices))
        cells = {method: list(values.shape[1:]) for method, values in maps.items()}
        labels = None if examples.labels is None else examples.labels[index, indices].tolist()
        photo = as_uri(Image.fromarray(np.rint(255 * image).astype(np.uint8)))
        probabilities = outputs["probabilities"][0, indices].tolist()
        entry = {"name": name, "photo": photo, "probabilities": probabilities, "labels": labels}
        entry |= _maps_of(model, maps, field)
        if changes:
            entry |= _masks(changes, image, analysis, indices)
        size += len(json.dumps(entry))
        if entries and size > MOST_BYTES:
            break
        entries.append(entry)
    first = entries[0]
    present = np.array(first["labels"] or [0] * len(indices)) == 1
    order = np.lexsort((first["probabilities"], present))
    return {
        "methods": [
            {
                "name": method,
                "signed": has_negative_values(model, method),
                "evidence": METHODS[method].signed,
                "cells": cells[method],
            }
            for method in methods
        ],
        "exclusive": is_exclusive(model),
        "size": list(examples.images.shape[1:3]),
        "attributes": [attributes[index] for index in indices],
        "first": int(order[-1]),
        "sharpness": changes.sharpness if changes else None,
        "images": entries,
    }


def _maps_of(
    model: keras.Model, maps: Mapping[str, np.ndarray], field: ReceptiveField
) -> dict[str, list]:
    """Returns the k maps (k, h, w) of each method as pictures, with their strongest cells."""
    entry: dict[str, list] = {"maps": [], "limits": [], "strongest": [], "boxes": []}
    for method, values in maps.items():
        limit = 1.0 if method == "local_probabilities" else limit_of(values)
        scale = scale_of(limit, has_negative_values(model, method))
        places, boxes = strongest_cells(values), None
        if tuple(field.cells) == values.shape[1:]:
            boxes = [(np.array(field.box(*x)) / (field.image_size * 2)).tolist() for x in places]
        strongest = [(float(x[place]), *place) for x, place in zip(values, places, strict=True)]
        entry["maps"].append(sprite(values[:, None], scale))
        entry["limits"].append(limit)
        entry["strongest"].append(strongest)
        entry["boxes"].append(boxes)
    return entry


def _masks(
    changes: Changes, image: np.ndarray, analysis: Analysis, indices: Sequence[int]
) -> dict[str, Any]:
    """Returns the masks of each attribute's most important channels in one image."""
    explained = changes.explain(image)
    masks, amounts = explained["masks"], explained["channel_contributions"]
    channels = [analysis.top_channels(index, TOP_CHANNELS) for index in indices]
    own = [masks[:, :, row, numbers] for row, numbers in enumerate(channels)]
    return {
        "masks": sprite(np.stack(own).transpose(0, 3, 1, 2), MASK_SCALE),
        "channels": [
            [(number, float(amounts[row, number])) for number in numbers]
            for row, numbers in enumerate(channels)
        ],
        **changes.numbers(explained, channels),
    }
