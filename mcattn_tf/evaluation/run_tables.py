"""Tables over finished runs, in the form of those that the papers print."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mcattn_tf import runs
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import published
from mcattn_tf.models import LABEL_OUTPUTS
from mcattn_tf.settings.config import Config
from mcattn_tf.tables import Column, lay_out, percent

MECHANISMS = {"none": "none, g", "product": "eq. 1, M g", "residual": "eq. 2, (1 + M) g"}


class FinishedRun(NamedTuple):
    """What a run directory says of a training that has ended.

    Attributes:
        name: of its directory.
        config: its settings.
        evaluation: as `evaluation.evaluate` returned it.
    """

    name: str
    config: Config
    evaluation: dict[str, dict]

    @property
    def error(self) -> float:
        """Share of the images whose most probable class is a wrong one."""
        return 1 - self.evaluation["perception"]["mean"]["accuracy"]


def read_finished(directories: Sequence[Path], model: str | None = None) -> list[FinishedRun]:
    """Reads runs whose evaluation on the test images is there.

    Args:
        directories: of the runs.
        model: that they must be of, such as `abn`; None for any.

    Raises:
        UserError: for a run of another model, or one whose training has not ended or that has not
            been evaluated.
    """
    if len(set(directories)) < len(directories):
        raise UserError("each --run of a table is named once")
    found = []
    for directory in directories:
        config, path = runs.read_config(directory), directory / runs.EVALUATION
        if model and config.model.name != model:
            raise UserError(
                f"{directory} has no place in this table: it must be of --model {model}. "
                f"Received: {config.model.name}"
            )
        if not (directory / runs.METRICS).is_file():
            raise UserError(
                f"{directory} is not trained to its end; go on with train.py --resume --out "
                f"{directory}"
            )
        if not path.is_file():
            raise UserError(f"{path} is not there yet; evaluate.py --run {directory} writes it")
        try:
            evaluation = json.loads(path.read_text())
        except (OSError, ValueError):
            raise UserError(
                f"{path} cannot be read; evaluate.py --run {directory} writes it anew"
            ) from None
        found.append(FinishedRun(str(directory), config, evaluation))
    return found


def _classifiers(directories: Sequence[Path]) -> list[FinishedRun]:
    """Returns runs of ABN on classes of which an image has one."""
    found = read_finished(directories, "abn")
    for run in found:
        if not run.config.model.exclusive:
            raise UserError(
                f"{run.name} has no top-1 error: its images may have several labels or none; "
                "leave it out"
            )
    cells: dict[tuple[str, str, str], Config] = {}
    for run in found:
        anywhere = run.config.replace("training", seed=0)
        anywhere = anywhere.replace("data", data_dir=None, cache_dir=None, no_cache=False)
        if cells.setdefault(_place(run), anywhere) != anywhere:
            raise UserError(
                f"{run.name} differs from another run of its cell in more than the seed; leave "
                "one of them out"
            )
    return found


def _errors(found: Sequence[FinishedRun]) -> str:
    """Returns the mean error of runs that differ in their seeds, and each by itself."""
    if not found:
        return "-"
    errors = [run.error for run in found]
    mean = percent(sum(errors) / len(errors))
    return mean if len(errors) == 1 else f"{mean} ({', '.join(map(percent, errors))})"


def _details(found: Sequence[FinishedRun]) -> list[str]:
    lines = []
    for run in found:
        data, training = run.config.data, run.config.training
        images = data.train_examples or "all"
        lines.append(
            f"{run.name}: {data.dataset}, {images} training images, {training.epochs} epochs, "
            f"seed {training.seed}, error {percent(run.error)} %"
        )
    return lines


def format_mechanisms(directories: Sequence[Path]) -> str:
    """Returns the errors of each attention mechanism by backbone, in the form of table 1.

    Source: Fukui et al. 2019, table 1.

    Args:
        directories: of finished runs of ABN; those that differ in nothing else than their seeds
            are averaged, and each is named in brackets.

    Returns:
        A row a data set and backbone; the published columns are of CIFAR-100.

    Raises:
        UserError: for a run that has no place in the table.
    """
    found = _classifiers(directories)
    rows = sorted({(run.config.data.dataset, run.config.model.backbone) for run in found})
    columns = []
    for mechanism, heading in MECHANISMS.items():
        cells = [
            _errors([run for run in found if _place(run) == (*row, mechanism)]) for row in rows
        ]
        columns.append(Column("top-1 error, %", heading, cells))
    for index, heading in enumerate(MECHANISMS.values()):
        printed = [published.MECHANISM_ERRORS.get(backbone) for _, backbone in rows]
        cells = [f"{errors[index]:.2f}" if errors else "-" for errors in printed]
        columns.append(Column("published, CIFAR-100 *", heading, cells))
    names = [f"{dataset} {backbone}" for dataset, backbone in rows]
    note = "* Fukui et al. 2019, table 1: all 50,000 training images, 300 epochs"
    return "\n".join([*lay_out(names, columns), note, *_details(found)])


def _place(run: FinishedRun) -> tuple[str, str, str]:
    model = run.config.model
    return run.config.data.dataset, model.backbone, model.attention_mechanism


def format_errors(directories: Sequence[Path]) -> str:
    """Returns the errors of backbones without and with ABN, in the form of table 2.

    Source: Fukui et al. 2019, table 2.

    Args:
        directories: of finished runs of ABN.

    Returns:
        A row a backbone, one more with ABN (with eq. 2, the default), and a pair of columns a
        data set.

    Raises:
        UserError: for a run that has no place in the table.
    """
    found = _classifiers(directories)
    for run in found:
        if run.config.model.attention_mechanism == "product":
            raise UserError(
                f"{run.name} is of eq. 1, which has no row in this table; take --table mechanisms"
            )
    rows = sorted({_place(run)[1:] for run in found})
    columns = []
    for dataset in dict.fromkeys(run.config.data.dataset for run in found):
        cells = [_errors([run for run in found if _place(run) == (dataset, *row)]) for row in rows]
        printed = [published.ERRORS.get(row, {}).get(dataset) for row in rows]
        columns.append(Column(dataset, "error, %", cells))
        columns.append(
            Column(dataset, "published *", [f"{e:.2f}" if e is not None else "-" for e in printed])
        )
    names = [name + (" + ABN" if mechanism != "none" else "") for name, mechanism in rows]
    note = "* Fukui et al. 2019, table 2: all training images"
    return "\n".join([*lay_out(names, columns), note, *_details(found)])


def _accuracies(run: FinishedRun) -> tuple[str, dict[str, float]]:
    """Returns the name of a run's first output and its accuracy of each attribute, in per cent."""
    output = next(name for name in LABEL_OUTPUTS if name in run.evaluation)
    result = run.evaluation[output]
    if "accuracy" not in next(iter(result["per_attribute"].values())):
        raise UserError(
            f"{run.name} has no accuracy of each attribute: its images have one class each; leave "
            "it out"
        )
    return output, {
        name: 100 * values["accuracy"] for name, values in result["per_attribute"].items()
    }


def _wins(ours: dict[str, float], theirs: dict[str, float]) -> str:
    better = sum(accuracy > theirs[name] for name, accuracy in ours.items())
    equal = sum(accuracy == theirs[name] for name, accuracy in ours.items())
    return f"{better}/{len(ours)}" + (f" ({equal} equal)" if equal else "")


def format_attributes(directories: Sequence[Path]) -> str:
    """Returns the mean accuracy of attributes, and how many the first run wins, as in table 4.

    Source: Fukui et al. 2019, table 4, whose last column is called odds.

    Args:
        directories: of finished runs on the same attributes, the one to be compared first.

    Returns:
        A row a run; where the attributes are CelebA's 40, a row for each method whose accuracy of
        every attribute is published, and the published table.

    Raises:
        UserError: for runs that have no place in the table together.
    """
    found = read_finished(directories)
    outputs, accuracies = zip(*map(_accuracies, found), strict=True)
    first = accuracies[0]
    for run, other in zip(found, accuracies, strict=True):
        if other.keys() != first.keys() or run.config.data.dataset != found[0].config.data.dataset:
            raise UserError(
                f"{run.name} cannot be compared: its data set or attributes are not those of "
                f"{found[0].name}"
            )
    rows = {
        f"{run.name}: {run.config.model.name}, {output}": values
        for run, output, values in zip(found, outputs, accuracies, strict=True)
    }
    names, means = list(rows), [f"{sum(v.values()) / len(v):.2f}" for v in rows.values()]
    wins = ["-", *(_wins(first, values) for values in accuracies[1:])]
    notes = []
    if set(first) == set(published.ACCURACY):
        for index, name in enumerate(published.COLUMNS):
            theirs = {key: float(values[index]) for key, values in published.ACCURACY.items()}
            names.append(f"{name} *")
            means.append(f"{sum(theirs.values()) / len(theirs):.2f}")
            wins.append(_wins(first, theirs))
        for name, (mean, odds) in published.ATTRIBUTE_MEANS.items():
            names.append(f"{name} **")
            means.append(f"{mean:.2f}")
            wins.append(f"{odds}/40 of ABN" if odds else "-")
        notes = [
            "* published accuracies of each attribute (Kimura & Tanaka 2019, table 3), on CelebA's "
            "full test part",
            "** as published (Fukui et al. 2019, table 4), on CelebA's full test part",
        ]
    columns = [
        Column("", "mean accuracy, %", means),
        Column("", "attributes that the first run wins", wins),
    ]
    return "\n".join([*lay_out(names, columns), *notes])


# Of finished runs, by name; a table is made of the runs' directories.
TABLES: dict[str, Callable[[Sequence[Path]], str]] = {
    "mechanisms": format_mechanisms,
    "errors": format_errors,
    "attributes": format_attributes,
}
