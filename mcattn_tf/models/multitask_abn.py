"""Multi-task ABN: one attention map for each task, and a perception branch for all."""

import dataclasses
import math

import keras
from keras import KerasTensor, layers

from mcattn_tf.layers.task_folding import FoldedTasks
from mcattn_tf.models.backbones import build_backbone, build_stage, finish
from mcattn_tf.models.parts.blocks import probabilities
from mcattn_tf.settings.backbones import Backbone
from mcattn_tf.settings.config import Config

# Numbers of the perception branch to keep in a training step: 2 GiB of float32. More tasks are
# computed in slices, and again in the backward pass.
KEPT_NUMBERS = 2**29


def build_multitask_abn(config: Config) -> keras.Model:
    """Builds a feature extractor, an attention branch of T maps and a shared perception branch.

    The backbone is cut after a named stage. The attention branch is a copy of the next stage
    without its stride, then a convolution T x 1 x 1. The averages of its T grids of evidence are
    its own answer; the grids are the attention maps, after a sigmoid or as they are
    (`map_activation`). The perception branch, the rest of the backbone, runs on the features times
    each map (eq. 4), or times 1 + the map (`attention_mechanism`). Each task has one unit behind
    it, or two that a softmax compares (`task_units`). All tasks are one batch (`task_folding`).

    The paper and its authors' first code have neither the residual nor the sigmoid, and two units;
    their later code has a single one.

    Source: Fukui et al. 2019, section 3.4 and fig. 3.

    Args:
        config: Image size, names of the T attributes, batch size and shape of the network.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of float32 outputs: `perception` and
        `attention` (B, T), probabilities, and `attention_map` (B, h, w, T), in (0, 1) with the
        sigmoid, else any value.
    """
    model, backbone = config.model, config.model.backbone_shape
    if not model.weights:
        # In `keras.applications` the first 1x1 convolution of a block has the stride, as in He et
        # al. 2016 and the paper's network; the authors' later code has it in the 3x3 one, as here.
        backbone = dataclasses.replace(backbone, application=None)
    later = backbone.stages[backbone.stages.index(model.extractor_end) + 1 :]
    images = keras.Input((*config.data.image_size, 3), name="images")
    x = build_backbone(images, backbone, model.extractor_end)
    features = layers.Activation("linear", name="features")(x)
    attention = _attention_branch(features, backbone, later[0], config)
    weights = attention["attention_map"]
    if model.attention_mechanism == "residual":
        weights = weights + 1.0
    x = branch_input = keras.Input(features.shape[1:], name="attended")
    for stage in later:
        x = build_stage(x, backbone, stage)
    branch = keras.Model(branch_input, finish(x, backbone), name="perception_branch")
    task_slice = model.task_slice or _affordable_slice(branch, config)
    pooled = FoldedTasks(branch, task_slice, name="folded_tasks")(features, weights)  # (B, T, C)
    scores = layers.EinsumDense(
        "btc,tcu->btu",
        output_shape=(len(config.attributes), model.task_units),
        bias_axes="tu",
        # Glorot's would take the kernels of all tasks, which are stored side by side, for one.
        kernel_initializer=keras.initializers.RandomNormal(stddev=pooled.shape[-1] ** -0.5),
        dtype="float32",
        name="perception_scores",
    )(pooled)
    perception = probabilities(task_logits(scores), "perception")
    return keras.Model(images, {"perception": perception, **attention}, name="multitask_abn")


def _attention_branch(
    features: KerasTensor, backbone: Backbone, stage: str, config: Config
) -> dict[str, KerasTensor]:
    """Adds the branch that makes a map for each task; returns its outputs by name."""
    x = build_stage(features, backbone, stage, prefix="attention_", keep_grid=True)
    x = finish(x, backbone, prefix="attention_")
    # Nothing normalises the evidence: by its outputs, as in PyTorch, it would begin too large.
    evidence = layers.Conv2D(  # (B, h, w, T)
        len(config.attributes),
        1,
        use_bias=False,
        kernel_initializer="he_normal",
        name="attention_evidence",
    )(x)
    scores = layers.GlobalAveragePooling2D(dtype="float32", name="attention_scores")(evidence)
    activation = config.model.map_activation
    maps = layers.Activation(activation, dtype="float32", name="attention_map")(evidence)
    return {"attention": probabilities(scores, "attention"), "attention_map": maps}


def task_logits(scores: KerasTensor) -> KerasTensor:
    """Returns the logits (...,) of tasks from their units (..., u), one or two.

    The softmax of two units is the sigmoid of their difference, its cross-entropy the binary one.
    """
    return scores[..., -1] - scores[..., 0] if scores.shape[-1] == 2 else scores[..., 0]


def _affordable_slice(branch: keras.Model, config: Config) -> int | None:
    """Returns the number of tasks whose activations may be kept; None for all tasks."""
    outputs = [keras.tree.flatten(layer.output)[0].shape[1:] for layer in branch.layers]
    of_a_task = config.training.batch_size * sum(map(math.prod, outputs))
    affordable = max(1, KEPT_NUMBERS // of_a_task)
    return affordable if affordable < len(config.attributes) else None
