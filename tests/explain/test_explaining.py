"""`explain` takes any Keras network, and its Grad-CAM is that of other libraries."""

import warnings

import keras
import numpy as np
import pytest
from conftest import NAMES, he_weights, randomise_weights, tiny_config, tiny_config_of
from keras import layers, ops

import mcattn_tf
from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods import methods_of

SIZE = (10, 8, 3)
K = 4


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(1).random((5, *SIZE), dtype=np.float32)


def body():
    """Two convolutions, the second one inside a network two deep."""
    deepest = keras.Sequential([layers.Conv2D(6, 3, name="top"), layers.ReLU()], name="deepest")
    images = keras.Input(SIZE)
    x = layers.Conv2D(5, 3, padding="same", activation="relu")(images)
    return keras.Model(images, deepest(x), name="middle")


def head(x):
    return layers.Dense(7, activation="tanh", name="hidden")(layers.Flatten()(x))


class Subclassed(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.last = inner, layers.Dense(K, name="last")

    def call(self, images, training=False):
        x = ops.tanh(ops.mean(self.inner(images), axis=(1, 2)))
        return {"answer": ops.softmax(self.last(x)), "length": ops.sum(x, axis=-1)}


def sequential():
    return keras.Sequential(
        [
            layers.Conv2D(5, 3, activation="relu"),
            layers.Conv2D(6, 2, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(7, activation="tanh"),
            layers.Dense(K, activation="softmax"),
        ]
    )


def functional(*outputs):
    """Networks of two convolutions, whose last layers are `outputs`."""
    images = keras.Input(SIZE)
    x = head(body()(images))
    ends = [output(x) for output in outputs]
    return keras.Model(images, ends if len(ends) > 1 else ends[0])


def two_outputs():
    return functional(layers.Dense(1, activation="sigmoid"), layers.Dense(K))


def half():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        end = layers.Activation("softmax", dtype="float32", name="probabilities_of_classes")
        return functional(keras.Sequential([layers.Dense(K), end]))
    finally:
        keras.config.set_dtype_policy("float32")


# {what: (network, arguments, whether the second convolution has a stride)}.
NETWORKS = {
    "sequential": (sequential, {}),
    "nested": (lambda: functional(layers.Dense(K, activation="softmax")), {}),
    "sigmoid": (lambda: functional(layers.Dense(K, activation="sigmoid")), {}),
    "logits": (lambda: functional(layers.Dense(K)), {}),
    "two_outputs": (two_outputs, {"output": 1}),
    "subclassed": (lambda: Subclassed(body()), {}),
    "half": (half, {}),
}
SAID = {
    "sequential": "before its softmax",
    "nested": "before its softmax",
    "sigmoid": "before its sigmoid",
    "logits": "taken for scores before a softmax",
    "two_outputs": "taken for scores before a softmax",
    "subclassed": "before the softmax",
    "half": "before the softmax of 'probabilities_of_classes'",
}


def twin(torch, what, weights):
    """The same network, written by hand in PyTorch, from images (n, C, H, W) to scores (n, K)."""
    weights = [torch.tensor(np.asarray(x, np.float32)) for x in weights]
    first, first_bias, second, second_bias, *rest = weights
    if what == "two_outputs":
        del rest[2:4]  # those of the other output

    class Second(torch.nn.Module):
        def forward(self, x):
            stride = 2 if what == "sequential" else 1
            x = torch.conv2d(x, second.permute(3, 2, 0, 1), second_bias, stride=stride)
            return torch.relu(x)

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.second = Second()

        def forward(self, x):
            padding = 0 if what == "sequential" else 1
            x = torch.conv2d(x, first.permute(3, 2, 0, 1), first_bias, padding=padding)
            x = self.second(torch.relu(x))
            if what == "subclassed":
                return torch.tanh(x.mean(dim=(2, 3))) @ rest[0] + rest[1]
            x = x.permute(0, 2, 3, 1).flatten(1)
            return torch.tanh(x @ rest[0] + rest[1]) @ rest[2] + rest[3]

    return Twin()


@pytest.mark.parametrize("what", NETWORKS)
def test_grad_cam_of_any_network_is_that_of_captum(what, pictures):
    torch, attr = pytest.importorskip("torch"), pytest.importorskip("captum.attr")
    build, arguments = NETWORKS[what]
    model = build()
    model(pictures)  # a class or Sequential has no weights before
    he_weights(model)
    explanations = mcattn_tf.explain(
        model, pictures, targets=[2, 0], methods="grad_cam", batch_size=2, **arguments
    )
    assert SAID[what] in explanations.score
    other = twin(torch, what, model.get_weights())
    images = torch.tensor(pictures.transpose(0, 3, 1, 2))
    for column, target in enumerate((2, 0)):
        expected = attr.LayerGradCam(other, other.second).attribute(images, target)[:, 0]
        expected = expected.detach().numpy()
        assert np.abs(expected).max() > 1e-3
        values = explanations["grad_cam"][:, column]
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_grad_cam_of_mobilenet_is_its_mean_gradient_times_features():
    """The last grid of 2x2 cells, its network below and above cut by hand."""
    model = keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=10)
    randomise_weights(model, seed=3)
    images = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    explanations = mcattn_tf.explain(model, images, targets=[[3], [1]], methods="grad_cam")
    assert explanations.layer == "block_13_expand_relu"
    tf = pytest.importorskip("tensorflow")
    grid = model.get_layer(explanations.layer).output
    features = keras.Model(model.input, grid).predict(images, verbose=0)
    model.layers[-1].activation = keras.activations.linear
    above, x = keras.Model(grid, model.output), tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(x)
        scores = tf.gather(above(x, training=False), [3, 1], batch_dims=1)
    weights = tape.gradient(scores, x).numpy().mean(axis=(1, 2), keepdims=True)
    expected = (weights * features).sum(axis=-1)
    assert np.abs(expected).max() > 1e-6
    scale = np.abs(expected).max()
    np.testing.assert_allclose(explanations["grad_cam"][:, 0] / scale, expected / scale, atol=1e-4)


OWN = {
    "mcattn": tiny_config(),
    "baseline": tiny_config(model={"name": "baseline"}),
    "gcm": tiny_config_of("gcm"),
    "cnn": tiny_config_of("cnn", exclusive=True),
    "abn": tiny_config_of("abn", image_size=(16, 20), backbone="resnet8"),
    "multitask_abn": tiny_config_of("multitask_abn", image_size=(16, 20), backbone="resnet8"),
}


@pytest.mark.parametrize("what", NETWORKS)
def test_the_default_method_is_the_first_of_methods_of(what, pictures):
    build, arguments = NETWORKS[what]
    model = build()
    if what in ("subclassed", "sequential"):
        with pytest.raises(UserError, match="has no inputs yet"):
            methods_of(model)
    model(pictures)
    [default] = mcattn_tf.explain(model, pictures[:2], 0, **arguments).maps
    assert default == methods_of(model)[0]
    assert "rise" in methods_of(model, on_request=True)


@pytest.mark.parametrize("name", OWN)
def test_own_networks_are_explained_by_the_same_call(name):
    config = OWN[name]
    model = he_weights(models.build(config))
    images = np.random.default_rng(2).random((3, *config.data.image_size, 3), dtype=np.float32)
    default = methods_of(model)[0]
    found = mcattn_tf.explain(model, images, ["Eyeglasses", "Smiling"], [default, "grad_cam"])
    assert found.names == NAMES and found.targets.tolist() == [[2, 0]] * 3
    attributor = mcattn_tf.Attributor(model, [default, "grad_cam"])
    outputs = attributor.forward(images)
    pairs = mcattn_tf.Pairs.product(3, [2, 0])
    for method, values in attributor.maps(images, outputs, pairs).items():
        flat = found[method].reshape(values.shape)
        np.testing.assert_allclose(flat, values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.probabilities, outputs["probabilities"][:, [2, 0]], rtol=1e-5)


@pytest.fixture(scope="module")
def classes():
    return he_weights(functional(layers.Dense(K, activation="softmax")))


def test_targets_are_for_every_image_or_each_its_own(classes, pictures):
    answers = classes.predict(pictures, verbose=0)
    rows = [[3, 1], [0, 1], [2, 2], [1, 0], [0, 3]]
    names = ["cat", "dog", "owl", "bee"]
    own = mcattn_tf.explain(classes, pictures, rows, "grad_cam", names=names, batch_size=2)
    assert own["grad_cam"].shape == (5, 2, 8, 6)
    np.testing.assert_allclose(
        own.probabilities, np.take_along_axis(answers, np.array(rows), 1), 1e-5
    )
    every = mcattn_tf.explain(classes, pictures, ["bee", "cat"], ["grad_cam"], names=names)
    assert every.targets.tolist() == [[3, 0]] * 5
    np.testing.assert_allclose(every["grad_cam"][0, 0], own["grad_cam"][0, 0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(every["grad_cam"][4, 0], own["grad_cam"][4, 1], rtol=1e-4, atol=1e-7)
    likely = mcattn_tf.explain(classes, pictures[0], methods="grad_cam")
    assert likely.targets.tolist() == [[answers[0].argmax()]] and likely["grad_cam"].shape[0] == 1


def test_the_network_stays_as_it_is_and_boxes_are_those_of_its_cells(classes, pictures):
    before = classes.predict(pictures, verbose=0)
    found = mcattn_tf.explain(classes, pictures, 0, "grad_cam", layer="middle/deepest/top")
    assert found.layer == "middle/deepest/top"
    assert "features" not in [layer.name for layer in classes.layers]
    np.testing.assert_array_equal(classes.predict(pictures, verbose=0), before)
    # 3x3 with padding, then 3x3 without: cell (1, 2) sees rows 0 to 4 and columns 1 to 5.
    assert found.boxes.shape == (8, 6, 4)
    assert found.boxes[1, 2].tolist() == [0, 1, 5, 6]
    assert found.boxes[0, 0].tolist() == [0, 0, 4, 4]


class Foreign(layers.Layer):
    """A layer without a configuration, as users write them."""

    def __init__(self, table):
        super().__init__()
        self.table = ops.convert_to_tensor(table)

    def call(self, x):
        return x * self.table


def test_layers_without_a_configuration_and_layers_used_twice_are_explained(pictures):
    table = np.linspace(0.5, 1.5, 6, dtype=np.float32)
    shared = layers.Dense(6, activation="relu")
    images = keras.Input(SIZE)
    x = layers.Conv2D(6, 3, activation="relu", name="grid")(images)
    x = layers.GlobalAveragePooling2D()(Foreign(table)(shared(shared(x))))
    model = he_weights(keras.Model(images, layers.Dense(K)(x)))
    found = mcattn_tf.explain(model, pictures, 1, "grad_cam", layer="grid")
    weights = [np.asarray(x) for x in model.get_weights()]
    grid = keras.Model(images, model.get_layer("grid").output).predict(pictures, verbose=0)
    one = grid @ weights[2] + weights[3]
    two = np.maximum(one, 0) @ weights[2] + weights[3]
    # By hand: the gradient of the score through both uses of the layer.
    gradient = (weights[4][:, 1] * table / 48) * (two > 0)
    gradient = (gradient @ weights[2].T * (one > 0)) @ weights[2].T
    expected = (grid * gradient.mean(axis=(1, 2), keepdims=True)).sum(axis=-1)
    np.testing.assert_allclose(found["grad_cam"][:, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": 4}, "`targets` must be from 0 to 3, the classes .* Received: 4"),
        ({"targets": "cat"}, "`targets` must be one of 0, 1, 2, 3. Received: 'cat'"),
        ({"targets": [[1], [2]]}, "a row for each of the 5 images. Received: 2 rows"),
        ({"targets": 0.5}, "whole numbers or names"),
        ({"layer": "features"}, "'features' does not exist; the last ones that fit: middle/"),
        ({"layer": "hidden"}, "'hidden' must have positions and be used once"),
        ({"output": "map"}, r"no output 'map' of one score a class.* but 0: \(None, 4\)"),
        ({"methods": "gradcam"}, "`methods` must be one of "),
        ({"names": ["a", "b"]}, "`names` must be 4 different ones. Received: 2"),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_line(classes, pictures, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        mcattn_tf.explain(classes, pictures, **arguments)
    assert "\n" not in str(error.value)


def test_networks_and_images_that_do_not_fit_are_said_in_one_line(classes, pictures):
    with pytest.raises(UserError, match=r"takes images of \(n, 10, 8, 3\).*resize them"):
        mcattn_tf.explain(classes, pictures[:, :8])
    with pytest.raises(UserError, match=r"are gray: give numpy.repeat\(images, 3, axis=-1\)"):
        mcattn_tf.explain(classes, pictures[..., :1])
    with pytest.raises(UserError, match=r"stand first: give numpy.moveaxis\(images, -3, -1\)"):
        mcattn_tf.explain(classes, np.moveaxis(pictures, -1, 1))
    flat = keras.Sequential([keras.Input(SIZE), layers.Flatten(), layers.Dense(K)])
    with pytest.raises(UserError, match="no layer with positions"):
        mcattn_tf.explain(flat, pictures)
    images = keras.Input(SIZE)
    decoder = keras.Model(images, layers.Conv2D(3, 1)(images))
    with pytest.raises(UserError, match="no output of one score a class"):
        mcattn_tf.explain(decoder, pictures)
    pair = keras.Model([images, keras.Input(SIZE)], layers.Conv2D(3, 1)(images))
    with pytest.raises(UserError, match=r"must take images alone\. Received: 2 in"):
        mcattn_tf.explain(pair, pictures)


def test_images_of_bytes_are_warned_of_unless_the_network_scales_them(classes, pictures):
    with pytest.warns(UserWarning, match="values up to 2.*images / 255"):
        mcattn_tf.explain(classes, pictures * 255, methods="random")
    scaling = keras.Sequential([keras.Input(SIZE), layers.Rescaling(1 / 255), classes])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = mcattn_tf.explain(scaling, pictures * 255, 0, "grad_cam")
    expected = mcattn_tf.explain(classes, pictures, 0, "grad_cam")
    np.testing.assert_allclose(scaled["grad_cam"], expected["grad_cam"], rtol=1e-3, atol=1e-6)


def test_a_plot_has_a_row_an_image_and_target_and_a_column_a_method(classes, pictures):
    methods = ["grad_cam", "random"]
    found = mcattn_tf.explain(classes, pictures[..., :3] * 2 - 1, [3, 0], methods)
    figure = mcattn_tf.plot(found)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:3] == [f"3\np = {found.probabilities[0, 0]:.2f}", "grad cam", "random"]
    assert titles[3] == f"0\np = {found.probabilities[0, 1]:.2f}"
    # The picture is in [0, 1]; the map of 8x6 cells is drawn on 10x8 pixels.
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.min() >= 0 and drawn.max() <= 1 and drawn.shape == SIZE
