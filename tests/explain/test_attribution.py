"""Every method's maps against an independent way to the same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    FULL_MASKS,
    MLP,
    NAMES,
    he_weights,
    randomise_weights,
    tiny_config,
    tiny_config_of,
)

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.correlation import analyze
from mcattn_tf.explain.methods import METHODS, Attributor, Pairs, methods_of
from mcattn_tf.explain.methods import gradients as gradients_of_images
from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.explain.methods.grad_cam import grad_cam
from mcattn_tf.explain.methods.guided_backprop import guided_gradients
from mcattn_tf.explain.methods.local_probabilities import LocalProbabilities
from mcattn_tf.explain.methods.selection import build_selected

PAIRS = Pairs(np.array([0, 0, 2, 5]), np.array([2, 0, 1, 2]), np.array([1, -1, 1, -1]))
SIGNS = PAIRS.signs[:, None, None]


@pytest.fixture(scope="module")
def model():
    return randomise_weights(models.build(tiny_config()))


def chosen(values):
    """Returns the maps of `PAIRS` out of (B, h, w, K)."""
    return np.stack(
        [values[i, :, :, k] for i, k in zip(PAIRS.images, PAIRS.attributes, strict=True)]
    )


def logits_layer(model, output):
    return keras.Model(
        model.input, [model.get_layer("features").output, model.get_layer(output).input]
    )


def features_and_gradients(model, output, images):
    """Returns features (P, h, w, C) of `PAIRS` and the gradients of the signed logits."""
    features = keras.Model(model.input, model.get_layer("features").output)(images)
    head = keras.Model(model.get_layer("features").output, model.get_layer(output).input)
    features = tf.gather(features, PAIRS.images)
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = head(features)
        total = sum(sign * logits[p, k] for p, (k, sign) in enumerate(zip(*PAIRS[1:], strict=True)))
    return features.numpy(), tape.gradient(total, features).numpy()


def test_a_model_has_the_methods_that_it_has_the_layers_for(model):
    own = {"contributions", "centered_contributions", "mask_mean", "top_channel_masks"}
    general = {
        "cam",
        "local_probabilities",
        "grad_cam",
        "guided_backprop",
        "guided_grad_cam",
        "random",
        "center",
    }
    baseline = models.build(tiny_config(model={"name": "baseline"}))
    assert set(methods_of(model)) - set(methods_of(baseline)) == own
    assert general <= set(methods_of(baseline))
    with pytest.raises(UserError, match="`methods` must be one of cam, local_prob"):
        Attributor(baseline, ["contributions"])


# Mixed from shared masks; masks of their own, one or two attributes at a time.
@pytest.mark.parametrize(("rank", "channels_at_once"), [(4, 0), (None, 5), (None, 11)])
def test_maps_of_subnetworks_are_those_of_the_explainer(
    images, rank, channels_at_once, monkeypatch
):
    monkeypatch.setattr("mcattn_tf.layers.masks.EXPLAINED_CHANNELS", channels_at_once)
    model = randomise_weights(models.build(tiny_config(model={"mask_rank": rank})))
    methods = ["contributions", "centered_contributions", "mask_mean", "top_channel_masks"]
    methods.append("local_probabilities")
    attributor = Attributor(model, methods)
    attributor.adapt([images[:4], images[4:]])
    outputs = attributor.forward(images)
    maps = attributor.maps(images, outputs, PAIRS)
    explained = build_explainer(model, range(3)).predict_on_batch(images)
    contributions, masks = explained["contributions"], explained["masks"]
    np.testing.assert_allclose(maps["contributions"], SIGNS * chosen(contributions), atol=1e-6)
    centered = contributions - contributions.mean(axis=0)
    np.testing.assert_allclose(maps["centered_contributions"], SIGNS * chosen(centered), atol=1e-6)
    np.testing.assert_allclose(maps["mask_mean"], chosen(masks.mean(axis=-1)), atol=1e-6)
    analysis = analyze(model, NAMES, [(images, None)])
    top = np.stack(
        [masks[..., k, analysis.top_channels(k, 3)].mean(axis=-1) for k in range(3)], axis=-1
    )
    np.testing.assert_allclose(maps["top_channel_masks"], chosen(top), atol=1e-6)
    np.testing.assert_allclose(outputs["probabilities"], explained["attributes"], atol=1e-6)
    local = chosen(explained["local_probabilities"])
    expected = np.where(SIGNS > 0, local, 1 - local)  # of absence where that is asked for
    np.testing.assert_allclose(maps["local_probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize(
    "settings", [{}, {"mask_rank": None}, {"mask_rank": None, "pooling_sharpness": 0.0}]
)
def test_a_local_probability_is_the_answer_where_every_cell_is_like_this_one(settings, images):
    model = randomise_weights(models.build(tiny_config(model=settings)))
    explained = build_explainer(model, range(3)).predict_on_batch(images)
    features = keras.Model(model.input, model.get_layer("features").output)(images)
    layer = model.get_layer("masked_pooling")
    masked = (1 + np.array(layer.masks(features, range(3)))) * np.array(features)[:, :, :, None]
    cell = masked[2, 3, 1]  # (K, C), of image 2, row 3, column 1
    if "pooling_sharpness" in settings:
        head = model.get_layer("attribute_logits")
        weights, bias = np.array(head.kernel), np.array(head.bias)
    else:
        weights, bias = np.array(layer.head), np.array(layer.head_bias)
    expected = 1 / (1 + np.exp(-np.sum(cell * weights, axis=-1) - bias))
    found = explained["local_probabilities"][2, 3, 1]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("sharpness", [0.0, 0.5])
def test_local_probabilities_of_a_plain_classifier_are_its_dense_layer_on_each_cell(
    sharpness, images
):
    settings = {"name": "baseline", "pooling_sharpness": sharpness}
    model = randomise_weights(models.build(tiny_config(model=settings)))
    features = keras.Model(model.input, model.get_layer("features").output)(images).numpy()
    dense = model.get_layer("multilabel_logits")
    logits = features @ np.array(dense.kernel) + np.array(dense.bias)
    attributor = Attributor(model, ["local_probabilities"])
    assert attributor.output_of("local_probabilities") == "multilabel"
    assert attributor.threshold_of("local_probabilities") == 0.5
    maps = attributor.maps(images, attributor.forward(images), PAIRS)["local_probabilities"]
    expected = 1 / (1 + np.exp(-SIGNS * chosen(logits)))
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_hidden_units_have_no_local_probabilities():
    model = models.build(tiny_config(model=MLP))
    assert "local_probabilities" not in build_explainer(model, range(3)).output
    assert LocalProbabilities.explains(model)  # by the multi-label classifier


@pytest.mark.slow
def test_a_method_alone_gives_what_it_gives_among_others(model, images):
    together = Attributor(model)
    together.adapt([images])
    every = together.maps(images, together.forward(images), PAIRS)
    for name in set(together.methods) - {"random"}:
        alone = Attributor(model, [name])
        alone.adapt([images])
        maps = alone.maps(images, alone.forward(images), PAIRS)
        assert list(maps) == [name]
        np.testing.assert_allclose(maps[name], every[name], atol=1e-6)


def test_cam_and_bias_sum_to_the_logit_of_a_plain_average(images):
    model = randomise_weights(models.build(tiny_config(model={"pooling_sharpness": 0.0})))
    attributor = Attributor(model, ["cam"])
    maps = attributor.maps(images, attributor.forward(images), PAIRS)["cam"]
    bias = model.get_layer("multilabel_logits").get_weights()[1][PAIRS.attributes]
    probabilities = model.predict_on_batch(images)["multilabel"].astype(np.float64)
    logits = np.log(probabilities / (1 - probabilities))[PAIRS.images, PAIRS.attributes]
    np.testing.assert_allclose(PAIRS.signs * maps.sum(axis=(1, 2)) + bias, logits, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, MLP, {"name": "baseline"}])
def test_grad_cam_weighs_features_by_their_mean_gradient(settings, images):
    model = randomise_weights(models.build(tiny_config(model=settings)))
    output = next(iter(model.output))
    features, gradients = features_and_gradients(model, output, images)
    attributes = PAIRS.attributes.astype(np.int32)
    maps = grad_cam(model, output)(features, images[PAIRS.images], attributes)
    expected = np.einsum("phwc,pc->phw", features, gradients.mean(axis=(1, 2)))
    np.testing.assert_allclose(SIGNS * maps, expected, atol=1e-5)


def test_grad_cam_of_a_linear_classifier_is_cam(images):
    model = randomise_weights(models.build(tiny_config(model={"name": "baseline"})))
    attributor = Attributor(model, ["cam", "grad_cam"])
    maps = attributor.maps(images, attributor.forward(images), PAIRS)
    np.testing.assert_allclose(maps["grad_cam"], maps["cam"], atol=1e-6)


@pytest.mark.parametrize("head", [{}, *FULL_MASKS, MLP])
def test_a_selected_logit_is_the_models_own(head, images):
    model = randomise_weights(models.build(tiny_config(model=head)))
    attributes = np.array([2, 0, 1, 1, 2, 0], np.int32)
    for output in ("attributes", "multilabel"):
        features, logits = logits_layer(model, output).predict_on_batch(images)
        select = build_selected(model, output)
        selected = select.predict_on_batch([features, images, attributes])
        np.testing.assert_allclose(selected, logits[range(6), attributes], atol=1e-5)


def test_guided_grad_cam_is_the_positive_map_enlarged_times_guided_gradients(model, images):
    attributor = Attributor(model, ["grad_cam", "guided_grad_cam"])
    maps = attributor.maps(images, attributor.forward(images), PAIRS)
    guided = guided_gradients(model, "attributes")(
        images[PAIRS.images],
        PAIRS.attributes.astype(np.int32)[:, None],
        PAIRS.signs.astype(np.float32)[:, None],
    )[:, 0]
    enlarged = tf.image.resize(np.maximum(maps["grad_cam"], 0)[..., None], (12, 8)).numpy()
    expected = enlarged[..., 0] * np.abs(guided).sum(axis=-1)
    assert maps["guided_grad_cam"].shape == (4, 12, 8) and expected.max() > 0
    np.testing.assert_allclose(maps["guided_grad_cam"], expected, rtol=1e-4, atol=1e-7)


def test_gradients_that_methods_share_are_computed_once(model, images):
    attributor = Attributor(model, ["guided_grad_cam", "guided_backprop", "grad_cam"])
    calls = []
    for name, attribute in (("grad_cam", "_maps"), ("guided_backprop", "_gradients")):
        method = attributor._methods[name]
        function = getattr(method, attribute)

        def counted(*arguments, name=name, compute=function):
            calls.append(name)
            return compute(*arguments)

        setattr(method, attribute, counted)
    pairs = Pairs.product(2, [0, 1])
    attributor.maps(images[:2], attributor.forward(images[:2]), pairs)
    assert sorted(calls) == ["grad_cam", "guided_backprop"]


def test_the_shared_pass_computes_nothing_that_no_method_asked_for(model):
    assert set(Attributor(model, ["cam", "center"])._forward.output) == {"probabilities", "cam"}
    assert Attributor(model, ["contributions", "guided_grad_cam"])._means is None
    assert set(METHODS) >= set(methods_of(model))


METHODS_OF_CNN = ("cam", "grad_cam", "guided_backprop", "guided_grad_cam")


def nested(flat):
    """The same network, whose encoder is a model inside of it and whose pooling one more."""
    encoder = keras.Model(flat.input, flat.get_layer("features").output, name="encoder")
    inner = keras.Input(encoder.output.shape[1:])
    pooling = keras.Sequential([inner, flat.get_layer("pooling")], name="end")
    images = keras.Input(flat.input.shape[1:])
    scores = flat.get_layer("scores")(pooling(encoder(images)))
    probabilities = keras.layers.Activation("softmax", name="probabilities")(scores)
    return keras.Model(images, {"probabilities": probabilities, "scores": scores}, name="nested")


def explained(model, methods, images):
    attributor = Attributor(model, methods)
    return attributor.maps(images, attributor.forward(images), PAIRS)


def test_networks_inside_of_a_network_are_explained_like_one(images):
    flat = he_weights(models.build(tiny_config_of("cnn", exclusive=True)))
    whole = nested(flat)
    assert set(METHODS_OF_CNN) <= set(methods_of(whole))
    expected = explained(flat, METHODS_OF_CNN, images)
    for name, values in explained(whole, METHODS_OF_CNN, images).items():
        assert np.abs(values).max() > 1e-4
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_network_in_mixed_precision_is_explained_nearly_like_in_float32(images):
    config = tiny_config_of("cnn", exclusive=True)
    exact = he_weights(models.build(config))
    mixed = models.build(config.replace("training", precision="mixed_bfloat16"))
    mixed.set_weights(exact.get_weights())
    expected = explained(exact, METHODS_OF_CNN, images)
    for name, values in explained(mixed, METHODS_OF_CNN, images).items():
        assert values.dtype == np.float32
        # A ReLU at whose input bfloat16 and float32 differ in sign changes single pixels.
        assert np.corrcoef(values.ravel(), expected[name].ravel())[0, 1] > 0.98, name


def test_maps_of_gcm_are_its_weights_with_and_without_the_image(images):
    model = he_weights(models.build(tiny_config_of("gcm")))
    assert methods_of(model)[:2] == ("contribution_maps", "weight_maps")
    assert "cam" not in methods_of(model)
    maps = explained(model, ["contribution_maps", "weight_maps"], images)
    weights = build_map_explainer(model).predict_on_batch(images)["weight_maps"]
    np.testing.assert_allclose(maps["weight_maps"], SIGNS * chosen(weights), atol=1e-5)
    product = chosen(weights) * images.mean(axis=-1)[PAIRS.images]
    np.testing.assert_allclose(maps["contribution_maps"], SIGNS * product, atol=1e-5)
    scores = model.predict_on_batch(images)["scores"][PAIRS.images, PAIRS.attributes]
    means = PAIRS.signs * maps["contribution_maps"].mean(axis=(1, 2))
    np.testing.assert_allclose(means, scores, atol=1e-5)


def test_grad_cam_of_gcm_sees_how_scores_move_with_the_features(images):
    model = he_weights(models.build(tiny_config_of("gcm", exclusive=True)))
    grid = model.get_layer("features").output
    above = keras.Model([grid, model.input], model.output["scores"])
    features = keras.Model(model.input, grid).predict_on_batch(images)

    def scores(moved):
        answers = above.predict_on_batch([moved, images])
        return answers[PAIRS.images, PAIRS.attributes].astype(np.float64)

    # To add to a channel everywhere moves a score by the sum of the channel's gradient.
    step, positions = 1e-2, grid.shape[1] * grid.shape[2]
    slopes = []
    for moved in step * np.eye(grid.shape[-1], dtype=np.float32):
        slopes.append((scores(features + moved) - scores(features - moved)) / (2 * step))
    weights = PAIRS.signs[:, None] * np.stack(slopes, axis=1) / positions
    expected = np.einsum("phwc,pc->phw", features[PAIRS.images], weights)
    maps = explained(model, ["grad_cam"], images)["grad_cam"]
    assert np.abs(maps).max() > 1e-3
    np.testing.assert_allclose(maps, expected, atol=0.02 * np.abs(maps).max())


def test_grad_cam_of_softmax_classes_is_cam(images):
    model = he_weights(models.build(tiny_config_of("cnn", exclusive=True)))
    maps = explained(model, ["cam", "grad_cam"], images)
    np.testing.assert_allclose(maps["grad_cam"], maps["cam"], atol=1e-6)
    bias = model.get_layer("scores").get_weights()[1][PAIRS.attributes]
    scores = model.predict_on_batch(images)["scores"][PAIRS.images, PAIRS.attributes]
    np.testing.assert_allclose(PAIRS.signs * maps["cam"].sum(axis=(1, 2)) + bias, scores, atol=1e-5)


def test_every_class_of_every_image():
    pairs = Pairs.product(2, [1, 5, 3])
    assert pairs.images.tolist() == [0, 0, 0, 1, 1, 1]
    assert pairs.attributes.tolist() == [1, 5, 3, 1, 5, 3]
    assert pairs.signs.tolist() == [1] * 6


@pytest.mark.parametrize("limit", [1, 3, 64])
def test_guided_gradients_of_many_classes_are_taken_in_pieces(limit, model, images, monkeypatch):
    pairs = Pairs.product(2, [2, 0, 1, 2]) if limit > 1 else PAIRS
    whole = Attributor(model, ["guided_backprop"]).maps(images, {}, pairs)["guided_backprop"]
    sizes = []
    attributor = Attributor(model, ["guided_backprop"])
    method = attributor._methods["guided_backprop"]
    gradients = method._gradients
    method._gradients = lambda images, attributes, signs: (
        sizes.append(attributes.size),
        gradients(images, attributes, signs),
    )[1]
    monkeypatch.setattr(gradients_of_images, "GRADIENT_PAIRS", limit)
    pieces = attributor.maps(images, {}, pairs)["guided_backprop"]
    assert max(sizes) <= limit and sum(sizes) == len(pairs.images)
    np.testing.assert_allclose(pieces, whole, atol=1e-6)


def test_the_last_convolution_is_explained_where_no_layer_is_called_features(images):
    model = he_weights(models.build(tiny_config_of("cnn")))
    encoder = keras.Model(model.input, model.get_layer("encoder_10_conv").output)
    pooled = keras.layers.GlobalAveragePooling2D()(encoder.output)
    dense = keras.layers.Dense(2, use_bias=False)
    probabilities = keras.layers.Activation("sigmoid", name="multilabel")(dense(pooled))
    bare = keras.Model(model.input, {"multilabel": probabilities})
    features = encoder.predict_on_batch(images)
    attributor = Attributor(bare, ["grad_cam"])
    maps = attributor.maps(images, attributor.forward(images), Pairs.product(6, [1]))
    expected = features @ dense.get_weights()[0][:, 1] / np.prod(features.shape[1:3])
    np.testing.assert_allclose(maps["grad_cam"], expected, atol=1e-6)


def test_a_model_without_a_convolution_has_no_map():
    images = keras.Input((2, 3, 3))
    logits = keras.layers.Dense(2)(keras.layers.Flatten()(images))
    outputs = keras.layers.Activation("sigmoid", name="multilabel")(logits)
    model = keras.Model(images, {"multilabel": outputs}, name="dense")
    for refused in (lambda: Attributor(model), lambda: grad_cam(model, "multilabel")):
        with pytest.raises(UserError, match="model 'dense' has no convolution") as raised:
            refused()
        assert "\n" not in str(raised.value)


class ReluInside(keras.layers.Layer):
    """A ReLU that no list of layers or activations shows."""

    def call(self, x):
        return tf.nn.relu(x)


class ReluInAFunction(keras.layers.Layer):
    def call(self, x):
        return tf.function(tf.nn.relu)(x)


RELUS = {
    "layer": lambda x: keras.layers.ReLU()(x),
    "activation_layer": lambda x: keras.layers.Activation("relu")(x),
    "argument": lambda x: keras.layers.Dense(
        3, use_bias=False, activation="relu", kernel_initializer="identity"
    )(x),
    "operation": keras.ops.relu,
    "maximum": lambda x: keras.ops.maximum(x, 0.0),
    "maximum_the_other_way_round": lambda x: keras.ops.maximum(0.0, x),
    "inside_of_a_layer": lambda x: ReluInside()(x),
    "relu6": keras.ops.relu6,
}


def network(relu) -> keras.Model:
    """Logit of an image x: sum over pixels of 3 relu(x_red) - 2 relu(x_green) + x_blue."""
    images = keras.Input((2, 3, 3))
    features = keras.layers.Activation("linear", name="features")(relu(images))
    dense = keras.layers.Dense(1, use_bias=False)
    logits = dense(keras.layers.Flatten()(features))
    dense.set_weights([np.tile([3.0, -2.0, 1.0], 6)[:, None]])
    return keras.Model(
        images, {"attributes": keras.layers.Activation("sigmoid", name="attributes")(logits)}
    )


@pytest.mark.parametrize("written", RELUS)
def test_guided_backpropagation_replaces_every_relu_however_it_is_written(written):
    images = np.random.default_rng(0).normal(0, 1, (2, 2, 3, 3)).astype(np.float32)
    gradients = guided_gradients(network(RELUS[written]), "attributes")
    for_and_against = np.zeros((2, 2), np.int32), np.array([[1, -1]] * 2, np.float32)
    found = gradients(images, *for_and_against)
    # Only where the input and what comes back are positive; the plain gradient has -2 as well.
    np.testing.assert_array_equal(found[:, 0], np.where(images > 0, [3.0, 0.0, 1.0], 0.0))
    np.testing.assert_array_equal(found[:, 1], np.where(images > 0, [0.0, 2.0, 0.0], 0.0))


def test_an_ordinary_maximum_keeps_its_gradient():
    images = np.random.default_rng(0).normal(0, 1, (2, 2, 3, 3)).astype(np.float32)
    floor = np.array([0.5, -0.5, 0.0], np.float32)  # not zero everywhere: no ReLU
    model = network(lambda x: keras.ops.maximum(keras.ops.relu(x + 1.0), floor))
    gradients = guided_gradients(model, "attributes")(
        images, np.zeros((2, 1), np.int32), np.ones((2, 1), np.float32)
    )[:, 0]
    passes = np.maximum(images + 1, 0) >= floor
    expected = np.where(passes & (images + 1 > 0), [3.0, 0.0, 1.0], 0.0)
    np.testing.assert_array_equal(gradients, expected)


def test_a_network_that_is_not_sound_is_not_measured(images):
    model = randomise_weights(models.build(tiny_config()))
    pooling = model.get_layer("masked_pooling")
    pooling.head.assign(pooling.head * np.nan)
    attributor = Attributor(model, ["contributions"])
    with pytest.raises(UserError, match="the map of contributions is not a number"):
        attributor.maps(images, attributor.forward(images), PAIRS)


def test_guided_backpropagation_without_a_relu_is_refused():
    with pytest.raises(UserError, match="found no ReLU"):
        guided_gradients(network(keras.ops.tanh), "attributes")


def test_guided_backpropagation_refuses_a_relu_that_it_cannot_replace():
    with pytest.raises(UserError, match="cannot reach 1 ReLU"):
        guided_gradients(network(lambda x: ReluInAFunction()(x)), "attributes")
