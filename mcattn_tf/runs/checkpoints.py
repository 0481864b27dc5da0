"""Checkpoints: all that a training needs to go on, in files that are recognised when damaged.

A checkpoint is a Keras archive with two files more, the state of the optimizer in `optimizer.npz`
and all else in `training.json`. Networks are built from the settings of their run and take nothing
but arrays from an archive: no code, layer or pickled object in it is ever looked at.
"""

import dataclasses
import hashlib
import json
import shutil
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.files import written_whole
from mcattn_tf.settings.config import Config, make_config
from mcattn_tf.settings.data import PLACES
from mcattn_tf.settings.findings import with_findings_apart

# Inside of the archive, so that weights and progress cannot part.
OPTIMIZER = "optimizer.npz"
TRAINING = "training.json"
# What zipfile raises where an archive is damaged. RuntimeError: one bit makes a part an encrypted
# one; ValueError: another lets it look before the beginning.
UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)
# Sections of the settings that decide what a network computes, and what it learns.
OF_NETWORK = ("model",)
OF_TRAINING = ("data", "model", "loss", "training")


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        epochs: how many are finished.
        steps: how many of the epoch after them are done.
        history: a row for each finished epoch, {name: value}, as in `history.csv`.
        metrics: what the metrics have counted in the steps, a list of numbers for each variable.
        seeds: the states of the network's random generators.
        seconds: that the training has taken, in all its sessions.
    """

    epochs: int = 0
    steps: int = 0
    history: tuple[dict[str, float], ...] = ()
    metrics: tuple[Any, ...] = ()
    seeds: tuple[Any, ...] = ()
    seconds: float = 0.0

    def first_step(self, epoch: int) -> int:
        """Returns how many steps of an epoch are done."""
        return self.steps if epoch == self.epochs else 0

    def describe(self) -> str:
        """Returns how far that is, in words."""
        return f"epoch {self.epochs}" + (f" and {self.steps} steps" if self.steps else "")

    def best(self, monitor: str) -> dict[str, float] | None:
        """Returns the first of the rows in which `monitor` is highest; None without a row."""
        return max(self.history, key=lambda row: row[monitor], default=None)


def _values(variables: list[keras.Variable]) -> tuple[Any, ...]:
    return tuple(keras.ops.convert_to_numpy(variable).tolist() for variable in variables)


def _seed_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns the states of random generators: Keras counts them as variables, not as weights."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def with_state(progress: Progress, model: keras.Model) -> Progress:
    """Returns the progress with what metrics and random generators of a network stand at."""
    metrics = _values(model.metrics_variables) if progress.steps else ()
    return dataclasses.replace(progress, metrics=metrics, seeds=_values(_seed_variables(model)))


def restore_metrics(model: keras.Model, progress: Progress) -> None:
    """Lets the metrics count on from where `with_state` found them."""
    for variable, value in zip(model.metrics_variables, progress.metrics, strict=True):
        variable.assign(value)


def _without_optimizer(model: keras.Model) -> keras.Model:
    """Returns a network of the same layers that was never compiled.

    Where Keras saves an optimizer it makes another one for comparison, whose variables have new
    names each time, and TensorFlow keeps some 70 kB for these for ever.
    """
    return keras.Model(model.input, model.output, name=model.name)


def save(model: keras.Model, path: Path, config: Config, progress: Progress) -> None:
    """Saves a network with the state of its optimizer and its progress, whole or not at all.

    Args:
        model: the network.
        path: of the `.keras` file.
        config: the settings of the run.
        progress: as `with_state` returns it.

    Raises:
        OSError: if it cannot be written; what is at `path` stays as it is.
    """
    settings = json.loads(config.to_json()) | {"found": json.loads(config.found.to_json())}
    content = dataclasses.asdict(progress) | {"settings": settings}
    with written_whole(path) as partial:
        try:
            _without_optimizer(model).save(partial)
        except RuntimeError as error:  # of HDF5, which knows no other
            raise OSError(str(error)) from error
        with zipfile.ZipFile(partial, "a") as archive:
            with archive.open(OPTIMIZER, "w", force_zip64=True) as file:
                np.savez(file, *map(keras.ops.convert_to_numpy, model.optimizer.variables))
            archive.writestr(TRAINING, json.dumps(content))


def copy(path: Path, to: Path) -> None:
    """Copies a checkpoint, whole or not at all."""
    with written_whole(to) as partial:
        shutil.copyfile(path, partial)


def _damage(path: Path) -> str | None:
    """Returns what is wrong with an archive; None if the checksums of its parts are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                return f"the checksum of its {bad} is wrong"
    except UNREADABLE as error:
        return reason_of(error)
    return None


def _load_arrays(model: keras.Model, path: Path, to_train_on: bool) -> None:
    """Gives a network its weights, and its optimizer its state for `to_train_on`."""
    with zipfile.ZipFile(path) as archive:
        if OPTIMIZER not in archive.namelist():  # of a network alone, or as Keras saves the state
            model.load_weights(path)
            return
        _without_optimizer(model).load_weights(path)
        if to_train_on:
            with archive.open(OPTIMIZER) as file, np.load(file, allow_pickle=False) as arrays:
                for variable, name in zip(model.optimizer.variables, arrays, strict=True):
                    variable.assign(arrays[name])


def _training_of(path: Path) -> dict[str, Any]:
    """Returns what `save` wrote beside the weights; nothing where another program saved them."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(TRAINING)) if TRAINING in archive.namelist() else {}


def read_progress(path: Path) -> Progress:
    """Returns the progress of an undamaged checkpoint.

    Raises:
        UserError: if `save` did not write it.
    """
    content = _training_of(path)
    try:
        fields = {field.name: content[field.name] for field in dataclasses.fields(Progress)}
    except KeyError:
        raise UserError(f"train.py did not write all of {path.name}") from None
    lists = ("history", "metrics", "seeds")
    return Progress(**fields | {name: tuple(fields[name]) for name in lists})


def newest(paths: list[Path]) -> tuple[Path, Progress] | None:
    """Returns the undamaged checkpoint that has come furthest; None where there is no file.

    Prints a line about each damaged one.

    Args:
        paths: of checkpoints, those to be taken first of equal ones first; not all need to exist.

    Raises:
        UserError: if all that there are are damaged, or `save` did not write them.
    """
    whole, damaged = [], []
    for path in filter(Path.is_file, paths):
        if not (reason := _damage(path)):
            try:
                whole.append((path, read_progress(path)))
                continue
            except UserError as error:  # one bit can hide the last part of an archive
                reason = str(error)
        damaged.append(f"{path} is damaged ({reason})")
    if damaged and not whole:
        raise UserError(f"cannot go on: {'; '.join(damaged)}; start anew with another --out")
    for line in damaged:
        print(f"warning: {line}; another checkpoint is used")
    return max(whole, key=lambda found: (found[1].epochs, found[1].steps), default=None)


def _differences(ours: Config, theirs: Config, sections: tuple[str, ...]) -> list[str]:
    """Returns in words the settings in which a run and its weights differ."""

    def fields(config: Config) -> dict[str, Any]:
        settings = json.loads(config.to_json())
        every = {
            f"{section}.{name}": value
            for section in sections
            for name, value in settings[section].items()
            if name not in PLACES
        }
        every |= {"attributes": config.attributes, "data.image_size": config.data.image_size}
        return every | ({"held_out": config.found.held_out} if sections == OF_TRAINING else {})

    here, there = fields(ours), fields(theirs)
    return [
        f"`{name}` is {json.dumps(here.get(name))} there and {json.dumps(there.get(name))} of the "
        "weights"
        for name in sorted(here | there)
        if here.get(name) != there.get(name)
    ]


def load_weights(model: keras.Model, path: Path, config: Config, to_train_on: bool = False) -> None:
    """Gives a network the weights of a checkpoint.

    Args:
        model: as the settings have it; with an optimizer that has its variables for `to_train_on`.
        path: of the `.keras` file.
        config: the settings of the run.
        to_train_on: whether optimizer and random generators get their states too, and the settings
            of the training are held against those that it was begun with.

    Raises:
        UserError: if the file is not there or damaged, or the settings do not fit the weights.
    """
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no {path.name} yet; its training has not finished an epoch"
        )
    if reason := _damage(path):
        raise UserError(f"cannot load {path}: it is damaged or not a network of ours ({reason})")
    settings = _training_of(path).get("settings")
    if settings:
        sections = OF_TRAINING if to_train_on else OF_NETWORK
        # Made again, as settings may have been added since, at whose defaults the weights are.
        differences = _differences(config, make_config(with_findings_apart(settings)), sections)
        if differences:
            raise UserError(
                f"config.json beside {path} does not fit it: {'; '.join(differences)}; put them "
                "back as they were"
            )
    try:
        with warnings.catch_warnings():
            # Keras warns where it leaves a weight as it was.
            warnings.simplefilter("error", UserWarning)
            _load_arrays(model, path, to_train_on)
    except (OSError, ValueError, KeyError, UserWarning) as error:
        raise UserError(
            f"cannot load {path}: its weights are not those of the network in config.json "
            f"({reason_of(error)})"
        ) from None
    if to_train_on:
        seeds = read_progress(path).seeds
        for variable, value in zip(_seed_variables(model), seeds, strict=True):
            variable.assign(value)


def weights_of(model: keras.Model) -> str:
    """Returns a digest that tells a network's weights from others."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()
