"""What the scripts share: quiet imports, and errors as one line."""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator

from absl import app, flags, logging

from mcattn_tf.errors import Stopped, UserError
from mcattn_tf.settings.config import Config

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow without the lines that its native code prints while it loads.

    They cannot be turned off by a setting and would bury a one-line error. Nothing is hidden
    where TF_CPP_MIN_LOG_LEVEL is set. TensorFlow's oneDNN operations are turned on unless
    TF_ENABLE_ONEDNN_OPTS says otherwise: by itself it takes them on CPUs with AVX-512 alone.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _silenced_stderr():
        import tensorflow
    tensorflow.get_logger().setLevel("ERROR")  # its advice on retracing is for its programmers


def define_places() -> Callable[[Config], Config]:
    """Defines the flags that say where the data of a run are now.

    Returns:
        From the settings of a run to those with the places that the flags name.
    """
    places = {
        "data_dir": flags.DEFINE_string("data_dir", None, "where the data are now, if moved"),
        "cache_dir": flags.DEFINE_string("cache_dir", None, "folder for decoded images, if moved"),
        "no_cache": flags.DEFINE_bool("no_cache", None, "decode images each time they are read"),
    }
    return lambda config: config.located(**{name: flag.value for name, flag in places.items()})


def _parse(arguments: list[str]) -> list[str]:
    """Parses flags; a wrong one ends the process with one line."""
    try:
        return flags.FLAGS(arguments)
    except flags.IllegalFlagValueError as error:
        message = str(error)
        if named := re.match(r"flag --(\w+)=(.*?): ", message, re.DOTALL):
            parser = flags.FLAGS[named[1]].parser
            expected = parser.syntactic_help or "true or false"
            message = f"--{named[1]} must be {expected}. Received: {named[2]!r}"
    except flags.Error as error:
        message = str(error)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def run(main: Callable[[list[str]], None]) -> None:
    """Parses flags, runs `main` and ends the process.

    A `UserError` becomes its message on the terminal and exit status 1, as does a disk that is full
    or may not be written to; a training that was stopped ends with 128 plus the signal's number,
    which is 130 for Ctrl-C.

    Args:
        main: takes the arguments that are not flags.
    """

    def status_of(arguments: list[str]) -> int:
        try:
            main(arguments[1:])
            return 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            where = f" {error.filename}" if error.filename else ""
            denied = error.errno in (errno.EACCES, errno.EPERM)
            what = "read or write" if denied else "write"
            print(f"error: cannot {what}{where}: {error.strerror}", file=sys.stderr)
            return 1
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            return 128 + stopped.signal_number
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130

    def guarded(arguments: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        status = status_of(arguments)
        if "TF_CONFIG" in os.environ:  # TensorFlow would wait for workers that have gone already
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        sys.exit(status)

    app.run(guarded, flags_parser=_parse)
