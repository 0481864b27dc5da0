"""Checkpoints: everything that a training needs to resume, in files that reveal damage.

A checkpoint is a Keras archive with two more files: the optimizer's state in `optimizer.npz`, and
progress and settings in `training.json`. Networks are built from the settings of their run and read
only arrays from an archive. Code, layers and pickled objects in it are never loaded.
"""

import dataclasses
import hashlib
import json
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.files import written_whole
from mcattn_tf.settings.config import Config, stored_config
from mcattn_tf.settings.data import PLACES

# Inside the archive, so that weights and progress cannot be separated.
OPTIMIZER = "optimizer.npz"
TRAINING = "training.json"
# Errors of zipfile for a damaged archive. RuntimeError: one bit marks a part as encrypted;
# ValueError: another moves an offset before the beginning.
UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)
SECTIONS = ("data", "model", "loss", "training")  # that a training depends on


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a training."""

    epochs: int = 0  # finished ones
    steps: int = 0  # done in the epoch after them
    history: tuple[dict[str, float], ...] = ()  # {name: value} of each epoch, as in `history.csv`
    metrics: tuple[Any, ...] = ()  # state of the metrics within an epoch
    seeds: tuple[Any, ...] = ()  # states of the network's random generators
    seconds: float = 0.0  # over all sessions

    def describe(self) -> str:
        """Returns the progress in words."""
        return f"epoch {self.epochs}" + (f" and {self.steps} steps" if self.steps else "")

    def best(self, monitor: str) -> dict[str, float] | None:
        """Returns the first of the rows in which `monitor` is highest; None without a row."""
        return max(self.history, key=lambda row: row[monitor], default=None)

    def since_best(self, monitor: str) -> int:
        """Returns the number of finished epochs after the best one."""
        best = self.best(monitor)
        return self.epochs - 1 - int(best["epoch"]) if best else 0


def assign(variables: list[keras.Variable], values: Iterable[Any]) -> None:
    """Assigns a value to each variable."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _seed_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns the states of random generators, which Keras counts as variables, not as weights."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def with_state(progress: Progress, model: keras.Model) -> Progress:
    """Returns the progress with the state of a network's metrics and random generators."""

    def values(variables: list[keras.Variable]) -> tuple[Any, ...]:
        return tuple(keras.ops.convert_to_numpy(variable).tolist() for variable in variables)

    metrics = values(model.metrics_variables) if progress.steps else ()
    return dataclasses.replace(progress, metrics=metrics, seeds=values(_seed_variables(model)))


def _without_optimizer(model: keras.Model) -> keras.Model:
    """Returns a network of the same layers that was never compiled.

    To save an optimizer, Keras creates a second one for comparison. Its variables have new names
    each time, for which TensorFlow keeps some 70 kB for ever.
    """
    return keras.Model(model.input, model.output, name=model.name)


def save(model: keras.Model, path: Path, config: Config, progress: Progress) -> None:
    """Saves a network with its optimizer's state and its progress, whole or not at all.

    Raises:
        OSError: If the file cannot be written; an older file at `path` stays as it is.
    """
    settings = json.loads(config.to_json()) | {"found": json.loads(config.found.to_json())}
    content = dataclasses.asdict(progress) | {"settings": settings}
    with written_whole(path) as partial:
        try:
            _without_optimizer(model).save(partial)
        except RuntimeError as error:  # HDF5 raises it for all errors
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
    """Describes the damage of an archive; None if the checksums of its parts are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                return f"the checksum of its {bad} is wrong"
    except UNREADABLE as error:
        return reason_of(error)
    return None


def _load_arrays(model: keras.Model, path: Path, to_train_on: bool) -> None:
    """Loads the weights of a network, and for `to_train_on` the state of its optimizer."""
    with zipfile.ZipFile(path) as archive:
        if OPTIMIZER not in archive.namelist():  # a file that Keras itself saved
            model.load_weights(path)
            return
        _without_optimizer(model).load_weights(path)
        if to_train_on:
            with archive.open(OPTIMIZER) as file, np.load(file, allow_pickle=False) as arrays:
                assign(model.optimizer.variables, (arrays[name] for name in arrays))


def _training_of(path: Path) -> dict[str, Any]:
    """Returns the content of `training.json`; nothing if another program saved the archive."""
    with zipfile.ZipFile(path) as archive:
        text = archive.read(TRAINING) if TRAINING in archive.namelist() else b"{}"
    try:
        return {**json.loads(text)}
    except (ValueError, TypeError):  # checksums say nothing of the content
        raise UserError(f"the {TRAINING} in {path.name} is not one that train.py wrote") from None


def read_progress(path: Path) -> Progress:
    """Returns the progress of an undamaged checkpoint; a UserError if `save` did not write it."""
    content = _training_of(path)
    try:
        fields = {field.name: content[field.name] for field in dataclasses.fields(Progress)}
        lists = {name: tuple(fields[name]) for name in ("history", "metrics", "seeds")}
    except (KeyError, TypeError):
        raise UserError(f"train.py did not write all of {path.name}") from None
    return Progress(**fields | lists)


def newest(paths: list[Path]) -> tuple[Path, Progress] | None:
    """Returns the undamaged checkpoint with the most progress; None where there is no file.

    Of equal ones it is the first. Prints a line about each damaged one, and raises a UserError if
    all are damaged.
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
        raise UserError(f"cannot resume: {'; '.join(damaged)}; start again with another --out")
    for line in damaged:
        print(f"warning: {line}; another checkpoint is used")
    return max(whole, key=lambda pair: (pair[1].epochs, pair[1].steps), default=None)


def _fields(config: Config, to_train_on: bool) -> dict[str, Any]:
    """Returns the settings that must be those of the checkpoint."""
    settings = json.loads(config.to_json())
    values = {
        f"{section}.{name}": value
        for section in (SECTIONS if to_train_on else ("model",))
        for name, value in settings[section].items()
        if name not in PLACES
    }
    values |= {"attributes": config.attributes, "data.image_size": config.data.image_size}
    return values | ({"held_out": config.found.held_out} if to_train_on else {})


def load_weights(model: keras.Model, path: Path, config: Config, to_train_on: bool = False) -> None:
    """Loads the weights of a checkpoint into a network.

    Args:
        model: Network built from the settings; for `to_train_on` with a built optimizer.
        path: `.keras` file.
        config: Settings of the run.
        to_train_on: Whether to restore the optimizer and the random generators too, and to compare
            the settings of the training with those of the checkpoint.

    Raises:
        UserError: If the file is missing or damaged, or the settings do not fit the weights.
    """
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no {path.name} yet; its training has not finished an epoch"
        )
    if reason := _damage(path):
        raise UserError(f"cannot load {path}: it is damaged or not a network of ours ({reason})")
    if settings := _training_of(path).get("settings"):
        try:
            saved = stored_config(settings)
        except (UserError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"cannot load {path}: its settings: {reason_of(error)}") from None
        ours, theirs = _fields(config, to_train_on), _fields(saved, to_train_on)
        if config.training.epochs > saved.training.epochs:  # it may go on for longer
            theirs |= {k: v for k, v in ours.items() if k == "training.epochs"}
        differences = [
            f"`{name}` is {json.dumps(ours.get(name))}, but {json.dumps(theirs.get(name))} in the "
            "checkpoint"
            for name in sorted(ours | theirs)
            if ours.get(name) != theirs.get(name)
        ]
        if differences:
            raise UserError(
                f"config.json beside {path} does not fit it: {'; '.join(differences)}; restore "
                "these settings"
            )
    try:
        with warnings.catch_warnings():
            # Keras only warns where a weight is missing.
            warnings.simplefilter("error", UserWarning)
            _load_arrays(model, path, to_train_on)
    except (OSError, ValueError, KeyError, UserWarning) as error:
        raise UserError(
            f"cannot load {path}: its weights are not those of the network in config.json "
            f"({reason_of(error)})"
        ) from None
    if to_train_on:
        assign(_seed_variables(model), read_progress(path).seeds)


def weights_of(model: keras.Model) -> str:
    """Returns a digest of a network's weights."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()
