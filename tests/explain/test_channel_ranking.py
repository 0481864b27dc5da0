"""Rankings of channels, by hand, and the contributions that they are made of."""

import keras
import numpy as np
import pytest
from conftest import NAMES, randomise_weights, tiny_config

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.channel_ranking import (
    ChannelUse,
    _of_classifier,
    channel_use,
    rank_channels,
)
from mcattn_tf.explain.feature_space.correlation import analyze

USE = ChannelUse(
    importance=np.array([[8.0, 1.0, 1.0, 0.0], [0.0, 0.1, 0.0, 0.1], [0.0, 0.0, 0.0, 0.0]]),
    masks=np.array([0.1, 0.2, 0.3, 0.4]),
    activation=np.array([2.0, 1.0, 4.0, 3.0]),
    norm=np.array([1.0, 2.0, 4.0, 3.0]),
)


@pytest.mark.parametrize(
    ("ranking", "order"),
    [
        # Shares 0.8 0.1 0.1 0, and 0 0.5 0 0.5: the weak attribute counts as much.
        ("contributions", [0, 1, 3, 2]),
        ("summed", [0, 1, 2, 3]),  # 8, 1.1, 1, 0.1
        ("masks", [3, 2, 1, 0]),
        ("activation", [2, 3, 0, 1]),
        ("norm", [2, 3, 1, 0]),
    ],
)
def test_rankings_by_hand(ranking, order):
    assert rank_channels(USE, ranking) == order


def test_a_ranking_is_of_the_attributes_that_are_kept():
    assert rank_channels(USE.of_attributes([1]), "contributions")[:2] == [1, 3]
    orders = [rank_channels(USE, "random", seed) for seed in range(8)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len(set(map(tuple, orders))) > 1 and orders[0] == rank_channels(USE, "random", 0)
    with pytest.raises(UserError, match=r"activation, norm, random: this network has no masks"):
        rank_channels(ChannelUse(USE.importance, None, USE.activation, USE.norm), "masks")


def test_use_by_the_subnetworks_is_that_of_the_analysis(images):
    model = randomise_weights(models.build(tiny_config()))
    use = channel_use(model, [images[:4], images[4:]])
    analysis = analyze(model, NAMES, [(images, None)])
    np.testing.assert_allclose(use.importance, analysis.importance, rtol=1e-5)
    np.testing.assert_allclose(use.masks, analysis.mean_masks.mean(axis=0), rtol=1e-5)
    features = keras.Model(model.input, model.get_layer("features").output)(images)
    activation = np.abs(np.asarray(features)).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(use.activation, activation, rtol=1e-5)
    weights = {weight.path: np.asarray(weight) for weight in model.weights}
    kernels = [weights["context_1_conv/kernel"], weights["pointwise_0_conv/kernel"]]
    norm = sum(np.abs(kernel).reshape(-1, 5).sum(axis=0) for kernel in kernels)
    np.testing.assert_allclose(use.norm, norm, rtol=1e-6)


@pytest.mark.parametrize("sharpness", [0.0, 0.7])
def test_contributions_of_a_plain_classifier_sum_to_its_logits(sharpness, images):
    config = tiny_config(model={"name": "baseline", "pooling_sharpness": sharpness})
    model = randomise_weights(models.build(config))
    features = keras.Model(model.input, model.get_layer("features").output)(images)
    contributions = _of_classifier(model, np.asarray(features))
    bias = model.get_layer("multilabel_logits").get_weights()[1]
    logits = keras.Model(model.input, model.get_layer("multilabel").input)(images)
    np.testing.assert_allclose(contributions.sum(axis=2) + bias, np.asarray(logits), atol=1e-4)
    use = channel_use(model, [images])
    np.testing.assert_allclose(use.importance, np.abs(contributions).mean(axis=0), rtol=1e-5)
    assert use.masks is None
