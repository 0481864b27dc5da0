"""ABN, attention branch networks: what one branch looks at weighs what the other sees."""

import keras
from keras import KerasTensor, layers

from mcattn_tf.models import applications, backbones
from mcattn_tf.settings.backbones import Backbone, backbone_of
from mcattn_tf.settings.config import Config


def build_abn(config: Config) -> keras.Model:
    """Builds a feature extractor, an attention branch and a perception branch.

    The backbone is cut after a named stage. The stages up to there are the extractor, the others
    the perception branch, which classifies features that the attention map has weighed; the
    attention branch, which makes the map and classifies by itself, is a copy of the next stage
    without its stride (section 3). Without an attention mechanism the network is the plain
    backbone. Where a published network ends in several dense layers (VGG), there is an average
    over positions and one dense layer here, as in Zhou et al. 2016.

    Source: Fukui et al. 2019, fig. 1 and 2.

    Args:
        config: image size, names of the N classes or attributes, and the shape of the network.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of float32 outputs: `perception`
        (B, N), a softmax over the classes if `exclusive`, else a sigmoid of each; with an
        attention mechanism also `attention` (B, N), the attention branch's own, and
        `attention_map` (B, h, w, 1), in (0, 1).
    """
    backbone, cut = backbone_of(config.model.backbone), config.model.extractor_end
    source = applications if backbone.application else backbones
    later = backbone.stages[backbone.stages.index(cut) + 1 :]
    images = keras.Input((*config.data.image_size, 3), name="images")
    x = source.build_backbone(images, backbone, cut)
    x = layers.Activation("linear", name="extracted")(x)
    of_attention = {}
    if config.model.attention_mechanism != "none":
        of_attention = build_attention_branch(x, backbone, later[0], config)
        x = attend(x, of_attention["attention_map"], config.model.attention_mechanism)
    for stage in later:
        x = source.build_stage(x, backbone, stage)
    if not backbone.application:
        x = backbones.finish(x, backbone)
    features = layers.Activation("linear", name="features")(x)
    pooled = layers.GlobalAveragePooling2D(dtype="float32", name="pooling")(features)
    dense = layers.Dense(len(config.attributes), dtype="float32", name="perception_scores")
    outputs = {"perception": _answer(dense(pooled), config, "perception"), **of_attention}
    return keras.Model(images, outputs, name=config.model.system)


def build_attention_branch(
    x: KerasTensor, backbone: Backbone, stage: str, config: Config
) -> dict[str, KerasTensor]:
    """Adds the branch that makes the attention map, with a classification of its own.

    A stage of the backbone keeps the grid and ends in a map for each class, K x 1 x 1. Their
    average, after another 1x1 convolution, answers; one convolution more makes one map of them.
    The paper has a kernel of 1 there, its authors' code one of 3 and a normalisation, and they
    have confirmed that the published figures are of that code: it is the default (`map_kernel`).
    The normalisations of the branch are theirs, too.

    Source: Fukui et al. 2019, section 3.1.

    Args:
        x: (B, h, w, C), features of the extractor.
        backbone: the network.
        stage: the stage that the branch is a copy of.
        config: names of the N classes or attributes, `exclusive` and `map_kernel` are used.

    Returns:
        `attention` (B, N), probabilities, and `attention_map` (B, h, w, 1), in (0, 1), the layers
        of these names, float32.
    """
    classes = len(config.attributes)
    source = applications if backbone.application else backbones
    x = source.build_stage(x, backbone, stage, prefix="attention_", keep_grid=True)
    x = backbones.normalize(x, "attention_grid_bn")
    x = backbones.convolve(x, classes, 1, 1, 1, "attention_classes")
    x = layers.ReLU(name="attention_classes_relu")(
        backbones.normalize(x, "attention_classes_bn")
    )  # (B, h, w, N)
    own = backbones.convolve(x, classes, 1, 1, 1, "attention_evidence")
    scores = layers.GlobalAveragePooling2D(dtype="float32", name="attention_scores")(own)
    mapped = backbones.convolve(x, 1, config.model.map_kernel, 1, 1, "attention_map_conv")
    mapped = backbones.normalize(mapped, "attention_map_bn")
    return {
        "attention": _answer(scores, config, "attention"),
        "attention_map": layers.Activation("sigmoid", dtype="float32", name="attention_map")(
            mapped
        ),
    }


def attend(x: KerasTensor, attention_map: KerasTensor, mechanism: str) -> KerasTensor:
    """Weighs features by an attention map.

    Args:
        x: g, (B, h, w, C).
        attention_map: M, (B, h, w, 1).
        mechanism: `product`, M g (Fukui et al. 2019, eq. 1), or `residual`, (1 + M) g (eq. 2).

    Returns:
        (B, h, w, C), the layer `attended`.
    """
    product = layers.Multiply(name="attended" if mechanism == "product" else "product")
    weighed = product([x, attention_map])
    return weighed if mechanism == "product" else layers.Add(name="attended")([x, weighed])


def _answer(scores: KerasTensor, config: Config, name: str) -> KerasTensor:
    activation = "softmax" if config.model.exclusive else "sigmoid"
    return layers.Activation(activation, dtype="float32", name=name)(scores)
