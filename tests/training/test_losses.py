import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_config

from mcattn_tf import models
from mcattn_tf.losses import (
    MaskSparsity,
    ReconstructionError,
    SummedBinaryCrossentropy,
    losses_of,
    positive_weights,
)
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.settings.config import LossConfig
from mcattn_tf.training.compiling import compile_model, targets

OF_LABELS = ("attributes", "multilabel")


def test_cross_entropies_are_summed_over_attributes_and_averaged_over_images():
    labels = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], np.float32)
    probabilities = np.array([[0.5, 0.25, 0.8], [0.1, 0.5, 0.4]], np.float32)
    first = np.log(2) - np.log(0.75) - np.log(0.8)
    second = -np.log(0.9) + np.log(2) - np.log(0.4)
    loss = SummedBinaryCrossentropy()(labels, probabilities)
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_unknown_labels_add_nothing_to_a_loss(smoothing):
    labels = np.array([[1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]], np.float32)
    probabilities = np.array([[0.5, 0.9, 0.25], [0.1, 0.2, 0.3]], np.float32)
    # Of the first image two terms are left, of the second none; both images are averaged over.
    present = -(1 - smoothing / 2) * np.log(0.5) - smoothing / 2 * np.log(0.5)
    absent = -(1 - smoothing / 2) * np.log(0.75) - smoothing / 2 * np.log(0.25)
    total = (present + absent) / 2
    for output, expected in (
        ("attributes", total),
        ("multilabel", total),
        ("perception", total / 3),
    ):
        losses, _ = losses_of([output], LossConfig(), label_smoothing=smoothing)
        assert float(losses[output](labels, probabilities)) == pytest.approx(expected, rel=1e-5)
        given = tf.constant(probabilities)
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss = losses[output](labels, given)
        gradient = tape.gradient(loss, given).numpy()
        assert (gradient != 0).tolist() == [[True, False, True], [False] * 3]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_present_labels_are_weighted_and_unknown_ones_still_add_nothing(smoothing):
    labels = np.array([[1, 0, -1], [0, 0, 1], [0, 1, 1], [0, -1, 1]], np.float32)
    # 1 of 4 present; 1 of 3; 3 of 3.
    weights = positive_weights(labels, cap=2.5)
    assert weights == (2.5, 2.0, 1.0)
    assert positive_weights(1 - np.eye(5)[:, :1], cap=3.0) == pytest.approx([1 / 3])
    probabilities = np.array([[0.5, 0.25, 0.8], [0.1, 0.5, 0.4], [0.2, 0.6, 0.7], [0.3, 0.9, 0.9]])
    smooth = (1 - smoothing) * np.maximum(labels, 0) + smoothing / 2
    entropies = -smooth * np.log(probabilities) - (1 - smooth) * np.log(1 - probabilities)
    entropies *= np.where(labels == 1, weights, labels == 0)
    for output, expected in (("multilabel", entropies.sum()), ("attention", entropies.sum() / 3)):
        losses, _ = losses_of([output], LossConfig(), False, smoothing, weights)
        loss = losses[output](labels, probabilities.astype(np.float32))
        assert float(loss) == pytest.approx(expected / 4, rel=1e-5)
    copy = SummedBinaryCrossentropy.from_config(losses["attention"].get_config())
    assert copy.positive_weights == weights


def test_smoothed_labels_lie_between_the_label_and_an_even_guess():
    labels = np.array([[1.0, 0.0, 0.0]], np.float32)
    probabilities = np.array([[0.5, 0.25, 0.25]], np.float32)
    entropies = -np.log([0.5, 0.25, 0.25]), -np.log([0.5, 0.75, 0.75])  # of present, of absent
    present = np.array([0.9, 0.1, 0.1])
    binary = present * entropies[0] + (1 - present) * entropies[1]
    softmax = np.array([0.8 + 0.2 / 3, 0.2 / 3, 0.2 / 3]) @ entropies[0]
    for output, exclusive, expected in (
        ("multilabel", False, binary.sum()),
        ("probabilities", False, binary.sum()),
        ("perception", False, binary.mean()),
        ("probabilities", True, softmax),
        ("perception", True, softmax),
    ):
        losses, _ = losses_of([output], LossConfig(), exclusive, label_smoothing=0.2)
        assert float(losses[output](labels, probabilities)) == pytest.approx(expected, rel=1e-5)
    config = tiny_config(training={"label_smoothing": 0.2})
    model = models.build(config)
    compile_model(model, config, optimizer_of(config.training, 10))
    assert {loss.label_smoothing for name, loss in model.loss.items() if name in OF_LABELS} == {0.2}


def test_reconstruction_error_is_the_mean_over_pixels():
    images = np.zeros((2, 2, 3, 3), np.float32)
    reconstructions = np.zeros_like(images)
    reconstructions[0, 0, 0] = [0.1, 0.2, 0.3]  # squares sum to 0.14 over 18 values
    stored = ReconstructionError().get_config() | {"pixel_reduction": "mean"}  # a retired argument
    for error in (ReconstructionError(), ReconstructionError.from_config(stored)):
        assert float(error(images, reconstructions)) == pytest.approx(0.14 / 18 / 2, rel=1e-5)


def test_mask_sparsity_is_the_mean_norm():
    norms = np.array([3.0, 4.0, 8.0], np.float32)
    assert float(MaskSparsity()(np.zeros(3, np.float32), norms)) == pytest.approx(5.0)


def test_a_confidently_wrong_answer_still_has_a_gradient():
    inputs = keras.Input((1,))
    outputs = keras.layers.Activation("sigmoid", dtype="float32")(inputs)
    model = keras.Model(inputs, outputs)

    @tf.function
    def loss_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = SummedBinaryCrossentropy()(tf.zeros((1, 1)), model(logits))
        return loss, tape.gradient(loss, logits)

    # The cross-entropy of a logit of 40 against 0 is 40, its slope 1; from the probability,
    # which is 1 in float32, it could not be had.
    loss, gradient = loss_and_gradient(tf.constant([[40.0]]))
    assert float(loss) == pytest.approx(40.0)
    assert float(gradient[0, 0]) == pytest.approx(1.0)


def test_total_loss_is_the_weighted_sum_of_its_named_parts(images):
    weights = {"attributes": 0.5, "multilabel": 2.0, "reconstruction": 3.0, "mask_l1": 0.01}
    config = tiny_config(loss=weights)
    model = models.build(config)
    compile_model(model, config, optimizer_of(config.training, 10))
    labels = np.random.default_rng(0).integers(0, 2, (6, 3)).astype(np.float32)
    logs = model.test_on_batch(
        images, targets(list(model.output), images, labels), return_dict=True
    )
    parts = {name: logs[f"{name}_loss"] for name in weights}
    assert all(value > 0 for value in parts.values())
    expected = sum(weights[name] * value for name, value in parts.items())
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_reconstruction_error_is_the_mean_over_pixels_also_of_a_stored_configuration():
    losses, _ = losses_of(["reconstruction"], tiny_config().loss)
    error = losses["reconstruction"](np.zeros((2, 12, 8, 3)), np.full((2, 12, 8, 3), 0.5))
    assert float(error) == pytest.approx(0.25)
    config = losses["reconstruction"].get_config() | {"pixel_reduction": "mean"}  # of older runs
    assert type(losses["reconstruction"]).from_config(config).name == "reconstruction_error"


def test_losses_of_a_baseline_are_the_multi_label_classifiers_alone():
    losses, weights = losses_of(["multilabel"], tiny_config().loss)
    assert list(losses) == list(weights) == ["multilabel"]
