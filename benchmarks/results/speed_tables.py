"""Tables of what benchmarks measured."""

from collections.abc import Iterator

Rows = Iterator[list[str]]
COMPARED = ("speed to {}", "of peak", "first step to {}", "memory to {}")
REFERENCE_ATTRIBUTES = 40


def comparisons(runs: dict[str, list[dict]]) -> Rows:
    """Yields a row a comparison of one run of a benchmark: what, beside what, the ratio."""
    (rows,) = runs.values()
    yield ["what", "beside", "throughput ratio"]
    for row in rows:
        yield [row["what"], row["alternative"], f"{row['throughput_ratio']:.2f}"]


def steps(runs: dict[str, dict]) -> Rows:
    """Yields a row for each implementation in one run of `train_step.py`, relative to ours.

    Memory is what a process had at most beyond what importing its libraries took.
    """
    (run,) = runs.values()
    yield ["implementation", *(heading.format("ours") for heading in COMPARED)]
    for row in run["rows"]:
        yield [_name(row), *_compared(row, run["rows"][0])]


def sweep(runs: dict[str, dict]) -> Rows:
    """Yields a row a number of attributes in `train_step.py --sweep`, in units of that with 40."""
    (run,) = runs.values()
    (reference,) = (row for row in run["rows"] if row["attributes"] == REFERENCE_ATTRIBUTES)
    yield ["K", *(heading.format(f"K = {REFERENCE_ATTRIBUTES}") for heading in COMPARED)]
    for row in run["rows"]:
        yield [f"{row['attributes']}", *_compared(row, reference)]


def _compared(row: dict, reference: dict) -> list[str]:
    if "not_run" in row:
        return ["not run", *["-"] * (len(COMPARED) - 1)]
    first, memory = row["first_step_seconds"], own_memory(row)
    own = (f" ({first:.1f} s)", f" ({memory:.0f} MB)") if row is reference else ("", "")
    return [
        f"{row['images_per_second'] / reference['images_per_second']:.2f}",
        f"{100 * row['share_of_peak']:.0f} %",
        f"{first / reference['first_step_seconds']:.1f}{own[0]}",
        f"{memory / own_memory(reference):.1f}{own[1]}",
    ]


def abn_step(runs: dict[str, dict]) -> Rows:
    """Yields a row for each implementation in `abn_step.py`, relative to the authors' code.

    Memory is what a process had at most beyond what importing its libraries took.
    """
    yield ["network", "step", "implementation", "images/s", "to official", "peak MB", "to official"]
    for run in runs.values():
        for row in run["rows"]:
            head = [run["settings"]["backbone"], row["mode"], _name(row)]
            if "not_run" in row:
                yield [*head, "not run", "-", "-", "-"]
                continue
            speed, memory = row["images_per_second"], own_memory(row)
            ratios = "-", "-"
            if reference := _official(run["rows"], row["mode"]):
                compared = speed / reference["images_per_second"], memory / own_memory(reference)
                ratios = (f"{ratio:.2f}" for ratio in compared)
            to_speed, to_memory = ratios
            yield [*head, f"{speed:.2f}", to_speed, f"{memory:.0f}", to_memory]


def _official(rows: list[dict], mode: str) -> dict | None:
    found = (row for row in rows if (row["implementation"], row["mode"]) == ("official", mode))
    return next((row for row in found if "not_run" not in row), None)


def _name(row: dict) -> str:
    return f"{row['implementation']}, {row['variant']}"


def own_memory(row: dict) -> float:
    """Returns the MB that a process had at most beyond what importing its libraries took."""
    return row["peak_memory_mb"] - row["memory_after_import_mb"]
