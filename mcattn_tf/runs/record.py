"""Record of a run's sessions: command, versions, hardware, duration and end."""

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
PROCESSOR = Path("/proc/cpuinfo")


def _git_revision() -> str | None:
    """Returns the commit of this code, with `-dirty` if files differ from it."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    folder = Path(__file__).parent
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
        return run.stdout.strip() or None
    return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in PROCESSOR.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    with contextlib.suppress(ValueError, OSError, AttributeError):  # unknown to some systems
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    return None


def describe(devices: str) -> dict[str, Any]:
    """Returns command, versions, git revision (None outside of a repository) and hardware."""
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
    """Adds a session to `record.json` when it begins, and its duration and end when it ends."""
    path = directory / runs.RECORD
    try:
        sessions = list(json.loads(path.read_text("utf-8"))["sessions"]) if path.is_file() else []
    except (ValueError, KeyError, TypeError):  # a damaged log must not stop a training
        print(f"warning: {path} is damaged; a new one is written")
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
        with contextlib.suppress(OSError):  # a full disk was reported already
            runs.write_json(path, {"sessions": [*sessions, session]})
