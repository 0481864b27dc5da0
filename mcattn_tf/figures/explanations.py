"""Trustworthiness of each method's maps: localisation, faithfulness and the sanity check."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcattn_tf.explain.methods import YARDSTICKS
from mcattn_tf.figures.panels import MASK_COLORS, names_as_written, readable

CHANCE = {"normalized_energy": 0.0, "sanity_rank_correlation": 0.0}  # that of maps at random
OWN, OTHER = "#d95f02", "#542788"  # colours of the default method and of others
# Metric of explanations: its title, which end is the better one, and the key of its images' number.
MEASURES = {
    "pointing_game": ("pointing game", "higher is better", "images"),
    "normalized_energy": ("normalized energy", "higher is better", "images"),
    "deletion_auc": ("deletion AUC", "lower is better", "faithfulness_images"),
    "insertion_auc": ("insertion AUC", "higher is better", "faithfulness_images"),
    "sanity_rank_correlation": (
        "rank correlation with\nrandomised weights",
        "lower is better",
        "sanity_images",
    ),
}


@names_as_written
def explanations_figure(
    methods: dict[str, dict], default_method: str, counts: Mapping[str, int], title: str
) -> Figure:
    """Draws measures of methods with 95 % intervals and, by attribute, the pointing game.

    Args:
        methods: {method: {metric: value, "intervals": {metric: [low, high]}, "per_attribute":
            {name: {metric: value}}}}, values None where nothing was measured.
        default_method: method drawn in a colour of its own.
        counts: {key in `MEASURES`: number of images}.
        title: title of the figure.
    """
    rows = methods.values()
    measures = [x for x in MEASURES if any(values.get(x) is not None for values in rows)]
    regions = methods[default_method]["per_attribute"].items()
    attributes = [name for name, values in regions if values.get("pointing_game") is not None]
    dots_height = 1.4 + 0.27 * len(methods)  # titles and labels of panels, and rows
    height = dots_height + (1.9 + 0.27 * len(methods) if attributes else 0) + 0.4
    figure = Figure(figsize=(13, height), layout="constrained")
    figure.suptitle(title)
    heights = [dots_height, height - dots_height] if attributes else [dots_height]
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    panels = parts[0].subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for name, panel in zip(measures, panels, strict=True):
        _draw_dots(panel, methods, name, default_method)
        heading, better, counted = MEASURES[name]
        panel.set_title(f"{heading}\n({better})", fontsize=9)
        chance = "; grey: chance" if name in ("pointing_game", *CHANCE) else ""
        panel.set_xlabel(f"{counts[counted]} images{chance}", fontsize=8)
    if attributes:
        values = [[x["per_attribute"][a]["pointing_game"] for a in attributes] for x in rows]
        _draw_attributes(parts[1], np.array(values, float), list(methods), attributes)
    return figure


def _draw_dots(axis: Axes, methods: dict[str, dict], metric: str, default_method: str) -> None:
    for row, (name, values) in enumerate(methods.items()):
        value, interval = values.get(metric), values["intervals"].get(metric)
        color = "grey" if name in YARDSTICKS else OWN if name == default_method else OTHER
        if value is not None:
            axis.plot(value, row, "o", color=color, markersize=5)
        if interval is not None:
            axis.plot(interval, [row, row], color=color, linewidth=1.5)
        if metric == "pointing_game" and values.get("chance") is not None:
            axis.plot(values["chance"], row, "|", color="grey", markersize=12)
    if metric in CHANCE:
        axis.axvline(CHANCE[metric], color="grey", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(methods)), [readable(name) for name in methods], fontsize=8)
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.set_xlim(min(0.0, axis.get_xlim()[0]), 1.03)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", linewidth=0.4)


def _draw_attributes(
    figure: Figure, values: np.ndarray, methods: Sequence[str], attributes: Sequence[str]
) -> None:
    axis = figure.subplots()
    axis.imshow(values, cmap=MASK_COLORS, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        color = "black" if value > 0.5 else "white"
        text = f"{100 * value:.0f}"
        axis.text(column, row, text, color=color, fontsize=7, ha="center", va="center")
    axis.set_yticks(range(len(methods)), [readable(name) for name in methods], fontsize=8)
    names = [readable(name) for name in attributes]
    axis.set_xticks(range(len(names)), names, fontsize=8, rotation=40, ha="right")
    axis.set_title("pointing game by attribute, per cent", fontsize=9)
