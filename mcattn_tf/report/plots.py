"""Interactive plots of a report as plotly's JSON; no model is needed."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from plotly.colors import diverging

from mcattn_tf.explain.truth.summary import rows_of
from mcattn_tf.figures.correlation import cluster, limit_of_correlations
from mcattn_tf.figures.explanations import CHANCE, MEASURES
from mcattn_tf.figures.panels import readable

ROOMY, TIGHT = 22, 5  # pixels of a cell with its name beside it, and of one of very many
MANY = 60
FEW_EPOCHS = 10  # up to so many have a tick each
LETTER = 6.2  # pixels of a name's letter
COLORS = ("#d95f02", "#7570b3", "#1b9e77", "#e7298a", "#66a61e")  # ColorBrewer's Dark2
MASKS = ("mask_mean", "mask_std", "mask_std_positions", "mask_dead", "mask_gini")
# Title of a panel of training curves: endings of its columns, scale of its axis.
PANELS = {
    "accuracy": ("_accuracy", "linear"),
    "loss, each term before its weight": ("loss", "log"),
    "masks": (MASKS, "linear"),
}
HEAT_MAP = {
    "type": "heatmap",
    "colorscale": [[index / 10, color] for index, color in enumerate(diverging.PuOr_r)],
    "hovertemplate": "%{y}<br>%{x}<br>r = %{z:+.2f}<extra></extra>",
    "colorbar": {"title": {"text": "r"}, "thickness": 10, "len": 0.6},
}
CURVES = {
    "height": 420,
    "margin": {"l": 55, "t": 10, "r": 10, "b": 40},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    "hovermode": "x unified",
    "dragmode": False,
}


def plain(text: str) -> str:
    """Returns a text for plotly, which reads some HTML in labels, to show as it is."""
    return html.escape(text, quote=False)


def heat_map(
    correlations: Mapping[str, np.ndarray], by: str, names: Sequence[str]
) -> dict[str, Any]:
    """Draws a clustered correlation matrix.

    Args:
        correlations: {measure: (D, D)}, in [-1, 1]; NaN where it is not defined.
        by: measure to cluster by, which is drawn first.
        names: names of the D rows.

    Returns:
        `figure` of plotly, with a heat map for each measure, of which all but one are hidden;
        `names` of its rows; `rows`, the row of each of the D names; `measures`; and `limit`, the
        value of the last colour.
    """
    order, _ = cluster(correlations[by])
    rounded = {  # None, as JSON has it, where a correlation is not defined
        measure: np.where(np.isnan(values), None, np.round(values, 3))[np.ix_(order, order)]
        for measure, values in correlations.items()
    }
    labels = [plain(readable(names[index])) for index in order]
    if len(set(labels)) < len(labels):  # plotly would draw rows of one name over each other
        labels = [plain(names[index]) for index in order]
    cell = ROOMY if len(names) < MANY else TIGHT
    limit = limit_of_correlations(correlations.values())
    traces = [
        {
            **HEAT_MAP,
            **{"x": labels, "y": labels, "z": values.tolist()},
            **{"zmin": -limit, "zmax": limit, "name": measure, "visible": measure == by},
        }
        for measure, values in rounded.items()
    ]
    margin = round(LETTER * max(map(len, labels))) + 14
    side = cell * len(names)
    axis = {"type": "category", "tickfont": {"size": 11}, "showgrid": False, "ticks": ""}
    axis |= {"dtick": 1} if cell == ROOMY else {"nticks": 16}
    layout = {
        "width": side + margin + 90,
        "height": side + margin + 20,
        "margin": {"l": margin, "t": 10, "r": 80, "b": margin},
        "xaxis": axis | {"tickangle": -90},
        "yaxis": axis | {"autorange": "reversed"},
        "dragmode": False,
    }
    return {
        "figure": {"data": traces, "layout": layout},
        "names": [names[index] for index in order],
        "rows": np.argsort(order).tolist(),
        "measures": list(correlations),
        "limit": limit,
    }


def trust_chart(result: Mapping[str, Any]) -> dict[str, Any]:
    """Draws a result of `measurement.measure`: a panel for each measure, a row for each method.

    A point has its 95 % interval. A dashed line is chance, a dotted one the Gaussian in the middle
    of the image (method `center`).
    """
    rows, default = rows_of(result), result["default_method"]
    measures = [x for x in MEASURES if any(row.get(x) is not None for row in rows.values())]
    names = [plain(readable(name)) for name in rows]
    colors = [COLORS[name != default] for name in rows]
    figures, shapes, layout, width = [], [], {}, 1 / max(len(measures), 1)
    for place, measure in enumerate(measures):
        axis = f"x{place + 1 if place else ''}"
        points = _points(list(rows.values()), measure)
        figures.append(points | {"y": names, "xaxis": axis, "marker": {"size": 8, "color": colors}})
        heading, better, _ = MEASURES[measure]
        title = f"{heading}<br>{better}".replace("\n", " ")
        layout[axis.replace("x", "xaxis")] = {
            "domain": [place * width, (place + 0.86) * width],
            "title": {"text": title, "font": {"size": 11}},
        }
        chance = rows[default].get("chance") if measure == "pointing_game" else CHANCE.get(measure)
        marks = {"dash": chance, "dot": rows.get("center", {}).get(measure)}
        shapes += [_upright(axis, x, dash) for dash, x in marks.items() if x is not None]
    layout |= {
        "width": max(185 * len(measures) + 150, 480),
        "height": 26 * len(names) + 110,
        "margin": {"l": round(LETTER * max(map(len, names))) + 20, "t": 10, "r": 10, "b": 60},
        "yaxis": {"autorange": "reversed", "type": "category", "dtick": 1},
        "dragmode": False,
        "shapes": shapes,
    }
    return {"data": figures, "layout": layout}


def _points(rows: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Any]:
    """Returns a trace of one measure: a point for each method, with its interval."""
    values = [row.get(measure) for row in rows]
    known = [x or 0.0 for x in values]
    ends = [row["intervals"].get(measure) or [x, x] for row, x in zip(rows, known, strict=True)]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": values,
        "error_x": {
            "type": "data",
            "array": [high - x for (_, high), x in zip(ends, known, strict=True)],
            "arrayminus": [x - low for (low, _), x in zip(ends, known, strict=True)],
            "thickness": 1.5,
            "width": 3,
        },
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
        "showlegend": False,
    }


def _upright(axis: str, value: float, dash: str) -> dict[str, Any]:
    """Returns a line through a panel at a value of its axis."""
    place = {"x0": value, "x1": value, "xref": axis, "y0": 0, "y1": 1, "yref": "paper"}
    return {"type": "line", **place, "line": {"dash": dash, "width": 1.2, "color": "#888"}}


def training_curves(history: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Draws {title: plotly figure} of the rows of a history.

    Where a name was measured on both splits, the curve of the training images is dotted and not in
    the legend.
    """
    figures, epochs = {}, [row["epoch"] + 1 for row in history]
    ticks = {"dtick": 1} if len(history) < FEW_EPOCHS else {"tickformat": "d"}
    for title, (endings, scale) in PANELS.items():
        names = [name for name in (history[0] if history else ()) if name.endswith(endings)]
        bases = list(dict.fromkeys(name.removeprefix("val_") for name in names))
        traces = []
        for name in names:
            base = name.removeprefix("val_")
            training = base == name and f"val_{base}" in names
            color, dash = COLORS[bases.index(base) % len(COLORS)], "dot" if training else "solid"
            trace = {
                "type": "scatter",
                "x": epochs,
                "y": [row[name] if math.isfinite(row[name]) else None for row in history],
                "name": plain(f"{readable(base)}{', training' if training else ''}"),
                "legendgroup": base,
                "showlegend": not training,
                "mode": "lines+markers",
                "marker": {"size": 5, "symbol": "circle-open" if training else "circle"},
                "line": {"color": color, "dash": dash, "width": 2},
            }
            traces.append(trace)
        axis = {"title": {"text": "epoch"}, "showgrid": False, **ticks}
        layout = CURVES | {"xaxis": axis, "yaxis": {"type": scale, "nticks": 6}}
        if traces:
            figures[title] = {"data": traces, "layout": layout}
    return figures
