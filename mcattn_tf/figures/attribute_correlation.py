"""Correlation of attributes by several measures."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcattn_tf.explain.feature_space.correlation import ATTRIBUTE_CORRELATIONS, DEFAULT_CORRELATION
from mcattn_tf.figures.channel_correlation import (
    cluster,
    correlation_bar,
    draw_matrix,
    limit_of_correlations,
)
from mcattn_tf.figures.panels import names_as_written, readable
from mcattn_tf.figures.scene import Scene, TooFew

WRITTEN = 20  # up to so many attributes a cell has room for its number


@names_as_written
def attribute_correlation_figure(
    correlations: Mapping[str, np.ndarray], by: str, attributes: Sequence[str], title: str
) -> Figure:
    """Draws how attributes correlate, by each of several measures in one clustered order.

    Source: Kimura & Tanaka 2019, table 2.

    Args:
        correlations: {measure: (k, k)}, in [-1, 1]; NaN for a constant attribute.
        by: measure to cluster by.
        attributes: names of the k attributes.
        title: title of the figure.
    """
    count = len(attributes)
    order, limit = cluster(correlations[by]).order, limit_of_correlations(correlations.values())
    names = [readable(attributes[index]) for index in order]
    rows = math.ceil(len(correlations) / 2)
    side = max(3.0, 0.16 * count if count > WRITTEN else 0.3 * count)
    size = 2 * (side + 1.4), rows * (side + 1.6) + 1
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, 2, squeeze=False)
    for axis in axes.flat[len(correlations) :]:
        axis.set_axis_off()
    for axis, (measure, correlation) in zip(axes.flat, correlations.items(), strict=False):
        values = correlation[np.ix_(order, order)]
        draw_matrix(axis, values, limit)
        axis.set_title(measure, fontsize=10)
        axis.set_xticks(range(count), names, fontsize=7.5, rotation=90)
        axis.set_yticks(range(count), names, fontsize=7.5)
        if count <= WRITTEN:
            _write_values(axis, values, limit)
    correlation_bar(figure, axes, limit)
    return figure


def _write_values(axis: Axes, values: np.ndarray, limit: float) -> None:
    for (row, column), value in np.ndenumerate(np.round(values, 2) + 0.0):  # no -0
        if row != column and np.isfinite(value):
            color = "white" if abs(value) > 0.55 * limit else "black"
            text = f"{value:.2f}".replace("0.", ".")
            axis.text(column, row, text, color=color, fontsize=6, ha="center", va="center")


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the correlation over all images of the analysis."""
    analysis, indices = scene.analysis, scene.indices
    for things, count in {"images": analysis.images, "attributes": len(indices)}.items():
        if count < 2:
            raise TooFew(f"attribute_correlation needs at least 2 {things}. Received: {count}")
    figure = attribute_correlation_figure(
        {
            ATTRIBUTE_CORRELATIONS[name]: values[np.ix_(indices, indices)]
            for name, values in analysis.correlations().items()
        },
        ATTRIBUTE_CORRELATIONS[DEFAULT_CORRELATION],
        scene.labels,
        f"Correlation of attributes over {analysis.images} images, clustered by the first panel",
    )
    return {"attribute_correlation": figure}
