"""Training steps and explanations on a GPU: ours on JAX beside PyTorch, eager and compiled.

bash benchmarks/speed/gpu.sh --json gpu.json

Network and batches are those of `train_step.py`, for two sizes of images, two batch sizes, masks
of their own and factored ones, bfloat16 and float32. The implementations of a setting are built at
the same time, each in a process of its own, and then take turns. One that fails is tried again
alone, with all of the GPU's memory. The file is written after each setting. No setting is begun
that would not end in time. Called again with the same file, the script measures what is left.
"""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from peers.problem import Problem, operations_per_image
from peers.processes import Candidate, Worker, WorkerError
from peers.turns import add_ratios, new_row, print_rows, require_same_numbers

from mcattn_tf.commands import flags as command_line
from mcattn_tf.errors import UserError

JSON = flags.DEFINE_string("json", "gpu.json", "file for the rows, or with those of earlier calls")
SECONDS = flags.DEFINE_integer("seconds", 440, "time in which all must end", 1)
TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", sys.executable, "interpreter that has PyTorch, where it is not this one"
)
TINY = flags.DEFINE_bool("tiny", False, "measure small networks on few images, to try the script")

# The batch sizes and image sizes of the settings, K and C.
WHOLE = ((256, 1024), ((64, 64), (128, 104)), 40, 128)
TRIAL = ((2, 4), ((16, 24), (24, 32)), 2, 8)
PRECISIONS = ("mixed_bfloat16", "float32")
TORCH_VARIANTS = ("wide-eager-channels_last", "wide-compiled-channels_last")
TURN, ROUNDS = {"do": "run", "seconds": 0.5}, 3


def problems() -> list[Problem]:
    """Returns all settings, those of small batches and small images first."""
    batches, sizes, attributes, channels = TRIAL if TINY.value else WHOLE
    return [
        Problem(mode, attributes, channels, size, batch, precision, masks)
        for batch, size, mode, masks, precision in itertools.product(
            batches, sizes, ("train", "explain"), ("own", "factored"), PRECISIONS
        )
    ]


def setting_of(problem: Problem) -> dict:
    """Returns what a row says of its setting."""
    return dataclasses.asdict(problem) | {"image_size": list(problem.image_size)}


def candidates(problem: Problem) -> list[Candidate]:
    """Returns ours, then PyTorch's."""
    torch = TORCH_PYTHON.value
    return [
        Candidate("ours", "keras_models", "jax", sys.executable, "jax", problem),
        *(Candidate("torch", "pytorch", x, torch, "torch", problem) for x in TORCH_VARIANTS),
    ]


def answers_of(compared: Sequence[Candidate], commands: Sequence[dict]) -> list[list[dict]]:
    """Builds candidates at the same time, then gives each command to one after another.

    Returns the answers of each, the first of them to no command. The last answer of one that failed
    has the reason, `not_run`.
    """
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(candidate)) for candidate in compared]
        answers = [[] for _ in workers]
        for command in (None, *commands):
            for worker, given in zip(workers, answers, strict=True):
                if given and "not_run" in given[-1]:
                    continue
                try:
                    given.append(worker.ask(**command) if command else worker.answer())
                except WorkerError as error:
                    given.append({"not_run": str(error)})
    return answers


def peaks() -> dict[str, float]:
    """Returns operations a second of matrix products, by the faster of JAX and PyTorch.

    They have processes of their own, so that their memory is not that of a measured one.
    """
    # A CPU without bfloat16 would take minutes for the products of the usual size.
    product = {"do": "matrix_product", "seconds": 1.0, "side": 128 if TINY.value else None}
    products = [product | {"precision": precision} for precision in PRECISIONS]
    smallest = Problem("explain", 1, 8, (16, 16), 2, "float32")
    ours, eager, _ = candidates(smallest)
    answers = answers_of([ours, eager], products)
    speeds = [
        [answer["operations_per_second"] for answer in given[1:]]
        for given in answers
        if "not_run" not in given[-1]
    ]
    if not speeds:
        raise UserError(f"nothing could be run: {answers[0][-1]['not_run']}")
    return dict(zip(PRECISIONS, map(max, zip(*speeds, strict=True)), strict=True))


def measure(problem: Problem, peak: float) -> list[dict]:
    """Returns a row for each implementation."""
    compared, commands = candidates(problem), [*[TURN] * ROUNDS, {"do": "end"}]
    answers, rows = answers_of(compared, commands), []
    for candidate, given in zip(compared, answers, strict=True):
        if "not_run" in given[-1]:
            (given,) = answers_of([candidate], commands)
        row = new_row(candidate) | setting_of(problem) | given[-1]
        if "not_run" not in row:
            row |= given[0] | {"rounds": given[1:-1]}
            speed = statistics.median(turn["images_per_second"] for turn in row["rounds"])
            row["images_per_second"] = speed
            row["share_of_peak"] = operations_per_image(problem) * speed / peak
        rows.append(row)
    add_ratios(rows)
    print_rows(rows)
    try:
        require_same_numbers(rows)
    except UserError as error:  # is to be read beside the speeds, which stand
        print(error)
        rows[0]["differs"] = str(error)
    return rows


def machine() -> dict:
    """Returns the GPU's name and driver, and the versions of what computes."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    found = shutil.which(query[0])
    names = ("jax", "keras", "numpy", "torch")
    versions = {x.name: x.version for x in importlib.metadata.distributions() if x.name in names}
    return {
        "gpu": subprocess.run(query, capture_output=True, text=True).stdout if found else None,
        "versions": versions,
    }


def main(_: list[str]) -> None:
    """Prints and writes the rows of one setting after another."""
    start, longest, path = time.monotonic(), 0.0, Path(JSON.value)
    if path.exists():
        results = json.loads(path.read_text("utf-8"))
    else:
        results = {**machine(), "matrix_product_operations_per_second": peaks(), "rows": []}
    rows = results["rows"]
    left = [x for x in problems() if not any(setting_of(x).items() <= y.items() for y in rows)]
    while left:
        begin = time.monotonic()
        if longest and begin - start + longest > SECONDS.value:
            break
        problem = left.pop(0)
        height, width = problem.image_size
        words = f"{problem.masks} masks, {height}x{width}, batch {problem.batch_size}"
        print(f"\n{problem.mode}, {words}, {problem.precision}", flush=True)
        peak = results["matrix_product_operations_per_second"][problem.precision]
        rows += measure(problem, peak)
        results["left"] = [setting_of(x) for x in left]
        path.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
        longest = max(longest, time.monotonic() - begin)
    if left:
        print(f"\n{len(left)} settings are left: call it again with --json {path}")


if __name__ == "__main__":
    command_line.run_script(main)
