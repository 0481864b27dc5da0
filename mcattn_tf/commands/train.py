"""Trains a network, evaluates it on the test images and exports it.

python train.py --dataset celeba --data_dir DIR --out runs/celeba
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcattn_tf.commands import flags, setting_flags
from mcattn_tf.commands.flags import Flag
from mcattn_tf.errors import UserError
from mcattn_tf.settings.config import Config, make_config, tuples
from mcattn_tf.settings.data import PLACES
from mcattn_tf.settings.presets import BEGUN_WITH, PRESETS, preset_for

if TYPE_CHECKING:
    from mcattn_tf.data import Split
    from mcattn_tf.settings.data import DataConfig

RUN = (
    Flag("preset", str, "default", f"Settings that belong together: {', '.join(PRESETS)}"),
    setting_flags.SET,
    Flag("out", str, None, "Run directory, never overwritten", "runs/DATASET-MODEL-PRESET"),
    Flag("resume", bool, False, "Continue the run in --out from its last checkpoint"),
    Flag("checkpoint_minutes", float, None, "Minutes between checkpoints within an epoch"),
    Flag("strategy", str, "auto", "Devices: auto, none (one), mirrored (all) or multiworker"),
    Flag("pictures_every", int, 5, "Epochs between pictures in TensorBoard; 0 for none"),
    Flag("export", bool, True, "Write a SavedModel for TensorFlow Serving"),
    Flag("statistics", bool, False, "Prepare and count the data, without training"),
)


def _sources(values: Any) -> tuple[dict[str, dict], dict[str, dict]]:
    """Returns the preset and the settings that flags give."""
    given = setting_flags.given_settings(values)
    return preset_for(values.preset, given.get("model", {}).get("name")), given


def settings_of(values: Any) -> tuple[Config, Path]:
    """Returns the settings of a new run and its directory.

    Args:
        values: Parsed flags.
    """
    preset, given = _sources(values)
    begun_with = BEGUN_WITH.get(given.get("model", {}).get("name"), {})
    config = make_config({"model": begun_with}, preset, given)
    name = f"{config.data.dataset}-{config.model.name}-{values.preset}"
    return config, Path(values.out or f"runs/{name}")


def _require_unchanged(config: Config, values: Any, directory: Path) -> None:
    """Raises a UserError if a flag contradicts the settings of the run that is resumed."""
    preset, given = _sources(values)
    for section in preset | given:
        fields = given.get(section, {})
        for field, value in (preset.get(section, {}) | fields).items():
            stored = getattr(getattr(config, section), field)
            if tuples(value) != stored and field not in PLACES:
                flag = (
                    setting_flags.flag_of(values, section, field) if field in fields else "preset"
                )
                raise UserError(
                    f"--{flag} contradicts {directory}: its {field} is {stored}, not {value}; "
                    "leave the flag out, or start anew with another --out"
                )


def train(values: Any, _: list[str]) -> None:
    """Trains as the flags say, evaluates on the test images and exports."""
    minutes, every = values.checkpoint_minutes, values.pictures_every
    if minutes is not None and minutes <= 0:
        raise UserError(f"--checkpoint_minutes must be positive. Received: {minutes}")
    if every < 0:
        raise UserError(f"--pictures_every must be zero or more. Received: {every}")
    _, given = _sources(values)
    if values.resume and values.out:
        directory = Path(values.out)  # its own settings hold
    else:
        config, directory = settings_of(values)
    flags.import_tensorflow_quietly()
    from mcattn_tf import data, runs
    from mcattn_tf.training import distribution, fit
    from mcattn_tf.training.pictures import LogPictures

    strategy = distribution.choose_strategy(values.strategy)  # before anything is computed
    chief = distribution.is_chief(strategy)
    if values.resume:
        config = runs.read_config(directory)
        _require_unchanged(config, values, directory)
        config = config.located(**{name: given.get("data", {}).get(name) for name in PLACES})
    elif chief and not values.statistics:
        runs.require_new(directory)
    loaded = data.load(config.data, config.found)
    if values.statistics:
        print(data.format_statistics(loaded))
        return
    print(
        f"{config.model.name} on {config.data.dataset}: {loaded.train.count} training, "
        f"{loaded.validation.count} validation, {loaded.test.count} test images of "
        f"{config.data.image_size[0]}x{config.data.image_size[1]}; run directory {directory}"
    )
    among = distribution.describe(strategy)
    print(f"computing on {fit.device()}" + (f"; {among}" if among else ""))
    epochs, callbacks = config.training.epochs, []
    # One of several workers cannot ask the network by itself.
    if every and not distribution.of_several_workers(strategy):
        place = directory / runs.TENSORBOARD
        callbacks = [LogPictures(place, loaded.validation, loaded.attributes, every, epochs)]
    with data.naming_bad_images(loaded.train, loaded.validation, loaded.test):
        metrics = fit.train(
            config,
            loaded,
            directory,
            values.resume,
            checkpoint_minutes=minutes,
            strategy=strategy,
            callbacks=callbacks,
        )
        if chief:
            finish(directory, metrics, loaded.test, config.data, values.export)
    distribution.wait_for_all(strategy)


def finish(
    directory: Path, metrics: dict, test: "Split", places: "DataConfig", exported: bool
) -> None:
    """Evaluates the best network of a training on the test images and exports it.

    Args:
        directory: Run directory.
        metrics: Result of `fit.train`.
        test: Test images.
        places: Settings that say where the data are.
        exported: Whether a SavedModel is written.
    """
    from mcattn_tf import data, runs
    from mcattn_tf.evaluation import answers
    from mcattn_tf.explain.truth import measurement
    from mcattn_tf.export.exporting import export

    config, model = runs.read_config(directory), runs.load_model(directory)
    attributes = config.attributes
    print(f"best epoch {metrics['best_epoch']} of {metrics['epochs']}; on the test images:")
    result = answers.evaluate(model, test, attributes, config.training.batch_size)
    regions = data.load_regions(places, "test", split=test)
    result |= measurement.where_it_looks(model, attributes, regions)
    print(answers.format_table(result))
    runs.write_json(directory / runs.EVALUATION, result)
    metrics["test"] = {output: values["mean"] for output, values in result.items()}
    runs.write_json(directory / runs.METRICS, metrics)
    version = directory / runs.EXPORT / "1"
    if exported and version.exists():
        print(
            f"{version} exists and is kept; python -m mcattn_tf.commands.export --run {directory} "
            "--version 2 exports this network"
        )
    elif exported:
        export(model, config, version)
        print(f"exported to {version}")


GROUPS = {section: tuple(fields.values()) for section, fields in setting_flags.FLAGS.items()}
main = flags.Command("train.py", __doc__, GROUPS | {"run": RUN}, train)
