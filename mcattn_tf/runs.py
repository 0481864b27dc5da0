"""The run directory: settings, weights and results of one training."""

import json
import zipfile
from pathlib import Path

import keras

from mcattn_tf import losses, models, schedules  # noqa: F401 - they register what a model names
from mcattn_tf.config import Config
from mcattn_tf.errors import UserError
from mcattn_tf.writing import written_whole

CONFIG = "config.json"
BEST = "best.keras"
LAST = "last.keras"
HISTORY = "history.csv"
METRICS = "metrics.json"
EVALUATION = "evaluation.json"
ANALYSIS = "analysis.npz"
EPOCHS = "epochs.txt"  # inside of a .keras archive: of how many epochs its weights are
TENSORBOARD = "tensorboard"
EXPORT = "export"
FIGURES = "figures"


def require_new(directory: Path) -> None:
    """Raises a UserError if there is something in `directory` already."""
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise UserError(
            f"--out {directory} exists and is not overwritten; go on with it by --resume or name "
            "another --out"
        )


def create(directory: Path, config: Config) -> None:
    """Makes a run directory and writes the settings into it.

    Args:
        directory: must not exist yet, or be empty.
        config: the settings.

    Raises:
        UserError: if there is something in it already, or it cannot be written.
    """
    require_new(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with written_whole(directory / CONFIG) as partial:
            partial.write_text(config.to_json())
    except OSError as error:
        raise UserError(f"cannot write to --out {directory}: {error.strerror}") from None


def read_config(directory: Path) -> Config:
    """Returns the settings of a run.

    Raises:
        UserError: if `directory` is not a run directory or its settings cannot be read.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise UserError(
            f"{directory} is not a run directory: it has no {CONFIG}; train.py --out makes one"
        )
    try:
        return Config.from_json(path.read_text())
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _load(path: Path, compiled: bool) -> keras.Model:
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no {path.name} yet; its training has not finished an epoch"
        )
    try:
        return keras.saving.load_model(path, compile=compiled)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise UserError(f"cannot load {path}: it is damaged or not a network of ours") from None


def load_model(directory: Path, name: str = BEST) -> keras.Model:
    """Loads a network of a run to be asked, explained or exported.

    It computes in float32 whatever it was trained in, so that contributions sum to the logits
    and what is measured is what is served.

    Args:
        directory: of the run.
        name: `BEST`, by validation accuracy, or `LAST`.

    Returns:
        The model, from images (B, H, W, 3) in [0, 1] to a dict of named outputs.

    Raises:
        UserError: if the run has no such weights yet or they cannot be read.
    """
    return models.in_float32(_load(directory / name, compiled=False), read_config(directory))


def save_model(model: keras.Model, path: Path, epochs: int) -> None:
    """Saves a network with the state of its optimizer, whole or not at all.

    Args:
        model: the network.
        path: of the `.keras` file.
        epochs: how many it has been trained for. It is kept in the file itself, so that weights
            and count cannot part (the optimizer does not count steps that overflow in float16).
    """
    with written_whole(path) as partial:
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(EPOCHS, str(epochs))


def load_to_train_on(directory: Path) -> tuple[keras.Model, int]:
    """Loads the last network of a run as it was trained.

    Args:
        directory: of the run.

    Returns:
        The network with the state of its optimizer, and how many epochs it has been trained for.

    Raises:
        UserError: if the run has no weights yet or they cannot be read.
    """
    path = directory / LAST
    model = _load(path, compiled=True)
    with zipfile.ZipFile(path) as archive:
        if EPOCHS not in archive.namelist():
            raise UserError(f"cannot go on from {path}: train.py did not write it")
        return model, int(archive.read(EPOCHS))


def write_json(path: Path, content: dict) -> None:
    """Writes a dict as indented JSON, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
