"""Implementations that take turns, each in a process of its own, and compute the same numbers."""

import contextlib
import dataclasses
import math
import statistics
import sys

from mcattn_tf.errors import UserError
from peers.processes import Candidate, Worker, WorkerError, has_module

TURN_SECONDS = 4.0
BUSY_PROCESSORS = 0.1  # of other work, above which a measurement is called disturbed
# Relative, of the numbers before and after the first step.
TOLERANCES = {"float32": (1e-4, 1e-3), "mixed_bfloat16": (1e-2, 5e-2)}


def _report(text: str) -> None:
    """Tells on stderr what is being done."""
    print(f"{text} ...", file=sys.stderr, flush=True)


def new_row(candidate: Candidate) -> dict:
    """Returns what is known before a worker runs."""
    return {
        "implementation": candidate.implementation,
        "variant": candidate.variant,
        "mode": candidate.problem.mode,
        "attributes": candidate.problem.attributes,
        "precision": candidate.problem.precision,
        "rounds": [],
    }


def _reference_of(row: dict, rows: list[dict]) -> dict:
    """Returns the row of ours for the same mode and K."""
    return next(
        other
        for other in rows
        if other["implementation"] == "ours"
        and (other["mode"], other["attributes"]) == (row["mode"], row["attributes"])
    )


def require_same_numbers(rows: list[dict]) -> None:
    """Stops the benchmark if an implementation computes something else than ours.

    Raises:
        UserError: that names the first.
    """
    for row in rows:
        expected = _reference_of(row, rows)
        if "not_run" in row or "not_run" in expected:
            continue
        pairs = zip(row["checks"], expected["checks"], TOLERANCES[row["precision"]], strict=True)
        if not all(math.isclose(x, y, rel_tol=tolerance) for x, y, tolerance in pairs):
            raise UserError(
                f"not the same network: {row['implementation']}-{row['variant']} computes "
                f"{row['checks']}, ours {expected['checks']}"
            )


def measure(
    candidates: list[Candidate],
    rounds: int,
    torch_python: str,
    products: bool = True,
    same: bool = True,
) -> tuple[list[dict], float | None]:
    """Runs candidates in turns.

    Args:
        candidates: ours first of each problem.
        rounds: turns of each.
        torch_python: interpreter of those whose backend is `torch`.
        products: whether plain matrix products are measured; their memory is that of a candidate.
        same: whether all candidates of a problem compute the same network.

    Returns:
        A row for each, and the speed of matrix products in operations a second, or None.
    """
    try:
        torch_found = has_module(torch_python, "torch")
    except OSError as error:
        raise UserError(f"--torch_python cannot be run: {error}") from None
    precision = candidates[0].problem.precision
    rows, running, speeds = [new_row(candidate) for candidate in candidates], [], {}

    def ask(row: dict, worker: Worker, command: dict | None) -> dict:
        """Returns the worker's answer, empty if it has ended; the others then run without it."""
        try:
            return worker.ask(**command) if command else worker.answer()
        except WorkerError as error:
            row["not_run"] = str(error)
            running[:] = [other for other in running if other[0] is not row]
            return {}

    with contextlib.ExitStack() as stack:
        for row, candidate in zip(rows, candidates, strict=True):
            if candidate.backend == "torch" and not torch_found:
                row["not_run"] = "PyTorch was not found, see --torch_python"
                continue
            _report(f"{candidate.name}, {candidate.problem.mode}: building")
            running.append((row, stack.enter_context(Worker(candidate))))
            row |= ask(*running[-1], None)
            small = candidate.problem.checked()
            if small != candidate.problem and "not_run" not in row:
                # In a process of its own, so that its memory is not that of the measured one.
                with Worker(dataclasses.replace(candidate, problem=small)) as checked:
                    row["checks"] = ask(row, checked, None).get("checks")
        if same:
            require_same_numbers(rows)
        for number in range(rounds):
            _report(f"round {number + 1} of {rounds}")
            for row, worker in list(running):
                answer = ask(row, worker, {"do": "run", "seconds": TURN_SECONDS})
                row["rounds"] += [answer] if answer else []
            if not products:
                continue
            # One worker of each library measures the matrix products.
            chosen = {worker.candidate.backend: (row, worker) for row, worker in reversed(running)}
            product = {"do": "matrix_product", "precision": precision, "seconds": 1.0}
            for library, (row, worker) in chosen.items():
                speeds.setdefault(library, []).extend(ask(row, worker, product).values())
        for row, worker in list(running):
            row |= ask(row, worker, {"do": "end"})
    if not running:
        raise UserError(f"nothing could be run: {rows[0]['not_run']}")
    peak = max((statistics.median(values) for values in speeds.values() if values), default=None)
    for row, _ in running:
        row["images_per_second"] = statistics.median(
            turn["images_per_second"] for turn in row["rounds"]
        )
    return rows, peak


def add_ratios(rows: list[dict]) -> None:
    """Adds to each row its speed in units of the speed of ours."""
    for row in rows:
        reference = _reference_of(row, rows)
        if "not_run" not in row and "not_run" not in reference:
            row["ratio_to_ours"] = row["images_per_second"] / reference["images_per_second"]


def say_if_disturbed(rows: list[dict]) -> None:
    """Prints how much other work there was, if there was much."""
    others = max(turn["other_processors"] for row in rows for turn in row["rounds"])
    if others > BUSY_PROCESSORS:
        print(f"disturbed: other work took up to {others:.1f} processors in a turn; measure again")


def print_rows(rows: list[dict]) -> None:
    """Prints the table."""
    print(
        f"{'implementation':<38} {'mode':<8} {'K':>3} {'images/s':>9} {'to ours':>7} "
        f"{'build s':>8} {'first s':>8} {'peak MB':>8} {'of peak':>7}"
    )
    for row in rows:
        name = f"{row['implementation']}-{row['variant']}"
        start = f"{name:<38} {row['mode']:<8} {row['attributes']:>3}"
        if "not_run" in row:
            print(f"{start} not run: {row['not_run']}")
            continue
        ratio = f"{row['ratio_to_ours']:.2f}" if "ratio_to_ours" in row else "-"
        print(
            f"{start} {row['images_per_second']:>9.1f} {ratio:>7} {row['build_seconds']:>8.2f} "
            f"{row['first_step_seconds']:>8.2f} {row['peak_memory_mb']:>8.0f} "
            f"{row['share_of_peak']:>7.1%}"
        )
