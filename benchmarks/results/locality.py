"""What each part of the default network gives to accuracy and to the truth of its maps.

python benchmarks/results/locality.py --runs runs/locality --json locality.json

Trains each variant of the default with each seed and measures it on the validation images, or once
on the test images. Runs that are there already are not trained again. Variants of the masks do not
go with `--plain`.
"""

import hashlib
import json
from pathlib import Path

from absl import flags
from locality_variants import VARIANTS

from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands.environment import import_tensorflow_quietly
from mcattn_tf.errors import choose
from mcattn_tf.settings.config import PRECISIONS, Config, make_config

VARIANT = flags.DEFINE_multi_string("variant", None, "some of the variants; all if left out")
PLAIN = flags.DEFINE_bool("plain", False, "of each the network without masks and reconstruction")
AVERAGE = flags.DEFINE_bool("average", False, "of each with the plain average over positions")
TRAIN_EXAMPLES = flags.DEFINE_integer("train_examples", None, "images; by default 5,500 or all")
SEEDS = flags.DEFINE_list("seeds", ["0"], "of the runs")
DATASET = flags.DEFINE_string("dataset", "faces", "faces or celeba")
DATA_DIR = flags.DEFINE_string("data_dir", None, "of celeba")
PART_MASKS = flags.DEFINE_string(
    "part_masks", None, "of celeba: faces and part masks to measure on"
)
EPOCHS = flags.DEFINE_integer("epochs", 4, "passes over the training images")
PRECISION = flags.DEFINE_enum("precision", "mixed_bfloat16", PRECISIONS, "of training")
SPLIT = flags.DEFINE_string("split", "validation", "what is measured on: validation or test")
RUNS = flags.DEFINE_string("runs", "runs/locality", "folder of the runs")
JSON = flags.DEFINE_string("json", None, "file for the rows")

METHODS = ("contributions", "centered_contributions", "mask_mean", "cam", "grad_cam")
# Drawn faces as `--preset demo` has them; real ones small, for a CPU.
SETTINGS = {
    "faces": {
        "data": {"train_examples": 5500},
        "training": {"batch_size": 16, "learning_rate": 3e-3},
    },
    "celeba": {
        "data": {"image_size": (64, 52)},
        "training": {"batch_size": 32, "learning_rate": 3e-3},
    },
}


def settings_of(variant: str, seed: int) -> Config:
    """Returns the settings of a variant as the flags ask for it."""
    given = {
        "data": {"dataset": DATASET.value, "data_dir": DATA_DIR.value},
        "training": {"epochs": EPOCHS.value, "seed": seed, "precision": PRECISION.value},
    }
    if TRAIN_EXAMPLES.value is not None:
        given["data"]["train_examples"] = TRAIN_EXAMPLES.value
    change = dict(VARIANTS[choose("variant", variant, VARIANTS)])
    # In one source, which may hold nothing that the network does not have.
    change["model"] = (
        change.get("model", {})
        | ({"name": "baseline"} if PLAIN.value else {})
        | ({"pooling_sharpness": 0.0} if AVERAGE.value else {})
    )
    return make_config(SETTINGS[choose("dataset", DATASET.value, SETTINGS)], given, change)


def trained(variant: str, config: Config) -> Path:
    """Trains a variant where that has not been done; returns its run directory."""
    from mcattn_tf import data, runs
    from mcattn_tf.training import fit

    digest = hashlib.sha256(config.to_json().encode()).hexdigest()[:8]
    directory = Path(RUNS.value) / f"{variant.replace(' ', '_')}-{digest}"
    if (directory / runs.METRICS).is_file():
        return directory
    there = (directory / runs.CONFIG).is_file()
    if there:
        config = runs.read_config(directory)
    metrics = fit.train(config, data.load(config.data), directory, resume=there)
    runs.write_json(directory / runs.METRICS, metrics)
    return directory


def measured(directory: Path) -> dict:
    """Returns accuracies and localisation of a run."""
    from mcattn_tf import data, models, runs
    from mcattn_tf.evaluation import answers
    from mcattn_tf.explain.methods import methods_of
    from mcattn_tf.explain.truth import measurement, summary
    from mcattn_tf.explain.truth.measurement import Settings

    config, model = runs.read_config(directory), runs.load_model(directory)
    attributes = config.attributes
    split = data.load_split(config.data, SPLIT.value, config.found)
    answers = answers.evaluate(model, split, attributes, config.training.batch_size)
    regions = data.load_regions(
        config.data, "test" if PART_MASKS.value else SPLIT.value, PART_MASKS.value, split
    )
    methods = [name for name in METHODS if name in methods_of(model)]
    settings = Settings(draws=0, faithfulness_images=0)
    maps = measurement.measure(model, attributes, regions, settings, methods=methods)
    return {
        "receptive_field": config.found.receptive_field,
        "parameters": model.count_params(),
        "accuracy": {
            name: answers[name]["mean"]["accuracy"]
            for name in models.LABEL_OUTPUTS
            if name in answers
        },
        "masks": answers.get("masks", {}).get("mean"),
        "maps": {
            name: {
                "pointing_game": values["pointing_game"],
                "lowest": min(v["pointing_game"] for v in values["per_attribute"].values()),
                "normalized_energy": values["normalized_energy"],
                "intervals": {
                    key: values["intervals"][key] for key in ("pointing_game", "normalized_energy")
                },
            }
            for name, values in summary.rows_of(maps).items()
            if "pointing_game" in values  # where regions are known
        },
    }


def main(arguments: list[str]) -> None:
    """Trains, measures and prints a line a run."""
    import_tensorflow_quietly()
    rows = []
    # All settings first: what cannot be trained is refused before anything is.
    settings = {
        (variant, seed): settings_of(variant, seed)
        for variant in VARIANT.value or VARIANTS
        for seed in map(int, SEEDS.value)
    }
    for (variant, seed), config in settings.items():
        row = {"variant": variant, "seed": seed, "split": SPLIT.value, "epochs": EPOCHS.value}
        row |= {"plain": PLAIN.value, "average": AVERAGE.value}
        row |= measured(trained(variant, config))
        rows.append(row)
        answers = " ".join(f"{k} {v:.4f}" for k, v in row["accuracy"].items())
        maps = " ".join(
            f"{name} {m['pointing_game']:.3f} {m['lowest']:.3f} {m['normalized_energy']:.3f}"
            for name, m in row["maps"].items()
        )
        print(f"{variant} {seed}: {answers}; {maps}")
        if JSON.value:
            Path(JSON.value).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    command_line.run_script(main)
