"""Prints a table over finished runs in the form of one that a paper prints.

python benchmarks/results/paper_tables.py --table mechanisms --run runs/none --run runs/abn

mechanisms: errors of ABN by attention mechanism (Fukui et al. 2019, table 1).
errors: errors of backbones without and with ABN (table 2).
attributes: mean accuracies, and attributes that the first run wins (table 4).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import published_figures
from absl import flags

from mcattn_tf import runs
from mcattn_tf.commands import flags as command_line
from mcattn_tf.errors import UserError, choose
from mcattn_tf.evaluation import published
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.systems import LABEL_OUTPUTS
from mcattn_tf.tables import Column, lay_out, percent

TABLE = flags.DEFINE_string("table", None, "table: mechanisms, errors or attributes")
RUNS = flags.DEFINE_multi_string("run", [], "run directory; several times for several runs")


class FinishedRun(NamedTuple):
    """A training that has ended: the name of its directory, its settings, its `evaluation.json`."""

    name: str
    config: Config
    evaluation: dict[str, dict]

    @property
    def error(self) -> float:
        """Share of the images whose most probable class is wrong."""
        return 1 - self.evaluation["perception"]["mean"]["accuracy"]

    @property
    def cell(self) -> tuple[str, str, str]:
        """Data set, backbone and attention mechanism: its place in a table of errors."""
        model = self.config.model
        return self.config.data.dataset, model.backbone, model.attention_mechanism


def _read(directory: Path) -> FinishedRun:
    config, path = runs.read_config(directory), directory / runs.EVALUATION
    if not (directory / runs.METRICS).is_file():
        raise UserError(
            f"{directory} is not trained to its end; go on with train.py --resume --out {directory}"
        )
    if not path.is_file():
        raise UserError(f"{path} is not there yet; evaluate.py --run {directory} writes it")
    try:
        return FinishedRun(str(directory), config, json.loads(path.read_text()))
    except (OSError, ValueError):
        raise UserError(
            f"{path} cannot be read; evaluate.py --run {directory} writes it anew"
        ) from None


def _classifiers(directories: Sequence[Path]) -> dict[tuple[str, str, str], list[FinishedRun]]:
    """Returns runs of ABN on classes by cell; runs of one cell differ in their seeds alone."""
    cells: dict[tuple[str, str, str], list[FinishedRun]] = {}
    if len(set(directories)) < len(directories):
        raise UserError("each run of a table is named once")
    for directory in directories:
        if (name := runs.read_config(directory).model.name) != "abn":
            raise UserError(
                f"{directory} has no place in this table: it must be of --model abn. "
                f"Received: {name}"
            )
        run = _read(directory)
        if not run.config.model.exclusive:
            raise UserError(
                f"{run.name} has no top-1 error: its images may have several labels or none; "
                "leave it out"
            )
        others = cells.setdefault(run.cell, [])
        if others and _without_seed(run.config) != _without_seed(others[0].config):
            raise UserError(
                f"{run.name} differs from another run of its cell in more than the seed; leave "
                "one of them out"
            )
        others.append(run)
    return cells


def _without_seed(config: Config) -> Config:
    anywhere = config.replace("data", data_dir=None, cache_dir=None, no_cache=False)
    return anywhere.replace("training", seed=0)


def _errors(group: Sequence[FinishedRun]) -> str:
    """Returns the mean error of runs, and each error where there are several."""
    errors = [run.error for run in group]
    mean = percent(sum(errors) / len(errors) if errors else None)
    return mean if len(errors) < 2 else f"{mean} ({', '.join(map(percent, errors))})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(
    names: list[str], columns: list[Column], note: str, cells: dict[tuple, list[FinishedRun]]
) -> str:
    """Returns a table of errors, with a line below it about each run."""
    lines = []
    for run in [run for group in cells.values() for run in group]:
        data, training = run.config.data, run.config.training
        lines.append(
            f"{run.name}: {data.dataset}, {data.train_examples or 'all'} training images, "
            f"{training.epochs} epochs, seed {training.seed}, error {percent(run.error)} %"
        )
    return "\n".join([*lay_out(names, columns), note, *lines])


def format_mechanisms(directories: Sequence[Path]) -> str:
    """Returns the errors of each attention mechanism by backbone.

    Source: Fukui et al. 2019, table 1.

    Args:
        directories: Finished runs of ABN. Runs that differ in their seeds alone are averaged, with
            each error in brackets.

    Returns:
        A row for each data set and backbone; the published columns are of CIFAR-100.

    Raises:
        UserError: for a run that has no place in the table.
    """
    cells = _classifiers(directories)
    rows = sorted({cell[:2] for cell in cells})
    columns = [
        Column("top-1 error, %", heading, [_errors(cells.get((*row, name), [])) for row in rows])
        for name, heading in published_figures.MECHANISMS.items()
    ]
    known = published_figures.MECHANISM_ERRORS
    printed = [known.get(backbone, (None,) * 3) for _, backbone in rows]
    for index, heading in enumerate(published_figures.MECHANISMS.values()):
        numbers = [_number(errors[index]) for errors in printed]
        columns.append(Column("published, CIFAR-100 *", heading, numbers))
    note = "* Fukui et al. 2019, table 1: all 50,000 training images, 300 epochs"
    return _table([" ".join(row) for row in rows], columns, note, cells)


def format_errors(directories: Sequence[Path]) -> str:
    """Returns the errors of backbones without and with ABN.

    Source: Fukui et al. 2019, table 2.

    Args:
        directories: Finished runs of ABN, as `format_mechanisms` takes them.

    Returns:
        A row for each backbone and one with ABN (eq. 2, the default), and a pair of columns for
        each data set.

    Raises:
        UserError: for a run that has no place in the table.
    """
    cells = _classifiers(directories)
    for (*_, mechanism), group in cells.items():
        if mechanism == "product":
            raise UserError(
                f"{group[0].name} is of eq. 1, which has no row in this table; take --table "
                "mechanisms"
            )
    rows, columns = sorted({cell[1:] for cell in cells}), []
    for dataset in dict.fromkeys(dataset for dataset, *_ in cells):
        errors = [_errors(cells.get((dataset, *row), [])) for row in rows]
        printed = [_number(published_figures.ERRORS.get(row, {}).get(dataset)) for row in rows]
        columns += [Column(dataset, "error, %", errors), Column(dataset, "published *", printed)]
    names = [name + (" + ABN" if mechanism != "none" else "") for name, mechanism in rows]
    return _table(names, columns, "* Fukui et al. 2019, table 2: all training images", cells)


def _accuracies(run: FinishedRun) -> tuple[str, dict[str, float]]:
    """Returns a run's first output and its accuracy of each attribute, in per cent."""
    output = next(name for name in LABEL_OUTPUTS if name in run.evaluation)
    measures = run.evaluation[output]["per_attribute"]
    if "accuracy" not in next(iter(measures.values())):
        raise UserError(
            f"{run.name} has no accuracy of each attribute: its images have one class each; leave "
            "it out"
        )
    return output, {name: 100 * values["accuracy"] for name, values in measures.items()}


def _mean(accuracies: dict[str, float]) -> float:
    return sum(accuracies.values()) / len(accuracies)


def _wins(ours: dict[str, float], theirs: dict[str, float]) -> str:
    better = sum(accuracy > theirs[name] for name, accuracy in ours.items())
    equal = sum(accuracy == theirs[name] for name, accuracy in ours.items())
    return f"{better}/{len(ours)}" + (f" ({equal} equal)" if equal else "")


def format_attributes(directories: Sequence[Path]) -> str:
    """Returns the mean accuracy of attributes, and how many the first run wins.

    Source: Fukui et al. 2019, table 4, whose last column is called odds.

    Args:
        directories: Finished runs on the same attributes.

    Returns:
        A row for each run; where the attributes are CelebA's 40, a row for each method whose
        accuracies of attributes are published, and the published table.

    Raises:
        UserError: for runs that have no place in the table together.
    """
    rows, notes, first = [], [], None
    for run in map(_read, directories):
        output, accuracies = _accuracies(run)
        asked = run.config.data.dataset, accuracies.keys()
        if first and asked != first[0]:
            raise UserError(
                f"{run.name} cannot be compared: its data set or attributes are not those of "
                f"{directories[0]}"
            )
        wins = _wins(first[1], accuracies) if first else "-"
        first = first or (asked, accuracies)
        name = f"{run.name}: {run.config.model.name}, {output}"
        rows.append((name, _number(_mean(accuracies)), wins))
    if set(first[1]) == set(published.ACCURACY):
        for index, name in enumerate(published.COLUMNS):
            theirs = {key: float(values[index]) for key, values in published.ACCURACY.items()}
            rows.append((f"{name} *", _number(_mean(theirs)), _wins(first[1], theirs)))
        for name, (mean, odds) in published_figures.ATTRIBUTE_MEANS.items():
            rows.append((f"{name} **", _number(mean), f"{odds}/40 of ABN" if odds else "-"))
        notes = [
            "* published accuracies of each attribute (Kimura & Tanaka 2019, table 3), on CelebA's "
            "full test part",
            "** as published (Fukui et al. 2019, table 4), on CelebA's full test part",
        ]
    names, means, wins = map(list, zip(*rows, strict=True))
    columns = [
        Column("", "mean accuracy, %", means),
        Column("", "attributes that the first run wins", wins),
    ]
    return "\n".join([*lay_out(names, columns), *notes])


# Tables of finished runs; each is made from the runs' directories.
TABLES: dict[str, Callable[[Sequence[Path]], str]] = {
    "mechanisms": format_mechanisms,
    "errors": format_errors,
    "attributes": format_attributes,
}


def main(arguments: list[str]) -> None:
    """Prints the table of the runs."""
    choose("table", TABLE.value, TABLES)
    if arguments or not RUNS.value:
        raise UserError("name each run directory by --run")
    print(TABLES[TABLE.value]([Path(run) for run in RUNS.value]))


if __name__ == "__main__":
    command_line.run_script(main)
