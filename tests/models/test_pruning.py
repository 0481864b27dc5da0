"""Smaller networks against the whole one, whose other channels are set to 0 layer by layer."""

import keras
import numpy as np
import pytest
from conftest import FULL_MASKS, MLP, he_weights, randomise_weights, tiny_config, tiny_config_of

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.models.pruning import prune
from mcattn_tf.models.refitting import best_threshold, refit_biases, refit_layers

KEPT = [0, 3, 4]
BASELINE = {"name": "baseline"}
SHAPES = (
    *({}, *FULL_MASKS, MLP, BASELINE),
    {"reconstructor": "transposed", "position_embedding": False},
    {"dilations": (), "pointwise_layers": 0},  # a projection from 7 channels
    {"dilations": (), "channels": 7, "pointwise_layers": 2},  # the stem itself
)


def to_numpy(outputs):
    return {name: keras.ops.convert_to_numpy(values) for name, values in outputs.items()}


def whole_with_zeros(model, images, kept):
    """Outputs of a network in which only the channels `kept` ever leave 0, and its features."""
    names = [layer.name for layer in model.layers]
    pointwise = [name for name in names if name.startswith("pointwise") and name.endswith("_conv")]
    keep = np.zeros(model.get_layer("features").output.shape[-1], np.float32)
    keep[kept] = 1
    first = ["position_embedding", *pointwise, "features"]
    first = next(model.get_layer(name) for name in first if name in names)
    x = keras.Model(model.input, first.input)(images) * keep
    if "position_embedding" in names:
        x = model.get_layer("position_embedding")(x) * keep
    for name in pointwise:
        normalization = model.get_layer(name.replace("conv", "bn"))
        x = x + keras.ops.relu(normalization(model.get_layer(name)(x))) * keep
    return keras.Model(model.get_layer("features").output, model.output)(x), x


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_pruned_network_is_the_whole_one_with_the_other_channels_at_0(shape, images):
    config = tiny_config(model=shape)
    whole = randomise_weights(models.build(config))
    expected, features = whole_with_zeros(whole, images, KEPT)
    expected = to_numpy(expected)
    if "mask_l1" in expected:  # of the channels that are left
        masks = whole.get_layer("masked_pooling").masks(features, range(3))
        expected["mask_l1"] = np.asarray(masks)[..., KEPT].sum(axis=(1, 2, 3, 4))
    smaller, settings = prune(whole, config, KEPT)
    outputs = to_numpy(smaller(images))
    assert list(outputs) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values, rtol=1e-5, atol=1e-5, err_msg=name)
    assert settings.model.channels == 3
    rebuilt = models.build(settings)  # by the ordinary builder alone
    assert [x.shape for x in rebuilt.weights] == [x.shape for x in smaller.weights]
    assert smaller.count_params() < whole.count_params()


@pytest.mark.parametrize("shape", [{}, MLP, BASELINE], ids=str)
def test_attributes_that_are_kept_answer_as_before(shape, images):
    config = tiny_config(model=shape, found={"positive_weights": (1.0, 2.0, 3.0)})
    whole = randomise_weights(models.build(config))
    smaller, settings = prune(whole, config, range(5), ["Eyeglasses", "Smiling"])
    assert settings.attributes == settings.data.attributes == ("Eyeglasses", "Smiling")
    assert settings.found.positive_weights == (3.0, 1.0)
    before, after = to_numpy(whole(images)), to_numpy(smaller(images))
    for name in models.label_outputs(smaller):
        np.testing.assert_allclose(after[name], before[name][:, [2, 0]], atol=1e-6)
    if "reconstruction" in before:
        np.testing.assert_allclose(after["reconstruction"], before["reconstruction"], atol=1e-6)


def test_a_refit_finds_what_the_kept_channels_tell_of_the_others(images):
    """Channel 4 is 2 times channel 0, plus 1: nothing is lost without it."""
    config = tiny_config(model={"pointwise_layers": 2})
    whole = he_weights(models.build(config))
    convolution, normalization = (whole.get_layer(f"context_1_{x}") for x in ("conv", "bn"))
    kernel, *_ = convolution.get_weights()
    kernel[..., 4] = kernel[..., 0]
    convolution.set_weights([kernel])
    vectors = [np.array(x) for x in normalization.get_weights()]
    for vector in vectors:
        vector[4] = vector[0]
    vectors[0][4] *= 2
    vectors[1][4] *= 2
    normalization.set_weights(vectors)
    embedding = np.zeros((6, 4, 5), np.float32)
    embedding[..., 4] = 1
    whole.get_layer("position_embedding").set_weights([embedding])
    for index in range(2):  # so that it stays so
        own = whole.get_layer(f"pointwise_{index}_bn")
        vectors = [np.array(x) for x in own.get_weights()]
        vectors[0][4], vectors[1][4] = 0, 0.5 * index
        vectors[0][0], vectors[1][0] = 0, 0.25 * index
        own.set_weights(vectors)
    kept = [0, 1, 2, 3]

    def features(model):
        return keras.Model(model.input, model.get_layer("features").output)(images)

    smaller, _ = prune(whole, config, kept)
    wanted = np.asarray(features(whole))[..., kept]
    before = np.abs(np.asarray(features(smaller)) - wanted).max()
    refit_layers(smaller, whole, kept, [images[:4], images[4:]])
    after = np.abs(np.asarray(features(smaller)) - wanted).max()
    assert before > 0.1 and after < 0.01 * before


@pytest.mark.parametrize(
    ("scores", "present", "threshold"),
    [
        ([1, 4, 2, 8], [False, True, False, True], 3),
        ([1, 4, 2, 8], [True, True, False, True], 0),  # one mistake, as at 3
        ([3, 5], [True, True], 2),
        ([3, 5], [False, False], 6),
        ([2, 2, 7], [False, True, True], 4.5),  # equal ones are not parted
    ],
)
def test_the_best_threshold_by_hand(scores, present, threshold):
    assert best_threshold(np.array(scores, float), np.array(present)) == threshold


@pytest.mark.parametrize("shape", [{}, MLP, BASELINE], ids=str)
def test_moved_biases_answer_as_the_whole_network(shape, images):
    config = tiny_config(model=shape)
    whole = randomise_weights(models.build(config))
    smaller, _ = prune(whole, config, range(5), ["Eyeglasses", "Smiling"])
    for weight in smaller.weights:
        if weight.path.endswith(("head_bias", "_logits/bias")) and weight.shape == (2,):
            weight.assign([30.0, -30.0])
    refit_biases(smaller, whole, [2, 0], [images[:4], images[4:]])
    before, after = to_numpy(whole(images)), to_numpy(smaller(images))
    for name in models.label_outputs(smaller):
        np.testing.assert_array_equal(after[name] > 0.5, before[name][:, [2, 0]] > 0.5)


def test_what_cannot_be_pruned_is_said():
    config = tiny_config(model={"dilations": (), "pointwise_layers": 0, "channels": 9})
    with pytest.raises(UserError, match="keep one channel more or fewer"):
        prune(models.build(config), config, range(7))  # the stem has 7: no projection
    with pytest.raises(UserError, match="a run of gcm cannot be pruned"):
        prune(None, tiny_config_of("gcm"), [0])
