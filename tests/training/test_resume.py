"""Trainings that are killed and gone on with."""

import os
import signal
import time

import numpy as np
import pytest
from conftest import NAMES, random_split, tiny_config
from processes import CONTEXT, EPOCHS, finish, history_of, start_training, weights_of

from mcattn_tf import runs
from mcattn_tf.data import Data
from mcattn_tf.errors import Stopped
from mcattn_tf.runs.checkpoints import read_progress
from mcattn_tf.training import fit
from mcattn_tf.training.faults import StopRequests

EVERY_STEP = 1e-9  # minutes


@pytest.fixture(autouse=True)
def signals_that_are_heeded():
    """A shell lets its background processes ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    finish(start_training(directory / "log", directory / "run"), directory / "log")
    return directory / "run"


def check_same_bits(run, other):
    for ours, theirs in zip(weights_of(run), weights_of(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (run / runs.HISTORY).read_text() == (other / runs.HISTORY).read_text()
    assert [row["epoch"] for row in history_of(run)] == list(range(EPOCHS))
    best = [runs.load_model(directory).get_weights() for directory in (run, other)]
    for ours, theirs in zip(*best, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_no_bit(kills, uninterrupted, tmp_path):
    random = np.random.default_rng(kills)
    saves = CONTEXT.Value("i", 0)  # 60 until the end: each is counted when it begins and ends
    run, furthest = tmp_path / "run", (0, 0)
    for kill in range(kills):
        awaited = saves.value + random.integers(0, 60 // kills)
        log = tmp_path / f"log_{kill}"
        begun = (run / runs.CONFIG).exists()
        process = start_training(log, run, resume=begun, minutes=EVERY_STEP, saves=saves)
        while saves.value < awaited and process.is_alive():
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
        if (run / runs.LAST).exists():
            progress = read_progress(run / runs.LAST)
            assert (progress.epochs, progress.steps) >= furthest
            furthest = progress.epochs, progress.steps
    assert furthest > (0, 0)
    begun = (run / runs.CONFIG).exists()
    finish(start_training(tmp_path / "log", run, resume=begun), tmp_path / "log")
    check_same_bits(run, uninterrupted)


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
