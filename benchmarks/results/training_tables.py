"""Rows of the tables of docs/results.md, made of the figures of finished runs.

A run that has not been made yet is None, and has a row that says so.
"""

import json
from collections.abc import Iterator

from published_figures import ATTRIBUTE_MEANS, CLASS_ACCURACY, MECHANISM_ERRORS, MECHANISMS

from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import published
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.systems import LABEL_OUTPUTS
from mcattn_tf.tables import difference, percent

Rows = Iterator[list[str]]
Runs = dict[str, dict | None]

SUSTAINED = 10e12  # operations a second of the GPU for which hours are told

# Published accuracy of each run of reproduce.sh, in per cent; CelebA's is a mean over attributes.
PUBLISHED_RUNS: dict[str, float | None] = {
    "mcattn": sum(values[0] for values in published.ACCURACY.values()) / len(published.ACCURACY),
    "mcattn_default": None,
    "baseline": None,
    "multitask_abn": ATTRIBUTE_MEANS["ABN"][0],
    **{
        f"{data}_{run}": CLASS_ACCURACY[dataset].get(network)
        for data, dataset in (("cifar10", "cifar10"), ("svhn", "svhn_cropped"))
        for run, network in (("gcm", "gcm"), ("nonnegative", "gcm, nonnegative"), ("cnn", "cnn"))
    },
    **{
        f"cifar100_{backbone}_{mechanism}": 100 - error
        for backbone, errors in MECHANISM_ERRORS.items()
        for mechanism, error in zip(MECHANISMS, errors, strict=True)
    },
}
NOT_RUN = "not run"
# Of explanations, and what tables call them.
METRICS = {
    "pointing_game": "pointing game",
    "normalized_energy": "norm. energy",
    "deletion_auc": "deletion",
    "insertion_auc": "insertion",
    "sanity_rank_correlation": "rank corr.",
}


def setting(name: str) -> str:
    """Returns what tells results on one data set apart: `paper` of `faces_paper`."""
    return name.partition("_")[2].replace("_", " ")


def rounded(value: float, digits: int = 3) -> str:
    """Returns a number with so many digits, and zero without a sign."""
    return f"{round(value, digits) or 0.0:.{digits}f}"


def _share(values: dict, metric: str) -> str:
    """Returns a share in per cent, with its interval if there is one."""
    return percent(values.get(metric), values.get("intervals", {}).get(metric))


def _minutes(run: dict) -> str:
    seconds = run["metrics"].get("seconds")
    return "not noted" if seconds is None else f"{seconds / 60:.0f} min"


def _commit(run: dict) -> str:
    revision = run.get("record", {"sessions": [{}]})["sessions"][-1].get("git_revision")
    return revision[:7] if revision else "not noted"


def _first_answers(run: dict) -> dict:
    """Returns the means of what a network answers by."""
    return next(iter(run["evaluation"].values()))["mean"]


def trainings(runs: Runs) -> Rows:
    """Yields a row a run: what was trained, and what it cost."""
    yield [
        *("run", "network", "epochs", "best", "seed", "precision", "weights", "training"),
        "commit",
    ]
    for name, run in runs.items():
        if run is None:
            yield [setting(name), NOT_RUN, *[""] * 7]
            continue
        training, metrics = run["config"]["training"], run["metrics"]
        yield [
            setting(name),
            f"`{run['config']['model']['name']}`",
            *(f"{metrics[key]}" for key in ("epochs", "best_epoch")),
            *(f"{training[key]}" for key in ("seed", "precision")),
            f"{metrics['parameters']:,}",
            _minutes(run),
            _commit(run),
        ]


def intervals(runs: Runs, part: str) -> Rows:
    """Yields a row an output of each run: accuracies on a part of the test images, in per cent."""
    yield [
        *("run", "answers", "accuracy", "first minus this", "balanced accuracy", "F1"),
        "majority class",
    ]
    measured = {name: (run or {}).get("intervals", {}).get(part) for name, run in runs.items()}
    if len({result["first"] for result in measured.values() if result}) > 1:
        raise UserError("differences from several first runs: name all by --run in one evaluate.py")
    for name, result in measured.items():
        if result is None:
            yield [setting(name), NOT_RUN, *[""] * 5]
            continue
        for output, values in result["answers"].items():
            yield [
                setting(name),
                f"`{output}`",
                _share(values, "accuracy"),
                difference(values["differences"]["accuracy"]) if "differences" in values else "-",
                *(_share(values, x) for x in ("balanced_accuracy", "f1", "majority_accuracy")),
            ]


def measured_explanations(run: dict) -> dict | None:
    """Returns the explanations of a run, those on part masks where there are such; None if none."""
    return run.get("explanations_part_masks") or run.get("explanations")


def maps(runs: Runs) -> Rows:
    """Yields a row a run: the truth of the maps that are shown of it by default."""
    first, *others = METRICS
    shown = {first: METRICS[first], "chance": "by chance", **{x: METRICS[x] for x in others}}
    references = {"deletion_auc": "a Gaussian's deletion", "insertion_auc": "its insertion"}
    yield ["run", "maps", *shown.values(), *references.values()]
    for name, run in runs.items():
        measured = run and measured_explanations(run)
        if not measured:
            yield [setting(name), NOT_RUN, *[""] * (len(shown) + len(references))]
            continue
        method = measured["default_method"]
        values = [measured[method].get(metric) for metric in shown]
        values += [measured["center"].get(metric) for metric in references]
        cells = ("-" if value is None else rounded(value) for value in values)
        yield [setting(name), f"`{method}`", *cells]


def levers(runs: Runs) -> Rows:
    """Yields a row a run: what is set otherwise than in the first, and validation accuracies."""
    yield ["run", "what is changed", "validation accuracy, %", "to the first", "training"]
    first: dict | None = None
    for name, run in runs.items():
        if run is None:
            yield [setting(name), NOT_RUN, "", "", ""]
            continue
        first = first or run
        accuracy, reference = (_validation(x) for x in (run, first))
        yield [
            setting(name),
            ", ".join(_changes(first["config"], run["config"])) or "-",
            f"{100 * accuracy:.2f}",
            "-" if run is first else f"{100 * (accuracy - reference):+.2f}",
            _minutes(run),
        ]


def _validation(run: dict) -> float:
    """Returns the validation accuracy that the best epoch was chosen by."""
    rows = run["metrics"]["validation"]
    names = (f"val_{output}_accuracy" for output in run["evaluation"])
    return next(rows[name] for name in names if name in rows)


def _changes(first: dict, other: dict) -> Iterator[str]:
    """Yields the settings of a run that differ from another's, as --set takes them."""
    # As a run directory is read: settings of older versions have changed places.
    before, after = (_settings(Config.from_json(json.dumps(config))) for config in (first, other))
    for setting, value in after.items():
        if before.get(setting, value) != value:
            yield f"`{setting}={json.dumps(value)}`"


def _settings(config: Config) -> dict[str, object]:
    sections = json.loads(config.to_json())
    return {
        f"{section}.{field}": value
        for section, fields in sections.items()
        for field, value in fields.items()
    }


def published_runs(runs: Runs, operations: dict[str, dict]) -> Rows:
    """Yields a row a run of benchmarks/results/reproduce.sh: its accuracy beside the published one.

    Args:
        runs: by name, `published_` and the run directory's.
        operations: by the run directory's name, as `published_operations.py` counts them.
    """
    expected = f"hours at {SUSTAINED / 1e12:.0f} TFLOP/s"
    yield ["run", "published accuracy, %", "here", "operations, 10^15", expected, "training"]
    for name, run in runs.items():
        directory = name.removeprefix("published_")
        printed = PUBLISHED_RUNS[directory]
        yield [
            f"`{directory}`",
            "" if printed is None else f"{printed:.2f}",
            _share(_first_answers(run), "accuracy") if run else NOT_RUN,
            f"{operations[directory]['training_operations'] / 1e15:.3g}",
            f"{operations[directory]['training_operations'] / SUSTAINED / 3600:.2g}",
            _minutes(run) if run else "not measured",
        ]


def mean_and_extremes(values: list[float], digits: int = 3) -> str:
    """Returns the mean of numbers, with least and most where there are several."""
    numbers = sum(values) / len(values), min(values), max(values)
    mean, least, most = (rounded(x, digits) for x in numbers)
    return mean if len(values) == 1 else f"{mean} ({least} to {most})"


def _by_seed(runs: Runs) -> dict[str, list[dict]]:
    """Returns {network: its runs}; the last word of a name, `real_default_0`, is the seed."""
    networks: dict[str, list[dict]] = {}
    for name, run in runs.items():
        network = setting(name.rpartition("_")[0])
        networks.setdefault(network, []).extend([run] if run else [])
    return networks


ANSWERS = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision")


def seeds(runs: Runs) -> Rows:
    """Yields a row an output of each network: means over its seeds, in per cent, with extremes."""
    headings = ("accuracy", "balanced accuracy", "F1", "AUC", "AP")
    yield ["network", "answers", "seeds", *headings]
    for network, seen in _by_seed(runs).items():
        if not seen:
            yield [network, NOT_RUN, *[""] * (1 + len(headings))]
            continue
        for output in (x for x in LABEL_OUTPUTS if x in seen[0]["evaluation"]):
            means = [run["evaluation"][output]["mean"] for run in seen]
            cells = ([100 * mean[x] for mean in means if x in mean] for x in ANSWERS)
            texts = (mean_and_extremes(x, 2) if len(x) == len(seen) else NOT_RUN for x in cells)
            yield [network, f"`{output}`", f"{len(seen)}", *texts]


MAP_METRICS = {
    "pointing_game": "pointing game",
    "normalized_energy": "norm. energy",
    "coverage": "coverage",
    "deletion_auc": "deletion",
    "insertion_auc": "insertion",
}


def seed_maps(runs: Runs) -> Rows:
    """Yields a row for some methods of each network: means over its seeds, with extremes."""
    yield ["network", "maps", "seeds", *MAP_METRICS.values()]
    for network, seen in _by_seed(runs).items():
        measured = [x for run in seen if (x := measured_explanations(run))]
        if not measured:
            yield [network, NOT_RUN, *[""] * (1 + len(MAP_METRICS))]
            continue
        for method in (name for name, values in measured[0].items() if isinstance(values, dict)):
            having = [x[method] for x in measured if method in x]
            cells = ([values.get(metric) for values in having] for metric in MAP_METRICS)
            texts = (NOT_RUN if None in x else mean_and_extremes(x) for x in cells)
            yield [network, f"`{method}`", f"{len(having)}", *texts]


POINTED_PAIRS = 50  # of an image and an attribute, in each run, for a row of the next table


def seed_pointing(runs: Runs) -> Rows:
    """Yields a row an attribute: by each network's default maps, the pointing game over seeds."""
    networks = {
        name: [
            x[x["default_method"]]["pointing"] for run in seen if (x := measured_explanations(run))
        ]
        for name, seen in _by_seed(runs).items()
    }
    yield ["attribute", "by chance", *networks]
    every = [pointing for seen in networks.values() for pointing in seen]
    for name in every[0] if every else ():
        if not all(name in x and x[name]["pairs"] >= POINTED_PAIRS for x in every):
            continue
        of_networks = ([x[name]["pointing_game"] for x in seen] for seen in networks.values())
        texts = (f"{min(x):.2f} to {max(x):.2f}" for x in of_networks)
        yield [name, f"{every[0][name]['chance']:.2f}", *texts]


PRUNED = {"at_zero": "others at 0", "fitted": "fitted", "tuned": "fine-tuned"}


def pruning(runs: dict[str, dict]) -> Rows:
    """Yields a row a ranking of channels: accuracies over seeds, in per cent, with extremes."""
    cells: dict[str, dict[tuple[str, int], list[float]]] = {}
    for run in runs.values():
        for row in run["rows"]:
            of_ranking = cells.setdefault(row["by"], {})
            for kind in PRUNED.keys() & row.keys():
                of_ranking.setdefault((kind, row["channels"]), []).append(100 * row[kind])
    places = {place for of_ranking in cells.values() for place in of_ranking}
    columns = sorted(places, key=lambda place: (list(PRUNED).index(place[0]), place[1]))
    whole = mean_and_extremes([100 * run["whole"] for run in runs.values()], 2)
    yield [f"`--by` (whole: {whole})", *(f"{count}, {PRUNED[kind]}" for kind, count in columns)]
    for ranking, values in cells.items():
        texts = (mean_and_extremes(x, 2) if (x := values.get(c)) else NOT_RUN for c in columns)
        yield [f"`{ranking}`", *texts]


def mechanisms(runs: dict[str, dict]) -> Rows:
    """Yields a row a network and mechanism: the accuracy of each seed, and their mean.

    Raises:
        UserError: if runs of a row differ in something else than their seeds.
    """
    yield ["data", "network", "attention", "training images", "epochs", "accuracy by seed", "mean"]
    rows: dict[tuple, dict[int, float]] = {}
    settings: dict[tuple, dict] = {}
    for run_name, run in runs.items():
        data, model, training = (run["config"][part] for part in ("data", "model", "training"))
        images = data["train_examples"]
        names = (
            *(data["dataset"], model["backbone"], MECHANISMS[model["attention_mechanism"]]),
            *(f"{images:,}" if images else "all", f"{run['metrics']['epochs']}"),
        )
        by_seed = rows.setdefault(names, {})
        config = run["config"] | {"training": training | {"seed": None}}
        if settings.setdefault(names, config) != config or training["seed"] in by_seed:
            raise UserError(f"{run_name} differs from another run of its row not in its seed alone")
        by_seed[training["seed"]] = 100 * run["evaluation"]["perception"]["mean"]["accuracy"]
    for names, by_seed in rows.items():
        seeds = ", ".join(f"{by_seed[seed]:.2f} %" for seed in sorted(by_seed))
        yield [*names, seeds, f"{sum(by_seed.values()) / len(by_seed):.2f} %"]
