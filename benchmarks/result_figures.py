"""Figures of docs, drawn from the kept figures of finished runs."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from result_tables import ROOT, read

POOLINGS = {False: ("softmax pooling", "#d95f02", "-"), True: ("plain average", "#542788", "--")}
METRICS = {"pointing_game": "pointing game", "normalized_energy": "normalised energy"}


def trade_off(rows: list[dict]) -> Figure:
    """Draws what a wider receptive field gives to accuracy and takes from the truth of maps.

    Args:
        rows: of `benchmarks/locality.py --plain`; those of one field and pooling are averaged.

    Returns:
        Accuracy, pointing game and normalised energy of CAM over the receptive field in pixels,
        a line a pooling.
    """
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    panels = figure.subplots(1, 1 + len(METRICS))
    fields = sorted({row["receptive_field"] for row in rows})
    for average in sorted({row["average"] for row in rows}):
        chosen, style = [row for row in rows if row["average"] == average], POOLINGS[average]
        _line(panels[0], chosen, lambda row: next(iter(row["accuracy"].values())), style)
        for panel, metric in zip(panels[1:], METRICS, strict=True):
            _line(panel, chosen, lambda row, metric=metric: row["maps"]["cam"][metric], style)
    for panel, title in zip(panels, ("accuracy", *METRICS.values()), strict=True):
        panel.set_title(title)
        panel.set_xscale("log", base=2)
        panel.set_xticks(fields, labels=map(str, fields))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("receptive field, pixels of 64")
        panel.grid(alpha=0.3)
    for panel in panels[1:]:
        panel.set_ylim(-0.08, 1.04)
    panels[0].legend()
    return figure


def _line(axis: Axes, rows: list[dict], value: Callable[[dict], float], style: tuple) -> None:
    """Draws means over the seeds of a receptive field, and each run as a point."""
    label, color, line = style
    values: dict[int, list[float]] = {}
    for row in rows:
        values.setdefault(row["receptive_field"], []).append(value(row))
    fields = sorted(values)
    means = [sum(values[field]) / len(values[field]) for field in fields]
    axis.plot(fields, means, line, color=color, label=label)
    for field in fields:
        axis.plot([field] * len(values[field]), values[field], "o", color=color, markersize=4)


# Of each file in docs: how it is drawn, and the names of the results.
FIGURES: dict[str, tuple[Callable[[list[dict]], Figure], tuple[str, ...]]] = {
    "trade_off.png": (trade_off, ("locality_curve",)),
}


def draw() -> None:
    """Draws every figure anew."""
    for file, (drawn, names) in FIGURES.items():
        rows = [row for name in names for row in read(name)]
        drawn(rows).savefig(ROOT / "docs" / file, dpi=150, metadata={"Software": None})
