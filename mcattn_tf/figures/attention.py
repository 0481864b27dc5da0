"""Attention maps of ABN: beside CAM and Grad-CAM, or a map for each attribute."""

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.explain.explaining import explain
from mcattn_tf.figures.compare import comparison_figure, explain_likely, maps_of
from mcattn_tf.figures.panels import OWN_SCALE_LABEL, headings_of, maps_figure
from mcattn_tf.figures.scene import Scene
from mcattn_tf.settings.systems import system_of

METHODS = ("attention_map", "cam", "grad_cam")  # as in fig. 4 of the ABN paper


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws one figure of all images for ABN, one figure for each image for multi-task ABN."""
    parts = system_of(scene.model).parts
    return _draw_tasks(scene) if "task_maps" in parts else _draw_classes(scene)


def _draw_classes(scene: Scene) -> dict[str, Figure]:
    """Draws a row for each image, for its most probable class (Fukui et al. 2019, fig. 4, 5)."""
    explanations = explain_likely(scene, METHODS, scene.model)
    classes = [scene.attributes[index] for index in explanations.targets[:, 0]]
    explained = headings_of(classes, explanations.probabilities[:, 0])
    title = "Attention map beside CAM and Grad-CAM of the perception branch"
    images, maps = scene.pictures.images, maps_of(explanations)
    return {"attention": comparison_figure(images, explained, maps, title)}


def _draw_tasks(scene: Scene) -> dict[str, Figure]:
    """Draws the map of each attribute over each image; those present in bold (ibid., fig. 7)."""
    images, figures = scene.pictures.images, {}
    explanations = explain(scene.model, images, scene.indices, METHODS[:1])
    maps, signed = maps_of(explanations)["attention_map"]
    maps = maps.reshape(len(images), len(scene.indices), *maps.shape[1:])
    for index, name in enumerate(scene.pictures.names):
        probabilities = explanations.probabilities[index]
        figures[f"attention_{name}"] = maps_figure(
            images[index],
            maps[index],
            headings_of(scene.labels, probabilities),
            OWN_SCALE_LABEL,
            f"Attention map of each attribute: {name}",
            signed=signed,
            own_scales=True,
            bold=np.flatnonzero(probabilities > 0.5),
        )
    return figures
