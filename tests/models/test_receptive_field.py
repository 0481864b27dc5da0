"""What the layers say a cell sees, against the pixels that its gradient reaches."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import NAMES, randomise_weights, tiny_config, tiny_config_of
from keras import layers

from mcattn_tf import models, runs
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.presets import PRESETS

SIZE = (64, 60)
INNER = (8, 7)


def support(network, cells, size=SIZE):
    """(top, left, bottom, right) of the pixels that move each cell of `network`, in any of 16."""

    # As a graph, which leaves out the gradient of the kernels: TensorFlow 2.21 can crash on that
    # of a strided 1x1 convolution with few channels on a CPU.
    @tf.function
    def gradients(images):
        outputs = network(images)
        return [tf.gradients(outputs[:, *cell], images)[0] for cell in cells]

    images = tf.random.stateless_uniform((16, *size, 3), seed=(0, 0))
    return [box_of(np.abs(gradient).max(axis=(0, 3)) > 0) for gradient in gradients(images)]


def box_of(reached):
    rows, columns = np.flatnonzero(reached.any(axis=1)), np.flatnonzero(reached.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"dilations": ()}, 5),  # 3 at full size, 2 more on the same grid
        ({"dilations": (1, 2)}, 5 + 2 * 2 * (1 + 2)),  # on a grid of 2 pixels
        ({"dilations": (1,), "stem": ((4, 3, 2), (6, 3, 1), (7, 3, 2))}, 3 + 2 * 2 + 2 * 2 + 2 * 4),
        ({"dilations": (2,), "stem": ((4, 3, 1),), "pointwise_layers": 2}, 3 + 2 * 2),
        ({"dilations": (), "stem": ((4, 4, 2), (6, 3, 1), (7, 2, 2))}, 4 + 2 * 2 + 2),
    ],
)
def test_masked_features_see_what_their_gradient_reaches(fields, expected):
    # Masks of their own see what the features see; shared ones see the whole image.
    fields = fields | {"mask_rank": None}
    model = randomise_weights(
        models.build(tiny_config(data={"image_size": SIZE}, model=fields)), seed=1
    )
    pooling = model.get_layer("masked_pooling")
    extractor = keras.Model(model.input, pooling.input)

    def masked(images):
        features = extractor(images, training=False)
        return pooling.masks(features, [0])[..., 0, :] * features

    field = models.receptive_field(model)
    assert field.side == expected
    assert field.stride.tolist() == [tiny_config(model=fields).model.stride] * 2
    assert tuple(field.cells) == pooling.input.shape[1:3]
    cells = (INNER, (0, 0), (field.cells - 1).tolist())
    assert [field.box(*cell) for cell in cells] == support(masked, cells)


def test_the_box_of_a_strided_stem_lies_off_the_centre_of_its_cell():
    # By hand, with "same" padding: stride 2 on an even side pads the far side alone, so cell i
    # sees 2i to 2i + 2, and the 3x3 window before it one more pixel on each side.
    field = models.receptive_field(models.build(tiny_config(model={"dilations": ()})))
    assert field.box(2, 1) == (3, 1, 8, 6)
    assert field.box(0, 0) == (0, 0, 4, 4)  # from -1
    assert field.box(5, 3) == (9, 5, 12, 8)  # to 14 and to 10


def test_a_cell_of_the_default_is_in_the_middle_of_what_it_sees():
    field = models.receptive_field(models.build(make_config({"found": {"attributes": NAMES}})))
    for row, column in ((2, 3), (8, 13)):
        top, left, bottom, right = field.box(row, column)
        assert (top + bottom, left + right) == (2 * (4 * row + 2), 2 * (4 * column + 2))


def strided(x):
    x = layers.Conv2D(5, (3, 5), strides=2, padding="same")(x)
    return layers.Conv2D(5, 2, strides=2, padding="valid")(x)


def dilated(x):
    x = layers.Conv2D(5, (1, 4), padding="valid")(x)
    return layers.Conv2D(5, 3, dilation_rate=3, padding="same")(x)


def pooled(x):
    x = layers.Conv2D(5, 7, strides=2, padding="same")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    return layers.AveragePooling2D((2, 1))(layers.Conv2D(5, 3, padding="same")(x))


def residual(x):
    x = layers.Dropout(0.5)(layers.Conv2D(4, 3, padding="same", activation="relu")(x))
    branch = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    branch = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(branch))
    shortcut = layers.Conv2D(4, 1, strides=2)(x)
    return layers.Activation("relu")(layers.Add()([shortcut, branch]))


def lopsided(x):
    """The branches reach to different sides."""
    near = layers.Conv2D(4, 2, padding="same")(layers.Conv2D(4, 2, padding="same")(x))
    far = layers.Conv2D(4, (3, 1), padding="same")(x)
    return keras.ops.relu(layers.Concatenate()([near, far])) / 2.0


def enlarged(x):
    """Cells are in one or two windows by turns, and again for the second enlargement."""
    x = layers.Conv2D(5, 5, strides=4, padding="same")(x)
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same")(x)
    x = layers.Conv2D(5, 3, padding="same")(x)
    return layers.Conv2DTranspose(5, (4, 2), strides=2, padding="same")(x)


def depthwise(x):
    """Layers of MobileNet and Xception, and a block's gate of one value a channel beside."""
    x = layers.Rescaling(2.0)(layers.ZeroPadding2D(((0, 1), (2, 1)))(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="valid", depth_multiplier=2)(x)
    x = layers.SeparableConv2D(5, (3, 5), dilation_rate=2, padding="same")(x)
    return layers.LeakyReLU()(layers.DepthwiseConv2D((1, 3), padding="same")(x))


@pytest.mark.parametrize("size", [(64, 60), (61, 63)])  # padding differs with the side
@pytest.mark.parametrize(
    "stage", [strided, dilated, pooled, residual, lopsided, enlarged, depthwise]
)
def test_kinds_of_layers_see_what_their_gradient_reaches(stage, size):
    images = keras.Input((*size, 3))
    features = layers.Activation("linear", name="features")(stage(images))
    model = randomise_weights(keras.Model(images, features), seed=2)
    field = models.receptive_field(model)
    assert tuple(field.cells) == features.shape[1:3]
    middle = field.cells // 2
    cells = (middle.tolist(), (middle + (1, 2)).tolist(), (0, 0), (field.cells - 1).tolist())
    assert [field.box(*cell) for cell in cells] == support(model, cells, size)


def test_after_a_global_average_a_cell_sees_the_whole_image():
    images = keras.Input((*SIZE, 3))
    features = layers.Conv2D(4, 3, strides=4, padding="same", name="features")(images)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="average")(features)
    gate = layers.Dense(4, activation="sigmoid")(gate)
    gated = layers.Multiply(name="gated")([features, gate])
    model = randomise_weights(keras.Model(images, gated))
    # A window of 3 every 4 pixels: the last row and column of pixels are seen by no cell.
    assert support(model, [INNER]) == [(0, 0, 63, 59)]
    for cell in (INNER, (0, 0), (15, 14)):
        top, left, bottom, right = models.receptive_field(model, "gated").box(*cell)
        assert (top, left) == (0, 0) and bottom >= 63 and right >= 59
    assert models.receptive_field(model, "average").box(0, 0) == (0, 0, 63, 59)
    assert models.receptive_field(model).side == 3  # of `features`


def test_the_presets_see_as_much_as_they_say():
    assert models.receptive_field(models.build(tiny_config(model={"name": "baseline"}))).side == 17
    named = {"found": {"attributes": NAMES}}
    # 4 pixels of the first convolution, 2 more cells of 2, 1 more of 2, and 2 more of 4.
    assert models.receptive_field(models.build(make_config(named))).side == 4 + 2 * 2 + 2 + 2 * 4
    field = models.receptive_field(models.build(make_config(PRESETS["paper"], named)))
    assert field.side > 2 * 128
    assert field.box(0, 0) == field.box(15, 15) == (0, 0, 64, 64)


def test_weight_maps_of_gcm_see_what_their_gradient_reaches():
    config = tiny_config_of("gcm", image_size=(96, 84))
    model = randomise_weights(models.build(config))
    field = models.receptive_field(model)
    assert tuple(field.cells) == (96, 84)
    maps = keras.Model(model.input, model.get_layer("weight_maps").output)
    cells = ((49, 42), (50, 43), (95, 83))
    assert [field.box(*cell) for cell in cells] == support(maps, cells, (96, 84))


def test_a_model_that_was_saved_and_asked_sees_the_same(tmp_path, images):
    config = tiny_config(training={"precision": "mixed_bfloat16"})
    model = models.build(config)
    before = models.receptive_field(model)
    runs.create(tmp_path, config)
    model.save(tmp_path / runs.BEST)
    after = models.receptive_field(runs.load_model(tmp_path))
    assert after.side == before.side == 17
    assert after.box(2, 1) == before.box(2, 1)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (layers.UpSampling2D(name="larger"), "'larger', a UpSampling2D"),
        (layers.Flatten(name="flat"), "'flat', a Flatten"),
        (lambda x: keras.ops.flip(x, axis=1), "a Flip"),
        (lambda x: keras.ops.mean(x, axis=1), "a Mean"),
        (lambda x: layers.Concatenate(axis=1, name="stack")([x, x]), "'stack' joins"),
        (
            lambda x: layers.Add(name="sum")(
                [layers.MaxPooling2D(2)(x), layers.Conv2D(3, 1)(layers.Conv2D(3, 33)(x))]
            ),
            "'sum' joins",
        ),
        (lambda x: (again := layers.Conv2D(3, 3, name="twice"))(again(x)), "more than once"),
    ],
)
def test_what_is_not_known_is_refused_and_not_taken_as_pointwise(stage, message):
    images = keras.Input((64, 64, 3))
    model = keras.Model(images, layers.ReLU(name="features")(stage(images)))
    with pytest.raises(ValueError, match=message):
        models.receptive_field(model)


# Published receptive fields (Araujo et al. 2019, Distill) of the last layer, and of DenseNet-121 by
# hand: 11 pixels behind the stem, 2 for each 3x3 layer on strides of 4, 8, 16 and 32, 28 for the
# transitions: 11 + 2 (6 x 4 + 12 x 8 + 24 x 16 + 16 x 32) + 4 + 8 + 16.
APPLICATIONS = {
    "VGG16": 212,
    "MobileNet": 315,
    "MobileNetV2": 491,
    "ResNet50": 483,
    "DenseNet121": 2071,
}


def told(name, **arguments):
    network = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(96, 64, 3), **arguments
    )
    return models.receptive_field(network, network.layers[-1].name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=[] if x in ("VGG16", "MobileNet") else pytest.mark.slow)
        for x in APPLICATIONS
    ],
)
def test_networks_of_keras_see_what_is_published(name):
    assert told(name).side == APPLICATIONS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["EfficientNetB0", "MobileNetV3Small"])
def test_a_cell_behind_gates_of_channel_means_sees_the_whole_image(name):
    field = told(name)
    assert field.stride.tolist() == [32, 32]
    assert field.box(0, 0) == field.box(2, 1) == (0, 0, 96, 64)


def test_a_layer_that_is_not_known_is_refused_by_its_name():
    images = keras.Input((8, 8, 3))
    x = layers.GroupNormalization(3, name="grouped")(images)
    network = keras.Model(images, layers.Conv2D(2, 1, name="features")(x))
    with pytest.raises(ValueError, match="what 'grouped', a GroupNormalization, sees is not known"):
        models.receptive_field(network)
    tall = layers.Reshape((16, 4, 3), name="tall")(images)
    with pytest.raises(ValueError, match="what 'tall' sees is not known here"):
        models.receptive_field(keras.Model(images, tall), "tall")
