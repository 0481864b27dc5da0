"""Maps of several methods, and of several networks, side by side."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods import Attributor, Pairs, has_negative_values, methods_of
from mcattn_tf.figures import panels
from mcattn_tf.figures.panels import (
    OWN_SCALE_LABEL,
    Heading,
    names_as_written,
    readable,
    scale_of,
)
from mcattn_tf.figures.scene import Scene
from mcattn_tf.models import is_exclusive, label_outputs

# Means over images and yardsticks are no pictures of one image.
NOT_COMPARED = ("centered_contributions", "top_channel_masks", "random", "center")
SCALE_HEIGHT = 0.6  # inches of a scale and its label


class Maps(NamedTuple):
    """Maps of one method."""

    values: np.ndarray  # (B, h, w); h divides H and w divides W of the image
    signed: bool  # whether there may be negative values


def most_probable(probabilities: np.ndarray, indices: Sequence[int]) -> Pairs:
    """Pairs each image with its most probable class of some; probabilities are (B, K)."""
    best = np.array(indices)[probabilities[:, indices].argmax(axis=1)]
    return Pairs(np.arange(len(best)), best, np.ones(len(best), int))


def most_distinctive(probabilities: np.ndarray, indices: Sequence[int]) -> Pairs:
    """Pairs each image with an attribute that it has and the other images have not.

    It is the one whose probability is furthest above its mean over the images, of those that no
    image before has; of one image, the most probable.

    Args:
        probabilities: (B, K).
        indices: attributes to choose from.
    """
    above, best = probabilities - probabilities.mean(axis=0) * (len(probabilities) > 1), []
    for row in above:
        free = [k for k in indices if k not in best] or indices
        best.append(max(free, key=lambda k, row=row: row[k]))
    return Pairs(np.arange(len(best)), np.array(best), np.ones(len(best), int))


def explained_headings(scene: Scene, probabilities: np.ndarray, pairs: Pairs) -> list[Heading]:
    """Returns the heading of what is explained in each image; probabilities are (B, K)."""
    every = dataclasses.replace(scene, indices=range(len(scene.attributes)))
    return [
        every.headings(image, probabilities[image])[k]
        for image, k in zip(pairs.images, pairs.attributes, strict=True)
    ]


@names_as_written
def comparison_figure(
    images: np.ndarray, explained: Sequence[Heading], maps: Mapping[str, Maps], title: str
) -> Figure:
    """Draws a row for each image, titled by what is explained, and a column for each method.

    Each map has a scale of its own; one colour bar stands for all signed maps, one for all others.
    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 10.
    """
    height = panels.image_height(images) + 0.5
    figure, axes = panels.grid(len(images), len(maps) + 1, panels.CELL, height)
    kinds = sorted({signed for _, signed in maps.values()})
    figure.set_figheight(figure.get_figheight() + SCALE_HEIGHT * (len(kinds) - 1))
    figure.suptitle(title)
    for row, image in enumerate(images):
        axes[row, 0].imshow(image)
        explained[row].write(axes[row, 0])
        for (method, (values, signed)), axis in zip(maps.items(), axes[row, 1:], strict=True):
            limit = panels.limit_of(values[row])
            panels.overlay(axis, image, values[row], scale_of(limit, signed))
            axis.set_title(readable(method), fontsize=8)
    for signed in kinds:
        names = [method.replace("\n", ", ") for method, x in maps.items() if x.signed == signed]
        label = f"{', '.join(map(readable, names))}: {OWN_SCALE_LABEL}"
        label = "\n".join(textwrap.wrap(label, max(60, 18 * axes.shape[1])))
        panels.color_bar(figure, axes, scale_of(1.0, signed), label, True)
    return figure


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the maps of every method for an answer of the first network to each image.

    That is the most probable class, or an attribute that tells the image from the others.

    Raises:
        UserError: if a network takes images of another size or has another number of labels.
    """
    images, maps, pairs = scene.pictures.images, {}, None
    for name, model in scene.models.items():
        sizes = model.input.shape, model.output[label_outputs(model)[0]].shape[-1]
        if sizes != (scene.model.input.shape, len(scene.attributes)):
            raise UserError(
                f"{name} cannot be compared: its images or labels are not those of the first run"
            )
    for name, model in scene.models.items():
        methods = [method for method in methods_of(model) if method not in NOT_COMPARED]
        attributor = Attributor(model, methods)
        outputs = attributor.forward(images)
        if pairs is None:
            choose = most_probable if is_exclusive(model) else most_distinctive
            pairs = choose(outputs["probabilities"], scene.indices)
            explained = explained_headings(scene, outputs["probabilities"], pairs)
        for method, values in attributor.maps(images, outputs, pairs).items():
            heading = f"{method}\n{name}" if len(scene.models) > 1 else method
            maps[heading] = Maps(values, has_negative_values(model, method))
    return {"compare": comparison_figure(images, explained, maps, "Maps of each method")}
