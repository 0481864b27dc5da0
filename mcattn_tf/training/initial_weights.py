"""Initial weights of a training from ImageNet or another run, and the extractor kept as it is."""

from pathlib import Path

import keras

from mcattn_tf import runs
from mcattn_tf.errors import UserError
from mcattn_tf.models.applications import load_imagenet, require_imagenet
from mcattn_tf.settings.backbones import backbone_of
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.systems import system_of
from mcattn_tf.tables import listed

LISTED = 8  # names of layers in a line


def require(config: Config) -> None:
    """Raises a UserError if the initial weights are not to be had, before the data are prepared."""
    if config.training.init_from:
        runs.read_config(config.training.init_from)
    if config.model.weights:
        require_imagenet(backbone_of(config.model.backbone))


def load(model: keras.Model, config: Config) -> None:
    """Gives a new network the weights that its settings name.

    Raises:
        UserError: If ImageNet's weights are not to be had, the other run cannot be read or has
            no layer in common, or an extractor that is to be kept would have random weights.
    """
    if config.model.weights:
        load_imagenet(model, backbone_of(config.model.backbone))
    if config.training.init_from:
        _load_run(model, config, Path(config.training.init_from))


def freeze(model: keras.Model, config: Config) -> None:
    """Keeps the weights and batch statistics of the extractor where `freeze` says so."""
    for layer in _extractor(model) if config.training.freeze else ():
        layer.trainable = False


def _extractor(model: keras.Model) -> list[keras.Layer]:
    top = model.get_layer(system_of(model).trunk).output
    return [layer for layer in keras.Model(model.input, top).layers if layer.weights]


def _load_run(model: keras.Model, config: Config, directory: Path) -> None:
    """Takes the weights of each layer that has the name and shapes of one in another run.

    If the runs have other attributes, it takes the extractor's alone.
    """
    same = runs.read_config(directory).attributes == config.attributes
    theirs = {layer.name: layer.get_weights() for layer in runs.load_model(directory).layers}
    extractor = {layer.name for layer in _extractor(model)}
    taken, left = [], {}
    for layer in (layer for layer in model.layers if layer.weights):
        weights = theirs.get(layer.name)
        if weights is None:
            left[layer.name] = "not there"
        elif [x.shape for x in weights] != [tuple(x.shape) for x in layer.weights]:
            left[layer.name] = "other shape"
        elif not (same or layer.name in extractor):
            left[layer.name] = "other attributes"
        else:
            layer.set_weights(weights)
            taken.append(layer.name)
    if not taken:
        raise UserError(
            f"--init_from {directory} has no layer with the names and shapes of {model.name}; name "
            "a run of the same network"
        )
    if config.training.freeze and (random := sorted(extractor & left.keys())):
        raise UserError(
            f"--freeze extractor needs all of the extractor's weights; --init_from {directory} has "
            f"not those of {listed(random, LISTED)}: take that run's --model and --image_size, or "
            "leave --freeze out"
        )
    print(f"initial weights from {directory}: {len(taken)} layers ({listed(taken, LISTED)})")
    reasons = [f"{name}: {reason}" for name, reason in left.items()]
    print(f"not from there: {len(left)} layers" + (f" ({listed(reasons, LISTED)})" if left else ""))
