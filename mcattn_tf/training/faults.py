"""Faults that end a training, each reported in one line that says how to go on."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import tensorflow as tf

from mcattn_tf.errors import Stopped, UserError, reason_of
from mcattn_tf.settings.config import Config

FULL_DISK = ("No space left", "File too large", "Disk quota")


class StopRequests:
    """Records SIGTERM and Ctrl-C inside its context; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None  # of the first signal
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():  # only this one may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal_number = number
        self.__exit__()
        os.write(2, b"\nstopping as soon as the step or the validation is done and saved\n")


@contextlib.contextmanager
def naming_faults(directory: Path, config: Config, workers: bool) -> Iterator[None]:
    """Turns TensorFlow's errors of memory, disk and other workers into a UserError."""
    resume = f"resume from the last checkpoint with --resume --out {directory}"
    try:
        yield
    except (UserError, Stopped):
        raise
    except (tf.errors.OpError, MemoryError) as error:
        if any(sign in str(error) for sign in FULL_DISK):
            raise UserError(
                f"cannot write to {directory}: {reason_of(error)}; free some space, then {resume}"
            ) from None
        if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
            raise UserError(
                f"out of memory with --batch_size {config.training.batch_size} and --precision "
                f"{config.training.precision}; start again with a smaller --batch_size or with "
                "--precision mixed_bfloat16, or, if other programs used the memory, " + resume
            ) from None
        lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
        if workers and isinstance(error, (*lost, tf.errors.InternalError)):
            raise UserError(
                f"another worker has gone ({reason_of(error)}); start all workers again, then "
                f"{resume}"
            ) from None
        raise


@contextlib.contextmanager
def naming_write_errors(directory: Path, kept: Callable[[], str]) -> Iterator[None]:
    """Turns errors of writing into a UserError; `kept` describes the saved checkpoint."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {directory}: {reason_of(error)}; {kept()}. Free some space, or "
            "make it writable, then continue with --resume"
        ) from None
