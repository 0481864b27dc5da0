"""Functional-API builders of every network."""

import keras

from mcattn_tf.config import Config
from mcattn_tf.errors import UserError
from mcattn_tf.models.baseline import build_baseline
from mcattn_tf.models.mcattn import build_mcattn
from mcattn_tf.models.receptive_field import receptive_field

__all__ = [
    "LABEL_OUTPUTS",
    "build",
    "build_baseline",
    "build_mcattn",
    "in_float32",
    "receptive_field",
]

# Outputs that are probabilities of the labels, (B, K), where a model has them.
LABEL_OUTPUTS = ("attributes", "multilabel")
BUILDERS = {"mcattn": build_mcattn, "baseline": build_baseline}


def build(config: Config) -> keras.Model:
    """Builds the network that `config.model.name` names, in the precision of `config.training`.

    Args:
        config: the settings, with attribute names.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of named float32 outputs.

    Raises:
        UserError: if the configuration has no attribute names.
    """
    if not config.model.attributes:
        raise UserError("`attributes` must name at least one attribute. Received: none")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.training.precision)
    try:
        return BUILDERS[config.model.name](config)
    finally:
        keras.config.set_dtype_policy(before)


def in_float32(model: keras.Model, config: Config) -> keras.Model:
    """Returns the same network with the same weights, in float32 throughout.

    Args:
        model: a network as `build` makes it, of any precision.
        config: its settings.
    """
    rebuilt = build(config.replace("training", precision="float32"))
    rebuilt.set_weights(model.get_weights())
    return rebuilt
