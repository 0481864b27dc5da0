"""Measures a trained network on every image of a split.

python evaluate.py --run runs/celeba --split test
"""

from pathlib import Path

from absl import flags

from mcattn_tf import command_line
from mcattn_tf.errors import UserError

RUN = flags.DEFINE_string("run", None, "run directory that train.py made", required=True)
SPLIT = flags.DEFINE_string("split", "test", "train, validation or test")
DATA_DIR = flags.DEFINE_string("data_dir", None, "where the data are now, if they have moved")


def main(arguments: list[str]) -> None:
    """Prints the table and writes it into the run directory as JSON."""
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}; evaluate.py takes flags only")
    command_line.import_tensorflow_quietly()
    from mcattn_tf import data, evaluation, runs

    directory = Path(RUN.value)
    config, model = runs.read_config(directory), runs.load_model(directory)
    split = data.load(config.with_data_dir(DATA_DIR.value).data).split(SPLIT.value)
    result = evaluation.evaluate(model, split, config.model.attributes, config.training.batch_size)
    print(f"{config.model.name} on {split.count} {SPLIT.value} images of {config.data.dataset}, %")
    print(evaluation.format_table(result))
    name = runs.EVALUATION if SPLIT.value == "test" else f"evaluation_{SPLIT.value}.json"
    runs.write_json(directory / name, result)
    print(f"written to {directory / name}")


if __name__ == "__main__":
    command_line.run(main)
