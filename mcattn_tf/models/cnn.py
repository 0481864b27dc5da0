"""The plain network that GCM is compared with."""

import keras
from keras import layers

from mcattn_tf.models.parts.blocks import build_encoder, probabilities
from mcattn_tf.settings.config import Config

WIDTHS = (16, 18, 37, 74)


def build_cnn(config: Config) -> keras.Model:
    """Builds ten convolutions, a global average and a dense layer, with as many weights as GCM.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), table 6.

    Args:
        config: Image size and names of the N classes or attributes.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of float32 outputs: `probabilities`
        (B, N), a softmax of the scores if `exclusive`, else a sigmoid of each; `scores` (B, N).
    """
    images = keras.Input((*config.data.image_size, 3), name="images")
    features = build_encoder(images, WIDTHS)
    pooled = layers.GlobalAveragePooling2D(dtype="float32", name="pooling")(features)
    scores = layers.Dense(len(config.attributes), dtype="float32", name="scores")(pooled)
    answers = probabilities(scores, "probabilities", config.model.exclusive)
    return keras.Model(images, {"probabilities": answers, "scores": scores}, name="cnn")
