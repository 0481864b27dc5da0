"""Draws contribution maps of GCM, and maps of several methods and networks side by side."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from matplotlib.figure import Figure

from mcattn_tf import map_figures
from mcattn_tf.errors import UserError
from mcattn_tf.explain.attribution import METHODS, Attributor, Pairs, methods_of
from mcattn_tf.explain.contribution_maps import build_map_explainer
from mcattn_tf.models import label_outputs

# Means over images and yardsticks are no pictures of one image.
NOT_COMPARED = ("centered_contributions", "top_channel_masks", "random", "center")


def contribution_maps(
    model: keras.Model,
    classes: Sequence[str],
    images: np.ndarray,
    names: Sequence[str],
    chosen: Sequence[int],
) -> dict[str, Figure]:
    """Draws the contribution maps of each image.

    Args:
        model: as `build_gcm` makes it.
        classes: names of the N classes or attributes.
        images: (B, H, W, 3), in [0, 1].
        names: of the B images.
        chosen: indices of the classes that are drawn.

    Returns:
        {file name without its ending: figure}.
    """
    explainer = build_map_explainer(model)
    drawn = {}
    for name, image in zip(names, images, strict=True):
        outputs = explainer.predict_on_batch(image[None])
        drawn[f"contribution_maps_{name}"] = map_figures.contribution_maps_figure(
            image,
            outputs["contribution_maps"][0].mean(axis=2)[..., chosen],
            outputs["scores"][0, chosen],
            outputs["probabilities"][0, chosen],
            [classes[index] for index in chosen],
            f"Contribution maps of each class: {name}",
        )
    return drawn


def nonnegative(
    model: keras.Model, classes: Sequence[str], images: np.ndarray, chosen: Sequence[int]
) -> Figure:
    """Draws what of each image speaks for its most probable class, for a non-negative GCM.

    Args:
        model: as `build_gcm` makes it.
        classes: names of the N classes or attributes.
        images: (B, H, W, 3), in [0, 1].
        chosen: indices of the classes that may be drawn.
    """
    outputs = build_map_explainer(model).predict_on_batch(images)
    best = np.array(chosen)[outputs["probabilities"][:, chosen].argmax(axis=1)]
    return map_figures.nonnegative_figure(
        images,
        outputs["contribution_maps"][np.arange(len(images)), ..., best],
        [classes[index] for index in best],
        "Contributions to the most probable class, clipped at zero",
    )


def compare(
    models: Mapping[str, keras.Model],
    classes: Sequence[str],
    images: np.ndarray,
    chosen: Sequence[int],
) -> Figure:
    """Draws the maps of every method for what the first network holds most probable.

    Args:
        models: {name: network}, all of the same classes and image size.
        classes: names of the N classes or attributes.
        images: (B, H, W, 3), in [0, 1].
        chosen: indices of the classes that may be explained.

    Raises:
        UserError: if a network takes images of another size or has another number of labels.
    """
    first = next(iter(models.values()))
    for name, model in models.items():
        labels = model.output[label_outputs(model)[0]].shape[-1]
        if (model.input.shape, labels) != (first.input.shape, len(classes)):
            raise UserError(
                f"{name} cannot be compared: its images or labels are not those of the first run"
            )
    probabilities = first.predict_on_batch(images)[label_outputs(first)[0]]
    best = np.array(chosen)[probabilities[:, chosen].argmax(axis=1)]
    pairs = Pairs(np.arange(len(images)), best, np.ones(len(images), int))
    maps = {}
    for name, model in models.items():
        methods = [method for method in methods_of(model) if method not in NOT_COMPARED]
        attributor = Attributor(model, methods)
        found = attributor.maps(images, attributor.forward(images), pairs)
        for method, values in found.items():
            column = f"{method}\n{name}" if len(models) > 1 else method
            signed = METHODS[method].signed
            maps[column] = [map_figures.Map(value, signed) for value in values]
    return map_figures.comparison_figure(
        images, [classes[index] for index in best], maps, "What each method shows"
    )
