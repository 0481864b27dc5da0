"""Smaller networks: some channels and attributes of a trained one, with their weights."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.systems import SYSTEMS


def prune(
    model: keras.Model,
    config: Config,
    channels: Sequence[int],
    attributes: Sequence[str] | None = None,
) -> tuple[keras.Model, Config]:
    """Builds a network of some channels and attributes of another, with its weights.

    Every layer that writes the features (the last 3x3 convolution, the position embedding, the 1x1
    convolutions) keeps the filters of these channels. Every layer that reads them (the 1x1
    convolutions, masks, heads, classifier, reconstructor) keeps their weights. The network equals
    the whole one in which each of those layers leaves the other channels at 0.

    Args:
        model: Trained `mcattn` or `baseline`.
        config: Its settings.
        channels: Numbers of the channels to keep, in rising order.
        attributes: Names of the attributes to keep; None for all.

    Returns:
        The network, in float32, and its settings. Attributes that are left out are left out of the
        data (`data.attributes`), too.

    Raises:
        UserError: If the network has no such channels, or the builder makes other layers.
    """
    require_prunable(config)
    config = _with_channels(config, len(channels))
    model = _cut(model, _build(config), channels)
    if attributes is not None:
        places = [config.attributes.index(name) for name in attributes]
        config = _with_attributes(config, places)
        model = _cut(model, _build(config), places)
    return model, config


def require_prunable(config: Config) -> None:
    """Raises a UserError unless the network is one whose channels can be pruned."""
    if "extractor" not in SYSTEMS[config.model.system].parts:
        able = [name for name, row in SYSTEMS.items() if "extractor" in row.parts]
        raise UserError(
            f"a run of {config.model.name} cannot be pruned, its layers have widths of their own; "
            f"runs of {' and '.join(able)} can"
        )


def writers(model: keras.Model) -> list[keras.layers.Conv2D]:
    """Returns the convolutions whose sum the features are: a last 3x3 one, then the 1x1 ones."""
    convolutions = [layer for layer in model.layers if layer.name.endswith("_conv")]
    below = [x for x in convolutions if x.name.startswith(("stem", "context", "projection"))]
    return [below[-1], *(x for x in convolutions if x.name.startswith("pointwise"))]


def _build(config: Config) -> keras.Model:
    return models.build(config.replace("training", precision="float32"))


def _with_channels(config: Config, count: int) -> Config:
    """Returns settings with fewer channels of the features, and all others as they were."""
    old = config.model
    inner = old.inner_channels or old.channels
    stem = old.stem
    if not old.dilations and stem[-1][0] == old.channels:  # the stem writes the features
        stem = (*stem[:-1], (count, *stem[-1][1:]))
    return config.replace("model", channels=count, inner_channels=inner, stem=stem)


def _with_attributes(config: Config, places: Sequence[int]) -> Config:
    """Returns settings of some of the attributes, in their order."""
    found = config.found
    names = tuple(found.attributes[place] for place in places)
    weights = tuple(found.positive_weights[place] for place in places if found.positive_weights)
    found = dataclasses.replace(found, attributes=names, positive_weights=weights)
    return dataclasses.replace(config, found=found).replace("data", attributes=names)


def _cut(whole: keras.Model, smaller: keras.Model, kept: Sequence[int]) -> keras.Model:
    """Gives a network the weights of another; `kept` are taken along axes of another size.

    The two differ in one number, so that these axes count the same things, in the same order.
    """
    if [x.path for x in whole.weights] != [x.path for x in smaller.weights]:
        raise UserError(
            f"a network of {len(kept)} channels has other layers (the stem ends with as many); "
            "keep one channel more or fewer"
        )
    weights = []
    for old, new in zip(whole.get_weights(), smaller.weights, strict=True):
        for axis, size in enumerate(new.shape):
            if old.shape[axis] != size:
                old = np.take(old, kept, axis)
        weights.append(old)
    smaller.set_weights(weights)
    return smaller
