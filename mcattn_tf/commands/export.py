"""Exports the network of a finished run.

python -m mcattn_tf.commands.export --run runs/celeba --to models/celeba --version 2
"""

from pathlib import Path

from absl import flags

from mcattn_tf.commands import command_line
from mcattn_tf.errors import UserError, choose

RUN = flags.DEFINE_string("run", None, "run directory that train.py made", required=True)
TO = flags.DEFINE_string("to", None, "folder of the versions; that of the run if left out")
VERSION = flags.DEFINE_integer("version", 1, "number of this version, a folder in --to")
FORMAT = flags.DEFINE_string("format", "saved_model", "saved_model or onnx")


def main(arguments: list[str]) -> None:
    """Loads the best network of the run and writes it."""
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}; export takes flags only")
    if VERSION.value < 1:
        raise UserError(f"--version must be positive. Received: {VERSION.value}")
    command_line.import_tensorflow_quietly()
    from mcattn_tf import runs
    from mcattn_tf.export.exporting import FORMATS, export

    choose("format", FORMAT.value, FORMATS)
    run = Path(RUN.value)
    directory = Path(TO.value or run / runs.EXPORT) / str(VERSION.value)
    config = runs.read_config(run)
    export(runs.load_model(run), config, directory, FORMAT.value)
    print(f"exported to {directory}")


if __name__ == "__main__":
    command_line.run(main)
