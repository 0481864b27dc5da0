"""What the trainings of reproduce.sh compute: floating-point operations, counted, not timed.

python benchmarks/results/published_operations.py --json docs/results/published_operations.json

TensorFlow counts those of a forward pass of one image in the network's graph; the backward pass is
twice that, once for the inputs and once for the weights. Validation comes on top of it.
"""

import json
import shlex
import subprocess
from pathlib import Path

from absl import flags

from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands import train
from mcattn_tf.commands.environment import import_tensorflow_quietly
from mcattn_tf.settings.config import Config

JSON = flags.DEFINE_string("json", None, "file for the counts")

SCRIPT = Path(__file__).with_name("reproduce.sh")
# Images that are trained on, without those that choose the epoch, and targets.
DATA = {
    "celeba": (162_770, 40),
    "cifar10": (45_000, 10),
    "cifar100": (45_000, 100),
    "svhn_cropped": (65_931, 10),
}


def configurations() -> dict[str, Config]:
    """Returns the settings of every training that a dry run of the script names."""
    printed = subprocess.run(
        ["bash", SCRIPT, "--dry_run"], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for words in map(shlex.split, printed.splitlines()):
        _, _, script, *arguments = words
        if script != "train.py":
            continue
        values, others = command_line.parse(train.main, arguments)
        if others:
            raise ValueError(f"{SCRIPT.name}: train.py takes no {others}")
        config, directory = train.settings_of(values)
        found[directory.name] = config
    return found


def forward_operations(config: Config) -> int:
    """Returns the floating-point operations of a forward pass of one image to all outputs."""
    import tensorflow as tf

    from mcattn_tf import models
    from mcattn_tf.layers.task_folding import all_together

    profiler = tf.compat.v1.profiler
    model = models.build(config)
    image = tf.TensorSpec((1, *config.data.image_size, 3))
    with all_together(model):  # what is in a loop is not counted
        graph = tf.function(model).get_concrete_function(image).graph
    options = profiler.ProfileOptionBuilder.float_operation()
    options = profiler.ProfileOptionBuilder(options).with_empty_output().build()
    return profiler.profile(graph, cmd="op", options=options).total_float_ops


def main(arguments: list[str]) -> None:
    """Prints a line a training and writes the counts."""
    import_tensorflow_quietly()
    path = JSON.value
    counts = {}
    for name, config in configurations().items():
        images, targets = DATA[config.data.dataset]
        names = tuple(str(number) for number in range(targets))
        forward = forward_operations(config.replace("found", attributes=names))
        counts[name] = {
            "forward_operations_per_image": forward,
            "training_images": images,
            "epochs": config.training.epochs,
            "training_operations": 3 * forward * images * config.training.epochs,
        }
        print(f"{name}: {counts[name]['training_operations']:.3g} operations", flush=True)
    if path:
        Path(path).write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    command_line.run_script(main)
