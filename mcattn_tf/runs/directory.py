"""The run directory: settings, weights and results of one training."""

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
ANALYSIS = "analysis.npz"
RECORD = "record.json"
LOCK = ".lock"  # of the process that trains
DAMAGED = "damaged.keras"  # what was the last checkpoint and cannot be gone on with
TENSORBOARD = "tensorboard"
EXPORT = "export"
FIGURES = "figures"
LONGEST_NAME = 100  # of a file
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


def require_new(directory: Path) -> None:
    """Raises a UserError if there is something in `directory` already."""
    if directory.is_file() or (directory.is_dir() and any(map(_is_whole, directory.iterdir()))):
        raise UserError(
            f"--out {directory} exists and is not overwritten; go on with it by --resume or name "
            "another --out"
        )


def _is_whole(path: Path) -> bool:
    return not path.name.startswith(PARTIAL)  # left behind by a kill in the first moment


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
        for name, part in ((FINDINGS, config.found), (CONFIG, config)):
            with written_whole(directory / name) as partial:
                partial.write_text(part.to_json())
    except OSError as error:
        raise UserError(f"cannot write to --out {directory}: {error.strerror}") from None


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Lets one process train in a run directory at a time.

    Args:
        directory: of the run.

    Raises:
        UserError: if another process does, or it is no run directory.
    """
    read_config(directory)  # a lock would make a directory that is not there
    lock = filelock.FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"--out {directory} is in use: another process trains there; wait for its end, or "
            "stop it, then go on by --resume"
        ) from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise UserError(f"cannot write to --out {directory}: {reason_of(error)}") from None
        print(f"warning: the file system of {directory} has no locks: train there once at a time")
    try:
        yield
    finally:
        lock.release()


def read_config(directory: Path) -> Config:
    """Returns the settings of a run.

    Raises:
        UserError: if `directory` is not a run directory or its settings cannot be read.
    """
    path = directory / CONFIG
    try:
        there = path.is_file()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
    if not there:
        raise UserError(
            f"{directory} is not a run directory: it has no {CONFIG}; train.py --out makes one"
        )
    config, found = _read(path, Config), directory / FINDINGS
    # Runs made before findings had a file keep them among their settings.
    return dataclasses.replace(config, found=_read(found, Findings)) if found.is_file() else config


def _read(path: Path, kind: type[Config] | type[Findings]) -> Config | Findings:
    text = read_text(path)
    try:
        return kind.from_json(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


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
        UserError: if the run has no such weights yet, they cannot be read, or the settings of the
            run are not those that they were trained with.
    """
    config = read_config(directory)
    model = models.build(config.replace("training", precision="float32"))
    checkpoints.load_weights(model, directory / name, config)
    return model


def write_history(directory: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes `history.csv`, a row a finished epoch, whole or not at all.

    Args:
        directory: of the run.
        rows: {name: value} of each; `epoch` counts from 0.
    """
    names = ["epoch", *sorted(rows[-1].keys() - {"epoch"})] if rows else []
    with (
        written_whole(directory / HISTORY) as partial,
        partial.open("w", newline="") as lines,
    ):
        writer = csv.DictWriter(lines, names)
        writer.writeheader()
        writer.writerows({**row, "epoch": int(row["epoch"])} for row in rows)


def file_name(words: Sequence[str]) -> str:
    """Returns words as the name of a file, without an ending.

    What a file system may refuse is replaced and what is long cut off; a digest of the words then
    tells such names apart.
    """
    name = "_".join(words)
    safe = re.sub(r"[^\w.-]", "_", name)[:LONGEST_NAME]
    if safe == name:
        return name
    return f"{safe}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_json(path: Path, content: dict) -> None:
    """Writes a dict as indented JSON, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
