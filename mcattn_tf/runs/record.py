"""What a run was made with, and how long it took."""

import contextlib
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from mcattn_tf import __version__, runs

LIBRARIES = ("tensorflow", "keras", "numpy")


def _git_revision() -> str | None:
    """Returns the commit of this code, with `-dirty` after it if files differ from it."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    with contextlib.suppress(ValueError, OSError, AttributeError):  # where it is not known
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    return None


def describe(devices: str) -> dict[str, Any]:
    """Returns versions, command, git revision (None outside of a repository) and hardware.

    Args:
        devices: what computes.
    """
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return {
        "command": shlex.join(sys.argv),
        "versions": {"mcattn_tf": __version__, "python": platform.python_version(), **versions},
        "git_revision": _git_revision(),
        "hardware": {
            "host": platform.node(),
            "system": platform.platform(),
            "processor": _processor(),
            "processors": os.cpu_count(),
            "memory_gb": _memory_gb(),
            "devices": devices,
        },
    }


@contextlib.contextmanager
def recorded(directory: Path, devices: str) -> Iterator[None]:
    """Adds a session to `record.json`: what it is made with, and when it ends how and after what.

    Args:
        directory: of the run.
        devices: what computes.
    """
    path = directory / runs.RECORD
    try:
        sessions = json.loads(path.read_text())["sessions"] if path.is_file() else []
    except (ValueError, KeyError, TypeError):  # a log, not worth a training
        print(f"warning: {path} is damaged and begun anew")
        sessions = []
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    session = {"started": started, "seconds": None, "end": None, **describe(devices)}
    runs.write_json(path, {"sessions": [*sessions, session]})
    begun = time.monotonic()
    try:
        yield
        session["end"] = "finished"
    except BaseException as error:
        session["end"] = f"{type(error).__name__}: {error}".splitlines()[0]
        raise
    finally:
        session["seconds"] = round(time.monotonic() - begun, 1)
        with contextlib.suppress(OSError):  # a full disk has been named already
            runs.write_json(path, {"sessions": [*sessions, session]})
