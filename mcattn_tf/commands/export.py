"""Exports the network of a finished run.

python -m mcattn_tf.commands.export --run runs/celeba --to models/celeba --version 2
"""

from pathlib import Path
from typing import Any

from mcattn_tf.commands import environment, flags
from mcattn_tf.commands.flags import Flag
from mcattn_tf.errors import UserError, choose

FLAGS = (
    Flag("run", str, None, "Run directory of train.py"),
    Flag(
        "to", str, None, "Folder to write the numbered versions to", "export in the run directory"
    ),
    Flag("version", int, 1, "Number of the version, a folder in --to"),
    Flag(
        "thresholds",
        str,
        None,
        "Criterion of the thresholds that decide the output `present`: balanced_accuracy or f1",
        "balanced_accuracy, where the run has thresholds",
    ),
    Flag("format", str, "saved_model", "Format: saved_model, onnx or tflite"),
)


def export(values: Any, _: list[str]) -> None:
    """Loads the best network of the run and writes it."""
    if values.version < 1:
        raise UserError(f"--version must be positive. Received: {values.version}")
    environment.import_tensorflow_quietly()
    from mcattn_tf import runs
    from mcattn_tf.evaluation import thresholds
    from mcattn_tf.export import exporting

    choose("format", values.format, exporting.FORMATS)
    run = Path(values.run)
    directory = Path(values.to or run / runs.EXPORT) / str(values.version)
    config, model, criterion = runs.read_config(run), runs.load_model(run), values.thresholds
    if criterion is not None:
        choose("thresholds", criterion, thresholds.CRITERIA)
    content = thresholds.read_thresholds(run, model, config)
    if criterion and not content:
        raise UserError(
            f"{run} has no {runs.THRESHOLDS}; evaluate.py --run {run} --thresholds {criterion} "
            "chooses them"
        )
    chosen = content and thresholds.Chosen(content, criterion or thresholds.CRITERIA[0])
    exporting.export(model, config, directory, values.format, chosen)
    print(f"exported to {directory}")


main = flags.Command(
    "python -m mcattn_tf.commands.export", __doc__, {"export": FLAGS}, export, required="run"
)


if __name__ == "__main__":
    flags.end(main())
