"""Trainings that begin with the weights of another run, or that go on for more epochs."""

import math

import keras
import numpy as np
import pytest
from conftest import NAMES, random_split, tiny_config, tiny_config_of
from processes import call

from mcattn_tf import models, runs
from mcattn_tf.commands import train
from mcattn_tf.data import Data
from mcattn_tf.errors import UserError
from mcattn_tf.settings.systems import SYSTEMS
from mcattn_tf.training import fit, initial_weights

SMALL = {"name": "baseline", "stem": ((4, 2, 2),)}
CONSTANT = {"optimizer": "sgd", "schedule": "step", "milestones": (), "learning_rate": 0.05}


def data_of(names=NAMES):
    splits = [random_split(count, seed) for count, seed in ((10, 0), (6, 1), (7, 2))]
    return Data(*splits, names)


def last_weights(directory):
    return runs.load_model(directory, runs.LAST).get_weights()


class Rates(keras.callbacks.Callback):
    """Notes the learning rate after each epoch."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_epoch_end(self, epoch, logs=None):
        self.values.append(float(self.model.optimizer.learning_rate))


def test_a_finished_run_that_goes_on_ends_as_one_of_all_its_epochs(tmp_path):
    """With a constant learning rate, the same steps are taken."""
    short, long = (tiny_config(model=SMALL, training={**CONSTANT, "epochs": n}) for n in (2, 3))
    fit.train(long, data_of(), tmp_path / "long")
    fit.train(short, data_of(), tmp_path / "run")
    result = fit.train(long, data_of(), tmp_path / "run", resume=True)
    assert result["epochs"] == 3 == runs.read_config(tmp_path / "run").training.epochs
    for ours, expected in zip(
        *map(last_weights, (tmp_path / "run", tmp_path / "long")), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    again = fit.train(long, data_of(), tmp_path / "run", resume=True)  # the settings fit
    assert again["best_epoch"] == result["best_epoch"]


def test_the_learning_rate_goes_on_as_in_a_training_of_all_epochs(tmp_path):
    """Two steps an epoch: half a cosine over 8 steps from 0.01, of which 4 are done."""
    config = tiny_config(model=SMALL)
    fit.train(config, data_of(), tmp_path / "run")
    rates = Rates()
    longer = config.replace("training", epochs=4)
    fit.train(longer, data_of(), tmp_path / "run", resume=True, callbacks=[rates])
    expected = [0.005 * (1 + math.cos(math.pi * steps / 8)) for steps in (6, 8)]
    assert rates.values == pytest.approx(expected, abs=1e-8)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run of the small network on three attributes."""
    directory = tmp_path_factory.mktemp("transfer") / "source"
    fit.train(tiny_config(training={"epochs": 1}), data_of(), directory)
    return directory


def weights_by_layer(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def equal_layers(ours, theirs):
    """Names of the layers with the same weights in both."""
    return {
        name
        for name, weights in ours.items()
        if len(weights) == len(theirs.get(name, ()))
        and all(map(np.array_equal, weights, theirs[name]))
    }


def begun(source, names=NAMES, **sections):
    config = tiny_config(training={"init_from": str(source)}, **sections)
    config = config.replace("found", attributes=names)
    model = models.build(config)
    initial_weights.load(model, config)
    return weights_by_layer(model)


def test_a_run_of_the_same_attributes_gives_all_its_weights(source, capsys):
    theirs = weights_by_layer(runs.load_model(source))
    assert equal_layers(begun(source), theirs) == theirs.keys()
    printed = capsys.readouterr().out
    assert f"initial weights from {source}: {len(theirs)} layers (stem_0_conv, " in printed
    assert "not from there: 0 layers\n" in printed


@pytest.mark.parametrize("names", [("Old", "Young"), ("Old", "Young", "Bald")])
def test_a_run_of_other_attributes_gives_its_extractor(names, source, capsys):
    """Even where there are as many, so that all shapes agree."""
    theirs = weights_by_layer(runs.load_model(source))
    ours = begun(source, names)
    extractor = {name for name in theirs if name.startswith(("stem", "context", "pointwise"))}
    extractor |= {"position_embedding"}
    same = equal_layers(ours, theirs)
    assert extractor <= same and len(extractor) >= 8
    assert not same & {"masks", "attributes_head", "multilabel_logits", "reconstruction"}
    reason = "other attributes" if len(names) == 3 else "other shape"
    assert f": {reason}" in capsys.readouterr().out


def test_what_has_another_shape_is_not_taken(source, capsys):
    ours = begun(source, data={"image_size": (16, 8)})
    theirs = weights_by_layer(runs.load_model(source))
    assert theirs.keys() - equal_layers(ours, theirs) == {"position_embedding"}
    assert "not from there: 1 layers (position_embedding: other shape)" in capsys.readouterr().out


def test_a_frozen_extractor_keeps_weights_and_statistics(source, tmp_path):
    training = {"init_from": str(source), "freeze": "extractor", "epochs": 1}
    names = ("Old", "Young", "Bald")
    fit.train(tiny_config(training=training), data_of(names), tmp_path / "run")
    longer = tiny_config(training={**training, "epochs": 2})
    fit.train(longer, data_of(names), tmp_path / "run", resume=True)
    theirs = weights_by_layer(runs.load_model(source))
    ours = weights_by_layer(runs.load_model(tmp_path / "run", runs.LAST))
    same = equal_layers(ours, theirs)
    assert {"stem_0_conv", "stem_0_bn", "stem_1_bn", "position_embedding"} <= same
    new = weights_by_layer(models.build(longer.replace("found", attributes=names)))
    assert not equal_layers(ours, new) - same  # all the rest has learnt


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_network_has_an_extractor(name):
    """Of ABN the stages before its branches; of GCM the encoder without the decoder."""
    model = {
        "nonnegative_gcm": {"name": "gcm", "nonnegative": True},
        "backbone": {"name": "abn", "attention_mechanism": "none"},
    }.get(name, {"name": name})
    if "stem" in SYSTEMS[name].model:
        config = tiny_config(model=model)
    else:
        config = tiny_config_of(model.pop("name"), (16, 16), **model)
    config = config.replace("training", init_from="run", freeze="extractor")
    network = models.build(config)
    before = len(network.trainable_weights)
    initial_weights.freeze(network, config)
    kept = [layer.name for layer in network.layers if layer.weights and not layer.trainable]
    above = [layer.name for layer in network.layers if layer.weights and layer.trainable]
    assert 0 < len(network.trainable_weights) < before
    beginnings = ("stem", "encoder", "stage_1", "stage_2", "context", "pointwise", "position")
    assert all(layer.startswith(beginnings) for layer in kept)
    assert not any(layer.startswith(beginnings) for layer in above)


def test_what_cannot_be_begun_with_is_one_line(source, tmp_path):
    def refused(*words):
        status, _, errors = call(train.main, f"--out={tmp_path / 'new'}", *words)
        assert status == 1 and errors.count("\n") == 1 and not (tmp_path / "new").exists()
        return errors

    assert "nowhere is not a run directory" in refused(f"--init_from={tmp_path / 'nowhere'}")
    assert "--freeze must be left out without initial" in refused("--freeze=extractor")
    assert "--freeze must be one of extractor" in refused("--freeze=head")
    with pytest.raises(UserError, match="has no layer with the names and shapes of cnn"):
        config = tiny_config_of("cnn").replace("training", init_from=str(source))
        initial_weights.load(models.build(config), config)
    frozen = {"init_from": str(source), "freeze": "extractor"}
    config = tiny_config(data={"image_size": (16, 8)}, training=frozen)
    message = "has not those of position_embedding: take that run's --model and --image_size"
    with pytest.raises(UserError, match=message):
        initial_weights.load(models.build(config), config)
