"""GCM, generative contribution mappings: a linear classifier that makes its own weights."""

import keras
from keras import KerasTensor, initializers, layers, ops

from mcattn_tf.models.parts.encoder import build_encoder
from mcattn_tf.models.parts.extractor import convolution
from mcattn_tf.settings.config import Config

WIDTHS = (16, 16, 32, 64)


def _build_decoder(features: KerasTensor, prefix: str = "decoder") -> KerasTensor:
    """Adds layers 11 to 14 of table 3: (B, H / 4, W / 4, C) to (B, H, W, 16)."""
    transposed = layers.Conv2DTranspose
    x = convolution(features, 32, 3, f"{prefix}_11", strides=2, kind=transposed)
    x = convolution(x, 32, 3, f"{prefix}_12")
    x = convolution(x, 16, 3, f"{prefix}_13", strides=2, kind=transposed)
    return convolution(x, 16, 3, f"{prefix}_14")


def _last(classes: int, name: str) -> layers.Layer:
    """Returns layer 15, which makes a map of each of so many classes."""
    # About eight times Glorot's: the mean over all pixels leaves little of what differs between
    # images, and all layers learn as fast as these weights are large. Training loss on 1,000
    # CIFAR-10 images after 8 epochs of batch 64 (one cycle, one seed): 1.71 with Glorot's, 1.49
    # with four times those, 1.39 with these; of the CNN 1.40.
    large = initializers.VarianceScaling(64.0, mode="fan_in", distribution="uniform")
    return layers.Conv2D(
        classes, 5, padding="same", kernel_initializer=large, dtype="float32", name=name
    )


def build_weight_maps(features: KerasTensor, config: Config) -> KerasTensor:
    """Adds the decoder, which makes a weight for each pixel and class (eq. 1).

    With the shared decoder (section 3.3) the classes differ in layer 15 alone, one convolution
    with a filter a class; otherwise each has a decoder of its own.

    Args:
        features: (B, H / 4, W / 4, C).
        config: names of the classes, `shared_decoder` and `nonnegative` are used.

    Returns:
        (B, H, W, N), float32, the layer `weight_maps`; zero or more if `nonnegative`
        (section 4.3), else of any sign.
    """
    count = len(config.attributes)
    if config.model.shared_decoder:
        maps = _last(count, "decoder_15_conv")(_build_decoder(features))
    else:
        prefixes = [f"decoder_of_{index}" for index in range(count)]
        decoded = [_last(1, f"{p}_15_conv")(_build_decoder(features, p)) for p in prefixes]
        maps = layers.Concatenate(dtype="float32", name="decoders")(decoded)
    activation = "relu" if config.model.nonnegative else "linear"
    return layers.Activation(activation, dtype="float32", name="weight_maps")(maps)


def build_gcm(config: Config) -> keras.Model:
    """Builds an encoder, a decoder that makes class weight maps, and their product with the image.

    A class's contribution map is its weight map times the image, its score the mean of that over
    rows, columns and colours (eq. 2 to 4). The mean over colours is taken of the image first, so
    that no contribution map is made where none is asked for; `explain.contribution_maps` makes
    them.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), fig. 3 and table 3.

    Args:
        config: image size, names of the N classes or attributes, and the shape of the network.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of float32 outputs: `probabilities`
        (B, N), a softmax of the scores if `exclusive`, else a sigmoid of each; `scores` (B, N).
    """
    images = keras.Input((*config.data.image_size, 3), name="images")
    features = build_encoder(images, WIDTHS)
    weight_maps = build_weight_maps(features, config)
    height, width = config.data.image_size
    summed = ops.einsum("bhwn,bhw->bn", weight_maps, ops.mean(images, axis=-1))
    scores = layers.Activation("linear", dtype="float32", name="scores")(summed / (height * width))
    return keras.Model(images, answers(scores, config), name=config.model.system)


def answers(scores: KerasTensor, config: Config) -> dict[str, KerasTensor]:
    """Adds the probabilities of classes or attributes.

    Args:
        scores: (B, N), logits, the layer `scores`.
        config: `exclusive` is used.

    Returns:
        `probabilities` (B, N), the layer of that name, float32, and `scores`.
    """
    activation = "softmax" if config.model.exclusive else "sigmoid"
    probabilities = layers.Activation(activation, dtype="float32", name="probabilities")(scores)
    return {"probabilities": probabilities, "scores": scores}
