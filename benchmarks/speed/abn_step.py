"""Images a second of multi-task ABN, tasks folded into the batch, beside loops over the tasks.

python benchmarks/speed/abn_step.py --torch_python PATH --official_dir CHECKOUT --json abn_step.json

- `ours`: `mcattn_tf.models.build`, in `float32` and `bfloat16`.
- `keras-looped`: the same network in Keras, its perception branch called for one task after
  another.
- `official`: the network of its authors in PyTorch, from a checkout of
  github.com/machine-perception-robotics-group/ABN_CelebA_PyTorch.

All have a map as the attention branch makes it, no residual, one unit a task; a step is one of SGD
with momentum on both branches' cross-entropies. Before anything is timed, all take two steps of a
small network on the same weights and images, and the benchmark stops unless their losses agree as
in `train_step.py`, whose processes and turns these are.
"""

import json
import sys
from pathlib import Path

from absl import flags
from peers.abn_problem import BLOCKS, Problem
from peers.processes import Candidate
from peers.turns import add_ratios, measure, say_if_disturbed

from mcattn_tf.commands import flags as command_line
from mcattn_tf.errors import UserError

BACKBONE = flags.DEFINE_enum("backbone", "resnet18", list(BLOCKS), "cut before its last stage")
ATTRIBUTES = flags.DEFINE_integer("attributes", 40, "T, how many tasks", 1)
SIDE = flags.DEFINE_integer("side", 128, "of the square images, in pixels", 32)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "images in a step", 1)
MODES = flags.DEFINE_list("modes", ["train", "predict"], "train, predict or both")
LOOPED = flags.DEFINE_bool("looped", True, "whether the looped Keras build is measured")
OFFICIAL_DIR = flags.DEFINE_string("official_dir", None, "checkout of the authors' PyTorch code")
TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", sys.executable, "interpreter that has PyTorch, where it is not this one"
)
ROUNDS = flags.DEFINE_integer("rounds", 5, "turns that each implementation takes", 1)
JSON = flags.DEFINE_string("json", None, "file for the rows")


def candidates(mode: str) -> list[Candidate]:
    """Returns what is measured in `train` or `predict`."""

    def candidate(
        name: str, module: str, variant: str, backend: str, precision: str = "float32"
    ) -> Candidate:
        size = (SIDE.value, SIDE.value)
        shape = (BACKBONE.value, ATTRIBUTES.value, size, BATCH_SIZE.value, precision)
        problem = Problem(mode, *shape, OFFICIAL_DIR.value or "")
        python = TORCH_PYTHON.value if backend == "torch" else sys.executable
        return Candidate(name, module, variant, python, backend, problem)

    found = [
        candidate("ours", "abn_keras", "float32", "tensorflow"),
        candidate("ours", "abn_keras", "bfloat16", "tensorflow", "mixed_bfloat16"),
    ]
    if LOOPED.value:
        found.append(candidate("keras", "abn_keras", "looped", "tensorflow"))
    if OFFICIAL_DIR.value:
        found.append(candidate("official", "abn_official", "loop", "torch"))
    return found


def print_rows(rows: list[dict]) -> None:
    """Prints the table."""
    print(f"{'implementation':<16} {'mode':<8} {'images/s':>9} {'to ours':>8} {'peak MB':>8}")
    for row in rows:
        start = f"{row['implementation'] + '-' + row['variant']:<16} {row['mode']:<8}"
        if "not_run" in row:
            print(f"{start} not run: {row['not_run']}")
            continue
        ratio = f"{row['ratio_to_ours']:.2f}" if "ratio_to_ours" in row else "-"
        memory = row["peak_memory_mb"] - row["memory_after_import_mb"]
        print(f"{start} {row['images_per_second']:>9.2f} {ratio:>8} {memory:>8.0f}")


def main(arguments: list[str]) -> None:
    """Prints the table and writes the rows."""
    if set(MODES.value) - {"train", "predict"}:
        raise UserError(f"--modes must be train, predict or both. Received: {MODES.value}")
    if OFFICIAL_DIR.value and not (Path(OFFICIAL_DIR.value) / "mtabn").is_dir():
        raise UserError(
            f"--official_dir {OFFICIAL_DIR.value} is no checkout of ABN_CelebA_PyTorch: it has no "
            "folder mtabn"
        )
    rows = []
    for mode in MODES.value:
        rows += measure(candidates(mode), ROUNDS.value, TORCH_PYTHON.value, products=False)[0]
    add_ratios(rows)
    print_rows(rows)
    say_if_disturbed(rows)
    if JSON.value:
        settings = {
            "backbone": BACKBONE.value,
            "attributes": ATTRIBUTES.value,
            "side": SIDE.value,
            "batch_size": BATCH_SIZE.value,
            "rounds": ROUNDS.value,
        }
        Path(JSON.value).write_text(
            json.dumps({"settings": settings, "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    command_line.run_script(main)
