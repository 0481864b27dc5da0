"""The parent's side of a worker process."""

import dataclasses
import json
import os
import subprocess
import tempfile
from pathlib import Path

from peers.abn_problem import Problem as AbnProblem
from peers.problem import Problem

BENCHMARKS = Path(__file__).parent.parent  # benchmarks/speed
ROOT = BENCHMARKS.parent.parent


class WorkerError(RuntimeError):
    """A worker ended before it was told to; the message is the last line that it wrote."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What a worker is to build.

    Attributes:
        implementation: `ours`, `keras` or `torch`.
        module: of this package that builds it.
        variant: as that module names it.
        python: the interpreter.
        backend: of Keras.
        problem: what is computed.
    """

    implementation: str
    module: str
    variant: str
    python: str
    backend: str
    problem: Problem | AbnProblem

    @property
    def name(self) -> str:
        """Implementation and variant, as `--peers` chooses by its beginning."""
        return f"{self.implementation}-{self.variant}"


class Worker:
    """A process that builds a candidate; a context manager, at whose end the process is gone."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        settings = {
            "module": candidate.module,
            "variant": candidate.variant,
            "problem_module": type(candidate.problem).__module__,
            "problem": dataclasses.asdict(candidate.problem),
        }
        # A cache of its own for what PyTorch compiles, or a second run would not compile at all.
        self._directory = tempfile.TemporaryDirectory()
        directory = Path(self._directory.name)
        self._errors = (directory / "stderr").open("w+")
        path = [str(BENCHMARKS), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "1",  # as our scripts set it
            **os.environ,
            "KERAS_BACKEND": candidate.backend,
            "PYTHONPATH": os.pathsep.join(path),
            "TORCHINDUCTOR_CACHE_DIR": str(directory / "inductor"),
            # Several workers share a GPU.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        self._process = subprocess.Popen(
            [candidate.python, "-m", "peers.worker", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()
        self._directory.cleanup()

    def answer(self) -> dict:
        """Waits for the next answer; the first comes unasked, when the first steps are done.

        Raises:
            WorkerError: if the worker ends in place of it.
        """
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        reason = lines[-1] if lines and status > 0 else f"it ended with status {status}"
        raise WorkerError(reason)

    def ask(self, **command: object) -> dict:
        """Sends a command and waits for the answer."""
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `answer` says why
        return self.answer()


def has_module(python: str, module: str) -> bool:
    """Tells whether an interpreter can import a module.

    Raises:
        OSError: if there is no such interpreter.
    """
    script = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", script], stderr=subprocess.DEVNULL).returncode == 0
