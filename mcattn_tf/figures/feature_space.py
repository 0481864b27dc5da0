"""Images as points in the space of the features, by t-SNE."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from mcattn_tf.explain.feature_space.scatter import scatter
from mcattn_tf.figures.panels import names_as_written, readable
from mcattn_tf.figures.scene import Scene

CLASSES_NAMED = 20  # as many colours as the palette has; of more classes no name is drawn


@names_as_written
def scatter_figure(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str], title: str
) -> Figure:
    """Draws {panel: (points (P, 2), indices of their classes (P,))}, classes in colours.

    Source: Fukui et al. 2019, fig. 6.
    """
    figure = Figure(figsize=(4.2 * len(panels) + 1.6, 4.6), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    palette = colormaps["tab20"]
    occurring = np.unique(np.concatenate([indices for _, indices in panels.values()]))
    for axis, (name, (points, indices)) in zip(axes, panels.items(), strict=True):
        for index in occurring:
            color, label = palette(index % palette.N), readable(classes[index])
            axis.scatter(*points[indices == index].T, s=6, color=color, label=label)
        axis.set_title(name, fontsize=10)
        axis.set(xticks=[], yticks=[])
    if len(occurring) <= CLASSES_NAMED:
        handles, names = axes[-1].get_legend_handles_labels()
        style = {"fontsize": 8, "markerscale": 2, "title": "most probable"}
        figure.legend(handles, names, loc="outside right center", **style)
    return figure


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the features of each network's last stage, over all batches."""
    batches, panels = [images for images, _ in scene.pictures.batches], {}
    for name, model in scene.models.items():
        spaces, predicted = scatter(model, batches)
        for space, points in spaces.items():
            heading = f"{name}: {space}" if len(scene.models) > 1 else space
            panels[heading] = points, predicted
    title = "t-SNE of the features of the last stage"
    return {"feature_space": scatter_figure(panels, scene.attributes, title)}
