"""Figures of docs, drawn from the kept figures of finished runs."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from result_tables import ROOT, read

COLOR = "#d95f02"
METRICS = {"pointing_game": "pointing game", "normalized_energy": "normalised energy"}


def trade_off(rows: list[dict]) -> Figure:
    """Draws what a wider receptive field gives to accuracy and takes from the truth of maps.

    Args:
        rows: of `benchmarks/results/locality.py --plain`, one a run.

    Returns:
        Accuracy, pointing game and normalised energy of CAM, all shares, over the receptive field
        in pixels: a point a run, a line through the means over the seeds of a field.
    """
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    panels = figure.subplots(1, 1 + len(METRICS))
    _draw_panel(panels[0], "accuracy", rows, lambda row: next(iter(row["accuracy"].values())))
    for panel, (metric, title) in zip(panels[1:], METRICS.items(), strict=True):
        _draw_panel(panel, title, rows, lambda row, metric=metric: row["maps"]["cam"][metric])
        panel.set_ylim(-0.08, 1.04)
    return figure


def _draw_panel(axis: Axes, title: str, rows: list[dict], value: Callable[[dict], float]) -> None:
    values: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["receptive_field"]):
        values.setdefault(row["receptive_field"], []).append(value(row))
    axis.plot(list(values), [sum(found) / len(found) for found in values.values()], color=COLOR)
    points = [(field, each) for field, found in values.items() for each in found]
    axis.plot(*zip(*points, strict=True), "o", color=COLOR, markersize=4)
    axis.set_title(title)
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(values), labels=map(str, values))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("receptive field, pixels of 64")
    axis.grid(alpha=0.3)


def draw() -> None:
    """Draws every figure anew."""
    figure = trade_off(read("locality_curve"))
    figure.savefig(ROOT / "docs" / "trade_off.png", dpi=150, metadata={"Software": None})
