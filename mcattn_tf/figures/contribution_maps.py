"""Contribution maps of GCM: one figure for each image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.figures.panels import maps_figure, readable
from mcattn_tf.figures.scene import Scene

CONTRIBUTION_MAP_LABEL = "weight times pixel, averaged over colours; the mean of a map is the score"


def contribution_maps_figure(
    image: np.ndarray,
    contribution_maps: np.ndarray,
    scores: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Draws the contribution of each pixel of an image to the score of each class.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 6 and 7.

    Args:
        image: (H, W, 3), in [0, 1].
        contribution_maps: (H, W, N), signed; the mean of each is its class's score.
        scores: (N,).
        probabilities: (N,), in [0, 1].
        classes: names of the N classes or attributes.
        title: title of the figure.

    Returns:
        The image, then a map for each class with its score, all on one colour scale centred at
        zero; the most probable class in bold.
    """
    headings = [
        f"{readable(name)}\nscore {score:.2f}, p = {probability:.2f}"
        for name, score, probability in zip(classes, scores, probabilities, strict=True)
    ]
    maps, bold = np.moveaxis(contribution_maps, -1, 0), [int(np.argmax(probabilities))]
    label = CONTRIBUTION_MAP_LABEL
    return maps_figure(image, maps, headings, label, title, bold=bold, heading_height=0.6)


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the contribution maps of each image, averaged over colours."""
    explainer, figures = build_map_explainer(scene.model), {}
    for name, image in zip(scene.pictures.names, scene.pictures.images, strict=True):
        outputs = explainer.predict_on_batch(image[None])
        figures[f"contribution_maps_{name}"] = contribution_maps_figure(
            image,
            outputs["contribution_maps"][0].mean(axis=2)[..., scene.indices],
            outputs["scores"][0, scene.indices],
            outputs["probabilities"][0, scene.indices],
            scene.labels,
            f"Contribution maps of each class: {name}",
        )
    return figures
