"""Contributions of a non-negative GCM in the colours of the image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.figures.compare import most_probable
from mcattn_tf.figures.panels import limit_of, readable, two_rows_figure
from mcattn_tf.figures.scene import Scene


def nonnegative_figure(
    images: np.ndarray, contribution_maps: np.ndarray, explained: Sequence[str], title: str
) -> Figure:
    """Draws images above the contributions of their pixels to a class, in their own colours.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 8.

    Args:
        images: (B, H, W, 3), in [0, 1].
        contribution_maps: (B, H, W, 3), zero or more.
        explained: name of the class or attribute for each image.
        title: title of the figure.

    Returns:
        Two rows; the strongest contributions of an image have full brightness.
    """
    bright = [np.clip(values / limit_of(values), 0, 1) for values in contribution_maps]
    headings = [readable(name) for name in explained]
    return two_rows_figure(images, bright, [""] * len(images), headings, title)


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the contributions to the most probable class of each image."""
    images = scene.pictures.images
    outputs = build_map_explainer(scene.model).predict_on_batch(images)
    pairs = most_probable(outputs["probabilities"], scene.indices)
    figure = nonnegative_figure(
        images,
        outputs["contribution_maps"][pairs.images, ..., pairs.attributes],
        [scene.attributes[index] for index in pairs.attributes],
        "Contributions to the most probable class, clipped at zero",
    )
    return {"nonnegative": figure}
