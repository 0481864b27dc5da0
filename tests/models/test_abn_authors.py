"""ABN against a plain definition of its authors' PyTorch network, and runs made before that."""

import json

import keras
import numpy as np
import pytest
from conftest import he_weights, tiny_config_of

from mcattn_tf import models
from mcattn_tf.models import backbones
from mcattn_tf.settings.backbones import BACKBONES, BASIC, BOTTLENECK, Backbone
from mcattn_tf.settings.config import Config

SMALL = {
    "basic": Backbone((4, 6, 8), (1, 1, 2), BASIC, stem=4),
    "bottleneck": Backbone((2, 3, 4), (1, 2, 1), BOTTLENECK, stem=4),
    "imagenet": Backbone((4, 6, 8), (1, 1, 1), BASIC, form="imagenet", stem=4),
}


@pytest.fixture(autouse=True)
def small_backbones(monkeypatch):
    for name, backbone in SMALL.items():
        monkeypatch.setitem(BACKBONES, name, backbone)


def convolution(x, kernel, stride=1):
    """`nn.Conv2d` with padding (k - 1) // 2 on both sides; x (B, h, w, C), kernel (k, k, C, D)."""
    size = len(kernel)
    margin = (size - 1) // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return np.einsum("bhwcij,ijcd->bhwd", windows[:, ::stride, ::stride], kernel)


def relu(x):
    return np.maximum(x, 0)


class Authors:
    """The network of the authors, with the weights of ours, by the names of our layers."""

    def __init__(self, model, backbone):
        self.model, self.backbone = model, backbone
        folded = [layer for layer in model.layers if layer.name == "folded_tasks"]
        self.layers = {
            x.name: x for x in (*model.layers, *(folded[0].branch.layers if folded else ()))
        }

    def conv(self, x, name, stride=1):
        return convolution(x, self.layers[name].get_weights()[0], stride)

    def norm(self, x, name):
        gamma, beta, mean, variance = self.layers[name].get_weights()
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def block(self, x, name, stride):
        kernels = [kernel for _, kernel in self.backbone.convolutions]
        branch = x
        for number in range(1, len(kernels) + 1):
            step = stride if number == kernels.index(3) + 1 else 1
            branch = self.conv(branch, f"{name}_conv_{number}", step)
            branch = self.norm(branch, f"{name}_bn_{number}")
            branch = relu(branch) if number < len(kernels) else branch
        if f"{name}_shortcut" in self.layers:
            x = self.norm(self.conv(x, f"{name}_shortcut", stride), f"{name}_shortcut_bn")
        return relu(x + branch)

    def stage(self, x, number, prefix="", keep_grid=False):
        for block in range(1, self.backbone.blocks[number - 1] + 1):
            stride = 2 if number > 1 and block == 1 and not keep_grid else 1
            x = self.block(x, f"{prefix}stage_{number}_block_{block}", stride)
        return x

    def extracted(self, images):
        """The stem and all stages but the last; the stem of large images has a 3x3 maximum."""
        large = self.backbone.form == "imagenet"
        x = self.conv(2 * images - 1, "stem_conv", 2 if large else 1)
        x = relu(self.norm(x, "stem_bn"))
        if large:
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
            x = windows[:, ::2, ::2].max(axis=(-1, -2))
        for number in range(1, len(self.backbone.widths)):
            x = self.stage(x, number)
        return x

    def answers(self, images):
        """The map (B, h, w, 1) and the features of the perception branch (B, h', w', C)."""
        last = len(self.backbone.widths)
        x = self.extracted(images)
        ax = self.norm(self.stage(x, last, "attention_", keep_grid=True), "attention_grid_bn")
        ax = relu(self.norm(self.conv(ax, "attention_classes"), "attention_classes_bn"))
        ax = self.norm(self.conv(ax, "attention_map_conv"), "attention_map_bn")
        attention_map = 1 / (1 + np.exp(-ax))
        return attention_map, self.stage(x * (1 + attention_map), last)

    def features_of_tasks(self, images, maps):
        """The pooled features (B, T, C) of the perception branch on x (1 + map)."""
        x, last = self.extracted(images), len(self.backbone.widths)
        each = [self.stage(x * (1 + maps[..., [t]]), last) for t in range(maps.shape[-1])]
        return np.stack([features.mean(axis=(1, 2)) for features in each], axis=1)


def images_for(name):
    """Grids of even size before each stride."""
    height, width = (32, 64) if name == "imagenet" else (12, 8)
    return np.random.default_rng(1).random((2, height, width, 3), dtype=np.float32)


def outputs_of(model, names, images):
    outputs = [model.get_layer(name).output for name in names]
    return keras.Model(model.input, outputs).predict_on_batch(images)


@pytest.mark.parametrize("name", SMALL)
def test_maps_and_features_are_those_of_the_authors_network(name):
    images = images_for(name)
    config = tiny_config_of("abn", images.shape[1:3], backbone=name, exclusive=True)
    model = he_weights(models.build(config))
    ours = outputs_of(model, ("attention_map", "features"), images)
    for found, expected in zip(ours, Authors(model, SMALL[name]).answers(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))
    before = models.build(config.replace("model", convention="keras"))
    before.set_weights(model.get_weights())
    assert np.abs(before.predict_on_batch(images)["attention_map"] - ours[0]).max() > 0.05


@pytest.mark.parametrize("name", SMALL)
def test_folded_tasks_are_those_of_the_authors_network(name):
    images = images_for(name)
    config = tiny_config_of("multitask_abn", images.shape[1:3], backbone=name)
    model = he_weights(models.build(config))
    maps, features = outputs_of(model, ("attention_map", "folded_tasks"), images)
    expected = Authors(model, SMALL[name]).features_of_tasks(images, maps)
    np.testing.assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())
    branch = model.get_layer("folded_tasks")
    first = branch._plan.once[0]  # computed once for all tasks
    assert isinstance(first, keras.layers.ZeroPadding2D) or name == "bottleneck"


# By the code before the setting `convention`, of the first image and places.
RECORDED = {
    ("abn", "basic"): {
        "perception": [0.9258679, 0.0360624, 0.0380698],
        "attention": [0.2673722, 0.0733076, 0.6593201],
        "attention_map": [0.358312, 0.2429205, 0.5121512, 0.2811493, 0.6103197, 0.2359671],
    },
    ("multitask_abn", "basic"): {
        "perception": [0.3195459, 0.3426606, 0.439688],
        "attention": [0.2023291, 0.2660911, 0.424013],
        "attention_map": [0.3458304, 0.3173178, 0.1822233, 0.2578335, 0.1709852, 0.173877],
    },
}


@pytest.mark.parametrize(("model", "name"), RECORDED)
def test_a_run_without_the_setting_answers_as_the_code_of_its_time(model, name, images):
    kind = {"exclusive": True} if model == "abn" else {}
    config = tiny_config_of(model, backbone=name, **kind)
    stored = json.loads(config.to_json()) | {"found": {"attributes": config.attributes}}
    assert stored["model"].pop("convention") == "pytorch"
    outputs = he_weights(models.build(Config.from_json(json.dumps(stored)))).predict_on_batch(
        images
    )
    for output, recorded in RECORDED[model, name].items():
        np.testing.assert_allclose(outputs[output].ravel()[: len(recorded)], recorded, atol=2e-6)


def test_other_networks_store_no_convention():
    assert "convention" not in Config.from_json(Config().to_json()).to_json()


@pytest.mark.parametrize("groups", [1, 4])
def test_initial_weights_have_the_variance_of_the_authors(groups):
    """2 / (k^2 D) for D filters, however many groups they are in."""
    image = keras.Input((8, 8, 64))
    backbone = Backbone((4,), (1,), BASIC)
    made = keras.Model(image, backbones.convolve(image, backbone, 32, 3, "c", 2, groups))
    values = np.concatenate([weight.numpy().ravel() for weight in made.weights])
    assert len(values) == 9 * 64 * 32 / groups
    assert values.var() == pytest.approx(2 / (9 * 32), rel=0.1)
    assert np.abs(values).max() > 2.5 * values.std()  # not truncated at two deviations
