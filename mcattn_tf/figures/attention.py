"""Attention maps of ABN: beside CAM and Grad-CAM, or a map for each attribute."""

from matplotlib.figure import Figure

from mcattn_tf.explain.methods import Attributor, Pairs, has_negative_values
from mcattn_tf.figures.compare import (
    Maps,
    comparison_figure,
    explained_headings,
    most_probable,
)
from mcattn_tf.figures.panels import OWN_SCALE_LABEL, maps_figure
from mcattn_tf.figures.scene import Scene
from mcattn_tf.settings.systems import system_of

METHODS = ("attention_map", "cam", "grad_cam")  # as in fig. 4 of the ABN paper


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws one figure of all images for ABN, one figure for each image for multi-task ABN."""
    parts = system_of(scene.model).parts
    return _draw_tasks(scene) if "task_maps" in parts else _draw_classes(scene)


def _draw_classes(scene: Scene) -> dict[str, Figure]:
    """Draws a row for each image, for its most probable class (Fukui et al. 2019, fig. 4, 5)."""
    images, attributor = scene.pictures.images, Attributor(scene.model, METHODS)
    outputs = attributor.forward(images)
    pairs = most_probable(outputs["probabilities"], scene.indices)
    explained = explained_headings(scene, outputs["probabilities"], pairs)
    maps = {
        method: Maps(values, has_negative_values(scene.model, method))
        for method, values in attributor.maps(images, outputs, pairs).items()
    }
    title = "Attention map beside CAM and Grad-CAM of the perception branch"
    return {"attention": comparison_figure(images, explained, maps, title)}


def _draw_tasks(scene: Scene) -> dict[str, Figure]:
    """Draws the map of each attribute over each image; answers in bold (ibid., fig. 7)."""
    images, attributor = scene.pictures.images, Attributor(scene.model, METHODS[:1])
    outputs = attributor.forward(images)
    pairs = Pairs.product(len(images), scene.indices)
    maps = attributor.maps(images, outputs, pairs)["attention_map"]
    maps = maps.reshape(len(images), len(scene.indices), *maps.shape[1:])
    signed, figures = has_negative_values(scene.model, "attention_map"), {}
    for index, name in enumerate(scene.pictures.names):
        figures[f"attention_{name}"] = maps_figure(
            images[index],
            maps[index],
            scene.headings(index, outputs["probabilities"][index]),
            OWN_SCALE_LABEL,
            f"Attention map of each attribute: {name}",
            signed=signed,
            own_scales=True,
        )
    return figures
