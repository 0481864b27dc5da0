"""ABN and its backbones: what their papers say of them, and what bad settings are told."""

import dataclasses

import keras
import numpy as np
import pytest
from conftest import NAMES, he_weights, tiny_config_of
from keras import layers
from test_receptive_field import SIZE, support

from mcattn_tf import models, runs
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import answers
from mcattn_tf.explain.feature_space.scatter import build_pooled_features, scatter
from mcattn_tf.explain.methods import Attributor, Pairs, methods_of
from mcattn_tf.figures import draw as visualization
from mcattn_tf.losses import losses_of
from mcattn_tf.models import applications, backbones
from mcattn_tf.settings.backbones import BACKBONES, Backbone, backbone_of, cifar_residual
from mcattn_tf.settings.config import LossConfig, make_config
from mcattn_tf.settings.presets import PRESETS, preset_for
from mcattn_tf.training import fit

BASIC, DENSE = ((1, 3), (1, 3)), ((4, 1), (1, 3))
# The smallest of each kind.
SMALL = {
    "basic": Backbone((4, 6, 8), (1, 1, 2), BASIC, stem=4),
    "bottleneck": Backbone((2, 3, 4), (1, 1, 1), ((1, 1), (1, 3), (4, 1)), stem=4, squeeze=4),
    "grouped": Backbone((4, 4, 6), (1, 1, 1), ((2, 1), (2, 3), (1, 1)), stem=4, groups=2),
    "wide": Backbone((4, 6, 8), (1, 2, 1), BASIC, stem=4, preactivated=True, dropout=0.3),
    "dense": Backbone((2, 2, 2), (2, 2, 1), DENSE, joined="concatenate", stem=4, preactivated=True),
    "plain": Backbone((4, 6, 8), (1, 2, 1), ((1, 3),), joined="none", form="imagenet", stem=0),
    "imagenet": Backbone((4, 6, 8), (1, 1, 1), BASIC, form="imagenet", stem=4),
}


@pytest.fixture(autouse=True)
def small_backbones(monkeypatch):
    for name, backbone in SMALL.items():
        monkeypatch.setitem(BACKBONES, name, backbone)


def small(backbone="basic", **model):
    return tiny_config_of("abn", **{"backbone": backbone, "exclusive": True, **model})


def output_of(model, name, images):
    return keras.Model(model.input, model.get_layer(name).output).predict_on_batch(images)


def published(name):
    model = {"name": "abn", "backbone": name, "attention_mechanism": "none", "exclusive": True}
    found = {"attributes": tuple("abcdefghij")}
    settings = {"data": {"image_size": (32, 32)}, "model": model, "found": found}
    return models.build(make_config(settings))


# Of He et al. 2016 the shortcuts have no weights; ours are two 1x1 convolutions of 16 to 32 and of
# 32 to 64 channels, each with a normalisation.
SHORTCUTS = 16 * 32 + 32 * 64 + 2 * (32 + 64)


@pytest.mark.parametrize(
    ("name", "count", "literature"),
    [
        ("resnet20", 269_722 + SHORTCUTS, "0.27"),  # He et al. 2016, table 6
        ("resnet110", 1_727_962 + SHORTCUTS, "1.7"),
        ("wide_resnet28_4", 5_849_050, "5.8"),  # Zagoruyko & Komodakis 2016
        # Huang et al. 2017, table 2
        pytest.param("densenet100_12", 769_162, "0.8", marks=pytest.mark.slow),
    ],
)
def test_cifar_networks_have_as_many_weights_as_in_the_literature(name, count, literature):
    model = published(name)
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trained == count
    assert f"{trained / 1e6:.{len(literature) - 2}f}" == literature
    if name == "resnet110":
        # What it sees is worked out at once, although residual connections double the ways to the
        # image from block to block, 2^54 in all. The stem, 36 convolutions at full size, one and
        # 35 at half, one and 35 at a quarter:
        side = 1 + 2 * (1 + 36 + 1 + 2 * 35 + 2 + 4 * 35)
        assert models.receptive_field(model).side == side


@pytest.mark.parametrize("name", SMALL)
def test_a_stage_has_the_grid_that_its_stride_says_unless_it_keeps_it(name):
    backbone, images = SMALL[name], keras.Input((40, 24, 3))
    for stage, stride in zip(backbone.stages, backbone.strides(), strict=True):
        x = backbones.build_backbone(images, backbone, stage)
        assert x.shape[1:3] == (-(-40 // stride), -(-24 // stride))
    before = backbones.build_backbone(images, backbone, "stage_2")
    kept = backbones.build_stage(before, backbone, "stage_3", "kept_", keep_grid=True)
    assert kept.shape[1:3] == before.shape[1:3]
    assert kept.shape[-1] == x.shape[-1]


def test_grouped_and_strided_convolutions_are_those_of_keras():
    x = np.random.default_rng(0).normal(size=(2, 7, 5, 6)).astype(np.float32)
    image = keras.Input(x.shape[1:])
    for filters, kernel, stride, groups in ((4, 3, 2, 2), (5, 1, 2, 1), (9, 1, 3, 3)):
        backbone = dataclasses.replace(SMALL["basic"], convention="keras")
        made = backbones.convolve(image, backbone, filters, kernel, "c", stride, groups)
        made = keras.Model(image, made)
        reference = layers.Conv2D(
            filters, kernel, stride, padding="same", groups=groups, use_bias=False
        )
        reference.build(x.shape)
        kernels = [weight.numpy() for weight in made.weights]
        reference.set_weights([np.concatenate(kernels, axis=-1)])
        np.testing.assert_allclose(made(x), reference(x), atol=1e-5)


def test_a_residual_block_adds_what_it_was_given(images):
    x = images[..., :1] * np.ones(4, np.float32)
    image = keras.Input(x.shape[1:])
    block = keras.Model(image, backbones.build_block(image, SMALL["basic"], 4, 1, "block"))
    block.get_layer("block_bn_2").set_weights([np.zeros(4), np.full(4, 0.25), *np.ones((2, 4))])
    np.testing.assert_allclose(block(x), x + 0.25, atol=1e-6)


@pytest.mark.parametrize("mechanism", ["product", "residual"])
def test_the_attention_map_weighs_the_features(mechanism, images):
    model = he_weights(models.build(small(attention_mechanism=mechanism)))
    outputs = model.predict_on_batch(images)
    extracted = output_of(model, "extracted", images)
    attended = output_of(model, "attended", images)
    weights = outputs["attention_map"] + (mechanism == "residual")  # eq. 1 and 2
    np.testing.assert_allclose(attended, weights * extracted, atol=1e-5)
    assert outputs["attention_map"].shape == (6, 6, 4, 1)
    assert outputs["attention_map"].std() > 0.01


def test_the_attention_branch_answers_by_averages_of_a_map_a_class(images):
    model = he_weights(models.build(small()))
    maps = output_of(model, "attention_classes_relu", images)  # (B, h, w, N)
    [kernel] = model.get_layer("attention_evidence").get_weights()
    scores = (maps @ kernel[0, 0]).mean(axis=(1, 2))
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected = exponents / exponents.sum(axis=1, keepdims=True)
    outputs = model.predict_on_batch(images)
    np.testing.assert_allclose(outputs["attention"], expected, atol=1e-5)
    [kernel] = model.get_layer("attention_map_conv").get_weights()
    assert kernel.shape == (3, 3, len(NAMES), 1)
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    summed = np.einsum("bhwnij,ijno->bhwo", windows, kernel)
    gamma, beta, mean, variance = model.get_layer("attention_map_bn").get_weights()
    normalised = gamma * (summed - mean) / np.sqrt(variance + 1e-5) + beta
    expected = 1 / (1 + np.exp(-normalised))
    np.testing.assert_allclose(outputs["attention_map"], expected, atol=1e-4)


def test_without_a_mechanism_the_backbone_is_left(images):
    model = models.build(small(attention_mechanism="none"))
    assert list(model.output) == ["perception"]
    assert not any("attention" in layer.name for layer in model.layers)
    np.testing.assert_allclose(model.predict_on_batch(images)["perception"].sum(axis=1), 1, 1e-5)


def test_an_earlier_cut_leaves_more_to_the_perception_branch():
    model = models.build(small(stage="stage_1"))
    assert model.output["attention_map"].shape[1:] == (12, 8, 1)
    assert model.get_layer("features").output.shape[1:] == (3, 2, 8)


def test_the_losses_of_both_branches_are_added():
    outputs = ["perception", "attention", "attention_map"]
    losses, weights = losses_of(outputs, LossConfig(), exclusive=True)
    assert weights == {"perception": 1, "attention": 1}  # eq. 3
    labels, answers = np.float32([[0, 1, 0]]), np.float32([[0.2, 0.5, 0.3]])
    assert float(losses["attention"](labels, answers)) == pytest.approx(-np.log(0.5), rel=1e-5)


def weights_are_the_applications(name, size):
    """Networks that begin with a trained one answer as that does to images as it expects them."""
    trained = getattr(keras.applications, BACKBONES[name].application)(
        include_top=False, weights=None, input_shape=(*size, 3)
    )
    he_weights(trained)
    config = tiny_config_of("abn", size, backbone=name, exclusive=True)
    model = models.build(config.replace("model", attention_mechanism="none"))
    applications.copy_weights(trained, model, BACKBONES[name])
    images = np.random.default_rng(0).random((2, *size, 3), dtype=np.float32)
    family = {"vgg16": "vgg16", "densenet121": "densenet"}.get(name, "resnet")
    prepare = getattr(keras.applications, family).preprocess_input
    expected = trained.predict_on_batch(prepare(255 * images))
    found = output_of(model, "features", images)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    branched = models.build(config)
    applications.copy_weights(trained, branched, BACKBONES[name])
    last = [layer for layer in trained.layers if isinstance(layer, layers_with_kernels)][-1]
    own = branched.get_layer(f"attention_{last.name}").get_weights()
    np.testing.assert_array_equal(own[0], last.get_weights()[0])
    stride = BACKBONES[name].strides()[-2]
    assert branched.output["attention_map"].shape[1:3] == tuple(-(-n // stride) for n in size)


layers_with_kernels = (layers.Conv2D,)


def test_vgg16_begins_with_the_weights_of_keras_applications():
    weights_are_the_applications("vgg16", (64, 32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "densenet121"])
def test_others_begin_with_the_weights_of_keras_applications(name):
    weights_are_the_applications(name, (96, 64))


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ({"backbone": "alexnet"}, (32, 32), "`backbone` must be one of resnet20, resnet32, "),
        ({"backbone": "resnet21"}, (32, 32), "`backbone` must be resnet and a depth of 6 n + 2, "),
        ({"stage": "stage_3"}, (32, 32), "`stage` must be one of stage_1, stage_2. Received"),
        ({"stage": "conv4"}, (32, 32), "`stage` must be one of stage_1, stage_2. Received: 'conv"),
        ({"attention_mechanism": "sum"}, (32, 32), "must be one of residual, product, none"),
        ({"map_kernel": 5}, (32, 32), "`map_kernel` must be 1 or 3. Received: 5"),
        ({"weights": "imagenet"}, (32, 32), "must be one of resnet50, resnet101, resnet152, "),
        ({"weights": "cifar"}, (32, 32), "`weights` must be one of imagenet. Received: 'cifar'"),
        ({"backbone": "resnet18"}, (64, 24), "`image_size` must be at least 32,32: the pixels"),
    ],
)
def test_what_abn_cannot_be_made_with_is_named(model, size, message):
    with pytest.raises(UserError) as raised:
        tiny_config_of("abn", size, **model)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth):
    with pytest.raises(UserError, match=rf"a depth of 6 n \+ 2, .* Received: 'resnet{depth}'"):
        cifar_residual(depth)


def test_every_other_depth_is_a_backbone():
    assert backbone_of("resnet26").blocks == (4, 4, 4)
    assert tiny_config_of("abn", (32, 32), backbone="resnet26").model.stride == 4
    assert tiny_config_of("multitask_abn", (32, 32), backbone="resnet8").model.stride == 4


def test_presets_are_the_papers():
    config = make_config(PRESETS["abn-cifar100"])
    assert config.training.milestones == (0.5, 0.75)
    assert (config.training.epochs, config.training.batch_size) == (300, 256)
    assert (config.training.learning_rate, config.data.pad_and_crop) == (0.1, 4)
    cars = make_config(preset_for("abn-compcars"))
    assert [round(50 * share) for share in cars.training.milestones] == [25, 35]
    assert cars.data.image_size == (224, 323)  # 323x224, and cars are wider than high


def test_every_method_explains_the_perception_branch(images):
    model = he_weights(models.build(small()))
    methods = methods_of(model)
    assert methods[:3] == ("attention_map", "cam", "local_probabilities")
    pairs = Pairs(np.array([0, 4]), np.array([2, 1]), np.array([1, -1]))
    attributor = Attributor(model)
    outputs = attributor.forward(images)
    maps = attributor.maps(images, outputs, pairs)
    expected = model.predict_on_batch(images)
    np.testing.assert_allclose(outputs["probabilities"], expected["perception"], atol=1e-6)
    # The one map of an image speaks of whatever is asked.
    np.testing.assert_allclose(
        maps["attention_map"], expected["attention_map"][[0, 4], :, :, 0], atol=1e-6
    )
    _, bias = model.get_layer("perception_scores").get_weights()
    scores = output_of(model, "perception_scores", images)
    sums = maps["cam"].sum(axis=(1, 2)) * pairs.signs + bias[pairs.attributes]
    np.testing.assert_allclose(sums, scores[pairs.images, pairs.attributes], atol=1e-4)


def test_maps_whose_cells_are_no_whole_pixels_come_in_pixels():
    model = he_weights(models.build(tiny_config_of("abn", (13, 10), backbone="basic")))
    images = np.random.default_rng(0).random((2, 13, 10, 3), dtype=np.float32)
    attributor = Attributor(model, ["attention_map", "grad_cam"])
    pairs = Pairs.product(2, [1])
    maps = attributor.maps(images, attributor.forward(images), pairs)
    cells = model.predict_on_batch(images)["attention_map"][..., 0]  # (2, 7, 5)
    pixels = maps["attention_map"]
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):  # beyond the centres of outer cells
        np.testing.assert_allclose(pixels[:, row, column], cells[:, row, column], atol=1e-6)
    # The middle of 13 rows is that of 7 cells, and the next row 7 / 13 of a cell further.
    np.testing.assert_allclose(pixels[:, 6, 0], cells[:, 3, 0], atol=1e-6)
    between = 6 / 13 * cells[:, 3, 0] + 7 / 13 * cells[:, 4, 0]
    np.testing.assert_allclose(pixels[:, 7, 0], between, atol=1e-6)
    assert maps["grad_cam"].shape == pixels.shape == (2, 13, 10)


@pytest.mark.parametrize("name", ["grouped", "plain"])
def test_a_cell_sees_what_its_gradient_reaches(name):
    # Without the attention branch, which sees further.
    config = tiny_config_of("abn", SIZE, backbone=name, attention_mechanism="none")
    model = he_weights(models.build(config))
    field = models.receptive_field(model)
    features = keras.Model(model.input, model.get_layer("features").output)
    cells = ((3, 2), (0, 0))
    assert [field.box(*cell) for cell in cells] == support(features, cells)


def test_a_trained_abn_is_evaluated_and_drawn(tiny_classes, images, tmp_path):
    fit.train(small(), tiny_classes, tmp_path / "run")
    model = runs.load_model(tmp_path / "run")
    result = answers.evaluate(model, tiny_classes.test, NAMES, 4)
    asked, labels = tiny_classes.test.read(np.arange(tiny_classes.test.count))
    classes = model.predict_on_batch(asked / np.float32(255))["perception"].argmax(axis=1)
    right = np.mean(classes == labels.argmax(axis=1))
    assert result["perception"]["mean"]["accuracy"] == pytest.approx(right)
    assert sorted(result) == ["attention", "perception"]
    given = visualization.Pictures(images[:2], ["a", "b"], [(images, None), (images, None)])
    drawn = visualization.draw({"run": model}, NAMES, given, ["attention"])["attention"]
    titles = [ax.get_title() for ax in drawn.axes if ax.images]
    outputs = model.predict_on_batch(images[:2])
    best = outputs["perception"].argmax(axis=1)
    named = [f"{NAMES[best[i]]}\np = {outputs['perception'][i, best[i]]:.2f}" for i in range(2)]
    columns = ["attention map", "cam", "grad cam"]
    assert titles == [named[0], *columns, named[1], *columns]
    shown = [ax.images[-1] for ax in drawn.axes if ax.get_title() == "attention map"][1]
    np.testing.assert_allclose(
        shown.get_array()[::2, ::2], outputs["attention_map"][1, ..., 0], atol=1e-6
    )


def test_features_without_the_map_are_those_of_the_perception_branch_alone(images):
    model = he_weights(models.build(small()))
    found = build_pooled_features(model).predict_on_batch(images)
    features = output_of(model, "features", images)
    np.testing.assert_allclose(found["with the map"], features.mean(axis=(1, 2)), atol=1e-5)
    plain = models.build(small(attention_mechanism="none"))
    for layer in plain.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    expected = output_of(plain, "features", images).mean(axis=(1, 2))
    np.testing.assert_allclose(found["without the map"], expected, atol=1e-5)


@pytest.mark.slow  # scikit-learn takes long to import
def test_images_of_a_kind_lie_together(images):
    pytest.importorskip("sklearn")
    model = he_weights(models.build(small()))
    random = np.random.default_rng(0)
    kinds = np.repeat([0, 1], 12)
    batch = np.clip(images[kinds] + random.normal(0, 0.01, (24, 12, 8, 3)), 0, 1)
    found, predicted = scatter(model, [batch[:12].astype("f"), batch[12:].astype("f")])
    assert sorted(found) == ["with the map", "without the map"] and predicted.shape == (24,)
    for points in found.values():
        centers = np.array([points[kinds == kind].mean(axis=0) for kind in (0, 1)])
        distances = np.linalg.norm(points[:, None] - centers, axis=-1)
        np.testing.assert_array_equal(distances.argmin(axis=1), kinds)
    with pytest.raises(UserError, match="at least 10 images"):
        scatter(model, [images])
