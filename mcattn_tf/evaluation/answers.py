"""From a model and data to numbers, and to the table that is printed."""

import sys
from collections.abc import Iterator

import keras
import numpy as np

from mcattn_tf.data import Split
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.evaluation import published
from mcattn_tf.explain.truth.intervals import number
from mcattn_tf.metrics import (
    ClassCounts,
    ConfusionCounts,
    MaskStatistics,
    mask_statistics,
    mask_warnings,
)
from mcattn_tf.models import LABEL_OUTPUTS, is_exclusive, label_outputs
from mcattn_tf.tables import Column, lay_out, percent

MASK_IMAGES = 256  # that the masks' statistics are over: an image of CelebA has 4 million entries
CLEARLY_ABOVE = 2.0  # times chance that maps must hit, or half of what chance leaves
# Of each attribute, and of each class where an image has exactly one.
ANSWERS = {
    "accuracy": "acc.",
    "balanced_accuracy": "bal.",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
}
LABELS = {"positives": "positives", "majority_accuracy": "majority acc."}


def evaluate(
    model: keras.Model, split: Split, attributes: tuple[str, ...], batch_size: int
) -> dict[str, dict]:
    """Measures every output of a model on every example of a split.

    Args:
        model: from images to a dict of named outputs.
        split: the examples; all are counted.
        attributes: names of the K labels.
        batch_size: images at a time.

    Returns:
        {output: {"mean": {metric: value}, "per_attribute": {name: {metric: value}}}}. For
        those of `models.LABEL_OUTPUTS` the metrics are those of
        `ConfusionCounts.result`, shares in [0, 1], None where the split leaves one undefined
        (means are over the defined ones); where the model's classes exclude each other, those of
        `ClassCounts`, and `accuracy` and `majority_accuracy` are of the images; for
        `reconstruction` the mean is `mse`, per pixel value; for `mask_l1` it is `mask_l1`, per
        image. `masks`, where the model has them, are those of `MaskStatistics` over the first
        256 images of the split, with `images`, how many these were.
    """
    counter = ClassCounts if is_exclusive(model) else ConfusionCounts
    counts = {name: counter(len(attributes)) for name in label_outputs(model)}
    squared_error, mask_l1, seen = 0.0, 0.0, 0
    progress = keras.utils.Progbar(split.count, verbose=1 if sys.stdout.isatty() else 0)
    for images, labels in evaluation_batches(split, batch_size).as_numpy_iterator():
        outputs = model.predict_on_batch(images)
        for name, counted in counts.items():
            counted.update(labels, outputs[name])
        if "reconstruction" in outputs:
            errors = np.square(outputs["reconstruction"] - images, dtype=np.float64)
            squared_error += float(np.sum(np.mean(errors, axis=(1, 2, 3))))
        if "mask_l1" in outputs:
            mask_l1 += float(np.sum(outputs["mask_l1"], dtype=np.float64))
        seen += len(images)
        progress.update(seen)
    result = {name: _label_result(counted, attributes) for name, counted in counts.items()}
    if "reconstruction" in outputs:
        result["reconstruction"] = {"mean": {"mse": squared_error / seen}, "per_attribute": {}}
    if "mask_l1" in outputs:
        result["mask_l1"] = {"mean": {"mask_l1": mask_l1 / seen}, "per_attribute": {}}
        result["masks"] = _mask_result(model, split.take(MASK_IMAGES), attributes, batch_size)
    return result


def _mask_result(
    model: keras.Model, split: Split, attributes: tuple[str, ...], batch_size: int
) -> dict:
    batches = evaluation_batches(split, batch_size).as_numpy_iterator()
    progress = keras.utils.Progbar(split.count, verbose=1 if sys.stdout.isatty() else 0)

    def watched() -> Iterator[np.ndarray]:
        for images, _ in batches:
            yield images
            progress.add(len(images))

    statistics = mask_statistics(model, watched())
    return {
        "images": split.count,
        "mean": statistics.result(),
        "per_attribute": statistics.per_attribute(attributes),
    }


def _label_result(counts: ConfusionCounts | ClassCounts, attributes: tuple[str, ...]) -> dict:
    measures = counts.result()
    defined = {name: values[np.isfinite(values)] for name, values in measures.items()}
    mean = {name: float(values.mean()) if len(values) else None for name, values in defined.items()}
    if isinstance(counts, ClassCounts):
        mean |= counts.accuracy()
    return {
        "mean": mean,
        "per_attribute": {
            attribute: {name: number(values[index]) for name, values in measures.items()}
            for index, attribute in enumerate(attributes)
        },
    }


def format_table(evaluation: dict[str, dict]) -> str:
    """Returns an evaluation as text: a row an attribute, in per cent.

    Below it stand top-1 accuracy where classes exclude each other, the other outputs, and
    warnings of dead or constant masks. Where the attributes are CelebA's 40, the accuracies of
    Kimura & Tanaka's table 3 stand beside, marked as published.

    Args:
        evaluation: as `evaluate` returns it; `explanations`, if there, as
            `explain.measurement.where_it_looks` returns it.
    """
    return "\n".join([*lay_out(*answers(evaluation)), *notes(evaluation)])


def answers(evaluation: dict[str, dict]) -> tuple[list[str], list[Column]]:
    """Returns the names of the rows of the table of an evaluation, and its columns.

    Args:
        evaluation: as `evaluate` returns it.

    Returns:
        The attributes and `mean`; what was measured of them, in per cent.
    """
    outputs = [name for name in LABEL_OUTPUTS if name in evaluation]
    attributes = list(evaluation[outputs[0]]["per_attribute"])
    columns = _label_columns(evaluation, outputs, attributes)
    if set(attributes) == set(published.ACCURACY):
        values = np.array([published.ACCURACY[name] for name in attributes])
        values = np.vstack([values, values.mean(axis=0)])
        columns += [
            Column("published accuracy *", name, [f"{value:.2f}" for value in values[:, index]])
            for index, name in enumerate(published.COLUMNS)
        ]
    return [*attributes, "mean"], columns


def notes(evaluation: dict[str, dict]) -> list[str]:
    """Returns the lines below the table of an evaluation.

    Args:
        evaluation: as `evaluate` returns it; `explanations`, if there, as
            `explain.measurement.where_it_looks` returns it.
    """
    result = next(evaluation[name] for name in LABEL_OUTPUTS if name in evaluation)
    lines = []
    if set(result["per_attribute"]) == set(published.ACCURACY):
        lines.append(
            "* Kimura & Tanaka 2019, table 3, on CelebA's full test part; the table prints "
            f"{published.PRINTED_MCATTN_AVERAGE} as the average of its first column."
        )
    mean = result["mean"]
    if "recall" in mean:
        lines.append(
            f"top-1 accuracy {percent(mean['accuracy'])} % (always the commonest class: "
            f"{percent(mean['majority_accuracy'])} %)"
        )
    if "reconstruction" in evaluation:
        lines.append(f"reconstruction MSE {evaluation['reconstruction']['mean']['mse']:.5f}")
    if "mask_l1" in evaluation:
        lines.append(f"mask L1 {evaluation['mask_l1']['mean']['mask_l1']:.1f}")
    if "masks" in evaluation:
        lines += _mask_lines(evaluation["masks"])
    if "explanations" in evaluation:
        lines += explanation_lines(evaluation["explanations"])
    return lines


def _label_columns(
    evaluation: dict[str, dict], outputs: list[str], attributes: list[str]
) -> list[Column]:
    """Returns the columns of those metrics that the outputs were measured by."""
    measured = evaluation[outputs[0]]["per_attribute"][attributes[0]]

    def column(group: str, output: str, metric: str, heading: str) -> Column:
        result = evaluation[output]
        values = [result["per_attribute"][name][metric] for name in attributes]
        cells = [percent(value) for value in [*values, result["mean"][metric]]]
        return Column(group, heading, cells)

    answers = [(metric, heading) for metric, heading in ANSWERS.items() if metric in measured]
    columns = [column(output, output, *answer) for output in outputs for answer in answers]
    labels = [(metric, heading) for metric, heading in LABELS.items() if metric in measured]
    return [*columns, *(column("labels", outputs[0], *label) for label in labels)]


def _mask_lines(result: dict) -> list[str]:
    """Returns a line with the numbers of the masks, and the warnings about them."""
    mean = result["mean"]
    numbers = (
        f"masks of the first {result['images']} images: mean {mean['mask_mean']:.4f}, standard "
        f"deviation {mean['mask_std']:.4f} (over positions {mean['mask_std_positions']:.4f}, "
        f"channels {mean['mask_std_channels']:.4f}, attributes "
        f"{mean['mask_std_attributes']:.4f}), {percent(mean['mask_dead'])} % under "
        f"{MaskStatistics.DEAD_BELOW}, Gini {mean['mask_gini']:.4f}"
    )
    return [numbers, *mask_warnings(result["per_attribute"])]


def explanation_lines(result: dict) -> list[str]:
    """Returns a line on where the maps lie, and a warning if that is no better than chance.

    Args:
        result: `explanations` as `explain.measurement.where_it_looks` returns it.
    """
    mean, interval = result["mean"], result["intervals"]["pointing_game"]
    if interval is None:
        return []
    lines = [
        f"{result['method']} on {result['images']} images with {result['regions']}: the highest "
        f"point hits the attribute's region in {percent(mean['pointing_game'])} % "
        f"(chance {percent(mean['chance'])} %), {percent(mean['energy_in_region'])} % of the "
        f"energy lies in it (chance {percent(mean['region_share'])} %)"
    ]
    if interval[0] < min(CLEARLY_ABOVE * mean["chance"], (1 + mean["chance"]) / 2):
        lines.append(
            "warning: the maps point at their attributes hardly more often than chance: what they "
            "show is no evidence of where the network looks; narrow the receptive field "
            "(of mcattn and baseline: `dilations` of `model` in the config)"
        )
    return lines
