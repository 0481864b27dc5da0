"""Tables of README and docs, made of the figures of finished runs.

The figures of a run are kept in docs/results/NAME.json, without those of single images and
attributes. A table stands between <!-- table BUILDER NAME... --> and <!-- end of table -->; what is
behind a colon (intervals:PART) the builder is given too.
"""

import itertools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import speed_tables
import training_tables
from published_figures import CLASS_ACCURACY
from training_tables import (
    METRICS,
    NOT_RUN,
    Rows,
    mean_and_extremes,
    measured_explanations,
    rounded,
    setting,
)

from mcattn_tf.errors import UserError, choose
from mcattn_tf.evaluation import published
from mcattn_tf.settings.data import PLACES

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "docs" / "results"
PAGES = (
    *(ROOT / page for page in ("README.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
MARKED = re.compile(r"(<!-- table ([^>]*?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
# Of a run, what is kept: each file without what is said of single attributes.
FILES = ("config", "record", "metrics", "evaluation", "explanations", "explanations_part_masks")
FILES += ("decline", "intervals")
SINGLE = ("per_attribute", "groups", "sanity")
POINTING = {"pointing_game": "pointing game", "chance": "by chance", "pairs": "images"}


def kept(directory: Path) -> dict:
    """Returns the figures of a run that tables are made of.

    Raises:
        UserError: if it is not a run that was evaluated.
    """
    figures = {}
    for name in FILES:
        path = directory / f"{name}.json"
        if path.is_file():
            keep = kept_explanations if name.startswith("explanations") else _without_single
            figures[name] = keep(json.loads(path.read_text()))
    if "evaluation" not in figures:
        raise UserError(f"--run {directory} has no evaluation.json: not a run that was evaluated")
    for place in PLACES:
        figures["config"]["data"].pop(place, None)
    figures["config"].get("training", {}).pop("init_from", None)  # the command names it
    for session in figures.get("record", {}).get("sessions", ()):
        session["command"] = _without_places(session["command"])
        session["hardware"].pop("host", None)
    for output, values in json.loads((directory / "evaluation.json").read_text()).items():
        accuracies = {k: v.get("accuracy") for k, v in values.get("per_attribute", {}).items()}
        if None not in accuracies.values() and accuracies:
            lowest = min(accuracies, key=accuracies.get)
            figures["evaluation"][output]["lowest"] = [lowest, accuracies[lowest]]
    return figures


def kept_explanations(measured: dict) -> dict:
    """Returns what is kept of explanations: of single attributes where the default maps point."""
    figures, method = _without_single(measured), measured["default_method"]
    figures[method]["pointing"] = {
        name: {key: values[key] for key in POINTING}
        for name, values in measured[method].get("per_attribute", {}).items()
        if values.get("pointing_game") is not None
    }
    return figures


def _without_places(command: str) -> str:
    """Returns a command without the flags that say where something is."""
    script, *words = shlex.split(command)
    kept, words = [Path(script).name], iter(words)
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag.removeprefix("--") not in (*PLACES, "out"):
            kept.append(word)
        elif not equals and flag != "--no_cache":
            next(words, None)
    return shlex.join(kept)


def _without_single(values: object) -> object:
    if not isinstance(values, dict):
        return values
    return {key: _without_single(value) for key, value in values.items() if key not in SINGLE}


def _with_interval(values: dict, metric: str) -> str:
    text, interval = rounded(values[metric]), values["intervals"].get(metric)
    return text if interval is None else f"{text} [{', '.join(map(rounded, interval))}]"


def accuracy(runs: dict[str, dict]) -> Rows:
    """Yields a row an output of one run: accuracies and the majority class."""
    yield ["output", "mean accuracy", "lowest", "balanced accuracy", "F1", "majority class"]
    (run,) = runs.values()
    for output, values in run["evaluation"].items():
        if "lowest" in values:
            mean, (attribute, lowest) = values["mean"], values["lowest"]
            shares = (mean[key] for key in ("balanced_accuracy", "f1", "majority_accuracy"))
            yield [
                f"`{output}`",
                f"{100 * mean['accuracy']:.2f} %",
                f"{100 * lowest:.2f} % ({attribute})",
                *(f"{100 * share:.2f} %" for share in shares),
            ]


WITH_INTERVALS = ("pointing_game",)


def explanations(runs: dict[str, dict]) -> Rows:
    """Yields a row a method: localisation, faithfulness and sanity of each run."""
    measured = {name: measured_explanations(run) for name, run in runs.items()}
    first, *others = METRICS.values()
    headings = ([f"{setting(name)}: {first}", *others] for name in measured)
    yield ["", *itertools.chain.from_iterable(headings)]
    first, *_ = measured.values()
    for method in (name for name, value in first.items() if isinstance(value, dict)):
        row = [f"`{method}`"]
        for every in measured.values():
            values = every.get(method, {})
            for metric in METRICS:
                shown = _with_interval if metric in WITH_INTERVALS else _plain
                row.append(shown(values, metric) if metric in values else NOT_RUN)
        yield row


TRUST_METHODS = ("contributions", "grad_cam", "guided_grad_cam", "random", "center")
TRUST_METRICS = {"pointing_game": "pointing game", "normalized_energy": "energy"}


def trust(runs: dict[str, dict]) -> Rows:
    """Yields a row for each of a few methods: whether maps point at the part, in each run."""
    measured = {setting(name): measured_explanations(run) for name, run in runs.items()}
    headings = (f"{name}: {metric}" for name in measured for metric in TRUST_METRICS.values())
    yield ["explanation", *headings]
    for method in TRUST_METHODS:
        values = (
            result[method][metric] for result in measured.values() for metric in TRUST_METRICS
        )
        yield [f"`{method}`", *map(rounded, values)]


def _plain(values: dict, metric: str) -> str:
    return rounded(values[metric])


def locality(runs: dict[str, list[dict]]) -> Rows:
    """Yields a row for each variant of `locality.py`: means over seeds, with the extremes."""
    yield [
        *("network", "field", "seeds", "accuracy", "map", "pointing game", "lowest attribute"),
        "normalised energy",
    ]
    every = itertools.chain.from_iterable(runs.values())
    variants: dict[tuple, list[dict]] = {}
    for row in every:
        words = "without masks" if row["plain"] else "", "plain average" if row["average"] else ""
        name = ", ".join(filter(None, (row["variant"], *words)))
        variants.setdefault((name, row["receptive_field"]), []).append(row)
    for (name, field), rows in variants.items():
        accuracies = [next(iter(row["accuracy"].values())) for row in rows]
        head = [name, f"{field} px", f"{len(rows)}", mean_and_extremes(accuracies, 4)]
        shown = {"contributions": "contributions"} if not rows[0]["plain"] else {"cam": "CAM"}
        for key, label in {**shown, "grad_cam": "Grad-CAM"}.items():
            maps = [row["maps"][key] for row in rows]
            yield [
                *head,
                label,
                mean_and_extremes([m["pointing_game"] for m in maps]),
                rounded(min(m["lowest"] for m in maps)),
                mean_and_extremes([m["normalized_energy"] for m in maps]),
            ]
            head = [""] * len(head)


def classes(runs: dict[str, dict]) -> Rows:
    """Yields a row a network that learns classes: its accuracy beside the published one."""
    yield ["data", "network", "epochs", "accuracy", "published", "weights"]
    for run in runs.values():
        config, mean = run["config"], run["evaluation"]["probabilities"]["mean"]
        network, dataset = config["model"]["name"], config["data"]["dataset"]
        if config["model"].get("nonnegative"):
            network += ", nonnegative"
        printed = CLASS_ACCURACY[dataset].get(network)
        yield [
            dataset,
            network,
            f"{run['metrics']['epochs']}",
            f"{100 * mean['accuracy']:.2f} %",
            "" if printed is None else f"{printed:.2f} %",
            f"{run['metrics']['parameters']:,}",
        ]


def decline(runs: dict[str, dict]) -> Rows:
    """Yields a row a method: accuracy and decline where its maps choose the class, as table 8."""
    ways = {"map": "map", "normalized": "normalised", "weighted_sum": "weighted sum"}
    ways |= {"product": "product"}
    yield ["method", "classifier", *ways.values(), "published"]
    for run in runs.values():
        measured = run["decline"]
        for method, values in measured["methods"].items():
            printed = published.DECLINE[method][1]
            cells = (values[way] for way in ways)
            yield [
                f"`{method}`",
                f"{100 * measured['accuracy']:.2f}",
                *(f"{100 * x['accuracy']:.2f} ({100 * x['decline']:.2f})" for x in cells),
                ", ".join(f"{printed[way][1]:.2f}" for way in ways),
            ]


TABLES: dict[str, Callable[..., Rows]] = {
    "accuracy": accuracy,
    "explanations": explanations,
    "trust": trust,
    "locality": locality,
    "classes": classes,
    "decline": decline,
    "mechanisms": training_tables.mechanisms,
    "pruning": training_tables.pruning,
    "comparisons": speed_tables.comparisons,
    "steps": speed_tables.steps,
    "sweep": speed_tables.sweep,
    "abn_step": speed_tables.abn_step,
}


def published_runs(runs: dict[str, dict | None]) -> Rows:
    """Yields a row a run of benchmarks/results/reproduce.sh, with what its training computes."""
    return training_tables.published_runs(runs, read("published_operations"))


# Of runs of which some may not have been made yet.
WITH_GAPS: dict[str, Callable[..., Rows]] = {
    "trainings": training_tables.trainings,
    "intervals": training_tables.intervals,
    "maps": training_tables.maps,
    "levers": training_tables.levers,
    "seeds": training_tables.seeds,
    "seed_maps": training_tables.seed_maps,
    "seed_pointing": training_tables.seed_pointing,
    "published": published_runs,
}


def table(call: str) -> str:
    """Returns a table as Markdown.

    Args:
        call: name of a builder and those of the results that it is given.
    """
    name, *names = call.split()
    builder, colon, part = name.partition(":")
    choose("table", builder, {**TABLES, **WITH_GAPS})
    if builder in TABLES:
        rows = TABLES[builder]({name: read(name) for name in names})
    else:
        runs = {name: read(name) if _path(name).is_file() else None for name in names}
        rows = WITH_GAPS[builder](runs, *([part] if colon else []))
    heading, *others = rows
    lines = [heading, ["---"] * len(heading), *others]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def read(name: str) -> dict | list:
    """Returns the results of a name."""
    path = _path(name)
    if not path.is_file():
        raise UserError(f"{path} does not exist: keep a run's figures by --run and --name {name}")
    return json.loads(path.read_text())


def _path(name: str) -> Path:
    return RESULTS / f"{name}.json"


def filled(page: str) -> str:
    """Returns a page with every table made anew."""
    return MARKED.sub(lambda found: found[1] + table(found[2]) + found[3], page)
