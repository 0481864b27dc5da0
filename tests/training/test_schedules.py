import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from mcattn_tf.optimizers import MOMENTUM, OneCycle, averages_of, optimizer_of
from mcattn_tf.settings.config import TrainingConfig


def rates(schedule, steps, at):
    config = TrainingConfig(optimizer="sgd", learning_rate=0.1, schedule=schedule)
    optimizer = optimizer_of(config, steps)
    return [float(optimizer._learning_rate(step)) for step in at]


def test_the_step_schedule_falls_at_the_papers_epochs():
    # 180 epochs of 7 steps; the first step of epoch 101 is number 700.
    at = (0, 699, 700, 1049, 1050, 1259)
    expected = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert rates("step", 180 * 7, at) == pytest.approx(expected)


def test_the_step_schedule_falls_after_the_shares_it_is_given():
    config = TrainingConfig(
        optimizer="sgd", learning_rate=0.1, schedule="step", milestones=(1 / 2, 3 / 4)
    )
    schedule = optimizer_of(config, 300 * 7)._learning_rate  # 300 epochs of 7 steps
    at = (0, 1049, 1050, 1574, 1575, 2099)
    expected = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert [float(schedule(step)) for step in at] == pytest.approx(expected)


def test_weight_decay_is_that_of_a_squared_norm_in_the_loss():
    config = TrainingConfig(
        optimizer="sgd", learning_rate=0.001, schedule="step", milestones=(), weight_decay=0.1
    )
    optimizer = optimizer_of(config, 1000)
    weight = keras.Variable(np.ones(1, np.float32))
    value, velocity = 1.0, 0.0
    for _ in range(500):
        optimizer.apply([np.zeros(1, np.float32)], [weight])
        velocity = MOMENTUM * velocity + 0.1 * value  # as the loss's gradient would have it
        value -= 0.001 * velocity
    assert value < 0.7
    assert float(weight.numpy()[0]) == pytest.approx(value, rel=0.02)


def test_one_cycle_rises_for_three_tenths_and_falls_to_zero():
    at = (0, 15, 30, 65, 100)
    expected = [0.1 / 25, 0.1 * (1 / 25 + 1) / 2, 0.1, 0.05, 0]
    assert rates("one_cycle", 100, at) == pytest.approx(expected, abs=1e-8)


def test_a_schedule_is_gone_on_with_after_it_was_saved():
    schedule = OneCycle(0.3, 40)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert float(again(7)) == float(schedule(7)) > 0


def test_sgd_has_the_papers_momentum():
    config = TrainingConfig(optimizer="sgd", learning_rate=0.5, schedule="step")
    optimizer = optimizer_of(config, 1800)
    weight = keras.Variable(np.zeros(1, np.float32))
    for _ in range(2):
        optimizer.apply([np.ones(1, np.float32)], [weight])
    # Two steps of 1: the second is longer by the momentum of the first.
    assert float(weight.numpy()[0]) == pytest.approx(-0.5 * (1 + 1 + MOMENTUM))
    assert MOMENTUM == 0.9


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_an_optimizer_keeps_an_average_of_each_weight_if_it_is_to(name, precision):
    settings = {"optimizer": name, "precision": precision, "learning_rate": 0.5}
    averaging = TrainingConfig(**settings, ema=0.75)
    weights = [keras.Variable([1.0, 2.0], name="average"), keras.Variable([[3.0]], name="gamma")]
    optimizer = optimizer_of(averaging, 10)
    optimizer.build(weights)
    seen = []
    for _ in range(2):
        optimizer.apply([np.full(weight.shape, 1024, np.float32) for weight in weights])
        seen.append([weight.numpy() for weight in weights])
    for average, first, second in zip(averages_of(optimizer), *seen, strict=True):
        np.testing.assert_allclose(average.numpy(), 0.75 * first + 0.25 * second, rtol=1e-5)
    plain = optimizer_of(TrainingConfig(**settings), 10)
    plain.build(weights)
    assert averages_of(plain) == []


def test_sgd_takes_the_steps_of_keras():
    config = TrainingConfig(optimizer="sgd", learning_rate=0.1, schedule="one_cycle")
    ours = optimizer_of(dataclasses.replace(config, weight_decay=0.01), 7)
    theirs = keras.optimizers.SGD(OneCycle(0.1, 7), momentum=MOMENTUM, weight_decay=0.1)
    random = np.random.default_rng(0)
    start = random.normal(size=(3, 5))
    weights = [keras.Variable(start) for _ in range(2)]
    for _ in range(7):
        gradient = random.normal(size=(3, 5)).astype(np.float32)
        for optimizer, weight in zip((ours, theirs), weights, strict=True):
            optimizer.apply([gradient], [weight])
    found, expected = (weight.numpy() for weight in weights)
    assert np.abs(expected - start).min() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sgd_makes_nothing_of_a_weights_size_before_its_gradient_is_there():
    optimizer = optimizer_of(TrainingConfig(optimizer="sgd", schedule="step"), 1)
    weight = keras.Variable(np.ones((3, 5)))
    optimizer.build([weight])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [weight]), autograph=False)
    graph = step.get_concrete_function(tf.TensorSpec((3, 5))).graph
    (gradient,) = (tensor for tensor in graph.inputs if tensor.dtype != tf.resource)
    waiting, made = {gradient.op.name}, []
    for operation in graph.get_operations():  # in the order in which they were traced
        if waiting & {tensor.op.name for tensor in operation.inputs}:
            waiting.add(operation.name)
        if operation.type != "ReadVariableOp" and operation.outputs:
            made += [operation.name] if operation.outputs[0].shape == (3, 5) else []
    assert made and set(made) <= waiting
