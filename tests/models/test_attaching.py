"""MCAttn's sub-networks on a backbone of the user's own, trained with the losses by name."""

import keras
import numpy as np
import pytest
from conftest import NAMES, he_weights
from keras import layers

import mcattn_tf
from mcattn_tf.errors import UserError
from mcattn_tf.settings.config import LossConfig
from mcattn_tf.settings.systems import system_of
from mcattn_tf.training.compiling import targets

SIZE = (16, 24)


def backbone(stride=4):
    images = keras.Input((*SIZE, 3))
    x = layers.Rescaling(2.0, -1.0)(images)
    x = layers.Conv2D(4, 3, strides=stride // 2, padding="same", activation="relu")(x)
    x = layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", name="grid")(x)
    return keras.Model(images, layers.GlobalAveragePooling2D()(x))


@pytest.fixture(scope="module")
def model():
    features = backbone().get_layer("grid").output
    return he_weights(mcattn_tf.attach(features, NAMES, mask_rank=2, mask_context=3))


@pytest.fixture(scope="module")
def faces():
    random = np.random.default_rng(0)
    return random.random((6, *SIZE, 3), np.float32), random.integers(0, 2, (6, len(NAMES)))


def test_a_backbone_with_sub_networks_is_a_network_of_this_package(model, faces):
    assert system_of(model).parts == ("subnetworks", "extractor", "reconstruction")
    images, _ = faces
    outputs = model.predict(images, verbose=0)
    assert outputs["reconstruction"].shape == images.shape
    found = mcattn_tf.explain(model, images, "Eyeglasses")
    index = NAMES.index("Eyeglasses")
    bias = model.get_layer("masked_pooling").head_bias
    sums = found["contributions"].sum(axis=(1, 2, 3)) + float(bias[index])
    p = outputs["attributes"][:, index]
    np.testing.assert_allclose(sums, np.log(p / (1 - p)), rtol=1e-3, atol=1e-4)
    # 3x3 at full strides of 2 and 4: cell (1, 2) sees 7 pixels and their padding's side.
    assert found.boxes.shape == (4, 6, 4) and found.boxes[1, 2].tolist() == [4, 8, 11, 15]


def test_targets_that_are_left_out_are_the_labels_and_the_images(model, faces):
    images, labels = faces
    outputs = model.predict(images, verbose=0)
    p = {name: outputs[name].astype(float) for name in ("attributes", "multilabel")}
    entropies = [
        -np.where(labels == 1, np.log(x), np.log(1 - x)).sum(axis=1).mean() for x in p.values()
    ]
    error = np.mean((outputs["reconstruction"] - images) ** 2)
    weights = LossConfig()
    expected = sum(entropies) + weights.reconstruction * error
    expected += weights.mask_l1 * outputs["mask_l1"].mean()
    mcattn_tf.compile_model(model, optimizer="sgd")
    whole = targets(list(model.output), images, labels.astype("float32"))
    partly = {"attributes": labels, "reconstruction": images}
    for given in (labels, {"attributes": labels}, {"multilabel": labels}, partly, whole):
        result = model.evaluate(images, given, verbose=0, return_dict=True)
        assert result["loss"] == pytest.approx(expected, rel=1e-4)
        accuracy = np.mean((p["multilabel"] > 0.5) == labels)
        assert result["multilabel_accuracy"] == pytest.approx(accuracy)
    zeros = {"attributes": labels, "reconstruction": 0 * images}
    other = model.evaluate(images, zeros, verbose=0, return_dict=True)["loss"]
    missing = weights.reconstruction * (np.mean(outputs["reconstruction"] ** 2) - error)
    assert other - expected == pytest.approx(missing, rel=1e-2)
    with pytest.raises(UserError, match="targets must be labels, or a dict with 'attributes'"):
        model.evaluate(images, {"reconstruction": images}, verbose=0)


def test_it_learns_by_fit(faces):
    images = faces[0].copy()
    images[:3, :8, :12] = 1
    labels = np.zeros((6, 3))
    labels[:3, 0] = labels[3:, 1] = 1
    model = mcattn_tf.attach(
        backbone().get_layer("grid").output, NAMES, mask_rank=2, mask_context=3
    )
    mcattn_tf.compile_model(model, optimizer=keras.optimizers.Adam(0.03))
    history = model.fit(images, labels, epochs=12, batch_size=6, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]


def test_a_sequential_backbone_is_given_as_a_whole():
    layer = layers.Conv2D(5, 3, strides=4, padding="same", activation="relu")
    sequential = keras.Sequential([keras.Input((*SIZE, 3)), layer])
    model = mcattn_tf.attach(sequential, NAMES, mask_rank=2)
    assert model.get_layer("features").output.shape == (None, 4, 6, 5)
    assert any(weight is layer.kernel for weight in model.weights)  # shared, not copied
    assert mcattn_tf.explain(model, np.ones((1, *SIZE, 3)), "Bald").boxes.shape == (4, 6, 4)


@pytest.mark.parametrize(
    ("features", "names", "message"),
    [
        (lambda: backbone().output, NAMES, r"`features` must be \(B, h, w, C\).*\(None, 5\)"),
        (lambda: backbone(6).get_layer("grid").output, NAMES, "Received: 3x4 cells of 16x24"),
        (lambda: backbone().get_layer("grid").output, [], "`attribute_names` must name at least"),
    ],
)
def test_features_that_do_not_fit_are_refused_in_one_line(features, names, message):
    with pytest.raises(UserError, match=message) as error:
        mcattn_tf.attach(features(), names)
    assert "\n" not in str(error.value)
