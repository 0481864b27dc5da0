"""Trains a network, evaluates it on the test images and exports it.

python train.py --dataset celeba --data_dir DIR --out runs/celeba
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcattn_tf.commands import environment, flags
from mcattn_tf.commands.flags import SETTING_FLAGS, Flag
from mcattn_tf.commands.results import keep_answers
from mcattn_tf.errors import UserError
from mcattn_tf.settings.config import Config, make_config, tuples
from mcattn_tf.settings.data import PLACES
from mcattn_tf.settings.presets import BEGUN_WITH, PRESETS, preset_for
from mcattn_tf.tables import paragraph

if TYPE_CHECKING:
    from mcattn_tf.data import Data

RUN = (
    Flag(
        "preset",
        str,
        "default",
        f"Named set of settings, which other flags override: {', '.join(PRESETS)}",
    ),
    Flag(
        "set",
        list[str],
        [],
        "SECTION.FIELD=VALUE, any setting of config.json, such as model.dilations=[1,2]; may be "
        "given several times",
    ),
    Flag("out", str, None, "Run directory, never overwritten", "runs/DATASET-MODEL-PRESET"),
    Flag(
        "resume",
        bool,
        False,
        "Continue the run in --out from its last checkpoint; with --epochs, on to more epochs",
    ),
    Flag("checkpoint_minutes", float, None, "Minutes between checkpoints within an epoch"),
    Flag("strategy", str, "auto", "Devices: auto, none (one), mirrored (all) or multiworker"),
    Flag("pictures_every", int, 5, "Epochs between pictures in TensorBoard; 0 for none"),
    Flag("export", bool, True, "Write a SavedModel for TensorFlow Serving"),
    Flag(
        "statistics",
        bool,
        False,
        "Prepare the data, print counts of the labels and end without training",
    ),
)


def settings_of(values: Any) -> tuple[Config, Path]:
    """Returns the settings of a new run, made from the parsed flags, and its directory."""
    given = flags.given_settings(values)
    model = given["model"].get("name")
    preset = preset_for(values.preset, model)  # refuses unknown networks
    config = make_config({"model": BEGUN_WITH.get(model, {})}, preset, given)
    name = f"{config.data.dataset}-{config.model.name}-{values.preset}"
    return config, Path(values.out or f"runs/{name}")


def _resumed(config: Config, given: dict, values: Any, directory: Path) -> Config:
    """Returns the settings of the run that is resumed, with other places and maybe more epochs."""
    epochs, of_training = config.training.epochs, given["training"]
    if isinstance(more := of_training.get("epochs"), int) and more > epochs:
        print(
            f"{directory} goes on to {more} epochs; from here on the learning rate is that of a "
            f"training of {more} epochs, no longer of {epochs}"
        )
        config = config.replace("training", epochs=more)
    _require_unchanged(config, given, values, directory)
    return config.located(**{name: given["data"].get(name) for name in PLACES})


def _require_unchanged(config: Config, given: dict, values: Any, directory: Path) -> None:
    """Raises a UserError if a flag contradicts the settings of the run that is resumed."""
    preset = preset_for(values.preset, given["model"].get("name"))
    for section, fields in given.items():
        for field, value in (preset.get(section, {}) | fields).items():
            stored = getattr(getattr(config, section), field)
            if tuples(value) != stored and field not in PLACES:
                name = "preset"
                if field in fields:
                    flag = SETTING_FLAGS[section].get(field)
                    by_flag = flag and values[flag.name].value is not None
                    name = flag.name if by_flag else f"set {section}.{field}"
                raise UserError(
                    f"--{name} contradicts {directory}: its {field} is {stored}, not {value}; "
                    "leave the flag out, or start anew with another --out"
                )


def train(values: Any, _: list[str]) -> None:
    """Trains as the flags say, evaluates on the test images and exports."""
    minutes, every = values.checkpoint_minutes, values.pictures_every
    if minutes is not None and minutes <= 0:
        raise UserError(f"--checkpoint_minutes must be positive. Received: {minutes}")
    if every < 0:
        raise UserError(f"--pictures_every must be zero or more. Received: {every}")
    given = flags.given_settings(values)
    if values.resume and values.out:
        directory = Path(values.out)  # its own settings hold
    else:
        config, directory = settings_of(values)
    environment.import_tensorflow_quietly()
    from mcattn_tf import data, runs
    from mcattn_tf.training import distribution, fit, initial_weights
    from mcattn_tf.training.pictures import LogPictures

    strategy = distribution.choose_strategy(values.strategy)  # before anything is computed
    chief = distribution.is_chief(strategy)
    if values.resume:
        config = _resumed(runs.read_config(directory), given, values, directory)
    elif chief and not values.statistics:
        runs.require_new(directory)
        initial_weights.require(config)
    loaded = data.load(config.data, config.found)
    if values.statistics:
        print(data.format_statistics(loaded))
    for warning in data.one_sided_labels(loaded):
        print(paragraph(warning))
    if values.statistics:
        return
    _print_beginning(config, loaded, directory)
    among = distribution.describe(strategy)
    print(paragraph(f"computing on {fit.device()}" + (f"; {among}" if among else "")), flush=True)
    epochs, callbacks = config.training.epochs, []
    # One of several workers cannot ask the network by itself.
    if every and not distribution.of_several_workers(strategy):
        place = directory / runs.TENSORBOARD
        callbacks = [LogPictures(place, loaded.validation, loaded.attributes, every, epochs)]
    how = {"checkpoint_minutes": minutes, "strategy": strategy, "callbacks": callbacks}
    with data.naming_bad_images(loaded.train, loaded.validation, loaded.test):
        metrics = fit.train(config, loaded, directory, values.resume, **how)
        if chief:
            finish(directory, metrics, config, loaded, values.export)
    distribution.wait_for_all(strategy)


def _print_beginning(config: Config, loaded: "Data", directory: Path) -> None:
    """Prints what is trained on which images, and where."""
    line = (
        f"{config.model.name} on {config.data.dataset}: {loaded.train.count} training, "
        f"{loaded.validation.count} validation, {loaded.test.count} test images of "
        f"{config.data.image_size[0]}x{config.data.image_size[1]}; run directory {directory}"
    )
    print(paragraph(line))
    if most := config.data.eval_examples:
        line = (
            f"validation and test are the first {most} images at most, by --eval_examples: "
            "figures are of these. evaluate.py measures all test images"
        )
        print(paragraph(line))


def finish(directory: Path, metrics: dict, config: Config, data: "Data", exported: bool) -> None:
    """Evaluates the best network of a training, chooses its thresholds and may export it."""
    from mcattn_tf import models, runs
    from mcattn_tf.evaluation import answers, thresholds
    from mcattn_tf.export.exporting import export

    stored, model = runs.read_config(directory), runs.load_model(directory)
    which = f"first {data.test.count} test" if config.data.eval_examples else "test"
    print(f"best epoch {metrics['best_epoch']} of {metrics['epochs']}; on the {which} images:")
    here = dataclasses.replace(stored, data=config.data)
    result = answers.evaluate_run(model, here, data.test, "test")
    metrics["test"] = {output: values["mean"] for output, values in result.items()}
    runs.write_json(directory / runs.METRICS, metrics)
    keep_answers(directory, Path(runs.EVALUATION).stem, result)
    chosen = None
    if not models.is_exclusive(model) and not config.data.eval_examples:
        content = thresholds.choose_thresholds(model, here, data.validation)
        print("\n".join(map(paragraph, thresholds.write_thresholds(directory, content))))
        chosen = thresholds.Chosen(content, thresholds.CRITERIA[0])
    version = directory / runs.EXPORT / "1"
    if exported and version.exists():
        print(
            f"{version} exists and is kept; python -m mcattn_tf.commands.export --run {directory} "
            "--version 2 exports this network"
        )
    elif exported:
        export(model, stored, version, thresholds=chosen)
        print(f"exported to {version}")


GROUPS = {section: tuple(fields.values()) for section, fields in SETTING_FLAGS.items()}
main = flags.Command("train.py", __doc__, GROUPS | {"run": RUN}, train)
