"""Times of functions beside each other, and the rows that they make."""

import json
import time
from collections.abc import Callable
from pathlib import Path


def in_turn(repeats: int, *functions: Callable[[], object]) -> list[list[float]]:
    """Runs functions in turn, once to warm up, and returns the seconds of each.

    Every other round runs backwards, so that none always follows the same one.
    """
    for function in functions:
        function()
    seconds = [[] for _ in functions]
    for number in range(repeats):
        pairs = list(zip(seconds, functions, strict=True))
        for times, function in reversed(pairs) if number % 2 else pairs:
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    return seconds


def fastest(repeats: int, *functions: Callable[[], object]) -> list[float]:
    """Runs functions in turn, once to warm up, and returns the fewest seconds of each."""
    return [min(times) for times in in_turn(repeats, *functions)]


def row(what: str, alternative: str, seconds: float, alternative_seconds: float) -> dict:
    """Returns a comparison; the ratio is above 1 where `what` is the faster."""
    return {
        "what": what,
        "alternative": alternative,
        "seconds": seconds,
        "alternative_seconds": alternative_seconds,
        "throughput_ratio": alternative_seconds / seconds,
    }


def report(rows: list[dict], path: str | None) -> None:
    """Prints a line a comparison and writes the rows as JSON, if there is a path."""
    for values in rows:
        print(
            f"{values['what']}: {values['seconds']:.3g} s; {values['alternative']}: "
            f"{values['alternative_seconds']:.3g} s; throughput ratio "
            f"{values['throughput_ratio']:.2f}"
        )
    if path:
        Path(path).write_text(json.dumps(rows, indent=2) + "\n")
