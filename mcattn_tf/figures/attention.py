"""Attention maps of ABN: beside CAM and Grad-CAM, or a map for each attribute."""

from matplotlib.figure import Figure

from mcattn_tf.explain.explaining import explain
from mcattn_tf.figures.compare import chosen_answers, comparison_figure, maps_of
from mcattn_tf.figures.panels import OWN_SCALE_LABEL, maps_figure
from mcattn_tf.figures.scene import Scene
from mcattn_tf.models import label_outputs
from mcattn_tf.settings.systems import system_of

METHODS = ("attention_map", "cam", "grad_cam")  # as in fig. 4 of the ABN paper


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws one figure of all images for ABN, one figure for each image for multi-task ABN."""
    parts = system_of(scene.model).parts
    return _draw_tasks(scene) if "task_maps" in parts else _draw_classes(scene)


def _draw_classes(scene: Scene) -> dict[str, Figure]:
    """Draws a row for each image, for its most probable class (Fukui et al. 2019, fig. 4, 5)."""
    images, (targets, headings) = scene.pictures.images, chosen_answers(scene)
    explanations = explain(scene.model, images, targets, METHODS, names=scene.attributes)
    title = "Attention map beside CAM and Grad-CAM of the perception branch"
    return {"attention": comparison_figure(images, headings, maps_of(explanations), title)}


def _draw_tasks(scene: Scene) -> dict[str, Figure]:
    """Draws the map of each attribute over each image; answers in bold (ibid., fig. 7)."""
    images, figures = scene.pictures.images, {}
    explanations = explain(scene.model, images, scene.indices, METHODS[:1])
    probabilities = scene.model.predict_on_batch(images)[label_outputs(scene.model)[0]]
    maps, signed = maps_of(explanations)["attention_map"]
    maps = maps.reshape(len(images), len(scene.indices), *maps.shape[1:])
    for index, name in enumerate(scene.pictures.names):
        figures[f"attention_{name}"] = maps_figure(
            images[index],
            maps[index],
            scene.headings(index, probabilities[index]),
            OWN_SCALE_LABEL,
            f"Attention map of each attribute: {name}",
            signed=signed,
            own_scales=True,
        )
    return figures
