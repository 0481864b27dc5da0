"""`measure` of a network of another maker whose every answer is known."""

import keras
import numpy as np
import pytest
from keras import layers

import mcattn_tf
from mcattn_tf.errors import UserError

COUNT, SIZE = 24, (12, 8)


@pytest.fixture(scope="module")
def model():
    """Says which colour an image has somewhere, in cells of 2x2 pixels."""
    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.Sequential([layers.AveragePooling2D(2), layers.ReLU()]),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.layers[-1].set_weights([24 * 6 * np.eye(3, dtype=np.float32), np.zeros(3)])
    return model


@pytest.fixture(scope="module")
def lit():
    """Images with one lit cell of the colour of their class, those boxes, and the classes."""
    random = np.random.default_rng(0)
    classes, rows, columns = (random.integers(n, size=COUNT) for n in (3, 6, 4))
    images = np.zeros((COUNT, *SIZE, 3), np.float32)
    boxes = np.stack([2 * rows, 2 * columns, 2 * rows + 2, 2 * columns + 2], axis=1)
    for image, (top, left, bottom, right), own in zip(images, boxes, classes, strict=True):
        image[top:bottom, left:right, own] = 1
    return images, boxes, classes


@pytest.fixture(scope="module")
def result(model, lit):
    images, boxes, classes = lit
    named = {"names": ["Red", "Green", "Blue"], "baseline": "zero"}
    return mcattn_tf.measure(model, images, boxes, classes[:, None], **named)


def test_maps_that_show_the_only_evidence_are_measured_as_such(result):
    assert result["default_method"] == "cam" and result["scored"] == "targets"
    for name in ("cam", "grad_cam"):
        values = result[name]
        assert values["pointing_game"] == values["energy_in_region"] == values["coverage"] == 1
        # One of 24 cells holds the answer: the first of 16 steps deletes it, and inserts it.
        whole, none = np.exp(6) / (np.exp(6) + 2), 1 / 3
        step = 2 / 24
        deletion = none + step * (whole - none) / 2
        assert values["deletion_auc"] == pytest.approx(deletion, abs=1e-3)
        insertion = whole - step * (whole - none) / 2
        assert values["insertion_auc"] == pytest.approx(insertion, abs=1e-3)
        assert values["average_drop"] == pytest.approx(0, abs=1e-6)
    assert result["random"]["pointing_game"] < 0.3 < result["random"]["deletion_auc"]
    assert result["random"]["chance"] == pytest.approx(1 / 24)
    assert {"center", "random"} <= set(result)
    assert abs(result["random"]["sanity_rank_correlation"]) < 0.3  # other noise


def test_it_prints_as_a_table(result):
    lines = str(result).splitlines()
    cam = next(line for line in lines if line.startswith("cam "))
    assert "1.000" in cam and "deletion" in str(result) and "Green" in str(result)


def test_masks_and_boxes_and_regions_of_each_class_are_the_same(model, lit, result):
    images, boxes, classes = lit
    masks = images.max(axis=-1) > 0
    of_classes = np.zeros((*masks.shape, 3), bool)
    of_classes[np.arange(COUNT), :, :, classes] = masks
    each = np.zeros((COUNT, 3, 4), int)
    each[np.arange(COUNT), classes] = boxes
    labels = np.eye(3, dtype=bool)[classes]
    for regions, targets in ((masks, None), (of_classes, labels), (each, classes[:, None])):
        other = mcattn_tf.measure(model, images, regions, targets, "cam", draws=0)
        for metric in ("pointing_game", "region_share", "normalized_energy"):
            assert other["cam"][metric] == pytest.approx(result["cam"][metric]), metric
        assert "sanity_ssim" not in other["cam"] and "grad_cam" not in other


def test_cells_that_are_no_whole_pixels_are_measured_on_the_nearest_that_are():
    """Cells of 5x5 on 15x14 pixels: measured on 5x7."""
    images = keras.Input((15, 14, 1))
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(images)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(x))
    network = keras.Model(images, layers.Dense(1)(x))
    pictures = np.random.default_rng(0).random((4, 15, 14, 1), dtype=np.float32)
    masks = np.ones((4, 15, 14), bool)
    values = mcattn_tf.measure(network, pictures, masks, 0, "grad_cam", draws=0)["grad_cam"]
    assert values["pointing_game"] == values["energy_in_region"] == 1
    assert 0 < values["deletion_auc"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regions": np.zeros((COUNT, 5))}, r"`regions` must have one of .*\(24, 12, 8\), .*24, 5"),
        ({"targets": np.zeros((COUNT, 3), bool)}, "and some of them true"),
        ({"baseline": "red"}, "`baseline` must be one of blur, mean, zero"),
        ({"targets": 3}, "`targets` must be from 0 to 2"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(model, lit, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        mcattn_tf.measure(model, lit[0], **arguments)
    assert "\n" not in str(error.value)


class Unsaid(layers.Layer):
    """A layer that Keras cannot make anew."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)

    def get_config(self):
        raise NotImplementedError("no configuration")


def test_a_sanity_check_that_cannot_be_made_is_said_in_one_line(model, lit):
    images = keras.Input((*SIZE, 3))
    x = layers.GlobalAveragePooling2D()(Unsaid(lambda x: x * 2)(layers.Conv2D(3, 1)(images)))
    network = keras.Model(images, layers.Dense(3)(x))
    with pytest.raises(UserError, match="sanity check out by draws=0: no configuration"):
        mcattn_tf.measure(network, lit[0][:4], targets=0, methods="random")
