"""Plots of a report that answer to the pointer, as plotly's JSON; arrays alone."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as plots

from mcattn_tf.figures.channel_correlation import cluster, limit_of_correlations
from mcattn_tf.figures.panels import readable

ROOMY, TIGHT = 22, 5  # pixels of a cell with its name beside it, and of one of very many
MANY = 60
FEW_EPOCHS = 10  # have a tick each
LETTER = 6.2  # pixels of a name's letter
COLORS = ("#d95f02", "#7570b3", "#1b9e77", "#e7298a", "#66a61e")  # ColorBrewer's Dark2
# Title of a panel of the training's course: ending of its columns, scale of its axis.
PANELS = {
    "accuracy": ("_accuracy", "linear"),
    "loss, each term before its weight": ("loss", "log"),
    "masks": ("", "linear"),
}
MASKS = ("mask_mean", "mask_std", "mask_std_positions", "mask_dead", "mask_gini")


def plain(text: str) -> str:
    """Returns a text that plotly, which takes some HTML in labels, shows as it is."""
    return html.escape(text, quote=False)


def heat_map(
    correlations: Mapping[str, np.ndarray], by: str, names: Sequence[str]
) -> dict[str, Any]:
    """Draws how things correlate, like ones beside each other.

    Args:
        correlations: {measure: (D, D)}, in [-1, 1]; NaN where it is not defined.
        by: the measure that they are clustered by, and that is drawn first.
        names: of the D things.

    Returns:
        `figure` of plotly, with a heat map a measure of which all but one are hidden; `names` of
        its rows; `rows`, where each of the D things has its own; `measures`; and `limit`, the value
        of the last colour.
    """
    order = cluster(correlations[by]).order
    labels = [plain(readable(names[index])) for index in order]
    if len(set(labels)) < len(labels):  # plotly would draw rows of one name over each other
        labels = [plain(names[index]) for index in order]
    cell = ROOMY if len(names) < MANY else TIGHT
    limit = limit_of_correlations(correlations.values())
    figure = plots.Figure()
    for measure, values in correlations.items():
        figure.add_heatmap(
            z=np.round(values[np.ix_(order, order)], 3).tolist(),
            x=labels,
            y=labels,
            zmin=-limit,
            zmax=limit,
            colorscale="PuOr_r",
            visible=measure == by,
            name=measure,
            hovertemplate="%{y}<br>%{x}<br>r = %{z:+.2f}<extra></extra>",
            colorbar={"title": {"text": "r"}, "thickness": 10, "len": 0.6},
        )
    margin = round(LETTER * max(map(len, labels))) + 14
    side = cell * len(names)
    axis = {"type": "category", "tickfont": {"size": 11}, "showgrid": False, "ticks": ""}
    every = {"dtick": 1} if cell == ROOMY else {"nticks": 16}
    figure.update_layout(
        width=side + margin + 90,
        height=side + margin + 20,
        margin={"l": margin, "t": 10, "r": 80, "b": margin},
        xaxis=axis | every | {"tickangle": -90},
        yaxis=axis | every | {"autorange": "reversed"},
        dragmode=False,
    )
    return {
        "figure": json.loads(figure.to_json()),
        "names": [names[index] for index in order],
        "rows": np.argsort(order).tolist(),
        "measures": list(correlations),
        "limit": limit,
    }


def training_curves(history: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Draws the course of a training.

    Args:
        history: a row an epoch; `val_` begins the names of what was measured on validation images.

    Returns:
        {title: plotly figure}; of what was measured on both, training is dotted and not in the
        legend.
    """
    figures = {}
    for title, (ending, scale) in PANELS.items():
        names = [
            name for name in history[0] if (name in MASKS if not ending else name.endswith(ending))
        ]
        figure = plots.Figure()
        bases = list(dict.fromkeys(name.removeprefix("val_") for name in names))
        for name in names:
            base = name.removeprefix("val_")
            of_training = base == name and f"val_{base}" in names
            figure.add_scatter(
                x=[row["epoch"] + 1 for row in history],
                y=[row[name] for row in history],
                name=plain(f"{readable(base)}{', training' if of_training else ''}"),
                legendgroup=base,
                showlegend=not of_training,
                mode="lines+markers",
                marker={"size": 5, "symbol": "circle-open" if of_training else "circle"},
                line={
                    "color": COLORS[bases.index(base) % len(COLORS)],
                    "dash": "dot" if of_training else "solid",
                    "width": 2,
                },
            )
        figure.update_layout(
            height=420,
            margin={"l": 55, "t": 10, "r": 10, "b": 40},
            xaxis={"title": {"text": "epoch"}, "showgrid": False}
            | ({"dtick": 1} if len(history) < FEW_EPOCHS else {"tickformat": "d"}),
            yaxis={"type": scale, "nticks": 6},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
            hovermode="x unified",
            dragmode=False,
        )
        if names:
            figures[title] = json.loads(figure.to_json())
    return figures
