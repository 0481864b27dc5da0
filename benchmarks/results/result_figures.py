"""Figures of docs, drawn from the kept figures of finished runs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from result_tables import ROOT, read

import mcattn_tf
from mcattn_tf.data.sets.faces import SEEDS
from mcattn_tf.figures import panels
from mcattn_tf.figures.local_probabilities import deciding_cells

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


FACES = 64  # test faces to choose one from
ROWS = {
    "local_probabilities": "seen here;\na line around\nthe cells\nthat decided",
    "mask_mean": "the mean\nof its mask:\nno evidence",
}


def front(run: Path) -> Figure:
    """Draws a face: where each attribute that it has is seen, and the mean mask below.

    Args:
        run: run of drawn faces. The face is the one with most attributes of which all answers of
            the first test faces are right.
    """
    model, faces = mcattn_tf.load_run(run), mcattn_tf.drawn_faces(FACES, SEEDS["test"])
    answers = model.predict(faces.images, verbose=0)["attributes"] > 0.5
    right = np.all(answers == faces.labels, axis=1)
    chosen = int(np.argmax(np.where(right, faces.labels.sum(axis=1), -1)))
    image = faces.images[chosen]
    present = [name for name, label in zip(faces.names, faces.labels[chosen], strict=True) if label]
    methods = [*ROWS, "contributions"]
    explained = mcattn_tf.explain(model, image[None], present, methods, names=faces.names)
    height = panels.image_height(image) + 0.25
    figure, axes = panels.grid(len(ROWS), len(present) + 2, panels.CELL, height)
    figure.set_figheight(len(ROWS) * height)
    axes[0, 1].imshow(image)
    decided = deciding_cells(explained["contributions"][0])
    for row, (method, text) in zip(axes, ROWS.items(), strict=True):
        row[0].text(0.5, 0.5, text, fontsize=11, ha="center", va="center")
        for number, (name, axis) in enumerate(zip(present, row[2:], strict=True)):
            values = explained[method][0, number]
            limit = 1.0 if method == "local_probabilities" else panels.limit_of(values)
            panels.overlay(axis, image, values, panels.scale_of(limit, signed=False))
            if method == "local_probabilities":
                panels.outline(axis, image, decided[number])
                axis.set_title(panels.readable(name), fontsize=10)
    return figure


def draw() -> None:
    """Draws every figure anew."""
    figure = trade_off(read("locality_curve"))
    figure.savefig(ROOT / "docs" / "trade_off.png", dpi=150, metadata={"Software": None})
