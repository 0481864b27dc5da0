"""ABN, attention branch networks: the map of one branch weights the features of the other."""

import keras
from keras import KerasTensor, layers

from mcattn_tf.models.backbones import build_backbone, build_stage, convolve, finish, normalize
from mcattn_tf.models.parts.blocks import probabilities
from mcattn_tf.settings.backbones import Backbone
from mcattn_tf.settings.config import Config


def build_abn(config: Config) -> keras.Model:
    """Builds a feature extractor, an attention branch and a perception branch.

    The backbone is cut after a named stage. The stages up to there are the extractor. The later
    ones are the perception branch, which classifies features weighted by the attention map. The
    attention branch, which makes the map and classifies by itself, is a copy of the next stage
    without its stride (section 3). Without an attention mechanism the plain backbone remains.
    Where a published network ends in several dense layers (VGG), an average over positions and one
    dense layer take their place, as in Zhou et al. 2016.

    Source: Fukui et al. 2019, fig. 1 and 2.

    Args:
        config: Image size, names of the N classes or attributes, and the shape of the network.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of float32 outputs: `perception`
        (B, N), a softmax over the classes if `exclusive`, else a sigmoid of each; with an
        attention mechanism also `attention` (B, N), the answer of the attention branch, and
        `attention_map` (B, h, w, 1), in (0, 1).
    """
    model, backbone = config.model, config.model.backbone_shape
    later = backbone.stages[backbone.stages.index(model.extractor_end) + 1 :]
    images = keras.Input((*config.data.image_size, 3), name="images")
    x = build_backbone(images, backbone, model.extractor_end)
    x = layers.Activation("linear", name="extracted")(x)
    attention = {}
    if model.attention_mechanism != "none":
        attention = _attention_branch(x, backbone, later[0], config)
        x = _attend(x, attention["attention_map"], model.attention_mechanism)
    for stage in later:
        x = build_stage(x, backbone, stage)
    features = layers.Activation("linear", name="features")(finish(x, backbone))
    pooled = layers.GlobalAveragePooling2D(dtype="float32", name="pooling")(features)
    dense = layers.Dense(len(config.attributes), dtype="float32", name="perception_scores")
    perception = probabilities(dense(pooled), "perception", model.exclusive)
    return keras.Model(images, {"perception": perception, **attention}, name=model.system)


def _attention_branch(
    x: KerasTensor, backbone: Backbone, stage: str, config: Config
) -> dict[str, KerasTensor]:
    """Adds the branch that makes the attention map and classifies by itself; returns its outputs.

    A copy of a stage keeps the grid and ends in a map for each class, N x 1 x 1. Their average,
    after another 1x1 convolution, is the branch's answer; one more convolution makes the attention
    map of them. The paper has a kernel of 1 there, the authors' code one of 3 and a normalisation.
    They confirmed that the published figures are those of the code, so it is the default
    (`map_kernel`). The other normalisations of the branch are theirs, too.

    Source: Fukui et al. 2019, section 3.1.
    """
    classes, exclusive = len(config.attributes), config.model.exclusive
    x = build_stage(x, backbone, stage, prefix="attention_", keep_grid=True)
    x = normalize(x, backbone, "attention_grid_bn")
    x = convolve(x, backbone, classes, 1, "attention_classes")
    x = normalize(x, backbone, "attention_classes_bn")
    x = layers.ReLU(name="attention_classes_relu")(x)  # (B, h, w, N)
    evidence = convolve(x, backbone, classes, 1, "attention_evidence")
    scores = layers.GlobalAveragePooling2D(dtype="float32", name="attention_scores")(evidence)
    mapped = convolve(x, backbone, 1, config.model.map_kernel, "attention_map_conv")
    mapped = normalize(mapped, backbone, "attention_map_bn")
    return {
        "attention": probabilities(scores, "attention", exclusive),
        "attention_map": probabilities(mapped, "attention_map"),
    }


def _attend(x: KerasTensor, attention_map: KerasTensor, mechanism: str) -> KerasTensor:
    """Weights features g by a map M: `product`, M g (eq. 1), or `residual`, (1 + M) g (eq. 2)."""
    if mechanism == "product":
        return layers.Multiply(name="attended")([x, attention_map])
    product = layers.Multiply(name="product")([x, attention_map])
    return layers.Add(name="attended")([x, product])
