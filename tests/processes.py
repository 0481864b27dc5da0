"""Commands in this process, and trainings in processes of their own, which tests may kill.

The latter are forked from one that has imported TensorFlow, which else takes most of their time.
"""

import contextlib
import io
import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import NAMES, random_split

from mcattn_tf import data, models, runs
from mcattn_tf.commands import flags
from mcattn_tf.data.sets.faces import EXAMPLES
from mcattn_tf.runs import checkpoints
from mcattn_tf.settings.backbones import BACKBONES, BASIC, Backbone
from mcattn_tf.settings.config import Config, make_config
from mcattn_tf.training import distribution, fit

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["processes"])
STEPS, EPOCHS, BATCH = 5, 6, 8
LIMIT = 240  # seconds to wait for the end of a process
EVERY_STEP = 1e-9  # minutes between checkpoints


@contextlib.contextmanager
def drawing_fewer(**counts: int) -> Iterator[None]:
    """Draws fewer faces of splits than a run has, such as `test=24`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, count in counts.items():
            patch.setitem(EXAMPLES, name, count)
        yield


def short_config(model: dict, **of_training: object) -> Config:
    """A network on few drawn faces, which takes 30 steps and always the same ones."""
    return make_config(
        {
            "data": {"image_size": (32, 36), "train_examples": STEPS * BATCH + 3},
            "model": model,
            "training": {
                # With seeds 0 and 1 a ReLU's input is so near to 0 that rounding decides its sign.
                **{"epochs": EPOCHS, "batch_size": BATCH, "deterministic": True, "seed": 2},
                **of_training,
            },
        }
    )


SMALLEST = Backbone((2, 3, 4), (1, 1, 1), BASIC, stem=2)
SGD = {"optimizer": "sgd", "schedule": "one_cycle", "learning_rate": 1e-3}


def small_config(**of_training: object) -> Config:
    """A small network with batch normalisation, and SGD."""
    model = {"name": "baseline", "stem": ((4, 4, 2), (6, 2, 2)), "channels": 5}
    return short_config(model, **{**SGD, **of_training})


def small_config_of_tasks() -> Config:
    """Multi-task ABN, three tasks in slices of two, and SGD.

    With many ReLUs, as on faces, rounding decides the sign of some input.
    """
    model = {"name": "multitask_abn", "backbone": "smallest", "task_slice": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "smallest", SMALLEST)
        return short_config(model, epochs=3, **SGD).replace("data", image_size=(12, 8))


def images_of(config: Config) -> data.Data:
    """Few images; the 13 of validation divide among neither batches nor two devices.

    They are drawn faces, and noise where a face would not fit.
    """
    if config.data.image_size == (12, 8):
        whole, few = random_split(STEPS * BATCH + 3, 0), random_split(13, 1)
        return data.Data(whole, few, few, NAMES)
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


def print_to(log: Path) -> None:
    """Lets a process print into a file, its errors too."""
    for descriptor in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)


def start(function: Callable, *arguments: object) -> multiprocessing.Process:
    """Starts a function of a module in a process."""
    with pytest.MonkeyPatch.context() as patch:  # the server looks nowhere else
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def call(command: Callable[[list[str]], int], *arguments: object) -> tuple[int, str, str]:
    """Calls a command in this process and returns its exit status, what it printed, its errors."""
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        status = command(list(map(str, arguments)))
    return status, printed.getvalue(), errors.getvalue()


def run(command: Callable[[list[str]], int], *arguments: object) -> str:
    """Calls a command in this process, which must succeed, and returns what it printed."""
    status, printed, errors = call(command, *arguments)
    assert status == 0, errors
    return printed


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
    BACKBONES["smallest"] = SMALLEST
    built, build = [], models.build
    models.build = lambda config: built.append(build(config)) or built[-1]

    def main() -> None:
        if devices > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            parts = [tf.config.LogicalDeviceConfiguration()] * devices
            tf.config.set_logical_device_configuration(cpu, parts)
        chosen = distribution.choose_strategy(strategy)
        fit.train(
            config,
            images_of(config),
            directory,
            resume,
            checkpoint_minutes=minutes,
            strategy=chosen,
        )
        worker = 0 if distribution.is_chief(chosen) else 1
        np.savez(directory / f"weights_{worker}.npz", *built[0].get_weights())

    sys.argv = ["training"]
    flags.end(flags.status_of(main))


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
    process.join(LIMIT)
    printed = log.read_text()
    if process.exitcode is None:
        process.kill()
        pytest.fail(f"no end after {LIMIT} s; it printed: {printed}")
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


def check_same_bits(run: Path, other: Path) -> None:
    """Compares the last weights, the history and the best network of two runs, bit by bit."""
    for ours, theirs in zip(weights_of(run), weights_of(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (run / runs.HISTORY).read_text() == (other / runs.HISTORY).read_text()
    epochs = runs.read_config(run).training.epochs
    assert [row["epoch"] for row in history_of(run)] == list(range(epochs))
    best = [runs.load_model(directory).get_weights() for directory in (run, other)]
    for ours, theirs in zip(*best, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def check_kills(kills: int, config: Config, uninterrupted: Path, run: Path) -> None:
    """Kills a training so often, each time soon after another save, and compares its end."""
    random = np.random.default_rng(kills)
    saves = CONTEXT.Value("i", 0)  # each is counted when it begins and ends
    options, furthest = {"config": config, "minutes": EVERY_STEP, "saves": saves}, (0, 0)
    for kill in range(kills):
        awaited = saves.value + random.integers(0, 2 * STEPS * EPOCHS // kills)
        log = run.with_name(f"log_{kill}")
        begun = (run / runs.CONFIG).exists()
        process = start_training(log, run, resume=begun, **options)
        while saves.value < awaited and process.is_alive():
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
        if (run / runs.LAST).exists():
            progress = checkpoints.read_progress(run / runs.LAST)
            assert (progress.epochs, progress.steps) >= furthest
            furthest = progress.epochs, progress.steps
    assert furthest > (0, 0)
    log, begun = run.with_name("log"), (run / runs.CONFIG).exists()
    finish(start_training(log, run, resume=begun, config=config), log)
    check_same_bits(run, uninterrupted)
