"""Files: read as text, written whole or not at all."""

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mcattn_tf.errors import UserError, reason_of

PARTIAL = ".partial-"  # prefix of files that are being written


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())  # otherwise a crash may leave the name without the contents


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a path to write to; an older file at `path` stays until the new one is complete."""
    partial = path.with_name(PARTIAL + path.name)
    try:
        yield partial
        _to_disk(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def directory_written_whole(directory: Path) -> Iterator[Path]:
    """Yields an empty directory, which becomes `directory` when it is complete, or vanishes."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=directory.parent) as work:
        partial = Path(work) / directory.name  # with the usual permissions
        partial.mkdir()
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                _to_disk(path)
        partial.rename(directory)


@contextlib.contextmanager
def arrays_of(path: Path, kind: str) -> Iterator[dict[str, np.ndarray]]:
    """Yields the arrays of a result of `evaluate.py --analysis`; a UserError for any other file."""
    try:
        with np.load(path) as file:
            yield dict(file)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        raise UserError(
            f"cannot read {path}: it is missing, damaged, of an older version or no {kind}; "
            "evaluate.py --analysis makes one"
        ) from None


def read_text(path: Path) -> str:
    """Returns the text of a file in UTF-8.

    Raises:
        UserError: If it cannot be read or has another encoding; names the line.
    """
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: expected text in UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
