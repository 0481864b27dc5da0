"""A process that builds one implementation and takes its steps when it is told to.

python -m peers.worker SETTINGS

SETTINGS is JSON: `module` of this package that builds, `variant`, and `problem` with the
`problem_module` that states it. The process
answers with a line of JSON when its first steps are done, and to each line that it reads:
`{"do": "run", "seconds": S}`, `{"do": "matrix_product", "precision": P, "seconds": S}`, which may
have the `side` of the matrices, or `{"do": "end"}`. Weights that all implementations share are
loaded where numbers are compared.
"""

import importlib
import json
import math
import os
import resource
import sys
import time

from peers.problem import batch


def _most_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux


def _busy_seconds() -> float:
    """Returns the seconds since the start in which processors worked, for whomever."""
    with open("/proc/stat") as lines:
        user, nice, system, _, _, interrupts, soft, stolen = map(int, next(lines).split()[1:9])
    return sum((user, nice, system, interrupts, soft, stolen)) / os.sysconf("SC_CLK_TCK")


class _IdleWatch:
    """How much a process computes while it should wait."""

    def __init__(self) -> None:
        self.processor_seconds = self.seconds = 0.0

    def wait_for_line(self) -> str:
        """Reads a line and adds up what was spent until it came."""
        processor, start = time.process_time(), time.perf_counter()
        line = sys.stdin.readline()
        self.processor_seconds += time.process_time() - processor
        self.seconds += time.perf_counter() - start
        return line


def main() -> None:
    """Builds, then obeys until the end."""
    settings = json.loads(sys.argv[1])
    # What libraries print goes to stderr; the answers alone go to stdout.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    fields = settings["problem"]
    stated = importlib.import_module(settings["problem_module"])
    problem = stated.Problem(**{**fields, "image_size": tuple(fields["image_size"])})
    images, labels = batch(problem)
    module = importlib.import_module(f"peers.{settings['module']}")
    imported_memory = _most_memory()

    start = time.perf_counter()
    subject = module.Subject(problem, settings["variant"], images, labels)
    build_seconds = time.perf_counter() - start
    if problem == problem.checked():
        subject.load(stated.weights(problem))
    start = time.perf_counter()
    checks = [subject.check()]
    first_step_seconds = build_seconds + time.perf_counter() - start
    checks.append(subject.check())
    start = time.perf_counter()
    subject.run(2)
    step_seconds = (time.perf_counter() - start) / 2

    answer = {
        "build_seconds": build_seconds,
        "first_step_seconds": first_step_seconds,
        "checks": checks,
    }
    watch = _IdleWatch()
    while True:
        answers.write(json.dumps(answer) + "\n")
        command = json.loads(watch.wait_for_line() or '{"do": "end"}')
        if command["do"] == "run":
            steps = max(2, math.ceil(command["seconds"] / step_seconds))
            busy, own, start = _busy_seconds(), time.process_time(), time.perf_counter()
            subject.run(steps)
            seconds = time.perf_counter() - start
            others = _busy_seconds() - busy - (time.process_time() - own)
            answer = {
                "images_per_second": steps * problem.batch_size / seconds,
                "other_processors": max(others, 0.0) / seconds,
            }
        elif command["do"] == "matrix_product":
            wanted = command["precision"], command["seconds"], command.get("side")
            answer = {"operations_per_second": module.matrix_product_speed(*wanted)}
        else:
            break
    device_memory = subject.device_memory_peak()
    answer = {
        "memory_after_import_mb": imported_memory,
        "peak_memory_mb": _most_memory() if device_memory is None else device_memory / 2**20,
        "idle_processors": watch.processor_seconds / max(watch.seconds, 1e-9),
    }
    answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
