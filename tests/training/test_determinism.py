"""`--deterministic`: processes of their own, loaded or killed, end with the same bits."""

import contextlib
import functools
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
from processes import (
    CONTEXT,
    EPOCHS,
    EVERY_STEP,
    STEPS,
    check_same_bits,
    finish,
    short_config,
    start,
    start_training,
)
from tensorflow.python.ops import gen_math_ops

from mcattn_tf import runs
from mcattn_tf.runs.checkpoints import read_progress
from mcattn_tf.settings.config import make_config
from mcattn_tf.training import distribution

short_default = functools.partial(short_config, {"name": "mcattn"})
NETWORKS = (
    *({"name": name} for name in ("mcattn", "baseline", "gcm", "cnn")),
    *({"name": name, "backbone": "resnet20"} for name in ("abn", "multitask_abn")),
)


def compute_for_ever():
    matrix = np.random.default_rng(0).random((500, 500), np.float32)
    while True:
        matrix @ matrix


@contextlib.contextmanager
def other_work():
    """Work on the machine that changes the order in which threads end."""
    process = start(compute_for_ever)
    try:
        yield
    finally:
        process.kill()
        process.join()


def of_full_size(model, steps, precision="float32"):
    """Settings of full images and batches: small tensors never showed the order of threads."""
    batch = 16 if model["name"] == "multitask_abn" else 64
    training = {"epochs": 1, "batch_size": batch, "deterministic": True, "precision": precision}
    data = {"train_examples": batch * steps + 5}
    return make_config({"data": data, "model": model, "training": training})


def check_two_processes(config, folder):
    """Trains in two processes at once, beside other work, and compares them."""
    logs = [folder / name for name in ("first.log", "second.log")]
    with other_work():
        processes = [start_training(log, log.with_suffix(""), config=config) for log in logs]
        for process, log in zip(processes, logs, strict=True):
            finish(process, log)
    check_same_bits(*(log.with_suffix("") for log in logs))


def test_the_default_network_is_the_same_in_two_processes(tmp_path):
    check_two_processes(of_full_size({"name": "mcattn"}, steps=3), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: model["name"])
def test_each_network_is_the_same_in_two_processes(model, precision, tmp_path):
    steps = 20 if (model["name"], precision) == ("baseline", "float32") else 4
    check_two_processes(of_full_size(model, steps, precision), tmp_path)


def test_gradients_are_added_in_their_order_whatever_memory_can_be_reused(monkeypatch):
    @tf.function
    def total(first, second, third):
        return tf.add_n([first, second, -third])  # only the last one's memory can be reused

    numbers = tf.constant([1e8]), tf.constant([-1e8]), tf.constant([-1.0])
    plain = total.get_concrete_function(*numbers)
    monkeypatch.setattr(gen_math_ops, "add_n", distribution._add_in_order)
    in_order = tf.function(total.python_function)(*numbers)
    assert in_order.numpy() == 1  # (1e8 - 1e8) + 1
    # (1 - 1e8) + 1e8: once TensorFlow adds in order, the replacement may go.
    assert plain(*numbers).numpy() == 0


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A short run of the default network."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(start_training(folder / "log", folder / "run", config=short_default()), folder / "log")
    return folder / "run"


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_no_bit(kills, uninterrupted, tmp_path):
    random = np.random.default_rng(kills)
    saves = CONTEXT.Value("i", 0)  # each is counted when it begins and ends
    run, furthest = tmp_path / "run", (0, 0)
    options = {"config": short_default(), "minutes": EVERY_STEP, "saves": saves}
    for kill in range(kills):
        awaited = saves.value + random.integers(0, 2 * STEPS * EPOCHS // kills)
        log = tmp_path / f"log_{kill}"
        begun = (run / runs.CONFIG).exists()
        process = start_training(log, run, resume=begun, **options)
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
    log, begun = tmp_path / "log", (run / runs.CONFIG).exists()
    finish(start_training(log, run, resume=begun, config=short_default()), log)
    check_same_bits(run, uninterrupted)
