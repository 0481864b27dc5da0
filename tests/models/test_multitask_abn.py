"""Multi-task ABN: its outputs by their definition, its maps."""

import keras
import numpy as np
import pytest
from conftest import NAMES, he_weights, tiny_config_of

from mcattn_tf import models, runs
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import answers
from mcattn_tf.explain.methods import Attributor, Pairs, methods_of
from mcattn_tf.explain.methods.selection import build_selected
from mcattn_tf.figures import draw as visual
from mcattn_tf.models import multitask_abn
from mcattn_tf.settings.backbones import BACKBONES, BASIC, Backbone
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.presets import PRESETS, preset_for
from mcattn_tf.training import fit


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch):
    """Of 12x8 pixels: a grid of 6x4 cells before the branches, 3x2 behind the perception branch."""
    monkeypatch.setitem(BACKBONES, "tiny", Backbone((3, 4, 6), (1, 1, 1), BASIC, stem=3))


def config_of(**model):
    return tiny_config_of("multitask_abn", backbone="tiny", **model)


PUBLISHED = {"attention_mechanism": "product", "map_activation": "linear", "task_units": 2}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("settings", [{}, PUBLISHED], ids=["default", "published"])
def test_outputs_are_those_of_the_definition(settings, images):
    model = he_weights(models.build(config_of(**settings)))
    inner = ("features", "attention_evidence")
    found = keras.Model(model.input, [model.get_layer(name).output for name in inner])
    features, evidence = found.predict_on_batch(images)
    outputs = model.predict_on_batch(images)
    np.testing.assert_allclose(outputs["attention"], sigmoid(evidence.mean((1, 2))), atol=1e-5)
    maps = evidence if settings else sigmoid(evidence)
    np.testing.assert_allclose(outputs["attention_map"], maps, atol=1e-5)
    assert maps.shape == (6, 6, 4, len(NAMES))
    branch, head = model.get_layer("folded_tasks").branch, model.get_layer("perception_scores")
    kernel, bias = head.get_weights()
    for task in range(len(NAMES)):
        weights = maps[..., task : task + 1] + (0 if settings else 1)
        scores = branch.predict_on_batch(features * weights).mean((1, 2)) @ kernel[task]
        scores = scores + bias[task]
        expected = sigmoid(scores[:, 0])
        if settings:
            expected = keras.ops.convert_to_numpy(keras.ops.softmax(scores))[:, 1]
        np.testing.assert_allclose(outputs["perception"][:, task], expected, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, PUBLISHED], ids=["default", "published"])
def test_one_attribute_by_itself_has_the_networks_logit(settings, images):
    model = he_weights(models.build(config_of(**settings)))
    features = keras.Model(model.input, model.get_layer("features").output)
    logits = keras.Model(model.input, model.get_layer("perception").input)
    every = logits.predict_on_batch(images)
    rows, tasks = np.array([0, 3, 5, 5]), np.array([2, 0, 1, 2])
    inputs = [features.predict_on_batch(images)[rows], images[rows], tasks]
    chosen = build_selected(model, "perception").predict_on_batch(inputs)
    np.testing.assert_allclose(chosen, every[rows, tasks], atol=1e-4)


def test_more_tasks_than_memory_holds_are_computed_in_slices(monkeypatch, images):
    whole = he_weights(models.build(config_of()))
    assert whole.get_layer("folded_tasks").task_slice is None
    monkeypatch.setattr(multitask_abn, "KEPT_NUMBERS", 6000)
    sliced = models.build(config_of())
    assert sliced.get_layer("folded_tasks").task_slice == 2
    assert models.build(config_of(task_slice=1)).get_layer("folded_tasks").task_slice == 1
    sliced.set_weights(whole.get_weights())
    for name, values in whole.predict_on_batch(images).items():
        np.testing.assert_allclose(sliced.predict_on_batch(images)[name], values, atol=1e-5)


def test_a_run_is_trained_evaluated_explained_and_drawn(tmp_path, tiny_data, images):
    config = config_of(**PUBLISHED).replace("training", precision="mixed_bfloat16", epochs=1)
    metrics = fit.train(config, tiny_data, tmp_path / "run")
    assert {"val_perception_accuracy", "val_attention_accuracy"} <= set(metrics["validation"])
    config, model = runs.read_config(tmp_path / "run"), runs.load_model(tmp_path / "run")
    result = answers.evaluate(model, tiny_data.test, NAMES, batch_size=4)
    assert set(result) == {"perception", "attention"}
    outputs = model.predict_on_batch(images)
    assert outputs["perception"].dtype == np.float32
    assert methods_of(model)[0] == "attention_map" and "cam" not in methods_of(model)
    attributor = Attributor(model, ["attention_map", "grad_cam"])
    pairs = Pairs(np.array([0, 5]), np.array([2, 1]), np.ones(2, int))
    maps = attributor.maps(images, attributor.forward(images), pairs)
    expected = outputs["attention_map"][[0, 5], :, :, [2, 1]]
    np.testing.assert_allclose(maps["attention_map"], expected, atol=1e-5)
    assert maps["grad_cam"].shape == (2, 6, 4)
    pictures = visual.Pictures(images[:2], ["a", "b"], [])
    drawn = visual.draw({"run": model}, NAMES, pictures, ["attention"], ["Bald", "Smiling"])
    assert list(drawn) == ["attention_a_Bald_Smiling", "attention_b_Bald_Smiling"]
    image, first, *_ = drawn["attention_b_Bald_Smiling"].axes
    bald = outputs["perception"][1, NAMES.index("Bald")]
    assert (image.get_title(), first.get_title()) == ("image", f"Bald\np = {bald:.2f}")
    map_of_bald = outputs["attention_map"][1, ..., NAMES.index("Bald")]
    highest = np.abs(map_of_bald).max()  # a linear map may be negative
    np.testing.assert_allclose(first.images[-1].get_clim(), (-highest, highest), rtol=1e-6)


def test_the_preset_is_the_papers():
    config = make_config(preset_for("multitask-abn-celeba"), {"found": {"attributes": NAMES}})
    assert (config.training.epochs, config.training.learning_rate) == (10, 0.01)
    assert {field: getattr(config.model, field) for field in PUBLISHED} == PUBLISHED
    assert PRESETS["multitask-abn-celeba"]["model"]["backbone"] == "resnet101"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention_mechanism": "none"}, "`attention_mechanism` must be one of residual, product"),
        ({"backbone": "wide_resnet28_4"}, "`backbone .of multitask_abn.` must be one of"),
        ({"task_units": 3}, "`task_units` must be 1 or 2"),
        ({"task_slice": 0}, "`task_slice` must be positive"),
        ({"map_kernel": 1}, "`map_kernel` must be left out for multitask_abn"),
    ],
)
def test_settings_that_it_cannot_have_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        tiny_config_of("multitask_abn", **settings)
