"""Draws maps of GCM and ABN, maps of several methods side by side, and feature spaces."""

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.scatter import scatter
from mcattn_tf.explain.methods import (
    Attributor,
    Pairs,
    has_negative_values,
    methods_of,
    on_whole_pixels,
)
from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.figures import maps as map_figures
from mcattn_tf.models import label_outputs

# Means over images and yardsticks are no pictures of one image.
NOT_COMPARED = ("centered_contributions", "top_channel_masks", "random", "center")
BESIDE_ATTENTION = ("attention_map", "cam", "grad_cam")  # as in fig. 4 of the ABN paper


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
    pairs, _ = _most_probable(first, images, chosen)
    maps = {}
    for name, model in models.items():
        methods = [method for method in methods_of(model) if method not in NOT_COMPARED]
        for method, values in _maps(model, methods, images, pairs).items():
            maps[f"{method}\n{name}" if len(models) > 1 else method] = values
    return map_figures.comparison_figure(
        images, [classes[index] for index in pairs.attributes], maps, "What each method shows"
    )


def attention(
    model: keras.Model, classes: Sequence[str], images: np.ndarray, chosen: Sequence[int]
) -> Figure:
    """Draws the attention map of each image beside CAM and Grad-CAM of the perception branch.

    Source: Fukui et al. 2019, fig. 4 and 5.

    Args:
        model: as `build_abn` makes it, with an attention mechanism.
        classes: names of the N classes or attributes.
        images: (B, H, W, 3), in [0, 1].
        chosen: indices of the classes that may be explained.

    Returns:
        A row an image, with its most probable class and the probability of that.
    """
    pairs, probabilities = _most_probable(model, images, chosen)
    explained = [
        f"{classes[index]}\np = {probability:.2f}"
        for index, probability in zip(pairs.attributes, probabilities, strict=True)
    ]
    maps = _maps(model, BESIDE_ATTENTION, images, pairs)
    title = "Attention map, and what CAM and Grad-CAM show of the perception branch"
    return map_figures.comparison_figure(images, explained, maps, title)


def task_attention(
    model: keras.Model,
    attributes: Sequence[str],
    images: np.ndarray,
    names: Sequence[str],
    chosen: Sequence[int],
) -> dict[str, Figure]:
    """Draws the attention maps of the attributes of each image.

    Args:
        model: as `build_multitask_abn` makes it.
        attributes: names of the T attributes.
        images: (B, H, W, 3), in [0, 1].
        names: of the B images.
        chosen: indices of the attributes that are drawn.

    Returns:
        {file name without its ending: figure}.
    """
    outputs = model.predict_on_batch(images)
    return {
        f"attention_{name}": map_figures.task_attention_figure(
            image,
            on_whole_pixels(np.moveaxis(maps[..., chosen], -1, 0), image.shape[:2]),
            has_negative_values(model, "attention_map"),
            probabilities[chosen],
            [attributes[index] for index in chosen],
            f"Attention map of each attribute: {name}",
        )
        for name, image, maps, probabilities in zip(
            names, images, outputs["attention_map"], outputs["perception"], strict=True
        )
    }


def feature_space(
    models: Mapping[str, keras.Model], classes: Sequence[str], batches: Iterable[np.ndarray]
) -> Figure:
    """Draws where images lie in the space of each network's features.

    Source: Fukui et al. 2019, fig. 6.

    Args:
        models: {name: network as `build_abn` makes it}.
        classes: names of the N classes or attributes.
        batches: of images, (B, H, W, 3) in [0, 1].
    """
    batches, panels = list(batches), {}
    for name, model in models.items():
        found, predicted = scatter(model, batches)
        for space, points in found.items():
            panels[f"{name}: {space}" if len(models) > 1 else space] = (points, predicted)
    return map_figures.scatter_figure(panels, classes, "t-SNE of the features of the last stage")


def _most_probable(
    model: keras.Model, images: np.ndarray, chosen: Sequence[int]
) -> tuple[Pairs, np.ndarray]:
    """Pairs each image with its most probable class of those chosen; the probabilities are (B,)."""
    probabilities = model.predict_on_batch(images)[label_outputs(model)[0]]
    best = np.array(chosen)[probabilities[:, chosen].argmax(axis=1)]
    rows = np.arange(len(images))
    return Pairs(rows, best, np.ones(len(images), int)), probabilities[rows, best]


def _maps(
    model: keras.Model, methods: Sequence[str], images: np.ndarray, pairs: Pairs
) -> dict[str, list[map_figures.Map]]:
    """Returns {method: a map of each pair}."""
    attributor = Attributor(model, methods)
    found = attributor.maps(images, attributor.forward(images), pairs)
    return {
        method: [map_figures.Map(value, has_negative_values(model, method)) for value in values]
        for method, values in found.items()
    }
