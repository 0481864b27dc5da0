"""Reliability diagrams: how often an attribute is there when the network says so with p."""

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcattn_tf.evaluation.ranking import BINS, calibration_error, reliability
from mcattn_tf.figures.panels import names_as_written, readable
from mcattn_tf.figures.scene import Scene, Undrawable
from mcattn_tf.models import label_outputs

COLUMNS = 8  # of attributes
COLORS = ("#d95f02", "#542788")  # of the outputs, the main one first
Sums = tuple[np.ndarray, np.ndarray, np.ndarray]  # result of `reliability`


@names_as_written
def reliability_figure(sums: dict[str, Sums], attributes: list[str], images: int) -> Figure:
    """Draws shares of present labels against mean probabilities, of all attributes and of each.

    Args:
        sums: {output: sums of `reliability` over all images, each (K, BINS)}, the main output
            first, the only one that is drawn of each attribute.
        attributes: Names of the K attributes.
        images: Number of images.
    """
    rows = -(-len(attributes) // COLUMNS)
    figure = Figure(figsize=(13, 4.2 + 1.75 * rows), layout="constrained")
    figure.suptitle(
        f"Reliability on {images:,} images: share of present labels against mean probability in "
        f"{BINS} bins; on the dashed line a probability is a frequency"
    )
    top, below = figure.subfigures(2, 1, height_ratios=[4.2, 1.75 * rows])
    curve, histogram = top.subplots(1, 2)
    for (output, own), color in zip(sums.items(), COLORS, strict=False):
        counts, _, _ = pooled = tuple(x.sum(axis=0) for x in own)
        error = np.nanmean(calibration_error(*own))
        _draw_curve(curve, pooled, color, f"{readable(output)}, calibration error {error:.3f}")
        shares = 100 * counts / counts.sum()
        histogram.step(np.linspace(0, 1, BINS + 1), [*shares, shares[-1]], color, where="post")
    curve.set(xlabel="mean probability", ylabel="share present")
    curve.set_title("all attributes; expected calibration error: mean over attributes", fontsize=9)
    curve.legend(fontsize=8, loc="upper left")
    histogram.set(xlabel="probability", ylabel="answers, %", ylim=(0, None))
    histogram.set_title("how often a probability is answered", fontsize=9)
    main = next(iter(sums.values()))
    errors = calibration_error(*main)
    axes = below.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for index, axis in enumerate(axes):
        if index >= len(attributes):
            axis.set_axis_off()
            continue
        _draw_curve(axis, tuple(x[index] for x in main), COLORS[0], "")
        error = f"{errors[index]:.3f}" if np.isfinite(errors[index]) else "no label known"
        axis.set_title(f"{readable(attributes[index])}\n{error}", fontsize=7)
        axis.tick_params(labelsize=6)
    return figure


def _draw_curve(axis: Axes, sums: Sums, color: str, label: str) -> None:
    """Draws a point for each bin that has labels, its area growing with their number."""
    counts, probabilities, present = (x[sums[0] > 0] for x in sums)
    axis.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=0.8)
    axis.plot(probabilities / counts, present / counts, color=color, linewidth=1, label=label)
    areas = 4 + 36 * counts / max(1, counts.max(initial=0))
    axis.scatter(probabilities / counts, present / counts, areas, color=color)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the reliability of every output of probabilities over all test images."""
    if scene.pictures.read_all is None:
        raise Undrawable("reliability needs labels; leave out --images to draw the test images")
    names = label_outputs(scene.model)
    network = keras.Model(scene.model.input, {name: scene.model.output[name] for name in names})
    parts, images = [], 0
    for pictures, labels in scene.pictures.read_all():
        answers = network.predict_on_batch(pictures)
        parts.append([reliability(labels, answers[name]) for name in names])
        images += len(pictures)
    chosen = np.array(scene.indices)
    sums = {
        name: tuple(sum(part[index][kind] for part in parts)[chosen] for kind in range(3))
        for index, name in enumerate(names)
    }
    return {"reliability": reliability_figure(sums, scene.labels, images)}
