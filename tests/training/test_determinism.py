"""`--deterministic`: processes of their own, loaded or killed, end with the same bits."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf
from processes import check_kills, check_same_bits, finish, short_config, start, start_training
from tensorflow.python.ops import gen_math_ops

from mcattn_tf.settings.config import make_config
from mcattn_tf.training import distribution

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


def check_two_processes(config, folder, beside=contextlib.nullcontext):
    """Trains in two processes at once and compares them."""
    logs = [folder / name for name in ("first.log", "second.log")]
    with beside():
        processes = [start_training(log, log.with_suffix(""), config=config) for log in logs]
        for process, log in zip(processes, logs, strict=True):
            finish(process, log)
    check_same_bits(*(log.with_suffix("") for log in logs))


@pytest.mark.slow  # resumed small networks equal uninterrupted ones to the bit
def test_the_default_network_is_the_same_in_two_processes(tmp_path):
    check_two_processes(of_full_size({"name": "mcattn"}, steps=3), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: model["name"])
def test_each_network_is_the_same_in_two_processes(model, precision, tmp_path):
    steps = 20 if (model["name"], precision) == ("baseline", "float32") else 4
    check_two_processes(of_full_size(model, steps, precision), tmp_path, beside=other_work)


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


@pytest.mark.slow  # `test_resume.py` has it with few kills of a small network
def test_many_kills_of_the_default_network_change_no_bit(tmp_path):
    config = short_config({"name": "mcattn"})
    whole, log = tmp_path / "whole", tmp_path / "log"
    finish(start_training(log, whole, config=config), log)
    check_kills(20, config, whole, tmp_path / "run")
