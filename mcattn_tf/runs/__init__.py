"""The run directory: settings, checkpoints, results and record of one training."""

import contextlib
import csv
import dataclasses
import errno
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import filelock
import keras

from mcattn_tf import models
from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.files import PARTIAL, read_text, written_whole
from mcattn_tf.runs import checkpoints
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.findings import Findings

CONFIG = "config.json"
FINDINGS = "findings.json"
BEST = "best.keras"
LAST = "last.keras"
PREVIOUS = "previous.keras"  # the checkpoint before the last
HISTORY = "history.csv"
METRICS = "metrics.json"
EVALUATION = "evaluation.json"
THRESHOLDS = "thresholds.json"
ANALYSIS = "analysis.npz"
ATLAS = "atlas.npz"
PRUNING = "pruning.json"  # of a run that `commands.prune` made
RECORD = "record.json"
LOCK = ".lock"  # held by the process that trains
DAMAGED = "damaged.keras"  # a former last checkpoint that training could not resume from
TENSORBOARD = "tensorboard"
EXPORT = "export"
FIGURES = "figures"
LONGEST_NAME = 100  # characters of a file name
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


def require_new(directory: Path) -> None:
    """Raises a UserError if `directory` is a file or a folder that is not empty."""
    # A kill in the first moment may leave a partial file behind.
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    if directory.is_file() or any(not name.startswith(PARTIAL) for name in names):
        raise UserError(
            f"--out {directory} exists and is not overwritten; continue it with --resume or "
            "choose another --out"
        )


def create(directory: Path, config: Config) -> None:
    """Creates a run directory with its settings and findings.

    Raises:
        UserError: If the folder is not empty or cannot be written.
    """
    require_new(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, part in ((FINDINGS, config.found), (CONFIG, config)):
            with written_whole(directory / name) as partial:
                partial.write_text(part.to_json(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to --out {directory}: {error.strerror}") from None


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Locks a run directory, so that one process at a time trains in it.

    Raises:
        UserError: If another process trains there, or it is no run directory.
    """
    read_config(directory)  # a lock would create a missing directory
    lock = filelock.FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"--out {directory} is in use: another process trains there; wait for its end, or "
            "stop it, then continue with --resume"
        ) from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise UserError(f"cannot write to --out {directory}: {reason_of(error)}") from None
        print(f"warning: the file system of {directory} has no locks: train there once at a time")
    try:
        yield
    finally:
        lock.release()


def read_config(directory: str | Path) -> Config:
    """Returns the settings of a run.

    Raises:
        UserError: If `directory` is not a run directory or its settings cannot be read.
    """
    path, found = Path(directory) / CONFIG, Path(directory) / FINDINGS
    try:
        exists = path.is_file()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
    if not exists:
        raise UserError(
            f"{directory} is not a run directory: it has no {CONFIG}; train.py --out makes one"
        )

    def read(path: Path, kind: type[Config] | type[Findings]) -> Config | Findings:
        text = read_text(path)
        try:
            return kind.from_json(text)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    config = read(path, Config)
    if found.is_file():
        return dataclasses.replace(config, found=read(found, Findings))
    if not config.attributes:  # older runs keep their findings among the settings
        raise UserError(f"{directory} has no {FINDINGS}; put it back, or train again")
    return config


def load_model(directory: str | Path, name: str = BEST) -> keras.Model:
    """Loads a network of a run for inference, explanation or export.

    It computes in float32, whatever it was trained in. So contributions sum to the logits, and
    the measured network is the served one.

    Args:
        directory: Run directory.
        name: `BEST`, by the `monitor` of its settings, or `LAST`.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of named outputs.

    Raises:
        UserError: If the weights are missing or cannot be read, or do not fit the settings.
    """
    config = read_config(directory)
    model = models.build(config.replace("training", precision="float32"))
    checkpoints.load_weights(model, Path(directory) / name, config)
    return model


def write_epochs(directory: Path, epochs: int) -> None:
    """Writes the length of a training that goes on for more epochs to its settings."""
    stored = read_config(directory)
    if epochs != stored.training.epochs:
        with written_whole(directory / CONFIG) as partial:
            text = stored.replace("training", epochs=epochs).to_json()
            partial.write_text(text, encoding="utf-8")


def write_history(directory: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes `history.csv`, one row {name: value} an epoch; `epoch` counts from 0."""
    # Epochs that an older version trained may have fewer names.
    names = ["epoch", *sorted(set().union(*rows) - {"epoch"})] if rows else []
    with (
        written_whole(directory / HISTORY) as partial,
        partial.open("w", encoding="utf-8", newline="") as lines,
    ):
        writer = csv.DictWriter(lines, names)
        writer.writeheader()
        writer.writerows({**row, "epoch": int(row["epoch"])} for row in rows)


def file_name(words: Sequence[str]) -> str:
    """Joins words to a file name; one with unsafe characters or too long is cut, with a digest."""
    name = "_".join(words)
    safe = re.sub(r"[^\w.-]", "_", name)[:LONGEST_NAME]
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if safe == name else f"{safe}_{digest}"


def write_json(path: Path, content: dict) -> None:
    """Writes a dict as indented JSON, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
