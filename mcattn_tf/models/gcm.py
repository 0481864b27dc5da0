"""GCM, generative contribution mappings: a linear classifier that generates its own weights."""

import keras
from keras import KerasTensor, initializers, layers, ops

from mcattn_tf.models.parts.blocks import build_encoder, convolution, probabilities
from mcattn_tf.settings.config import Config

WIDTHS = (16, 16, 32, 64)


def build_gcm(config: Config) -> keras.Model:
    """Builds an encoder, a decoder that makes class weight maps, and their product with the image.

    The contribution map of a class is its weight map times the image. The class's score is the
    mean of the contribution map over rows, columns and colours (eq. 2 to 4). Here the mean over
    colours is taken of the image first, which needs no contribution map.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 3 and table 3.

    Args:
        config: Image size, names of the N classes or attributes, and the shape of the network.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of float32 outputs: `probabilities`
        (B, N), a softmax of the scores if `exclusive`, else a sigmoid of each; `scores` (B, N).
    """
    images = keras.Input((*config.data.image_size, 3), name="images")
    features = build_encoder(images, WIDTHS)
    weight_maps = _weight_maps(features, config)
    contributions = weight_maps * ops.mean(images, axis=-1, keepdims=True)  # mean over colours
    means = ops.mean(contributions, axis=(1, 2))  # (B, N)
    scores = layers.Activation("linear", dtype="float32", name="scores")(means)
    answers = probabilities(scores, "probabilities", config.model.exclusive)
    outputs = {"probabilities": answers, "scores": scores}
    return keras.Model(images, outputs, name=config.model.system)


def _weight_maps(features: KerasTensor, config: Config) -> KerasTensor:
    """Adds the decoder: a weight for each pixel and class (eq. 1), (B, H, W, N), float32.

    With the shared decoder (section 3.3) the classes differ only in layer 15, a convolution with
    one filter a class; otherwise each class has a decoder of its own. Weights are zero or more if
    `nonnegative` (section 4.3), else of any sign.
    """
    count = len(config.attributes)
    if config.model.shared_decoder:
        maps = _last_layer(count, "decoder_15_conv")(_decoder(features, "decoder"))
    else:
        prefixes = [f"decoder_of_{index}" for index in range(count)]
        decoded = [_last_layer(1, f"{p}_15_conv")(_decoder(features, p)) for p in prefixes]
        maps = layers.Concatenate(dtype="float32", name="decoders")(decoded)
    activation = "relu" if config.model.nonnegative else "linear"
    return layers.Activation(activation, dtype="float32", name="weight_maps")(maps)


def _decoder(features: KerasTensor, prefix: str) -> KerasTensor:
    """Adds layers 11 to 14 of table 3: (B, H / 4, W / 4, C) to (B, H, W, 16)."""
    transposed = layers.Conv2DTranspose
    x = convolution(features, 32, 3, f"{prefix}_11", strides=2, kind=transposed)
    x = convolution(x, 32, 3, f"{prefix}_12")
    x = convolution(x, 16, 3, f"{prefix}_13", strides=2, kind=transposed)
    return convolution(x, 16, 3, f"{prefix}_14")


def _last_layer(classes: int, name: str) -> layers.Layer:
    """Returns layer 15, which makes one map for each class."""
    # About eight times Glorot's. The mean over all pixels keeps little of the difference between
    # images, and all layers learn in proportion to these weights. Training loss on 1,000 CIFAR-10
    # images after 8 epochs of batch 64 (one cycle, one seed): 1.71 with Glorot's, 1.49 with four
    # times those, 1.39 with these; the CNN has 1.40.
    large = initializers.VarianceScaling(64.0, mode="fan_in", distribution="uniform")
    return layers.Conv2D(
        classes, 5, padding="same", kernel_initializer=large, dtype="float32", name=name
    )
