"""Contribution of every cell to each attribute's logit: one figure for each image."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.figures.panels import Box, Heading, maps_figure, strongest_cells
from mcattn_tf.figures.scene import Scene
from mcattn_tf.models.receptive_field import receptive_field

CONTRIBUTION_LABEL = "contribution of a cell to the logit\nbox: what the strongest cell sees"


class Explanation(NamedTuple):
    """Explanation of k attributes in one image."""

    name: str
    image: np.ndarray  # (H, W, 3), in [0, 1]
    contributions: np.ndarray  # (h, w, k); their sum over cells plus a bias is the logit
    masks: np.ndarray  # (h, w, k, C), in (0, 1), of some or all channels
    boxes: Sequence[Box]  # pixels that the strongest cell of each attribute sees
    probabilities: np.ndarray  # (k,), in [0, 1]
    headings: Sequence[Heading]  # of each attribute


def explanations_of(scene: Scene) -> Iterator[Explanation]:
    """Yields the explanation of each image, with the masks of all channels."""
    field, indices = receptive_field(scene.model), scene.indices
    pairs = zip(scene.pictures.names, scene.pictures.images, strict=True)
    for index, (name, image) in enumerate(pairs):
        outputs = scene.explainer.predict_on_batch(image[None])
        contributions = outputs["contributions"][0][..., indices]
        cells = strongest_cells(np.moveaxis(contributions, -1, 0))
        boxes = [field.box(*cell) for cell in cells]
        masks = outputs["masks"][0][:, :, indices]
        probabilities = outputs["attributes"][0]
        answers = probabilities[indices], scene.headings(index, probabilities)
        yield Explanation(name, image, contributions, masks, boxes, *answers)


def contributions_figure(explanation: Explanation) -> Figure:
    """Draws an image, then the contributions to each of k attributes, on one scale."""
    return maps_figure(
        explanation.image,
        np.moveaxis(explanation.contributions, -1, 0),
        explanation.headings,
        CONTRIBUTION_LABEL,
        f"Contributions to each attribute: {explanation.name}",
        boxes=explanation.boxes,
    )


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the contributions in each image."""
    return {
        f"contributions_{explanation.name}": contributions_figure(explanation)
        for explanation in explanations_of(scene)
    }
