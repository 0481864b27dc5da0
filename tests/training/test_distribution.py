"""Several devices and several workers, each a process, compute what one device does."""

import importlib.util
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import QUICK_XLA, ROOT, tiny_config
from processes import (
    CONTEXT,
    EPOCHS,
    EVERY_STEP,
    cluster,
    finish,
    history_of,
    small_config,
    small_config_of_tasks,
    start_training,
    weights_of,
)

from mcattn_tf import runs
from mcattn_tf.errors import UserError
from mcattn_tf.runs.checkpoints import read_progress
from mcattn_tf.training import distribution, fit


def difference(ours, theirs, least=0.0):
    """Returns the largest difference of a weight, relative to the largest of its array.

    `least` is the size of arrays that begin as zeros and have hardly moved.
    """
    sizes = [max(np.abs(b).max(), least) for b in theirs]
    return max(np.abs(a - b).max() / size for a, b, size in zip(ours, theirs, sizes, strict=True))


def check_same(run, one_device, tolerance, workers=1, least=0.0):
    for worker in range(workers):
        assert difference(weights_of(run, worker), weights_of(one_device), least) < tolerance
    rows = zip(history_of(run), history_of(one_device), strict=True)
    for row, expected in rows:
        assert row == pytest.approx(expected, rel=10 * tolerance)


def run_alone(folder, **training):
    folder.mkdir(exist_ok=True)
    config = small_config(**training)
    finish(start_training(folder / "log", folder / "run", config=config), folder / "log")
    return folder / "run"


def start_workers(tmp_path, part, **options):
    logs = [tmp_path / f"{part}_{worker}" for worker in range(2)]
    options = {"strategy": "multiworker", **options}
    return logs, [
        start_training(log, tmp_path / "run", tf_config=task, **options)
        for log, task in zip(logs, cluster(2), strict=True)
    ]


@pytest.mark.slow  # two devices below sum as two workers do
def test_two_workers_one_of_them_killed_learn_what_one_process_does(uninterrupted, tmp_path):
    saves = CONTEXT.Value("i", 0)
    logs, (chief, worker) = start_workers(tmp_path, "killed", minutes=EVERY_STEP, saves=saves)
    while saves.value < 2 * 8 and chief.is_alive() and worker.is_alive():
        time.sleep(0.002)
    worker.kill()
    printed = finish(chief, logs[0], code=1)
    assert "error: another worker has gone (" in printed and "Traceback" not in printed
    begun = read_progress(tmp_path / "run" / runs.LAST)
    assert 0 < begun.epochs < EPOCHS
    logs, workers = start_workers(tmp_path, "resumed", resume=True)
    printed = [finish(process, log) for process, log in zip(workers, logs, strict=True)]
    lines = [[line.split()[:1] for line in text.splitlines()] for text in printed]
    assert [f"{begun.epochs + 1}/{EPOCHS}"] in lines[0] and ["epoch"] not in lines[1]
    assert all([f"{epoch}/{EPOCHS}"] not in lines[1] for epoch in range(EPOCHS + 1))
    check_same(tmp_path / "run", uninterrupted, 1e-4, workers=2)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_workers_learn_what_one_process_does(optimizer, tmp_path):
    one_device = run_alone(tmp_path / "one", optimizer=optimizer)
    logs, workers = start_workers(tmp_path, "log", config=small_config(optimizer=optimizer))
    for process, log in zip(workers, logs, strict=True):
        finish(process, log)
    both = [weights_of(tmp_path / "run", worker) for worker in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(*both, strict=True))
    print(optimizer, difference(both[0], weights_of(one_device)))
    check_same(tmp_path / "run", one_device, 1e-4 if optimizer == "sgd" else 1e-2, workers=2)


@pytest.mark.slow
def test_sigterm_to_one_of_two_workers_saves_and_stops_both(tmp_path):
    saves = CONTEXT.Value("i", 0)
    logs, workers = start_workers(tmp_path, "log", saves=saves)
    while saves.value < 4 and all(worker.is_alive() for worker in workers):
        time.sleep(0.002)
    workers[1].terminate()
    printed = [finish(*started, code=143) for started in zip(workers, logs, strict=True)]
    progress = read_progress(tmp_path / "run" / runs.LAST)
    assert all(f"stopped after {progress.describe()}; continue with" in text for text in printed)
    assert (progress.epochs, progress.steps) >= (2, 0)


def test_two_devices_learn_what_one_does(uninterrupted, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    finish(start_training(log, run, strategy="mirrored", devices=2), log)
    check_same(run, uninterrupted, 1e-4)


@pytest.mark.slow
def test_multitask_abn_learns_on_two_devices_and_by_two_workers_what_it_does_on_one(tmp_path):
    config, ended = small_config_of_tasks(), {}
    for name, devices in (("none", 1), ("mirrored", 2)):
        (folder := tmp_path / name).mkdir()
        log, ended[name] = folder / "log", folder / "run"
        started = start_training(log, folder / "run", False, config, name, devices=devices)
        finish(started, log)
    logs, workers = start_workers(tmp_path, "log", config=config)
    for process, log in zip(workers, logs, strict=True):
        finish(process, log)
    for run, count in ((ended["mirrored"], 1), (tmp_path / "run", 2)):
        check_same(run, ended["none"], 1e-5, count, least=1e-3)


@pytest.mark.slow
def test_keras_distribution_on_jax_learns_on_two_devices_what_one_does():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    flags = f"{QUICK_XLA['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    script = [sys.executable, ROOT / "tests" / "data_parallel.py"]
    subprocess.run(script, env=os.environ | environment, check=True)


class TwoDevices:
    """A strategy of two devices, as far as training looks at it before it builds anything."""

    num_replicas_in_sync = 2


def test_a_batch_must_divide_among_the_devices(tmp_path, tiny_data):
    config = tiny_config(training={"batch_size": 5})
    with pytest.raises(UserError, match=r"divisible by their number, 2\. Received: 5"):
        fit.train(config, tiny_data, tmp_path / "run", strategy=TwoDevices())


def test_auto_is_several_workers_where_tf_config_names_them(monkeypatch):
    assert distribution.choose_strategy("auto").num_replicas_in_sync == 1
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}}')
    assert distribution._worker_count() == 3
    monkeypatch.setenv("TF_CONFIG", "worker 1 of 2")
    with pytest.raises(UserError, match="TF_CONFIG must be JSON such as") as raised:
        distribution.choose_strategy("auto")
    assert "\n" not in str(raised.value)
