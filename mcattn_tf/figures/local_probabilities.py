"""Where each attribute is seen, and which cells decided: one figure for each image."""

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.figures.panels import maps_figure
from mcattn_tf.figures.scene import Scene, Undrawable

LABEL = (
    "local probability: the answer if every cell were like this one\n"
    "line: cells whose contribution is at least half of the highest, if that is positive"
)


def deciding_cells(contributions: np.ndarray) -> np.ndarray:
    """Returns the cells of at least half the highest value, bool, of maps (k, h, w)."""
    highest = contributions.max(axis=(1, 2), keepdims=True)
    return (contributions >= highest / 2) & (highest > 0)


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the local probabilities in each image, and a line around the cells that decided."""
    if "local_probabilities" not in scene.explainer.output:
        raise Undrawable("local_probabilities needs sub-networks with the head `linear`")
    figures = {}
    pairs = zip(scene.pictures.names, scene.pictures.images, strict=True)
    for index, (name, image) in enumerate(pairs):
        outputs = scene.explainer.predict_on_batch(image[None])
        maps, contributions = (
            np.moveaxis(outputs[x][0][..., scene.indices], -1, 0)
            for x in ("local_probabilities", "contributions")
        )
        figures[f"local_probabilities_{name}"] = maps_figure(
            image,
            maps,
            scene.headings(index, outputs["attributes"][0]),
            LABEL,
            f"Where each attribute is seen: {name}",
            signed=False,
            limit=1.0,
            outlined=deciding_cells(contributions),
        )
    return figures
