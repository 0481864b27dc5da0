"""Images a second of a training step, or of inference, beside Keras and PyTorch as usually written.

python benchmarks/speed/train_step.py --torch_python PATH --json train_step.json

Every implementation computes the same network with the same weights on the same batch: extractor
32, 64 and 128 filters down to a quarter, dilations 1, 2, 4 and 8, K linear sub-networks behind
masks, multi-label classifier, reconstructor; both cross-entropies, 4 times the squared error,
1e-5 times the masks' L1 norm; Adam. It is built in a process of its own; all processes are kept,
and take turns of some seconds, round after round, so that what disturbs the machine disturbs all.
The median round counts. The benchmark stops if the losses differ: the first by more than 1e-4,
relative, the second, which the first gradient decides, by more than 1e-3.

- `ours`: `mcattn_tf.models.build` and `training.compile_model`.
- `keras`: K branches of Conv2D, multiply, GlobalAveragePooling2D and Dense, TensorFlow; `graph`
  without XLA, `xla` with it.
- with `--masks factored` each branch mixes its mask from 16 shared ones; nothing else differs.
- `torch`: `branches` or one `wide` convolution for all masks, `eager` or by `torch.compile`,
  `channels_first` or `channels_last`; where precision is mixed_bfloat16, under autocast.

First-step seconds count from after the imports to the end of the first step, building included.
Peak memory is the process's largest resident set, on a GPU what was allocated there. The peak is
the speed of plain matrix products, by TensorFlow or PyTorch, whichever is faster, in the same
rounds; the share of it counts convolutions and matrix products, three times forward
(`peers/problem.py`).
"""

import dataclasses
import json
import sys
from pathlib import Path

from absl import flags
from peers.problem import MASK_STRIDE, STRIDE, Problem, operations_per_image
from peers.processes import Candidate
from peers.turns import TURN_SECONDS, add_ratios, measure, print_rows, say_if_disturbed

from mcattn_tf.commands import flags as command_line
from mcattn_tf.errors import UserError

ATTRIBUTES = flags.DEFINE_integer("attributes", 40, "K, how many sub-networks", 1)
CHANNELS = flags.DEFINE_integer("channels", 128, "C, channels of the features and masks", 1)
IMAGE_SIZE = flags.DEFINE_list("image_size", ["64", "64"], "height and width, divisible by 4")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "images in a step", 1)
MASKS = flags.DEFINE_enum(
    "masks", "own", ["own", "factored"], "masks of K C channels, or mixtures of 16 shared ones"
)
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "of all")
BACKEND = flags.DEFINE_enum("backend", "tensorflow", ["tensorflow", "jax", "torch"], "of ours")
PEERS = flags.DEFINE_list(
    "peers", ["keras", "torch"], "names of peers or their beginnings, such as torch-wide-compiled"
)
ROUNDS = flags.DEFINE_integer("rounds", 5, "turns that each implementation takes", 1)
TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", sys.executable, "interpreter that has PyTorch, where it is not this one"
)
SWEEP = flags.DEFINE_bool("sweep", False, "measure ours alone, for K = 1, 10, 40, 100 and 312")
INFERENCE = flags.DEFINE_bool(
    "inference",
    False,
    "measure inference, without and with the contribution maps of all attributes",
)
PLAIN = flags.DEFINE_bool(
    "plain",
    False,
    "measure the default network beside the plain one, `baseline`, in float32 and mixed_bfloat16",
)
JSON = flags.DEFINE_string("json", None, "file for the rows")

SWEPT_ATTRIBUTES = (1, 10, 40, 100, 312)
KERAS_VARIANTS = ("graph", "xla")
TORCH_VARIANTS = tuple(
    f"{design}-{execution}-{layout}"
    for design in ("branches", "wide")
    for execution in ("eager", "compiled")
    for layout in ("channels_first", "channels_last")
)


def make_problem(mode: str, attributes: int) -> Problem:
    """Returns what the flags ask for."""
    try:
        height, width = (int(side) for side in IMAGE_SIZE.value)
    except ValueError:
        height = width = 0
    # Peers enlarge shared masks without a part of a cell.
    multiple = STRIDE * MASK_STRIDE if MASKS.value == "factored" else STRIDE
    if min(height, width) < 1 or height % multiple or width % multiple:
        received = ",".join(IMAGE_SIZE.value)
        raise UserError(
            f"--image_size must be HEIGHT,WIDTH, divisible by {multiple}. Received: {received}"
        )
    image_size = (height, width)
    return Problem(
        mode,
        attributes,
        CHANNELS.value,
        image_size,
        BATCH_SIZE.value,
        PRECISION.value,
        MASKS.value,
    )


def ours(problem: Problem) -> Candidate:
    """Returns the candidate that is this toolkit."""
    python = TORCH_PYTHON.value if BACKEND.value == "torch" else sys.executable
    return Candidate("ours", "keras_models", BACKEND.value, python, BACKEND.value, problem)


def peers(problem: Problem) -> list[Candidate]:
    """Returns the peers that `--peers` chooses."""
    python = sys.executable
    every = [
        Candidate("keras", "keras_models", variant, python, "tensorflow", problem)
        for variant in KERAS_VARIANTS
    ] + [
        Candidate("torch", "pytorch", variant, TORCH_PYTHON.value, "torch", problem)
        for variant in TORCH_VARIANTS
    ]
    names = [candidate.name for candidate in every]
    for start in PEERS.value:
        if not any(name.startswith(start) for name in names):
            raise UserError(f"--peers must begin names of {', '.join(names)}. Received: {start}")
    return [peer for peer in every if peer.name.startswith(tuple(PEERS.value))]


def ratio_to_best_peer(rows: list[dict], mode: str) -> float | None:
    """Returns the speed of ours in units of the fastest peer's; None if none ran."""
    ratios = [
        row["ratio_to_ours"]
        for row in rows
        if row["implementation"] != "ours" and row["mode"] == mode and "ratio_to_ours" in row
    ]
    return 1 / max(ratios) if ratios else None


def time_with_maps(rows: list[dict]) -> dict[str, float]:
    """Returns for each implementation that ran its time with maps in units of that without."""
    speeds = {
        (f"{row['implementation']}-{row['variant']}, K = {row['attributes']}", row["mode"]): row[
            "images_per_second"
        ]
        for row in rows
        if "not_run" not in row
    }
    return {
        name: speed / speeds[name, "explain"]
        for (name, mode), speed in speeds.items()
        if mode == "predict" and (name, "explain") in speeds
    }


def beside_plain(mode: str) -> dict:
    """Measures networks with default settings, and returns rows and `step_to_plain`."""
    candidates = []
    for precision in ("float32", "mixed_bfloat16"):
        problem = dataclasses.replace(make_problem(mode, ATTRIBUTES.value), precision=precision)
        candidates += [
            dataclasses.replace(ours(problem), variant=variant) for variant in ("default", "plain")
        ]
    rows, _ = measure(candidates, ROUNDS.value, TORCH_PYTHON.value, products=False, same=False)
    speeds = {(x["variant"], x["precision"]): x["images_per_second"] for x in rows}
    ratios = {
        precision: speeds["plain", precision] / speeds["default", precision]
        for _, precision in speeds
    }
    for precision, ratio in ratios.items():
        print(f"{mode}, {precision}: the default takes {ratio:.2f} times as long as plain")
    say_if_disturbed(rows)
    return {"rows": rows, "step_to_plain": ratios}


def settings() -> dict:
    """Returns the settings that all rows share."""
    return {
        "channels": CHANNELS.value,
        "image_size": [int(side) for side in IMAGE_SIZE.value],
        "batch_size": BATCH_SIZE.value,
        "masks": MASKS.value,
        "backend": BACKEND.value,
        "rounds": ROUNDS.value,
        "turn_seconds": TURN_SECONDS,
    }


def main(arguments: list[str]) -> None:
    """Prints the table and writes the rows."""
    if SWEEP.value and (ATTRIBUTES.present or PEERS.present):
        raise UserError("--sweep measures ours alone, of its own K: leave --attributes and --peers")
    counts = SWEPT_ATTRIBUTES if SWEEP.value else (ATTRIBUTES.value,)
    modes = ("predict", "explain") if INFERENCE.value else ("train",)
    if PLAIN.value:
        results = {"settings": settings()} | beside_plain(modes[0])
        if JSON.value:
            Path(JSON.value).write_text(json.dumps(results, indent=2) + "\n")
        return
    candidates = []
    for attributes in counts:
        for mode in modes:
            problem = make_problem(mode, attributes)
            candidates += [ours(problem), *([] if SWEEP.value else peers(problem))]
    rows, peak = measure(candidates, ROUNDS.value, TORCH_PYTHON.value)
    for row, candidate in zip(rows, candidates, strict=True):
        if "not_run" not in row:
            operations = operations_per_image(candidate.problem)
            row["share_of_peak"] = operations * row["images_per_second"] / peak
    add_ratios(rows)
    print_rows(rows)
    print(f"matrix products, {PRECISION.value}: {peak / 1e9:.0f} GFLOP/s")
    results = {
        "settings": settings() | {"precision": PRECISION.value},
        "matrix_product_operations_per_second": peak,
        "rows": rows,
        "ratio_to_best_peer": ratio_to_best_peer(rows, modes[0]),
    }
    say_if_disturbed(rows)
    if results["ratio_to_best_peer"] is not None:
        print(f"ours to the best peer: {results['ratio_to_best_peer']:.2f}")
    if INFERENCE.value:
        results["ratio_to_best_peer_with_maps"] = ratio_to_best_peer(rows, "explain")
        results["time_with_maps"] = with_maps = time_with_maps(rows)
        for name, ratio in with_maps.items():
            print(f"{name}: with all maps {ratio:.2f} times as long as the prediction alone")
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    command_line.run_script(main)
