"""What a process inherits must not change what a command computes, nor end it."""

import contextlib
import io
import json
import os
import subprocess
import sys

import keras
import pytest
from conftest import ROOT

from mcattn_tf.commands import environment, flags
from mcattn_tf.errors import UserError

WIDE = "日 façade\n"


def printing(stream: object, text: str) -> int:
    """Prints a text, then something to stderr; returns the exit status."""

    def action() -> None:
        print(text, end="")
        print("a warning", file=sys.stderr)

    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        return flags.status_of(action)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"\\u65e5 fa\\xe7ade\na warning\n"),
        ("latin-1", b"\\u65e5 fa\xe7ade\na warning\n"),
        ("cp1252", b"\\u65e5 fa\xe7ade\na warning\n"),
        ("utf-8", f"{WIDE}a warning\n".encode()),
    ],
)
def test_what_an_encoding_lacks_is_printed_as_an_escape(tmp_path, encoding, shown):
    with (tmp_path / "log").open("w", encoding=encoding, newline="\n") as stream:
        print("before", file=stream)
        assert printing(stream, WIDE) == 0
        print("after", file=stream)
    # stdout is written when the command ends, as it is where it is no terminal.
    lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    assert (lines[0], lines[-1]) == (b"before\n", b"after\n")
    assert sorted(lines[1:-1]) == sorted(shown.splitlines(keepends=True))


def test_a_reader_that_leaves_and_a_full_disk_do_not_end_a_command(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe, open("/dev/full", "w") as disk:
        for stream in (pipe, disk):
            assert printing(stream, "a line\n" * 10_000) == 0
    assert printing(None, "a line\n") == 0
    kept = io.StringIO()  # as a notebook's
    assert printing(kept, WIDE) == 0 and kept.getvalue() == f"{WIDE}a warning\n"
    kept = io.TextIOWrapper(io.BytesIO(), "utf-8")  # as a test's
    assert printing(kept, WIDE) == 0
    assert kept.buffer.getvalue() == f"{WIDE}a warning\n".encode()


def test_a_file_does_not_take_the_number_of_a_closed_stream(tmp_path):
    script = (
        "import os, sys\n"
        "from mcattn_tf.commands import flags\n"
        "def action():\n"
        f"    with open({str(tmp_path / 'file')!r}, 'w') as file:\n"
        "        print('to nobody')\n"
        "        os.write(2, b'native code')\n"
        "        file.write(str(file.fileno() > 2))\n"
        "flags.end(flags.status_of(action))\n"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, script]
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    assert (tmp_path / "file").read_text() == "True"


def test_variables_and_settings_of_others_change_nothing(tmp_path):
    (tmp_path / "keras.json").write_text(
        json.dumps(
            {
                "backend": "torch",
                "floatx": "float16",
                "epsilon": 0.1,
                "image_data_format": "channels_first",
            }
        )
    )
    script = (
        "from mcattn_tf.commands import environment\n"
        "environment.import_tensorflow_quietly()\n"
        "import os, keras\n"
        "from keras import config\n"
        "print(config.backend(), config.floatx(), config.epsilon(), config.image_data_format(),\n"
        "    config.max_epochs(), config.max_steps_per_epoch(), os.environ['MPLBACKEND'])\n"
    )
    variables = {
        "KERAS_BACKEND": "jax",
        "KERAS_HOME": str(tmp_path),
        "KERAS_MAX_EPOCHS": "many",
        "KERAS_MAX_STEPS_PER_EPOCH": "1",
        "KERAS_NNX_ENABLED": "true",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    process = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    kept = variables["MPLBACKEND"]
    assert process.stdout == f"tensorflow float32 1e-07 channels_last None None {kept}\n"


def test_keras_that_cannot_be_imported_or_has_another_backend_is_one_line(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(UserError, match=r"has Keras on jax; set KERAS_BACKEND=tensorflow"):
        environment.import_tensorflow_quietly()
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(UserError, match=r"cannot import Keras: .*keras\.json in KERAS_HOME or"):
        environment.import_tensorflow_quietly()
