"""Answer of a served network: an image and the maps that explain its probabilities."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.figures.panels import headings_of, maps_figure


def answer_figure(
    image: np.ndarray,
    maps: np.ndarray,
    signed: bool,
    probabilities: np.ndarray,
    attributes: Sequence[str],
    label: str,
    title: str,
) -> Figure:
    """Draws an image and the maps that a served network explains its answers by.

    Args:
        image: (H, W, 3), in [0, 1].
        maps: (H, W, k), or (H, W, 1) if one stands for all.
        signed: whether there may be negative values.
        probabilities: (k,), in [0, 1].
        attributes: names of the k attributes or classes.
        label: label of the scale.
        title: title of the figure.

    Returns:
        The image, then a map for each attribute, all on one colour scale.
    """
    headings = headings_of(attributes, probabilities)
    return maps_figure(image, np.moveaxis(maps, -1, 0), headings, label, title, signed=signed)
