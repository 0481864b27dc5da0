"""From a model and data to numbers, and to the table that is printed."""

import sys

import keras
import numpy as np

from mcattn_tf import published
from mcattn_tf.data.pipeline import Split, evaluation_batches
from mcattn_tf.metrics import ConfusionCounts

LABEL_OUTPUTS = ("attributes", "multilabel")
COLUMNS = {
    "accuracy": "acc",
    "balanced_accuracy": "bal",
    "f1": "F1",
}


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
        `attributes` and `multilabel` the metrics are those of `ConfusionCounts.result`, shares in
        [0, 1], None where the split leaves one undefined (means are over the defined ones); for
        `reconstruction` the mean is `mse`, per pixel value; for `mask_l1` it is `mask_l1`, per
        image.
    """
    counts = {name: ConfusionCounts(len(attributes)) for name in LABEL_OUTPUTS}
    squared_error, mask_l1, seen = 0.0, 0.0, 0
    progress = keras.utils.Progbar(split.count, verbose=1 if sys.stdout.isatty() else 0)
    for images, labels in evaluation_batches(split, batch_size).as_numpy_iterator():
        outputs = model.predict_on_batch(images)
        for name in counts.keys() & outputs.keys():
            counts[name].update(labels, outputs[name])
        if "reconstruction" in outputs:
            errors = np.square(outputs["reconstruction"] - images, dtype=np.float64)
            squared_error += float(np.sum(np.mean(errors, axis=(1, 2, 3))))
        if "mask_l1" in outputs:
            mask_l1 += float(np.sum(outputs["mask_l1"], dtype=np.float64))
        seen += len(images)
        progress.update(seen)
    result = {name: _label_result(counts[name], attributes) for name in counts if name in outputs}
    if "reconstruction" in outputs:
        result["reconstruction"] = {"mean": {"mse": squared_error / seen}, "per_attribute": {}}
    if "mask_l1" in outputs:
        result["mask_l1"] = {"mean": {"mask_l1": mask_l1 / seen}, "per_attribute": {}}
    return result


def _label_result(counts: ConfusionCounts, attributes: tuple[str, ...]) -> dict:
    measures = counts.result()
    defined = {name: values[np.isfinite(values)] for name, values in measures.items()}
    return {
        "mean": {
            name: float(values.mean()) if len(values) else None for name, values in defined.items()
        },
        "per_attribute": {
            attribute: {name: _number(values[index]) for name, values in measures.items()}
            for index, attribute in enumerate(attributes)
        },
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def format_table(evaluation: dict[str, dict]) -> str:
    """Returns an evaluation as text: a row an attribute, in per cent.

    Where the attributes are CelebA's 40, the accuracies of paper 000's table 3 stand beside,
    marked as published.

    Args:
        evaluation: as `evaluate` returns it.
    """
    outputs = [name for name in LABEL_OUTPUTS if name in evaluation]
    first = evaluation[outputs[0]]["per_attribute"]
    with_published = set(first) == set(published.ACCURACY)
    headings = [f"{name} {short}" for name in outputs for short in COLUMNS.values()]
    headings += ["positives", "majority acc"]
    if with_published:
        headings += [f"{name} *" for name in published.COLUMNS]
    rows = []
    for attribute in first:
        cells = [
            evaluation[name]["per_attribute"][attribute][metric]
            for name in outputs
            for metric in COLUMNS
        ]
        cells += [first[attribute]["positives"], first[attribute]["majority_accuracy"]]
        row = [_percent(cell) for cell in cells]
        if with_published:
            row += [f"{value:.2f}" for value in published.ACCURACY[attribute]]
        rows.append((attribute, row))
    mean = [evaluation[name]["mean"][metric] for name in outputs for metric in COLUMNS]
    mean += [evaluation[outputs[0]]["mean"][key] for key in ("positives", "majority_accuracy")]
    row = [_percent(cell) for cell in mean]
    if with_published:
        columns = np.array(list(published.ACCURACY.values()))
        row += [f"{value:.2f}" for value in columns.mean(axis=0)]
    rows.append(("mean", row))

    name_width = max(len(name) for name, _ in rows)
    lines = ["  ".join([" " * name_width, *headings])]
    for name, row in rows:
        cells = [cell.rjust(len(heading)) for cell, heading in zip(row, headings, strict=True)]
        lines.append("  ".join([name.ljust(name_width), *cells]))
    if with_published:
        lines.append(
            "* accuracy as published (Kimura & Tanaka 2019, table 3), on CelebA's full test part; "
            f"the table prints {published.PRINTED_AVERAGE[0]} as the average of its first column."
        )
    if "reconstruction" in evaluation:
        lines.append(f"reconstruction MSE {evaluation['reconstruction']['mean']['mse']:.5f}")
    if "mask_l1" in evaluation:
        lines.append(f"mask L1 {evaluation['mask_l1']['mean']['mask_l1']:.1f}")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
