"""Validation accuracy over kept channels, by each ranking of `commands/prune.py`.

python benchmarks/results/pruning.py --run runs/demo --json docs/results/pruning_drawn_0.json

With the other channels set to 0 behind the extractor (the ranking alone); cut and fitted; and after
fine-tuning for --epochs, of half the channels.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from absl import flags

from mcattn_tf import data, runs
from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands import prune
from mcattn_tf.commands.environment import import_tensorflow_quietly
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.evaluation.ranking import mean_of, measures_of
from mcattn_tf.explain.feature_space.channel_ranking import RANKINGS
from mcattn_tf.models import label_outputs
from mcattn_tf.settings.systems import system_of
from mcattn_tf.training.pruning import Pruner

RUN = flags.DEFINE_string("run", None, "run directory of mcattn or baseline", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of its data set, if it has one")
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "folder of its prepared images")
SHARES = flags.DEFINE_list("shares", ["0.25", "0.5", "0.75"], "shares of the channels to keep")
TUNED = flags.DEFINE_list("tuned", ["contributions", "activation", "random"], "rankings")
EPOCHS = flags.DEFINE_integer("epochs", 1, "of fine-tuning half the channels; 0 for none")
JSON = flags.DEFINE_string("json", None, "file for the rows")


def places() -> dict[str, str | None]:
    """Returns where the data are."""
    return {"data_dir": DATA_DIR.value, "cache_dir": CACHE_DIR.value}


def behind_the_extractor(model: keras.Model, split: data.Split) -> Callable[[list[int]], float]:
    """Returns a function from channels to the accuracy with all others of the features at 0."""
    features = model.get_layer("features").output
    extractor = keras.Model(model.input, features)
    kept = keras.Input((features.shape[-1],))
    answers = keras.Model(features, model.output[label_outputs(model)[0]])
    head = keras.Model([answers.input, kept], answers(answers.input * kept[:, None, None]))
    labels = split.labels_of(np.arange(split.count))

    def accuracy(channels: Sequence[int]) -> float:
        mask = np.isin(np.arange(features.shape[-1]), channels).astype(np.float32)
        parts = [
            head.predict_on_batch([extractor.predict_on_batch(x), np.tile(mask, (len(x), 1))])
            for x, _ in evaluation_batches(split, 64).as_numpy_iterator()
        ]
        return mean_of(measures_of(labels, np.concatenate(parts))["accuracy"])

    return accuracy


def tuned(ranking: str, output: str) -> float:
    """Returns the best validation accuracy of an output of half the channels, fine-tuned."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "half"
        given = [f"--{name}={value}" for name, value in places().items() if value]
        how = [f"--by={ranking}", f"--epochs={EPOCHS.value}", "--noexport", *given]
        if status := prune.main([f"--run={RUN.value}", f"--out={out}", *how]):
            raise SystemExit(status)
        metrics = json.loads((out / runs.METRICS).read_text())["validation"]
    return metrics[f"val_{output}_accuracy"]


def measured(run: Path) -> dict:
    """Returns the accuracy of the whole network, and a row for each ranking and share."""
    config, model = runs.read_config(run), runs.load_model(run)
    config = config.located(**places())
    loaded = data.load(config.data, config.found)
    at_zero, rows = behind_the_extractor(model, loaded.validation), []
    has_masks = "subnetworks" in system_of(model).parts
    for ranking in (name for name in RANKINGS if has_masks or name != "masks"):
        pruner = Pruner(model, config, loaded, ranking)
        for share in map(float, SHARES.value):
            count = max(1, round(share * len(pruner.order)))
            row = {
                "by": ranking,
                "channels": count,
                "at_zero": at_zero(pruner.order[:count]),
                "fitted": pruner.make(count).accuracy,
            }
            if share == 0.5 and ranking in TUNED.value and EPOCHS.value:
                row["tuned"] = tuned(ranking, label_outputs(model)[0])
            print(row, flush=True)
            rows.append(row)
    return {
        "model": config.model.name,
        "seed": config.training.seed,
        "epochs": EPOCHS.value,
        "whole": pruner.accuracy,
        "rows": rows,
    }


def main(arguments: list[str]) -> None:
    """Measures and writes."""
    import_tensorflow_quietly()
    result = measured(Path(RUN.value))
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    command_line.run_script(main)
