"""Trainings and scripts in processes of their own, which tests may kill, starve and mislead.

They are forked from one that has imported TensorFlow already, which else takes most of their time.
"""

import contextlib
import importlib
import io
import json
import multiprocessing
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver
from conftest import output_of

from mcattn_tf import data, models, runs
from mcattn_tf.commands import command_line
from mcattn_tf.runs import checkpoints
from mcattn_tf.settings.config import Config, make_config
from mcattn_tf.training import distribution, fit

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["processes"])
STEPS, EPOCHS, BATCH = 5, 6, 8


def small_config(**of_training: object) -> Config:
    """A small network on few drawn faces: 30 steps of SGD, with batch normalisation."""
    return make_config(
        {
            "data": {"image_size": (32, 36), "train_examples": STEPS * BATCH + 3},
            "model": {"name": "baseline", "stem": ((4, 4, 2), (6, 2, 2)), "channels": 5},
            "training": {
                **{"epochs": EPOCHS, "batch_size": BATCH, "optimizer": "sgd"},
                **{"schedule": "one_cycle", "learning_rate": 1e-3, "deterministic": True},
                **of_training,
            },
        }
    )


def faces(config: Config) -> data.Data:
    """Few drawn faces; the 13 of validation divide among neither batches nor two devices."""
    every = data.load(config.data)
    few = every.train.select(np.arange(13))
    return data.Data(every.train, few, few, every.attributes)


def _count_saves(saves: object) -> None:
    save = checkpoints.save

    def counted(*arguments: object) -> None:
        saves.value += 1
        save(*arguments)
        saves.value += 1

    checkpoints.save = counted


def _limit_files_when(directory: Path, epochs: int) -> None:
    """Lets no file grow beyond 20 kB once some epochs are saved."""
    save = checkpoints.save

    def limited(model: keras.Model, path: Path, config: Config, progress: object) -> None:
        if progress.epochs == epochs:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        save(model, path, config, progress)

    checkpoints.save = limited


def print_to(log: Path, errors: Path | None = None) -> None:
    """Lets a process print into a file, its errors into the same or another one."""
    for descriptor, path in ((1, log), (2, errors or log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)


def start(function: Callable, *arguments: object) -> multiprocessing.Process:
    """Starts a function of a module in a process."""
    with pytest.MonkeyPatch.context() as patch:  # the server looks nowhere else
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def _run_script(output: Path, errors: Path, script: str, arguments: list[str]) -> None:
    print_to(output, errors)
    sys.argv = [script, *arguments]
    command_line.run(importlib.import_module(script.removesuffix(".py")).main)


def _refuse(output: Path, errors: Path, script: str, cases: list[list[str]]) -> None:
    print_to(output, errors)
    module, results = importlib.import_module(script.removesuffix(".py")), []
    for arguments in cases:
        sys.argv, said, code = [script, *arguments], io.StringIO(), 0
        with flagsaver.flagsaver(), contextlib.redirect_stderr(said):
            try:
                command_line.run(module.main)
            except SystemExit as end:
                code = end.code
        results.append([code, said.getvalue()])
    print(json.dumps(results))


class Script:
    """A script of ours in a process that is begun, to be used as a `subprocess.Popen`."""

    def __init__(self, function: Callable, script: str, arguments: list) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._printed = [Path(self._folder.name) / name for name in ("output", "errors")]
        self._process = start(function, *self._printed, script, arguments)

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """Returns what it printed and its errors when it has ended."""
        self._process.join(timeout)
        self.returncode = self._process.exitcode
        with self._folder:
            printed = tuple(path.read_text() for path in self._printed)
        if self.returncode is None:
            self._process.kill()
            raise TimeoutError(f"a script has not ended: {printed}")
        return printed


def start_script(script: str, *arguments: object) -> Script:
    """Starts one of the scripts."""
    return Script(_run_script, script, [str(argument) for argument in arguments])


def run_script(script: str, *arguments: object) -> str:
    """Runs one of the scripts to its end and returns what it printed."""
    return output_of(start_script(script, *arguments))


def start_cases(script: str, cases: list[list[str]]) -> Script:
    """Starts a script again and again, and lets it print [status, errors] of each case as JSON."""
    return Script(_refuse, script, cases)


def _train(
    log: Path,
    directory: Path,
    resume: bool,
    config: Config,
    strategy: str,
    minutes: float | None,
    devices: int,
    tf_config: dict | None,
    saves: object,
    full_disk_at: int | None,
) -> None:
    print_to(log)
    if tf_config:
        os.environ["TF_CONFIG"] = json.dumps(tf_config)
    if saves is not None:
        _count_saves(saves)
    if full_disk_at is not None:
        _limit_files_when(directory, full_disk_at)
    built, build = [], models.build
    models.build = lambda config: built.append(build(config)) or built[-1]

    def main(_: list[str]) -> None:
        if devices > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            parts = [tf.config.LogicalDeviceConfiguration()] * devices
            tf.config.set_logical_device_configuration(cpu, parts)
        chosen = distribution.choose_strategy(strategy)
        fit.train(
            config, faces(config), directory, resume, checkpoint_minutes=minutes, strategy=chosen
        )
        worker = 0 if distribution.is_chief(chosen) else 1
        np.savez(directory / f"weights_{worker}.npz", *built[0].get_weights())

    sys.argv = ["training"]
    command_line.run(main)


def start_training(
    log: Path,
    directory: Path,
    resume: bool = False,
    config: Config | None = None,
    strategy: str = "none",
    minutes: float | None = None,
    devices: int = 1,
    tf_config: dict | None = None,
    saves: object = None,
    full_disk_at: int | None = None,
) -> multiprocessing.Process:
    """Starts a training.

    Args:
        log: file for what it prints.
        directory: of the run.
        resume: as `training.train` takes it.
        config: `small_config()` for None.
        strategy: as `--strategy` takes it.
        minutes: as `--checkpoint_minutes` takes it.
        devices: logical CPUs.
        tf_config: TF_CONFIG of several workers.
        saves: shared number, raised at the beginning and the end of each save.
        full_disk_at: epoch at whose end files cannot grow any more.
    """
    arguments = (log, directory, resume, config or small_config(), strategy, minutes)
    return start(_train, *arguments, devices, tf_config, saves, full_disk_at)


def finish(process: multiprocessing.Process, log: Path, code: int = 0) -> str:
    """Waits for the end of a training and returns what it printed."""
    process.join(240)
    if process.exitcode is None:
        process.kill()
    printed = log.read_text()
    assert process.exitcode == code, printed
    return printed


def cluster(worker_count: int) -> list[dict]:
    """Returns TF_CONFIG of each worker, on free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(worker_count)]
    workers = [f"127.0.0.1:{server.getsockname()[1]}" for server in sockets]
    for server in sockets:
        server.close()
    return [
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        for index in range(worker_count)
    ]


def weights_of(directory: Path, worker: int = 0) -> list[np.ndarray]:
    """Returns the weights that a worker ended with."""
    with np.load(directory / f"weights_{worker}.npz") as stored:
        return [stored[name] for name in stored.files]


def history_of(directory: Path) -> tuple[dict[str, float], ...]:
    """Returns the rows of a run's last checkpoint."""
    return checkpoints.read_progress(directory / runs.LAST).history
