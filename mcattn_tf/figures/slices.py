"""Gaps between slices of the images and the others, with 95 % intervals."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mcattn_tf.evaluation.slices import MEASURES
from mcattn_tf.figures.panels import names_as_written, readable

COLOR = "#542788"


@names_as_written
def slices_figure(slices: dict[str, dict], title: str) -> Figure:
    """Draws the mean gap of each measure and slice, and the gaps of accuracy by attribute.

    Args:
        slices: Result of `measure_slices`.
        title: Title of the figure.
    """
    names = list(slices)
    measures = [x for x in MEASURES if any(x in values["mean"] for values in slices.values())]
    rows = [list(row["per_attribute"]) for row in slices.values()]
    attributes = list(dict.fromkeys(x for row in sorted(rows, key=len)[::-1] for x in row))
    heights = [1.1 + 0.42 * len(names), 1.9 + 0.32 * len(names)]
    figure = Figure(figsize=(13, sum(heights) + 0.4), layout="constrained")
    figure.suptitle(title)
    top, below = figure.subfigures(2, 1, height_ratios=heights)
    panels = top.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for measure, panel in zip(measures, panels, strict=True):
        _draw_gaps(panel, [slices[name]["mean"][measure] for name in names])
        panel.set_title(f"{MEASURES[measure]},\nslice minus the others", fontsize=9)
    labels = [f"{name} ({slices[name]['images']:,})" for name in names]
    panels[0].set_yticks(range(len(names)), labels, fontsize=8)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    axis = below.subplots()
    gaps = [
        [row["per_attribute"].get(x, {}).get("accuracy", {}).get("gap") for x in attributes]
        for row in slices.values()
    ]
    values = 100 * np.array(gaps, float)  # NaN for what defines a slice
    limit = max(1.0, float(np.nanmax(np.abs(values), initial=0)))
    axis.set_facecolor("0.6")
    picture = axis.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    axis.set_yticks(range(len(names)), labels, fontsize=8)
    ticks = [readable(attribute) for attribute in attributes]
    axis.set_xticks(range(len(attributes)), ticks, fontsize=7, rotation=50, ha="right")
    axis.set_title(
        "gap of the accuracy by attribute, points (grey: defines the slice, or too few labels)",
        fontsize=9,
    )
    below.colorbar(picture, ax=axis, pad=0.01)
    return figure


def _draw_gaps(axis: Axes, gaps: list[dict]) -> None:
    axis.axvline(0, color="grey", linewidth=0.8)
    for row, gap in enumerate(gaps):
        if gap["gap"] is not None:
            axis.plot(100 * gap["gap"], row, "o", color=COLOR, markersize=5)
        if gap["interval"] is not None:
            axis.plot(100 * np.array(gap["interval"]), [row, row], color=COLOR, linewidth=1.5)
    axis.set_xlabel("points", fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", linewidth=0.4)
