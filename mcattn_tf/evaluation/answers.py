"""Accuracy of a network's answers, and the table of it."""

import keras
import numpy as np

from mcattn_tf.data import Split, load_regions
from mcattn_tf.data.pipeline import counted_batches
from mcattn_tf.evaluation import published
from mcattn_tf.evaluation.masks import evaluate_masks, mask_lines
from mcattn_tf.explain.truth import measurement
from mcattn_tf.explain.truth.intervals import number
from mcattn_tf.metrics import ClassCounts, ConfusionCounts
from mcattn_tf.models import is_exclusive, label_outputs
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.systems import LABEL_OUTPUTS
from mcattn_tf.tables import Column, lay_out, percent

CLEARLY_ABOVE = 2.0  # times chance; maps that hit less often are warned of
# Headings of metrics of attributes, and of classes where an image has exactly one.
ANSWERS = {
    "accuracy": "acc.",
    "balanced_accuracy": "bal.",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
}
LABELS = {"positives": "positives", "majority_accuracy": "majority acc."}


def evaluate_run(model: keras.Model, config: Config, split: Split, name: str) -> dict[str, dict]:
    """Measures a network of a run on a split of its data.

    Args:
        model: Network with named outputs.
        config: Settings of the run.
        split: Examples; all are counted.
        name: Name of the split: `train`, `validation` or `test`.

    Returns:
        The result of `evaluate`, with `explanations` of `measurement.where_it_looks`.
    """
    result = evaluate(model, split, config.attributes, config.training.batch_size)
    regions = load_regions(config.data, name, split=split, attributes=config.attributes)
    return result | measurement.where_it_looks(model, config.attributes, regions)


def evaluate(
    model: keras.Model, split: Split, attributes: tuple[str, ...], batch_size: int
) -> dict[str, dict]:
    """Measures every output of a model on every example of a split.

    Args:
        model: Network with named outputs.
        split: Examples; all are counted.
        attributes: Names of the K labels.
        batch_size: Images in a batch.

    Returns:
        {output: {"mean": {metric: value}, "per_attribute": {name: {metric: value}}}}. Outputs that
        are probabilities of labels have the metrics of `ConfusionCounts.result`, shares in [0, 1],
        None where the split leaves one undefined; means are over the defined ones. Where classes
        exclude each other, they have those of `ClassCounts`, with the `accuracy` and
        `majority_accuracy` of the images. `reconstruction` has the mean `mse` per pixel value,
        `mask_l1` the mean per image, `masks` the result of `evaluate_masks`.
    """
    counter = ClassCounts if is_exclusive(model) else ConfusionCounts
    counts = {name: counter(len(attributes)) for name in label_outputs(model)}
    sums = {"reconstruction": 0.0, "mask_l1": 0.0}
    for images, labels in counted_batches(split, batch_size, "evaluation"):
        outputs = model.predict_on_batch(images)
        for name, counted in counts.items():
            counted.update(labels, outputs[name])
        if "reconstruction" in outputs:
            errors = np.square(outputs["reconstruction"] - images, dtype=np.float64)
            sums["reconstruction"] += float(np.sum(np.mean(errors, axis=(1, 2, 3))))
        if "mask_l1" in outputs:
            sums["mask_l1"] += float(np.sum(outputs["mask_l1"], dtype=np.float64))
    result = {name: _label_result(counted, attributes) for name, counted in counts.items()}
    for name, metric in (("reconstruction", "mse"), ("mask_l1", "mask_l1")):
        if name in outputs:
            result[name] = {"mean": {metric: sums[name] / split.count}, "per_attribute": {}}
    if "mask_l1" in outputs:
        result["masks"] = evaluate_masks(model, split, attributes, batch_size)
    return result


def _label_result(counts: ConfusionCounts | ClassCounts, attributes: tuple[str, ...]) -> dict:
    measures = counts.result()
    defined = {name: values[np.isfinite(values)] for name, values in measures.items()}
    mean = {name: float(values.mean()) if len(values) else None for name, values in defined.items()}
    if isinstance(counts, ClassCounts):
        mean |= counts.accuracy()
    per_attribute = {
        attribute: {name: number(values[index]) for name, values in measures.items()}
        for index, attribute in enumerate(attributes)
    }
    return {"mean": mean, "per_attribute": per_attribute}


def format_table(evaluation: dict[str, dict]) -> str:
    """Returns a result of `evaluate_run` as text: a row an attribute, in per cent; notes below."""
    return "\n".join([*lay_out(*answers(evaluation)), *notes(evaluation)])


def answers(evaluation: dict[str, dict]) -> tuple[list[str], list[Column]]:
    """Returns the table of an evaluation: names of its rows, and columns in per cent.

    The accuracies of Kimura & Tanaka's table 3 stand beside CelebA's 40 attributes.
    """
    outputs = [name for name in LABEL_OUTPUTS if name in evaluation]
    first = evaluation[outputs[0]]["per_attribute"]
    measured = next(iter(first.values()))

    def column(group: str, output: str, metric: str, heading: str) -> Column:
        result = evaluation[output]
        rows = [*(result["per_attribute"][name] for name in first), result["mean"]]
        return Column(group, heading, [percent(row[metric]) for row in rows])

    groups = [(output, output, ANSWERS) for output in outputs] + [("labels", outputs[0], LABELS)]
    columns = [
        column(group, output, metric, heading)
        for group, output, headings in groups
        for metric, heading in headings.items()
        if metric in measured
    ]
    if set(first) == set(published.ACCURACY):
        values = np.array([published.ACCURACY[name] for name in first])
        columns += [
            Column("published accuracy *", name, [f"{x:.2f}" for x in (*cells, cells.mean())])
            for name, cells in zip(published.COLUMNS, values.T, strict=True)
        ]
    return [*first, "mean"], columns


def notes(evaluation: dict[str, dict]) -> list[str]:
    """Returns the lines below the table: other outputs, and warnings of masks and maps."""
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
        lines += mask_lines(**evaluation["masks"])
    if "explanations" in evaluation:
        lines += explanation_lines(evaluation["explanations"])
    return lines


def explanation_lines(result: dict) -> list[str]:
    """Returns a line on where the maps lie, and a warning if that is no better than chance."""
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
