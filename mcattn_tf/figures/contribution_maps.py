"""Contribution maps of GCM: each class over an image, or in the colours of the image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.figures.compare import most_probable
from mcattn_tf.figures.panels import Heading, limit_of, maps_figure, readable, two_rows_figure
from mcattn_tf.figures.scene import Scene

CONTRIBUTION_MAP_LABEL = "weight times pixel, averaged over colours; the mean of a map is the score"


def contribution_maps_figure(
    image: np.ndarray, contribution_maps: np.ndarray, headings: Sequence[Heading], title: str
) -> Figure:
    """Draws the contribution of each pixel of an image to the score of each class, (H, W, N).

    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 6 and 7.
    """
    maps, label = np.moveaxis(contribution_maps, -1, 0), CONTRIBUTION_MAP_LABEL
    return maps_figure(image, maps, headings, label, title, heading_height=0.6)


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the contribution maps of each image, averaged over colours."""
    explainer, figures = build_map_explainer(scene.model), {}
    pairs = zip(scene.pictures.names, scene.pictures.images, strict=True)
    for index, (name, image) in enumerate(pairs):
        outputs = explainer.predict_on_batch(image[None])
        scored = zip(outputs["scores"][0], outputs["probabilities"][0], strict=True)
        numbers = [f"score {score:.2f}, p = {p:.2f}" for score, p in scored]
        figures[f"contribution_maps_{name}"] = contribution_maps_figure(
            image,
            outputs["contribution_maps"][0].mean(axis=2)[..., scene.indices],
            scene.headings(index, outputs["probabilities"][0], numbers),
            f"Contribution maps of each class: {name}",
        )
    return figures


def draw_nonnegative(scene: Scene) -> dict[str, Figure]:
    """Draws images above the contributions to their most probable class, in their own colours.

    The strongest contributions of an image have full brightness.
    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 8.
    """
    images = scene.pictures.images
    outputs = build_map_explainer(scene.model).predict_on_batch(images)
    pairs = most_probable(outputs["probabilities"], scene.indices)
    maps = outputs["contribution_maps"][pairs.images, ..., pairs.attributes]  # (B, H, W, 3)
    bright = [np.clip(values / limit_of(values), 0, 1) for values in maps]
    headings = [readable(scene.attributes[index]) for index in pairs.attributes]
    title = "Contributions to the most probable class, clipped at zero"
    return {"nonnegative": two_rows_figure(images, bright, [""] * len(images), headings, title)}
