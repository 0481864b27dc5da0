"""Maps of several methods, and of several networks, side by side."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.errors import UserError
from mcattn_tf.explain.explaining import Explanations, explain
from mcattn_tf.explain.methods import Pairs, methods_of
from mcattn_tf.explain.methods.method import on_whole_pixels
from mcattn_tf.figures import panels
from mcattn_tf.figures.panels import OWN_SCALE_LABEL, Heading, names_as_written, readable, scale_of
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


def chosen_answers(scene: Scene) -> tuple[np.ndarray, list[Heading]]:
    """Chooses an answer of the first network to explain in each image.

    Returns:
        Indices of labels, (B, 1): the most probable class, or an attribute that tells the image
        from the others; and their headings.
    """
    model = scene.model
    probabilities = model.predict_on_batch(scene.pictures.images)[label_outputs(model)[0]]
    choose = most_probable if is_exclusive(model) else most_distinctive
    targets = choose(probabilities, scene.indices).attributes
    every = dataclasses.replace(scene, indices=range(len(scene.attributes)))
    headings = [every.headings(image, probabilities[image])[k] for image, k in enumerate(targets)]
    return targets[:, None], headings


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
            Heading(readable(method)).write(axis)
    for signed in kinds:
        names = [method.replace("\n", ", ") for method, x in maps.items() if x.signed == signed]
        label = f"{', '.join(map(readable, names))}: {OWN_SCALE_LABEL}"
        label = "\n".join(textwrap.wrap(label, max(60, 18 * axes.shape[1])))
        panels.color_bar(figure, axes, scale_of(1.0, signed), label, True)
    return figure


def plot(
    explanations: Explanations,
    methods: Sequence[str] | None = None,
    title: str = "Maps of each method",
) -> Figure:
    """Draws explanations: a row for each image and target, a column for each method (or `methods`).

    Orange cells are evidence for the target, purple ones against it. The number beside a name is
    its probability. `figure.savefig("maps.png")` writes the figure.
    """
    count = explanations.targets.shape[1]
    pictures = np.repeat(_shown(explanations.images), count, axis=0)
    numbers = zip(explanations.targets.flat, explanations.probabilities.flat, strict=True)
    headings = [
        Heading(f"{readable(str(explanations.names[target]))}\np = {share:.2f}", bold=True)
        for target, share in numbers
    ]
    maps = maps_of(explanations, methods)
    return comparison_figure(pictures, headings, maps, title)


def maps_of(explanations: Explanations, methods: Sequence[str] | None = None) -> dict[str, Maps]:
    """Returns {method: maps}, all targets of an image one after the other."""
    size, maps = explanations.images.shape[1:3], {}
    for name in explanations.maps if methods is None else methods:
        values = on_whole_pixels(np.concatenate(explanations[name]), size)
        maps[name] = Maps(values, name in explanations.signed)
    return maps


def _shown(images: np.ndarray) -> np.ndarray:
    """Returns images in [0, 1] with three colours, whatever a network takes."""
    low, high = float(images.min()), float(images.max())
    shown = images.astype(np.float32)
    if low < 0 or high > 1:
        low, high = (0.0, 255.0) if low >= 0 and high <= 255 else (low, high)
        shown = (shown - low) / (high - low)
    return shown[..., :3] if shown.shape[-1] >= 3 else shown[..., :1].repeat(3, axis=-1)


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the maps of every method for the answers of `chosen_answers`.

    Raises:
        UserError: if a network takes images of another size or has another number of labels.
    """
    images, maps = scene.pictures.images, {}
    for name, model in scene.models.items():
        sizes = model.input.shape, model.output[label_outputs(model)[0]].shape[-1]
        if sizes != (scene.model.input.shape, len(scene.attributes)):
            raise UserError(
                f"{name} cannot be compared: its images or labels are not those of the first run"
            )
    targets, headings = chosen_answers(scene)
    for name, model in scene.models.items():
        methods = [method for method in methods_of(model) if method not in NOT_COMPARED]
        explanations = explain(model, images, targets, methods, names=scene.attributes)
        for method, values in maps_of(explanations).items():
            maps[f"{method}\n{name}" if len(scene.models) > 1 else method] = values
    return {"compare": comparison_figure(images, headings, maps, "Maps of each method")}
