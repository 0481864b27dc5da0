"""What a checkpoint keeps, and what keeping it costs."""

import gc
import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import tiny_config

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.runs import checkpoints
from mcattn_tf.training import compiling

STATUS = Path("/proc/self/statm")


@pytest.fixture(scope="module")
def trained():
    """A network whose optimizer is one step on, and its settings."""
    config = tiny_config()
    model = models.build(config)
    compiling.compile_model(model, config, optimizer_of(config.training, 10))
    compiling.make_variables(model)
    random = np.random.default_rng(0)
    gradients = [random.normal(size=weight.shape) for weight in model.trainable_weights]
    model.optimizer.apply(gradients, model.trainable_weights)
    return model, config


def loaded(path, config):
    model = models.build(config)
    compiling.compile_model(model, config, optimizer_of(config.training, 10))
    compiling.make_variables(model)
    checkpoints.load_weights(model, path, config, to_train_on=True)
    return model


def save_as_keras_does(model, path, config):
    """As checkpoints were until the optimizer's state was kept apart."""
    checkpoints.save(model, path, config, checkpoints.Progress())
    with zipfile.ZipFile(path) as archive:
        content = archive.read(checkpoints.TRAINING)
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(checkpoints.TRAINING, content)


@pytest.mark.parametrize("content", [b"nonsense", b"[]", b"\xff", b'{"settings": {"bogus": {}}}'])
def test_content_of_another_program_is_refused_and_another_checkpoint_taken(
    content, trained, tmp_path
):
    model, config = trained
    good, bad = tmp_path / "good.keras", tmp_path / "bad.keras"
    checkpoints.save(model, good, config, checkpoints.Progress(epochs=1))
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(bad, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, content if name == checkpoints.TRAINING else archive.read(name))
    with pytest.raises(UserError, match=r"bad\.keras"):
        checkpoints.load_weights(models.build(config), bad, config)
    assert checkpoints.newest([bad, good]) == (good, checkpoints.Progress(epochs=1))


@pytest.mark.parametrize("save", [checkpoints.save, save_as_keras_does])
def test_weights_and_the_state_of_the_optimizer_come_back(save, trained, tmp_path):
    model, config = trained
    arguments = (checkpoints.Progress(),) if save is checkpoints.save else ()
    save(model, tmp_path / "last.keras", config, *arguments)
    again = loaded(tmp_path / "last.keras", config)
    assert again.optimizer.iterations == 1
    pairs = zip(
        [*again.weights, *again.optimizer.variables],
        [*model.weights, *model.optimizer.variables],
        strict=True,
    )
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs)


def test_keras_itself_loads_the_network_of_a_checkpoint(trained, images, tmp_path):
    model, config = trained
    checkpoints.save(model, tmp_path / "best.keras", config, checkpoints.Progress())
    again = keras.saving.load_model(tmp_path / "best.keras")
    for name, values in model(images).items():
        np.testing.assert_allclose(again(images)[name], values, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="only Linux says how much memory a process holds")
def test_saving_again_and_again_takes_no_memory(trained, tmp_path):
    model, config = trained

    def held_mb():
        gc.collect()
        return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def save(times):
        for _ in range(times):
            checkpoints.save(model, tmp_path / "last.keras", config, checkpoints.Progress())

    save(50)  # until the memory that is used again and again is there
    before = held_mb()
    save(100)
    assert held_mb() - before < 4  # 7 where each leaves the variables of an optimizer behind
