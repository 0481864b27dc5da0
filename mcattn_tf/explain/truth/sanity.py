"""Sanity of maps: cascading randomisation of the weights (Adebayo et al. 2018)."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.explain.truth.localisation import scaled
from mcattn_tf.layers import AttributeMasks
from mcattn_tf.settings.systems import system_of

DRAWS = 10
SSIM_WINDOW = 7  # cells; at most a side of the map

_ssim = tf.function(tf.image.ssim)  # hundreds of small operations


class Stage(NamedTuple):
    """Weights that are randomised together."""

    name: str  # `heads`, `masks`, or the first of the layers
    weights: tuple[str, ...]  # paths, `LAYER/WEIGHT`


def stages(model: keras.Model) -> list[Stage]:
    """Returns the stages of a network without nested models, in order of randomisation.

    The heads are all layers above the features but the masks. The masks, if any, follow, then the
    extractor (for GCM the decoder first) from the top, each convolution with its normalisation. A
    normalisation of joined features goes with the layer before it.
    """
    top = model.get_layer(system_of(model).extractor_end)
    extractor = keras.Model(model.input, top.output)
    below = [layer for layer in extractor.layers if layer.weights]
    names = {layer.name for layer in below}
    above = [layer for layer in model.layers if layer.weights and layer.name not in names]
    masked = [layer for layer in above if isinstance(layer, AttributeMasks)]
    masks = [weight.path for layer in masked for weight in layer.mask_weights]
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

    Equal values share their mean rank. It is 0 if one map is constant and 1 if both are.
    """
    ranks = [stats.rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    first, second = (x - x.mean(axis=1, keepdims=True) for x in ranks)
    norms = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    product, constant = norms[0] * norms[1], (norms[0] == 0) & (norms[1] == 0)
    correlation = np.sum(first * second, axis=1) / np.where(product > 0, product, 1)
    return np.where(constant, 1.0, correlation)


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the SSIM (Wang et al. 2004) of each pair of maps, (P,), each map scaled to [0, 1]."""
    window = min(SSIM_WINDOW, *first.shape[1:])
    pictures = (tf.constant(scaled(x, (1, 2))[..., None], tf.float32) for x in (first, second))
    return _ssim(*pictures, max_val=1.0, filter_size=window).numpy()


def _clone(model: keras.Model) -> keras.Model:
    """Returns the same network with new initial weights."""
    try:
        return keras.models.clone_model(model)
    except Exception as error:  # whatever the configuration of a user's own layer raises
        reason = f"leave the sanity check out by draws=0: {reason_of(error)}"
        raise UserError(f"a layer cannot be made anew with random weights; {reason}") from error


def cascading_randomisation(
    model: keras.Model,
    explain: Callable[[], dict[str, np.ndarray]],
    draws: int = DRAWS,
    seed: int = 0,
    report: Callable[[int], object] = lambda done: None,
) -> dict[str, dict[str, np.ndarray]]:
    """Compares maps before and after randomisation of the weights (Adebayo et al. 2018).

    Each of the S stages of `stages(model)` in turn gets new initial weights; earlier stages keep
    theirs. The model has its trained weights again at the end. `explain` returns {method: maps
    (P, h, w)} for the model's present weights; `report` is called with 1 after each of its calls.

    Returns:
        {method: {"rank_correlation": (S,), "ssim": (S,)}}: means over maps and draws after each
        stage, of the absolute value for the rank correlation.
    """
    keras.utils.set_random_seed(seed)
    cascade, trained = stages(model), model.get_weights()
    original = explain()
    measures = ("rank_correlation", "ssim")
    totals = {name: {x: np.zeros(len(cascade)) for x in measures} for name in original}
    try:
        for _ in range(draws):
            fresh = _clone(model).weights
            for index, stage in enumerate(cascade):
                for weight, other in zip(model.weights, fresh, strict=True):
                    if weight.path in stage.weights:
                        weight.assign(other)
                for name, maps in explain().items():
                    ranks = np.abs(rank_correlation(original[name], maps))
                    totals[name]["rank_correlation"][index] += ranks.mean() / draws
                    totals[name]["ssim"][index] += similarity(original[name], maps).mean() / draws
                report(1)
            model.set_weights(trained)
    finally:
        model.set_weights(trained)
    return totals
