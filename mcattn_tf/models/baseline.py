"""The plain network that MCAttn is compared with."""

import keras

from mcattn_tf.models.parts.extractor import build_extractor
from mcattn_tf.models.parts.subnetworks import build_multilabel
from mcattn_tf.settings.config import Config


def build_baseline(config: Config) -> keras.Model:
    """Builds MCAttn's extractor with the multi-label classifier alone.

    Args:
        config: Image size, attribute names and shape of the extractor.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to {`multilabel`: (B, K)}, probabilities.
    """
    images = keras.Input((*config.data.image_size, 3), name="images")
    features = build_extractor(images, config.model)
    multilabel = build_multilabel(features, config)
    return keras.Model(images, {"multilabel": multilabel}, name="baseline")
