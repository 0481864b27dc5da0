"""MCAttn, multi-channel attentional sub-networks (Kimura & Tanaka 2019, figure 2)."""

import keras
from keras import KerasTensor

from mcattn_tf.layers import MaskL1
from mcattn_tf.models.parts.extractor import build_extractor
from mcattn_tf.models.parts.reconstructor import build_reconstructor
from mcattn_tf.models.parts.subnetworks import build_multilabel, build_subnetworks
from mcattn_tf.settings.config import Config


def build_mcattn(config: Config) -> keras.Model:
    """Builds one extractor, K masked sub-networks, a classifier and a reconstructor.

    Source: Kimura & Tanaka 2019, fig. 2.

    Args:
        config: Image size, attribute names and shape of the network.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of float32 outputs: `attributes`
        (B, K) and `multilabel` (B, K), probabilities; `reconstruction` (B, H, W, 3) in (0, 1);
        `mask_l1` (B,), the L1 norm of the masks of each image.

    Example:
        >>> config = make_config({"found": {"attributes": ("Smiling", "Bald")}})
        >>> outputs = build_mcattn(config).predict(images)
        >>> outputs["attributes"].shape
        (8, 2)
    """
    images = keras.Input((*config.data.image_size, 3), name="images")
    features = build_extractor(images, config.model)
    return keras.Model(images, outputs_of(features, config), name="mcattn")


def outputs_of(features: KerasTensor, config: Config) -> dict[str, KerasTensor]:
    """Adds everything above the extractor to the layer `features`, (B, h, w, C)."""
    height, width = config.feature_size
    attributes, mask_mean = build_subnetworks(features, config)
    return {
        "attributes": attributes,
        "multilabel": build_multilabel(features, config),
        "reconstruction": build_reconstructor(features, config.model),
        "mask_l1": MaskL1(height * width, dtype="float32", name="mask_l1")(mask_mean),
    }
