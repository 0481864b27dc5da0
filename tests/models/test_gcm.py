"""GCM and the CNN it is compared with: what their paper says of them."""

import keras
import numpy as np
import pytest
from conftest import NAMES, he_weights, tiny_config_of

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.presets import PRESETS

# Table 3 and table 6 at 32x32 pixels: rows, columns and channels of each layer's output.
TABLE_3 = [
    *[(32, 32, 16)] * 4,
    *[(16, 16, 32)] * 3,
    *[(8, 8, 64)] * 3,
    *[(16, 16, 32)] * 2,
    *[(32, 32, 16)] * 2,
    (32, 32, 10),
]
TABLE_6 = [(32, 32, 16), *[(32, 32, 18)] * 3, *[(16, 16, 37)] * 3, *[(8, 8, 74)] * 3]


def published(name, **model):
    found = {"attributes": tuple("abcdefghij")}
    settings = {"model": {"name": name, **model}, "found": found}
    return models.build(make_config(PRESETS["gcm-cifar10"], settings))


def convolutions(model):
    kinds = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


@pytest.mark.parametrize(
    ("name", "shapes", "kernels", "trainable"),
    [
        # Kernels, two numbers of batch normalisation a channel, and 10 biases of layer 15.
        ("gcm", TABLE_3, [3] * 14 + [5], 161_104 + 2 * 448 + 10),
        ("cnn", TABLE_6, [3] * 10, 162_702 + 2 * 403 + 750),
    ],
)
def test_layers_and_parameter_counts_are_the_papers(name, shapes, kernels, trainable):
    model = published(name)
    layers = convolutions(model)
    assert [layer.output.shape[1:] for layer in layers] == shapes
    assert [layer.kernel_size for layer in layers] == [(size, size) for size in kernels]
    counted = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert counted == trainable
    assert round(counted, -3) == {"gcm": 162_000, "cnn": 164_000}[name]
    rectified = [layer for layer in model.layers if isinstance(layer, keras.layers.ReLU)]
    normalised = [
        layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(rectified) == len(normalised) == len(layers) - (name == "gcm")


@pytest.mark.parametrize("shared", [True, False])
def test_gcm_is_a_linear_classifier_that_makes_its_own_weights(shared, images):
    model = he_weights(models.build(tiny_config_of("gcm", shared_decoder=shared)))
    explained = build_map_explainer(model).predict_on_batch(images)
    scores = model.predict_on_batch(images)["scores"]
    for image, maps, contributions, score in zip(
        images, explained["weight_maps"], explained["contribution_maps"], scores, strict=True
    ):
        for index in range(len(NAMES)):
            weights = np.tile(maps[..., index : index + 1], (1, 1, 3)).astype(np.float64)
            # Eq. 7: the inner product of weights and image, over R C D.
            product = weights.ravel() @ image.ravel() / (12 * 8 * 3)
            assert score[index] == pytest.approx(product, abs=1e-4)
            np.testing.assert_allclose(contributions[..., index], weights * image, atol=1e-5)
            assert contributions[..., index].mean() == pytest.approx(score[index], abs=1e-4)


def test_the_last_layer_makes_every_class_as_by_itself(images):
    model = he_weights(models.build(tiny_config_of("gcm")))
    last = model.get_layer("decoder_15_conv")
    decoded = keras.Model(model.input, last.input).predict_on_batch(images)
    maps = build_map_explainer(model).predict_on_batch(images)["weight_maps"]
    kernel, bias = last.get_weights()
    padded = np.pad(decoded, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for index in range(len(NAMES)):
        expected = bias[index] + sum(
            padded[:, row : row + 12, column : column + 8] @ kernel[row, column, :, index]
            for row in range(5)
            for column in range(5)
        )
        np.testing.assert_allclose(maps[..., index], expected, rtol=1e-4, atol=1e-4)


def test_decoders_that_are_not_shared_make_a_map_each(images):
    model = he_weights(models.build(tiny_config_of("gcm", shared_decoder=False)))
    explainer = build_map_explainer(model)
    before = explainer.predict_on_batch(images)["weight_maps"]
    layer = model.get_layer("decoder_of_1_12_conv")
    layer.set_weights([-values for values in layer.get_weights()])
    after = explainer.predict_on_batch(images)["weight_maps"]
    np.testing.assert_array_equal(after[..., [0, 2]], before[..., [0, 2]])
    assert np.abs(after[..., 1] - before[..., 1]).max() > 0.01


def test_nonnegative_weight_maps_are_the_same_clipped_at_zero(images):
    signed = he_weights(models.build(tiny_config_of("gcm")))
    clipped = models.build(tiny_config_of("gcm", nonnegative=True))
    clipped.set_weights(signed.get_weights())
    expected = build_map_explainer(signed).predict_on_batch(images)
    explained = build_map_explainer(clipped).predict_on_batch(images)
    weights = np.maximum(expected["weight_maps"], 0)
    assert 0.1 < np.mean(weights > 0) < 0.9
    np.testing.assert_allclose(explained["weight_maps"], weights, atol=1e-5)
    assert explained["contribution_maps"].min() >= 0


@pytest.mark.parametrize("name", ["gcm", "cnn"])
def test_probabilities_are_a_softmax_of_classes_and_a_sigmoid_of_attributes(name, images):
    of_classes = he_weights(models.build(tiny_config_of(name, exclusive=True)))
    of_attributes = models.build(tiny_config_of(name))
    of_attributes.set_weights(of_classes.get_weights())
    outputs = of_classes.predict_on_batch(images)
    scores = outputs["scores"].astype(np.float64)
    powers = np.exp(scores)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    assert models.is_exclusive(of_classes) and not models.is_exclusive(of_attributes)
    outputs = of_attributes.predict_on_batch(images)
    np.testing.assert_allclose(outputs["probabilities"], powers / (1 + powers), atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_the_last_layer_starts_as_large_with_few_classes_as_with_many(shared):
    model = models.build(tiny_config_of("gcm", shared_decoder=shared))
    [kernel, *_] = [layer.get_weights()[0] for layer in convolutions(model) if layer.use_bias]
    assert kernel.std() == pytest.approx(8 / 400**0.5, rel=0.1)  # of 5 x 5 x 16 inputs


def test_only_gcm_has_contribution_maps():
    with pytest.raises(UserError, match="model 'cnn' has no contribution maps"):
        build_map_explainer(models.build(tiny_config_of("cnn")))


@pytest.mark.parametrize("dataset", ["cifar10", "svhn"])
def test_presets_are_the_papers_training_and_a_tenth_of_it(dataset):
    config = make_config(PRESETS[f"gcm-{dataset}"])
    assert (config.training.epochs, config.training.batch_size) == (180, 128)
    assert (config.training.optimizer, config.training.learning_rate) == ("sgd", 0.1)
    assert config.data.pad_and_crop == 4 and config.data.hold_out == 0.1
    assert config.data.flip  # section 4.5 trains on SVHN as on CIFAR-10
    short = make_config(PRESETS[f"gcm-{dataset}-short"])
    assert short.training.epochs == 180 / 10 and short.training.schedule == "one_cycle"
