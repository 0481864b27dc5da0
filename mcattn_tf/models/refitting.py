"""A pruned network fitted to the whole one in place of training: 1x1 layers, then biases."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
from keras import ops

from mcattn_tf.models import label_outputs
from mcattn_tf.models.pruning import writers

POSITIONS = 64  # cells of each image
RIDGE = 1e-4  # of the mean variance of the inputs


def refit_layers(
    smaller: keras.Model, whole: keras.Model, kept: list[int], batches: Iterable[np.ndarray]
) -> None:
    """Fits the 1x1 layers of a pruned network to those of the whole one, in place.

    A 1x1 convolution of the pruned network reads fewer channels. Its weights, and a constant in the
    mean of its batch normalisation, are chosen so that before the normalisation it computes what
    the whole network's does, as nearly as a linear function of the kept channels can. Layers are
    fitted one after another, each to inputs from those fitted before.

    Source: He et al. 2017 (channel pruning for accelerating very deep neural networks), section
    3.1, with the channels given.

    Args:
        smaller: Network from `pruning.prune`.
        whole: The network that it was made of.
        kept: Numbers of its channels in the whole network.
        batches: Images (B, H, W, 3) in [0, 1].
    """
    _, *pointwise = writers(whole)
    if not pointwise:
        return
    random, inputs = np.random.default_rng(0), keras.Model(whole.input, pointwise[0].input)
    rows = []
    for images in batches:
        features = ops.convert_to_numpy(inputs.predict_on_batch(images)).astype(np.float64)
        features = features.reshape(-1, features.shape[-1])
        count = min(POSITIONS * len(images), len(features))
        rows.append(features[random.choice(len(features), count, replace=False)])
    x = np.concatenate(rows)  # (N, C), what the whole network computes
    ours = x[:, kept]
    for convolution in pointwise:
        kernel = convolution.get_weights()[0][0, 0].astype(np.float64)
        before = x @ kernel  # (N, C)
        target, shift = before[:, kept], ours.mean(axis=0)
        centered = ours - shift
        gram = centered.T @ centered
        gram += np.eye(len(gram)) * RIDGE * np.trace(gram) / len(gram)
        weights = np.linalg.solve(gram, centered.T @ (target - target.mean(axis=0)))
        constant = target.mean(axis=0) - shift @ weights
        smaller.get_layer(convolution.name).set_weights([weights[None, None]])
        own, others = (_normalization(model, convolution) for model in (smaller, whole))
        gamma, beta, mean, variance = own.get_weights()
        own.set_weights([gamma, beta, mean - constant, variance])
        x = x + _normalized(before, others)
        ours = ours + _normalized(ours @ weights, own)


def refit_biases(
    smaller: keras.Model, whole: keras.Model, places: Sequence[int], batches: Iterable[np.ndarray]
) -> None:
    """Moves the biases of a pruned network so that it answers as the whole one does, in place.

    What the other channels added to a logit on all images is missing. Each bias is moved to where
    the fewest answers differ from the whole network's; labels are not needed.

    Args:
        smaller: Network from `pruning.prune`.
        whole: The network that it was made of.
        places: Numbers of its attributes in the whole network.
        batches: Images (B, H, W, 3) in [0, 1].
    """
    models = whole, smaller
    networks = [
        keras.Model(x.input, {name: x.get_layer(name).input for name in label_outputs(x)})
        for x in models
    ]
    logits = [[network.predict_on_batch(images) for network in networks] for images in batches]
    for name in label_outputs(smaller):
        theirs, ours = (np.concatenate([pair[i][name] for pair in logits]) for i in range(2))
        shift = [
            -best_threshold(own, other > 0)
            for own, other in zip(ours.T, theirs[:, places].T, strict=True)
        ]
        bias = _bias(smaller, name)
        bias.assign(ops.convert_to_numpy(bias) + np.array(shift, np.float32))


def best_threshold(scores: np.ndarray, present: np.ndarray) -> float:
    """Returns the threshold of scores (N,) that best tells who is `present`, (N,), bool.

    It lies midway between two scores; where all are present or all absent, beyond them by 1.
    """
    order = np.argsort(scores, kind="stable")
    rising = scores[order].astype(np.float64)
    # Mistakes where the first i scores are below the threshold.
    below = np.append(0, np.cumsum(present[order]))
    mistakes = below + np.sum(~present) - (np.arange(len(rising) + 1) - below)
    ends = np.concatenate([rising[:1] - 2, rising, rising[-1:] + 2])
    gaps = np.diff(ends)
    best = np.lexsort((-gaps, np.where(gaps > 0, mistakes, np.inf)))[0]  # the widest of the best
    return float((ends[best] + ends[best + 1]) / 2)


def _bias(model: keras.Model, output: str) -> keras.Variable:
    """Returns the biases (K,) of the logits of an output."""
    layer = {"attributes": "attribute_logits", "multilabel": "multilabel_logits"}[output]
    if layer in [x.name for x in model.layers]:
        return model.get_layer(layer).bias
    return model.get_layer("masked_pooling").head_bias  # the pooling has the heads


def _normalization(model: keras.Model, convolution: keras.Layer) -> keras.layers.BatchNormalization:
    return model.get_layer(convolution.name.removesuffix("conv") + "bn")


def _normalized(values: np.ndarray, layer: keras.layers.BatchNormalization) -> np.ndarray:
    """Returns batch normalisation in inference and ReLU of values (N, C)."""
    gamma, beta, mean, variance = layer.get_weights()
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return np.maximum((values - mean) * scale + beta, 0)
