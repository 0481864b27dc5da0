"""Accuracy of a network's answers, and the table of it."""

import keras
import numpy as np

from mcattn_tf.data import Split, load_regions
from mcattn_tf.data.pipeline import counted_batches
from mcattn_tf.evaluation import published
from mcattn_tf.evaluation.masks import evaluate_masks, mask_lines
from mcattn_tf.evaluation.ranking import mean_of, measures_of
from mcattn_tf.evaluation.thresholds import Chosen
from mcattn_tf.explain.truth import measurement
from mcattn_tf.explain.truth.intervals import number
from mcattn_tf.metrics import ClassCounts, confusion_measures, confusions
from mcattn_tf.models import is_exclusive, label_outputs
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.systems import LABEL_OUTPUTS
from mcattn_tf.tables import Column, extremes, lay_out, legend, paragraph, percent

# Headings of metrics of attributes, and of classes where an image has exactly one.
ANSWERS = {
    "accuracy": "acc.",
    "balanced_accuracy": "bal.",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "roc_auc": "AUC",
    "average_precision": "AP",
    "calibration_error": "ECE",
}
# {metric at chosen thresholds: its heading}.
AT_THRESHOLD = {
    "threshold": "threshold",
    **{f"{name}_at_threshold": ANSWERS[name] for name in ("accuracy", "balanced_accuracy", "f1")},
}
LABELS = {"positives": "positives", "majority_accuracy": "majority acc."}
OUTPUTS = {
    "attributes": "answers of the sub-networks",
    "multilabel": "answers of the multi-label classifier on the same features",
    "probabilities": "answers of the network",
    "perception": "answers of the perception branch",
    "attention": "answers of the attention branch",
}
MEANINGS = {
    "acc.": "accuracy at the threshold 0.5, %",
    "bal.": "balanced accuracy, the mean of the accuracies on present and on absent",
    "recall": "share of the class's images that are answered so",
    "precision": "share of the answers of this class that are right",
    "F1": "harmonic mean of precision and recall",
    "AUC": "area under the ROC curve",
    "AP": "average precision, the area under the curve of precision over recall",
    "ECE": "expected calibration error, in points",
    "threshold": "probability above which the attribute is answered present",
    "positives": "share of the images that have the label",
    "majority acc.": "accuracy of always giving the more common answer",
}
RANKED = ("balanced_accuracy", "recall")  # measures that rows of a short table are chosen by


def evaluate_run(
    model: keras.Model, config: Config, split: Split, name: str, chosen: Chosen | None = None
) -> dict[str, dict]:
    """Measures a network of a run on a split of its data.

    Args:
        model: Network with named outputs.
        config: Settings of the run.
        split: Examples; all are counted.
        name: Name of the split: `train`, `validation` or `test`.
        chosen: Thresholds to measure at beside 0.5.

    Returns:
        The result of `evaluate`, with `explanations` of `measurement.where_it_looks`.
    """
    result = evaluate(model, split, config.attributes, config.training.batch_size, chosen)
    regions = load_regions(config.data, name, split=split, attributes=config.attributes)
    regions = regions.take(split.count)
    return result | measurement.where_it_looks(model, config.attributes, regions)


def evaluate(
    model: keras.Model,
    split: Split,
    attributes: tuple[str, ...],
    batch_size: int,
    chosen: Chosen | None = None,
) -> dict[str, dict]:
    """Measures every output of a model on every example of a split.

    Args:
        model: Network with named outputs.
        split: Examples; all are counted.
        attributes: Names of the K labels.
        batch_size: Images in a batch.
        chosen: Thresholds to measure at beside 0.5.

    Returns:
        {output: {"mean": {metric: value}, "per_attribute": {name: {metric: value}}}}. Outputs that
        are probabilities of labels have the metrics of `measures_of`, shares in [0, 1], None where
        the split leaves one undefined; means are over the defined ones. With `chosen` they have
        `threshold`, `accuracy_at_threshold`, `balanced_accuracy_at_threshold` and
        `f1_at_threshold`, too, and `thresholds` says how these were chosen. Where classes exclude
        each other, outputs have the metrics of `ClassCounts`, with the `accuracy` and
        `majority_accuracy` of the images. `reconstruction` has the mean `mse` per pixel value,
        `mask_l1` the mean per image, `masks` the result of `evaluate_masks`.
    """
    answers = {name: [] for name in label_outputs(model)}
    sums = {"reconstruction": 0.0, "mask_l1": 0.0}
    for images, _ in counted_batches(split, batch_size, "evaluation"):
        outputs = model.predict_on_batch(images)
        for name, parts in answers.items():
            parts.append(outputs[name])
        if "reconstruction" in outputs:
            errors = np.square(outputs["reconstruction"] - images, dtype=np.float64)
            sums["reconstruction"] += float(np.sum(np.mean(errors, axis=(1, 2, 3))))
        if "mask_l1" in outputs:
            sums["mask_l1"] += float(np.sum(outputs["mask_l1"], dtype=np.float64))
    labels, result = split.labels_of(np.arange(split.count)), {}
    for name, parts in answers.items():
        measure = _of_classes if is_exclusive(model) else _of_attributes
        result[name] = measure(labels, np.concatenate(parts), attributes)
        if chosen:
            _add_at_thresholds(result[name], labels, np.concatenate(parts), name, chosen)
    for name, metric in (("reconstruction", "mse"), ("mask_l1", "mask_l1")):
        if name in outputs:
            result[name] = {"mean": {metric: sums[name] / split.count}, "per_attribute": {}}
    if "mask_l1" in outputs:
        result["masks"] = evaluate_masks(model, split, attributes, batch_size)
    return result


def _of_attributes(
    labels: np.ndarray, probabilities: np.ndarray, attributes: tuple[str, ...]
) -> dict[str, dict]:
    return _averaged(measures_of(labels, probabilities), attributes)


def _of_classes(
    labels: np.ndarray, probabilities: np.ndarray, attributes: tuple[str, ...]
) -> dict[str, dict]:
    counts = ClassCounts(len(attributes))
    counts.update(labels, probabilities)
    result = _averaged(counts.result(), attributes)
    return result | {"mean": result["mean"] | counts.accuracy()}


def _averaged(measures: dict[str, np.ndarray], attributes: tuple[str, ...]) -> dict[str, dict]:
    """Returns measures {name: (K,)} by attribute and their means."""
    per_attribute = {
        attribute: {name: number(values[index]) for name, values in measures.items()}
        for index, attribute in enumerate(attributes)
    }
    mean = {name: mean_of(values) for name, values in measures.items()}
    return {"mean": mean, "per_attribute": per_attribute}


def _add_at_thresholds(
    result: dict, labels: np.ndarray, probabilities: np.ndarray, output: str, chosen: Chosen
) -> None:
    """Adds what is measured at chosen thresholds to the result of an output."""
    attributes = tuple(result["per_attribute"])
    thresholds = chosen.of(output, attributes)
    cases = np.sum(confusions(labels, probabilities > thresholds), axis=1)
    measures = {f"{name}_at_threshold": x for name, x in confusion_measures(*cases).items()}
    measures = {name: x for name, x in measures.items() if name in AT_THRESHOLD}
    added = _averaged({"threshold": thresholds} | measures, attributes)
    result["mean"] |= {k: v for k, v in added["mean"].items() if k != "threshold"}
    for attribute, values in added["per_attribute"].items():
        result["per_attribute"][attribute] |= values
    how = chosen.described(output)
    result["thresholds"] = {k: x for k, x in how.items() if k not in ("output", "thresholds")}


def format_table(evaluation: dict[str, dict], full: bool = True) -> str:
    """Returns a result of `evaluate_run` as text: a row an attribute, in per cent; notes below.

    Without `full` it has the mean, and of many attributes the best and worst five by the balanced
    accuracy (of classes: recall) of the first output.
    """
    names, columns = answers(evaluation)
    if not full:
        rows = _first_result(evaluation)["per_attribute"].values()
        values = [next(row[name] for name in RANKED if name in row) for row in rows]
        names, columns = extremes(names, columns, [*values, None], first=1)
    return "\n".join([*lay_out(names, columns), *map(paragraph, notes(evaluation))])


def _first_result(evaluation: dict[str, dict]) -> dict:
    """Returns the result of the output that answers."""
    return next(evaluation[name] for name in LABEL_OUTPUTS if name in evaluation)


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
        cells = [percent(row.get(metric)) for row in rows]
        if metric == "threshold":  # a probability, and the mean has none
            cells = [*(f"{row[metric]:.4f}" for row in rows[:-1]), ""]
        return Column(group, heading, cells)

    groups = [(output, output, ANSWERS) for output in outputs] + [("labels", outputs[0], LABELS)]
    groups += [
        (f"{output}, {thresholds['chosen_by'].replace('_', ' ')}", output, AT_THRESHOLD)
        for output in outputs
        if (thresholds := evaluation[output].get("thresholds"))
    ]
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
    """Returns the lines below the table: what its headings mean, and other measures."""
    result = _first_result(evaluation)
    outputs = [f"{name}: {OUTPUTS[name]}" for name in LABEL_OUTPUTS if name in evaluation]
    lines = ["; ".join(outputs), legend(answers(evaluation)[1], MEANINGS)]
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
    if "thresholds" in result:
        how = result["thresholds"]
        lines.append(
            f"thresholds by {how['chosen_by'].replace('_', ' ')}, chosen on {how['images']} "
            f"{how['split']} images; all other columns are at 0.5"
        )
    if "reconstruction" in evaluation:
        lines.append(f"reconstruction MSE {evaluation['reconstruction']['mean']['mse']:.5f}")
    if "mask_l1" in evaluation:
        l1 = evaluation["mask_l1"]["mean"]["mask_l1"]
        lines.append(f"mask L1 (sum of all entries of an image's masks, on average) {l1:.1f}")
    if "masks" in evaluation:
        lines += mask_lines(evaluation["masks"])
    if "explanations" in evaluation:
        lines += explanation_lines(evaluation["explanations"])
    return lines


def explanation_lines(result: dict) -> list[str]:
    """Returns a line on where the maps lie."""
    mean = result["mean"]
    if result["intervals"]["pointing_game"] is None:
        return []
    return [
        f"{result['method']} on {result['images']} images with {result['regions']}: the highest "
        f"point hits the attribute's region in {percent(mean['pointing_game'])} % "
        f"(chance {percent(mean['chance'])} %), {percent(mean['energy_in_region'])} % of the "
        f"energy lies in it (chance {percent(mean['region_share'])} %)"
    ]
