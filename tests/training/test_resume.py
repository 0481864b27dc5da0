"""Trainings that are killed, or that a full disk or a signal ends."""

import os
import signal
import time

import numpy as np
import pytest
from conftest import NAMES, random_split, tiny_config
from processes import (
    CONTEXT,
    EVERY_STEP,
    check_kills,
    check_same_bits,
    finish,
    history_of,
    small_config,
    start_training,
)

from mcattn_tf import runs
from mcattn_tf.data import Data
from mcattn_tf.errors import Stopped
from mcattn_tf.runs.checkpoints import read_progress
from mcattn_tf.training import fit
from mcattn_tf.training.faults import StopRequests


@pytest.fixture(autouse=True)
def signals_that_are_heeded():
    """A shell lets its background processes ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow  # signals at chosen moments are below
def test_kills_at_random_moments_change_no_bit(uninterrupted, tmp_path):
    check_kills(2, small_config(), uninterrupted, tmp_path / "run")


def test_a_full_disk_loses_nothing(uninterrupted, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    printed = finish(start_training(log, run, full_disk_at=3), log, code=1)
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert printed.endswith(line + "\n") and "Traceback" not in printed
    assert f"cannot write to {run}: " in line and "File too large" in line
    assert "the checkpoint before it (epoch 2) is kept" in line
    assert read_progress(run / runs.LAST).epochs == 2
    finish(start_training(log, run, resume=True), log)
    check_same_bits(run, uninterrupted)


def test_sigterm_ends_a_process_with_its_status_and_the_way_on(tmp_path):
    run, log, saves = tmp_path / "run", tmp_path / "log", CONTEXT.Value("i", 0)
    process = start_training(log, run, minutes=EVERY_STEP, saves=saves)
    while saves.value < 2 and process.is_alive():
        time.sleep(0.002)
    process.terminate()
    printed = finish(process, log, code=128 + signal.SIGTERM)
    progress = read_progress(run / runs.LAST)
    assert printed.endswith(
        f"stopped after {progress.describe()}; continue with python train.py --resume --out {run}\n"
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two epochs of 5 steps that nothing interrupted, its settings and data."""
    small = {"name": "baseline", "stem": ((4, 2, 2),)}
    config = tiny_config(model=small, training={"epochs": 2, "batch_size": 2})
    data = Data(random_split(10, 0), random_split(6, 1), random_split(7, 2), NAMES)
    directory = tmp_path_factory.mktemp("whole") / "run"
    fit.train(config, data, directory)
    return directory, config, data


@pytest.mark.parametrize(
    ("number", "step", "saved"),
    [
        pytest.param(signal.SIGINT, 8, "epoch 1 and 3 steps", marks=pytest.mark.slow),
        (signal.SIGTERM, 8, "epoch 1 and 3 steps"),
        (signal.SIGINT, 10, "epoch 2"),  # the last of all steps
    ],
)
def test_a_signal_saves_and_resume_equals_no_interruption(
    number, step, saved, whole, tmp_path, monkeypatch
):
    uninterrupted, config, data = whole
    handler = signal.getsignal(number)
    check, calls = fit.StopOnNaN.on_train_batch_end, []

    def signalled(self, batch, logs=None):
        calls.append(batch)
        if len(calls) == step:
            os.kill(os.getpid(), number)
        check(self, batch, logs)

    with monkeypatch.context() as patched, pytest.raises(Stopped) as stopped:
        patched.setattr(fit.StopOnNaN, "on_train_batch_end", signalled)
        fit.train(config, data, tmp_path / "parts")
    assert stopped.value.signal_number == number
    assert f"after {saved}; continue with python train.py --resume" in str(stopped.value)
    assert signal.getsignal(number) is handler
    assert read_progress(tmp_path / "parts" / runs.LAST).describe() == saved
    fit.train(config, data, tmp_path / "parts", resume=True)
    both = tmp_path / "parts", uninterrupted
    histories = [history_of(directory) for directory in both]
    for row, expected in zip(*histories, strict=True):
        assert row == pytest.approx(expected, rel=1e-5, abs=1e-6)
    weights = [runs.load_model(directory, runs.LAST).get_weights() for directory in both]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_second_signal_ends_at_once():
    with pytest.raises(KeyboardInterrupt), StopRequests() as requests:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
        assert requests.signal_number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
