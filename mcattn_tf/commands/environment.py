"""What a process inherits: variables, the settings of Keras, and streams to print to."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from mcattn_tf.errors import UserError, reason_of

# Limits of Keras for debugging, which would train and measure less than the flags say, and a
# feature of its JAX backend.
NOT_USED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED")


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow without the lines that its native code prints while it loads, then Keras.

    No setting turns them off, and they would bury a one-line error. Nothing is hidden where
    TF_CPP_MIN_LOG_LEVEL is set to less than 3. TensorFlow's oneDNN operations are turned on unless
    TF_ENABLE_ONEDNN_OPTS says otherwise: TensorFlow itself uses them on CPUs with AVX-512 alone.

    Raises:
        UserError: As `_import_keras` does.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        _import_keras()
        return
    sys.stderr.flush()
    errors = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        _import_keras()
    finally:
        os.dup2(errors, 2)
        os.close(errors)
    import tensorflow

    tensorflow.get_logger().setLevel("ERROR")  # its advice on retracing is for its programmers


def _import_keras() -> None:
    """Imports Keras on TensorFlow, with the defaults that networks here are built with.

    Raises:
        UserError: If keras.json cannot be read, or this process has another backend already.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
        for name in NOT_USED:
            os.environ.pop(name, None)
    if "matplotlib" not in sys.modules:
        _import_matplotlib()
    try:
        import keras
    except (AttributeError, ImportError, OSError, ValueError) as error:
        raise UserError(
            f"cannot import Keras: {reason_of(error)}; where its file of settings is the cause, "
            "mend or remove it: keras.json in KERAS_HOME or ~/.keras"
        ) from None
    if (backend := keras.config.backend()) != "tensorflow":
        raise UserError(
            f"the commands compute on TensorFlow, but this process has Keras on {backend}; set "
            "KERAS_BACKEND=tensorflow before it is imported"
        )
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


def _import_matplotlib() -> None:
    """Imports Matplotlib, which Keras needs, with MPLBACKEND only where that can be used.

    A notebook hands on the name of a backend that may be installed for the notebook alone.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if backend:
        os.environ["MPLBACKEND"] = backend
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


class _Descriptor(io.FileIO):
    """A file to print to; where that fails, the reader has left or the disk is full, it is lost."""

    def write(self, data: bytes) -> int | None:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _lasting(stream: TextIO) -> TextIO:
    """Returns a stream to the same file that never fails; one that has no file is left as it is."""
    if not isinstance(stream, io.TextIOWrapper):  # a notebook's
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    try:
        file = _Descriptor(stream.fileno(), "w", closefd=False)
    except io.UnsupportedOperation:
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        stream.encoding,
        "backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Lets no `print` end what it reports on, whatever stdout and stderr are.

    Characters that their encoding lacks are written as escapes. What is printed to a closed pipe,
    a full disk or a closed stream is lost.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # closed: another file would take its number, and be printed into
    os.close(number)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(_lasting(sys.stdout or nowhere)) as output,
        contextlib.redirect_stderr(_lasting(sys.stderr or nowhere)) as errors,
    ):
        try:
            yield
        finally:
            output.flush()
            errors.flush()
