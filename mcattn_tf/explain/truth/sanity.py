"""Sanity of maps: cascading randomisation of the weights (Adebayo et al. 2018)."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mcattn_tf.layers import AttributeMasks
from mcattn_tf.settings.systems import system_of

DRAWS = 10
SSIM_WINDOW = 7  # cells; maps that are smaller have a smaller one


class Stage(NamedTuple):
    """Weights that are randomised together."""

    name: str  # `heads`, `masks`, or the first of the layers
    weights: tuple[str, ...]  # paths, `LAYER/WEIGHT`


def stages(model: keras.Model) -> list[Stage]:
    """Returns the order in which the weights are randomised.

    Args:
        model: network with a layer `features`, without models inside of it.

    Returns:
        The heads: all layers after the features but the masks; the masks, where there are any;
        then the extractor (for GCM the decoder first) from the top, each convolution with its
        normalisation. A normalisation of joined features goes with the layer before it.
    """
    top = model.get_layer(system_of(model).extractor_end)
    extractor = keras.Model(model.input, top.output)
    below = [layer for layer in extractor.layers if layer.weights]
    names = {layer.name for layer in below}
    above = [layer for layer in model.layers if layer.weights and layer.name not in names]
    masks = [
        weight.path
        for layer in above
        if isinstance(layer, AttributeMasks)
        for weight in (layer.kernel, layer.bias)
    ]
    heads = [weight.path for layer in above for weight in layer.weights if weight.path not in masks]
    blocks: dict[str, tuple[str, ...]] = {}
    for layer in below:
        name = layer.name
        if blocks and isinstance(layer, keras.layers.BatchNormalization):
            normalised = layer.input._keras_history.operation.name
            name = normalised if normalised in blocks else list(blocks)[-1]
        blocks[name] = blocks.get(name, ()) + tuple(weight.path for weight in layer.weights)
    convolutions = [Stage(name, weights) for name, weights in reversed(blocks.items())]
    cascade = [Stage("heads", tuple(heads)), Stage("masks", tuple(masks)), *convolutions]
    return [stage for stage in cascade if stage.weights]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns Spearman's rank correlation (P,), in [-1, 1], of each pair of maps (P, h, w).

    Equal values share their mean rank. It is 0 where one map is constant and 1 where both are.
    """
    first, second = _ranks(first), _ranks(second)
    first -= first.mean(axis=1, keepdims=True)
    second -= second.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    product, constant = norms[0] * norms[1], (norms[0] == 0) & (norms[1] == 0)
    correlation = np.sum(first * second, axis=1) / np.where(product > 0, product, 1)
    return np.where(constant, 1.0, correlation)


def _ranks(maps: np.ndarray) -> np.ndarray:
    flat = maps.reshape(len(maps), -1)
    rising = np.sort(flat, axis=1)
    return np.stack(
        [
            (np.searchsorted(row, values, "left") + np.searchsorted(row, values, "right") - 1) / 2
            for row, values in zip(rising, flat, strict=True)
        ]
    )


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the SSIM (P,) of each pair of maps (P, h, w), each scaled to [0, 1]; at most 1.

    Source: Wang et al. 2004.
    """
    window = min(SSIM_WINDOW, *first.shape[1:])
    scaled = (tf.constant(_scaled(maps)[..., None], tf.float32) for maps in (first, second))
    return tf.image.ssim(*scaled, max_val=1.0, filter_size=window).numpy()


def _scaled(maps: np.ndarray) -> np.ndarray:
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def cascading_randomisation(
    model: keras.Model,
    explain: Callable[[], dict[str, np.ndarray]],
    draws: int = DRAWS,
    seed: int = 0,
    report: Callable[[int], object] = lambda done: None,
) -> dict[str, dict[str, np.ndarray]]:
    """Compares maps with those of ever more randomised weights (Adebayo et al. 2018).

    Each stage of `stages(model)` in turn gets new initial weights, and earlier ones keep theirs. In
    the end the model has its trained weights again.

    Args:
        model: the network.
        explain: function that returns {method: maps (P, h, w)} under the model's present weights.
        draws: number of repetitions with other weights.
        seed: seed of the weights; also sets Keras' own seed.
        report: function called with 1 after each of draws * stages explanations.

    Returns:
        {method: {"rank_correlation": (S,), "ssim": (S,)}}: the means over maps and draws after
        each of the S stages; the rank correlation's absolute value is averaged.
    """
    keras.utils.set_random_seed(seed)
    cascade, trained = stages(model), model.get_weights()
    original = explain()
    totals = {
        name: {measure: np.zeros(len(cascade)) for measure in ("rank_correlation", "ssim")}
        for name in original
    }
    try:
        for _ in range(draws):
            fresh = {weight.path: weight for weight in keras.models.clone_model(model).weights}
            for index, stage in enumerate(cascade):
                for weight in model.weights:
                    if weight.path in stage.weights:
                        weight.assign(fresh[weight.path])
                for name, maps in explain().items():
                    ranks = np.abs(rank_correlation(original[name], maps))
                    totals[name]["rank_correlation"][index] += ranks.mean() / draws
                    totals[name]["ssim"][index] += similarity(original[name], maps).mean() / draws
                report(1)
            model.set_weights(trained)
    finally:
        model.set_weights(trained)
    return totals
