"""Tables of ABN: attention mechanisms, and multi-task ABN beside its authors' code."""

from collections.abc import Iterator

from mcattn_tf.errors import UserError
from mcattn_tf.run_tables import MECHANISMS

Rows = Iterator[list[str]]


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


def abn_step(runs: dict[str, dict]) -> Rows:
    """Yields a row an implementation in `benchmarks/abn_step.py`, in units of the authors' code.

    Memory is what a process had at most beyond what importing its libraries took.
    """
    yield ["network", "step", "implementation", "images/s", "to official", "peak MB", "to official"]
    for run in runs.values():
        for row in run["rows"]:
            head = [run["settings"]["backbone"], row["mode"]]
            head.append(f"{row['implementation']}, {row['variant']}")
            if "not_run" in row:
                yield [*head, "not run", "-", "-", "-"]
                continue
            reference = _official(run["rows"], row["mode"])
            cells = []
            for value, digits in ((_speed, 2), (_memory, 0)):
                ratio = f"{value(row) / value(reference):.2f}" if reference else "-"
                cells += [f"{value(row):.{digits}f}", ratio]
            yield [*head, *cells]


def _official(rows: list[dict], mode: str) -> dict | None:
    found = (row for row in rows if (row["implementation"], row["mode"]) == ("official", mode))
    return next((row for row in found if "not_run" not in row), None)


def _speed(row: dict) -> float:
    return row["images_per_second"]


def _memory(row: dict) -> float:
    return row["peak_memory_mb"] - row["memory_after_import_mb"]
