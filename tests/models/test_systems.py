import dataclasses

import keras
import numpy as np
import pytest
from conftest import NAMES, tiny_config, tiny_config_of

from mcattn_tf import models
from mcattn_tf.explain.methods import methods_of
from mcattn_tf.export.answers import build_explained_answers
from mcattn_tf.settings.config import Config, LossConfig
from mcattn_tf.settings.model import ModelConfig
from mcattn_tf.settings.systems import FOREIGN, MODELS, SYSTEMS, system_of


def configuration(system: str) -> Config:
    """Settings of a small network of each row."""
    attention = {"image_size": (32, 36), "backbone": "resnet8"}
    return {
        "mcattn": tiny_config,
        "baseline": lambda: tiny_config(model={"name": "baseline"}),
        "gcm": lambda: tiny_config_of("gcm"),
        "nonnegative_gcm": lambda: tiny_config_of("gcm", nonnegative=True),
        "cnn": lambda: tiny_config_of("cnn"),
        "abn": lambda: tiny_config_of("abn", **attention),
        "backbone": lambda: tiny_config_of("abn", **attention, attention_mechanism="none"),
        "multitask_abn": lambda: tiny_config_of("multitask_abn", **attention),
    }[system]()


@pytest.fixture(scope="module", params=SYSTEMS)
def built(request) -> tuple[str, Config, keras.Model]:
    config = configuration(request.param)
    return request.param, config, models.build(config)


def test_a_network_is_named_after_its_row_and_has_its_outputs(built):
    system, config, model = built
    row = SYSTEMS[system]
    assert (config.model.system, model.name) == (system, system)
    assert set(model.output) == {*row.labels, *row.others}
    assert models.label_outputs(model) == row.labels
    assert all(model.output[name].shape[1:] == (len(NAMES),) for name in row.labels)


def test_a_network_has_the_layers_that_its_row_names(built):
    system, _, model = built
    row, names = SYSTEMS[system], {layer.name for layer in built[2].layers}
    assert {row.evidence, row.extractor_end, *row.selectable.values()} <= names
    assert set(row.selectable) <= set(row.labels)
    # What is above the extractor's end has no part of it below.
    extractor = keras.Model(model.input, model.get_layer(row.extractor_end).output)
    assert not {"attributes", "probabilities", "perception"} & {x.name for x in extractor.layers}


def test_the_maps_that_are_served_are_those_of_the_row(built):
    system, _, model = built
    served = build_explained_answers(model)
    answers = {*SYSTEMS[system].labels, *({"scores"} & set(model.output))}
    assert set(served.output) == {*answers, *SYSTEMS[system].served_maps}


GENERAL = ("grad_cam", "guided_backprop", "guided_grad_cam", "random", "center")
OF_SUBNETWORKS = ("contributions", "centered_contributions", "mask_mean", "top_channel_masks")
OF_CELLS = ("cam", "local_probabilities")
EXPLAINED_BY = {
    "mcattn": (*OF_SUBNETWORKS, *OF_CELLS, *GENERAL),
    "baseline": (*OF_CELLS, *GENERAL),
    "gcm": ("contribution_maps", "weight_maps", *GENERAL),
    "nonnegative_gcm": ("contribution_maps", "weight_maps", *GENERAL),
    "cnn": (*OF_CELLS, *GENERAL),
    "abn": ("attention_map", *OF_CELLS, *GENERAL),
    "backbone": (*OF_CELLS, *GENERAL),
    "multitask_abn": ("attention_map", *GENERAL),
}


def test_a_network_is_explained_by_these_methods_the_default_first(built):
    system, _, model = built
    assert methods_of(model) == EXPLAINED_BY[system]


def test_every_setting_is_read_by_a_network():
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    assert {name for row in SYSTEMS.values() for name in row.model} == fields - {"name"}
    losses = {field.name for field in dataclasses.fields(LossConfig)}
    assert {name for row in SYSTEMS.values() for name in row.loss} == losses
    assert {configuration(system).model.name for system in SYSTEMS} == set(MODELS)


def test_a_network_of_another_maker_is_foreign_whatever_its_name():
    images = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(4, 3, name="features")(images)
    probabilities = keras.layers.GlobalAveragePooling2D()(features)
    assert system_of(keras.Model(images, {"classes": probabilities}, name="cnn")) is FOREIGN
    assert system_of(keras.Model(images, probabilities, name="cnn")) is FOREIGN


def test_a_sequential_network_is_foreign_before_and_after_it_has_outputs():
    for name in ("mine", "cnn"):  # also by a name of ours
        network = keras.Sequential([keras.layers.Dense(2)], name=name)
        assert system_of(network) is FOREIGN  # Keras' `output` would raise
        network(np.ones((1, 3), np.float32))
        assert system_of(network) is FOREIGN
