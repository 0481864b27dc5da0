"""Section 4.7 of the GCM paper, by hand and against the methods one by one."""

import numpy as np
import pytest
from conftest import he_weights, tiny_config_of

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import published
from mcattn_tf.evaluation.decline_table import format_decline
from mcattn_tf.explain.methods import Attributor, Pairs
from mcattn_tf.explain.truth.decline import decline, maps_of, measure_decline, visual_map_means


def test_means_of_visual_maps_by_hand():
    maps = np.array([[[[0.0, 4.0], [2.0, 2.0]], [[-1.0, -1.0], [-1.0, -1.0]]]])
    images = np.zeros((1, 2, 2, 3))
    images[0, 0, 1], images[0, 1, 0] = (0.3, 0.6, 0.9), (1, 1, 1)
    means = visual_map_means(maps, images, colored=True)
    np.testing.assert_allclose(means["map"], [[2, -1]])
    # From 0 to 4: 0, 1, 1/2, 1/2; a map that is the same everywhere has no highest place.
    np.testing.assert_allclose(means["normalized"], [[0.5, 0]])
    # Jet is half blue at 0, half red at 1 and (1/2, 1, 1/2) in the middle; at 128 of 255 red gains
    # what blue loses.
    image = (0.3 + 0.6 + 0.9 + 3) / 12
    jet = [(1 / 6 + 1 / 6 + 2 / 3 + 2 / 3) / 4, 1 / 6]
    expected = 0.7 * np.array(jet) + 0.2 * image
    np.testing.assert_allclose(means["weighted_sum"], [expected])
    np.testing.assert_allclose(means["product"], [[(4 * 0.6 + 2) / 4, -(0.6 + 1) / 4]])


def test_a_weighted_sum_with_raw_maps_adds_the_same_to_every_class():
    random = np.random.default_rng(0)
    maps, images = random.normal(size=(4, 5, 6, 3, 3)), random.random((4, 6, 3, 3))
    means = visual_map_means(maps, images, colored=False)
    image = images.mean(axis=(1, 2, 3))[:, None]
    np.testing.assert_allclose(means["weighted_sum"], 0.7 * means["map"] + 0.2 * image)
    expected = np.einsum("bnhwd,bhwd->bn", maps, images) / (6 * 3 * 3)
    np.testing.assert_allclose(means["product"], expected)


def test_coarse_maps_are_enlarged_by_bicubic_interpolation():
    # Rows of 0, 1, 4, 9, 16, 25: Keys' cubic keeps a quadratic, bilinear interpolation does not.
    maps = np.broadcast_to(np.arange(6.0)[:, None] ** 2, (1, 1, 6, 6)).astype(np.float32)
    images = np.zeros((1, 12, 12, 3), np.float32)
    images[0, 5, 6] = 1  # the centre of row 5 is at 2.25 of the coarse rows
    means = visual_map_means(maps, images, colored=False)
    # Bilinear would be (3 * 4 + 9) / 4 = 5.25.
    np.testing.assert_allclose(means["product"], [[2.25**2 / 144]], rtol=1e-3)
    np.testing.assert_allclose(means["map"], [[55 / 6]])  # as it is


def test_the_printed_declines_follow_from_the_printed_accuracies():
    for classifier, ways in published.DECLINE.values():
        for accuracy, printed in ways.values():
            assert 100 * decline(classifier, accuracy) == pytest.approx(printed, abs=0.011)


def examples(count=40):
    random = np.random.default_rng(3)
    noise = random.random((count, 12, 8, 3), dtype=np.float32)
    images = noise * random.random((count, 12, 1, 3), dtype=np.float32)
    return images, np.eye(3, dtype=np.float32)[random.integers(0, 3, count)]


def with_answers_that_differ(model, last, images):
    """Moves the biases of the last layer so that no class is answered for every image."""
    scale = images.mean() if last == "decoder_15_conv" else 1  # GCM multiplies by the image
    for _ in range(10):  # more than once where maps are clipped
        scores = model.predict_on_batch(images)["scores"].mean(axis=0)
        kernel, bias = model.get_layer(last).get_weights()
        bias = bias - (scores - scores.mean()) / scale
        model.get_layer(last).set_weights([kernel, bias])
    answers = model.predict_on_batch(images)["probabilities"].argmax(axis=1)
    assert len(set(answers)) == 3
    return model


@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_contribution_maps_of_gcm_decline_by_nothing(nonnegative):
    config = tiny_config_of("gcm", exclusive=True, nonnegative=nonnegative)
    images, labels = examples()
    model = he_weights(models.build(config))
    model = with_answers_that_differ(model, "decoder_15_conv", images)
    answers = model.predict_on_batch(images)["probabilities"].argmax(axis=1)
    batches = [(images[:25], labels[:25]), (images[25:], labels[25:])]
    result = measure_decline(maps_of(model), batches, 40)
    assert result["accuracy"] == pytest.approx(np.mean(answers == labels.argmax(axis=1)))
    assert list(result["methods"]) == ["gcm"]
    product = result["methods"]["gcm"]["product"]
    assert product == {"accuracy": result["accuracy"], "decline": 0.0}


@pytest.fixture(scope="module")
def classifier():
    model = he_weights(models.build(tiny_config_of("cnn", exclusive=True)))
    return with_answers_that_differ(model, "scores", examples()[0])


def test_maps_of_a_classifier_are_those_of_each_method(classifier):
    images, _ = examples(5)
    probabilities, maps = maps_of(classifier)(images)
    outputs = classifier.predict_on_batch(images)
    np.testing.assert_allclose(probabilities, outputs["probabilities"], atol=1e-6)
    attributor = Attributor(classifier, ["cam", "grad_cam", "guided_backprop", "guided_grad_cam"])
    pairs = Pairs.product(5, range(3))
    expected = attributor.maps(images, attributor.forward(images), pairs)
    for name, values in maps.items():
        values = values.reshape(15, *values.shape[2:])
        if name.startswith("guided"):  # of signed gradients their size
            values = np.abs(values).sum(axis=-1)
        wanted = np.maximum(expected[name], 0) if name == "grad_cam" else expected[name]
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-6, err_msg=name)


def test_cam_by_itself_misses_the_bias_alone(classifier):
    images, labels = examples()
    kernel, _ = classifier.get_layer("scores").get_weights()
    unbiased = models.build(tiny_config_of("cnn", exclusive=True))
    unbiased.set_weights(classifier.get_weights())
    unbiased.get_layer("scores").set_weights([kernel, np.zeros(3)])
    result = measure_decline(maps_of(unbiased), [(images, labels)], 40)
    assert result["methods"]["cam"]["map"] == {"accuracy": result["accuracy"], "decline": 0.0}
    biased = measure_decline(maps_of(classifier), [(images, labels)], 40)
    without = result["accuracy"]  # of the classifier without its bias
    assert biased["methods"]["cam"]["map"]["accuracy"] == without
    lost = (biased["accuracy"] - without) / biased["accuracy"]
    assert biased["methods"]["cam"]["map"]["decline"] == pytest.approx(lost)
    table = format_decline({"runs/a": biased}).splitlines()
    row = next(line for line in table if line.startswith("cam, runs/a"))
    assert f"{100 * without:.2f} ({100 * lost:.2f})" in row
    assert "89.80 (0.65)" in table[table.index(row) + 1]


def test_a_network_that_is_never_right_has_nothing_to_lose(classifier):
    images, _ = examples(5)
    wrong = np.roll(np.eye(3)[classifier.predict_on_batch(images)["scores"].argmax(1)], 1, axis=1)
    with pytest.raises(UserError, match="answers none of 5 images right"):
        measure_decline(maps_of(classifier), [(images, wrong)], 5)


def test_labels_that_do_not_exclude_each_other_have_no_decline():
    with pytest.raises(UserError, match="the labels of model 'gcm' do not exclude each other"):
        maps_of(models.build(tiny_config_of("gcm")))
