"""Builders of every network, in the functional API."""

import keras

from mcattn_tf.errors import UserError
from mcattn_tf.models.abn import build_abn
from mcattn_tf.models.baseline import build_baseline
from mcattn_tf.models.cnn import build_cnn
from mcattn_tf.models.gcm import build_gcm
from mcattn_tf.models.mcattn import build_mcattn
from mcattn_tf.models.multitask_abn import build_multitask_abn
from mcattn_tf.models.receptive_field import receptive_field as receptive_field
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.systems import LABEL_OUTPUTS as LABEL_OUTPUTS
from mcattn_tf.settings.systems import system_of

BUILDERS = {
    "mcattn": build_mcattn,
    "baseline": build_baseline,
    "gcm": build_gcm,
    "cnn": build_cnn,
    "abn": build_abn,
    "multitask_abn": build_multitask_abn,
}


def label_outputs(model: keras.Model) -> tuple[str, ...]:
    """Returns the names of a model's outputs that are probabilities of the labels."""
    return tuple(name for name in system_of(model).labels if name in model.output)


def is_exclusive(model: keras.Model) -> bool:
    """Returns whether each image has exactly one of the labels: the answers are a softmax."""
    last = model.get_layer(label_outputs(model)[0])
    return last.activation is keras.activations.softmax


def build(config: Config) -> keras.Model:
    """Builds the network that `config.model.name` names, in the precision of `config.training`.

    Args:
        config: Settings with attribute names.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of named float32 outputs, with the
        names as `attribute_names`.

    Raises:
        UserError: If there are no attribute names, or Keras' defaults are not those of networks
            here.
    """
    if not config.attributes:
        raise UserError("`attributes` must name at least one attribute. Received: none")
    defaults = keras.config.image_data_format(), keras.config.floatx()
    if defaults != ("channels_last", "float32"):
        raise UserError(
            "Keras' `image_data_format` and `floatx` must be channels_last and float32; set them "
            f"in keras.json or by keras.config. Received: {' and '.join(defaults)}"
        )
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.training.precision)
    try:
        model = BUILDERS[config.model.name](config)
    finally:
        keras.config.set_dtype_policy(before)
    model.attribute_names = config.attributes
    return model


def in_float32(model: keras.Model, config: Config) -> keras.Model:
    """Returns the same network with the same weights, in float32 throughout."""
    rebuilt = build(config.replace("training", precision="float32"))
    rebuilt.set_weights(model.get_weights())
    return rebuilt
