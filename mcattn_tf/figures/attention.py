"""Attention maps of ABN: beside CAM and Grad-CAM, or a map for each attribute."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.explain.methods import Attributor, Pairs, has_negative_values
from mcattn_tf.figures.compare import Maps, comparison_figure, most_probable
from mcattn_tf.figures.panels import OWN_SCALE_LABEL, headings_of, maps_figure
from mcattn_tf.figures.scene import Scene
from mcattn_tf.settings.systems import system_of

METHODS = ("attention_map", "cam", "grad_cam")  # as in fig. 4 of the ABN paper


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
        maps: (T, h, w), each drawn on a scale of its own.
        signed: whether there may be negative values.
        probabilities: (T,), from the perception branch, in [0, 1].
        attributes: names of the T attributes.
        title: title of the figure.

    Returns:
        The image, then a map for each attribute with its probability, those present in bold.
    """
    return maps_figure(
        image,
        maps,
        headings_of(attributes, probabilities),
        OWN_SCALE_LABEL,
        title,
        signed=signed,
        own_scales=True,
        bold=np.flatnonzero(probabilities > 0.5),
    )


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws one figure of all images for ABN, one figure for each image for multi-task ABN."""
    parts = system_of(scene.model).parts
    return _draw_tasks(scene) if "task_maps" in parts else _draw_classes(scene)


def _draw_classes(scene: Scene) -> dict[str, Figure]:
    """Draws a row for each image, for its most probable class (Fukui et al. 2019, fig. 4, 5)."""
    images, attributor = scene.pictures.images, Attributor(scene.model, METHODS)
    outputs = attributor.forward(images)
    pairs = most_probable(outputs["probabilities"], scene.indices)
    probabilities = outputs["probabilities"][pairs.images, pairs.attributes]
    explained = [
        f"{scene.attributes[index]}\np = {probability:.2f}"
        for index, probability in zip(pairs.attributes, probabilities, strict=True)
    ]
    maps = {
        method: Maps(values, has_negative_values(scene.model, method))
        for method, values in attributor.maps(images, outputs, pairs).items()
    }
    title = "Attention map beside CAM and Grad-CAM of the perception branch"
    return {"attention": comparison_figure(images, explained, maps, title)}


def _draw_tasks(scene: Scene) -> dict[str, Figure]:
    images, attributor = scene.pictures.images, Attributor(scene.model, METHODS[:1])
    outputs = attributor.forward(images)
    pairs = Pairs.product(len(images), scene.indices)
    maps = attributor.maps(images, outputs, pairs)["attention_map"]
    maps = maps.reshape(len(images), len(scene.indices), *maps.shape[1:])
    return {
        f"attention_{name}": task_attention_figure(
            image,
            values,
            has_negative_values(scene.model, "attention_map"),
            probabilities,
            scene.labels,
            f"Attention map of each attribute: {name}",
        )
        for name, image, values, probabilities in zip(
            scene.pictures.names,
            images,
            maps,
            outputs["probabilities"][:, scene.indices],
            strict=True,
        )
    }
