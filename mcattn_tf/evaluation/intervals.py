"""Accuracies of runs and their differences, with intervals over the people on the images."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from mcattn_tf.data import Split
from mcattn_tf.data.pipeline import counted_batches
from mcattn_tf.explain.truth.intervals import (
    interval_of,
    mean_per_attribute,
    multiplicities,
    number,
)
from mcattn_tf.metrics import confusion_measures, confusions
from mcattn_tf.models import label_outputs
from mcattn_tf.tables import Column, difference, lay_out, legend, paragraph, percent

MEASURES = {"accuracy": "acc.", "balanced_accuracy": "bal.", "f1": "F1"}
MEANINGS = {
    "acc. [95 %]": "accuracy at the threshold 0.5 and its 95 % interval, %",
    "first minus this": "accuracy of the first row less this one's",
    "bal. [95 %]": "balanced accuracy, the mean of the accuracies on present and on absent",
    "F1 [95 %]": "harmonic mean of precision and recall",
    "majority acc.": "accuracy of always giving the more common answer",
}
DRAWS = 1000
Place = tuple[Path, str]  # a run directory, and one of its outputs


def answer(
    model: keras.Model, split: Split, batch_size: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the labels (N, K) of a split and a model's probabilities, {output: (N, K)}.

    Labels are 1 present, 0 absent and -1 unknown.
    """
    names = label_outputs(model)
    network = keras.Model(model.input, {name: model.output[name] for name in names})
    answers = [
        network.predict_on_batch(images)
        for images, _ in counted_batches(split, batch_size, "answers")
    ]
    labels = split.labels_of(np.arange(split.count))
    return labels, {name: np.concatenate([x[name] for x in answers]) for name in names}


def measure(
    labels: np.ndarray,
    answers: Mapping[Place, np.ndarray],
    people: np.ndarray | None = None,
    seed: int = 0,
) -> dict:
    """Measures answers with 95 % intervals by bootstrap over people.

    The pictures of a person are alike and are drawn together, with replacement (a cluster
    bootstrap); all answers are measured on the same draws.

    Args:
        labels: (N, K), 1 present, 0 absent and -1 unknown, which counts nowhere.
        answers: {(run directory, output): (N, K)}, bool.
        people: (N,), a number for the person on each image; None to draw single images.
        seed: Random seed of the draws.

    Returns:
        `images` and `people`, their numbers (None without `people`), and `answers`:
        {(run directory, output): {metric: value, "intervals": {metric: [low, high]},
        "differences": {metric: {"mean": the first answers minus these, "interval": [low,
        high]}}}}. Metrics are those of `confusion_measures`, shares in [0, 1], as means over the
        attributes for which they are defined; None where they are defined for none. A draw may
        define fewer. The first answers have no `differences`.
    """
    alone = np.arange(len(labels)) if people is None else people
    _, person = np.unique(alone, return_inverse=True)
    count = int(person.max()) + 1
    weights = multiplicities(count, DRAWS, seed)
    result, first = {}, None
    for place, called in answers.items():
        whole, draws = _means(labels, called, person, count, weights)
        first = first or (whole, draws)
        result[place] = {metric: number(value) for metric, value in whole.items()}
        result[place]["intervals"] = {metric: interval_of(draws[metric]) for metric in MEASURES}
        if len(result) > 1:
            result[place]["differences"] = {
                metric: {
                    "mean": number(first[0][metric] - whole[metric]),
                    "interval": interval_of(first[1][metric] - draws[metric]),
                }
                for metric in MEASURES
            }
    known = None if people is None else count
    return {"images": len(labels), "people": known, "answers": result}


def of_run(parts: Mapping[str, dict], directory: Path) -> dict:
    """Returns the results of one run for JSON, {part: result of `measure`}, answers by output.

    `first` names the answers that differences are from.
    """
    results = {}
    for part, result in parts.items():
        first, output = next(iter(result["answers"]))
        own = {name: x for (path, name), x in result["answers"].items() if path == directory}
        results[part] = {**result, "first": f"{first.name}: {output}", "answers": own}
    return results


def _means(
    labels: np.ndarray, called: np.ndarray, person: np.ndarray, count: int, weights: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns the means over attributes: of all images, and of each draw, (draws,)."""
    cases = confusions(labels, called)
    totals = np.zeros((len(cases), count, labels.shape[1]))
    for case, total in zip(cases, totals, strict=True):
        np.add.at(total, person, case)
    whole = confusion_measures(*totals.sum(axis=1))
    drawn = confusion_measures(*(weights @ total for total in totals))
    return (
        {metric: float(mean_per_attribute(values[:, None])[0]) for metric, values in whole.items()},
        {metric: mean_per_attribute(drawn[metric].T) for metric in MEASURES},
    )


def format_intervals(parts: Mapping[str, dict]) -> str:
    """Returns a table of {part: result of `measure`}: a row an answer, columns for each part."""
    places = list(next(iter(parts.values()))["answers"])
    columns = []
    for part, result in parts.items():
        of_people = f" of {result['people']} people" if result["people"] else ""
        group = f"{part}: {result['images']} images{of_people}"
        rows = [result["answers"][place] for place in places]
        for metric, heading in MEASURES.items():
            cells = [percent(x[metric], x["intervals"][metric]) for x in rows]
            columns.append(Column(group, f"{heading} [95 %]", cells))
            if metric == "accuracy":
                cells = ["", *(difference(x["differences"][metric]) for x in rows[1:])]
                columns.append(Column(group, "first minus this", cells))
        majority = [percent(x["majority_accuracy"]) for x in rows]
        columns.append(Column(group, "majority acc.", majority))
    names = [f"{path}: {output}" for path, output in places]
    return "\n".join([*lay_out(names, columns), paragraph(legend(columns, MEANINGS))])
