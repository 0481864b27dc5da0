"""Multi-task ABN: an attention map for each task, a perception branch for all."""

import math
from types import ModuleType

import keras
from keras import KerasTensor, layers

from mcattn_tf.layers.task_folding import FoldedTasks
from mcattn_tf.models import applications, backbones
from mcattn_tf.settings.backbones import Backbone, backbone_of
from mcattn_tf.settings.config import Config

# Of the perception branch, in a step of training: 2 GiB of float32. More tasks than those whose
# numbers may be kept are computed in slices, and again in the backward pass.
KEPT_NUMBERS = 2**29


def build_multitask_abn(config: Config) -> keras.Model:
    """Builds a feature extractor, an attention branch of T maps and a shared perception branch.

    The backbone is cut after a named stage. The attention branch is a copy of the next stage
    without its stride, then a convolution T x 1 x 1: its T grids of evidence are averaged for an
    answer of its own, and are the attention maps, after a sigmoid or as they are
    (`map_activation`). The perception branch, the rest of the backbone, is run on the features
    times each map (eq. 4), or times 1 + the map (`attention_mechanism`), and each task has a unit
    of its own behind it, or two that a softmax compares (`task_units`). All tasks are one batch
    (`task_folding`).

    The paper and its authors' first code have neither the residual nor the sigmoid, and two units;
    their later code has a single one.

    Source: Fukui et al. 2019, section 3.4 and fig. 3.

    Args:
        config: image size, names of the T attributes, batch size and shape of the network.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of float32 outputs: `perception` and
        `attention` (B, T), probabilities, and `attention_map` (B, h, w, T), in (0, 1) with the
        sigmoid, else any value.
    """
    model = config.model
    backbone, cut = backbone_of(model.backbone), model.extractor_end
    source = _source(config)
    later = backbone.stages[backbone.stages.index(cut) + 1 :]
    images = keras.Input((*config.data.image_size, 3), name="images")
    x = source.build_backbone(images, backbone, cut)
    features = layers.Activation("linear", name="features")(x)
    of_attention = _attention_branch(features, backbone, later[0], config)
    weights = of_attention["attention_map"]
    if model.attention_mechanism == "residual":
        weights = weights + 1.0
    branch_input = keras.Input(features.shape[1:], name="attended")
    x = branch_input
    for stage in later:
        x = source.build_stage(x, backbone, stage)
    if source is backbones:
        x = backbones.finish(x, backbone)
    branch = keras.Model(branch_input, x, name="perception_branch")
    task_slice = model.task_slice or _affordable_slice(branch, config)
    pooled = FoldedTasks(branch, task_slice, name="folded_tasks")(features, weights)  # (B, T, C)
    scores = _task_scores(pooled, len(config.attributes), model.task_units)
    perception = layers.Activation("sigmoid", dtype="float32", name="perception")(
        task_logits(scores)
    )
    return keras.Model(images, {"perception": perception, **of_attention}, name="multitask_abn")


def _source(config: Config) -> ModuleType:
    """Returns the module that the backbone is from: `keras.applications` for its weights alone.

    Its ResNets have their stride in the first 1x1 convolution of a block, as He et al. 2016 have
    it and the paper's network; the authors' later code has it in the 3x3, as ours.
    """
    return applications if config.model.weights else backbones


def _attention_branch(
    features: KerasTensor, backbone: Backbone, stage: str, config: Config
) -> dict[str, KerasTensor]:
    """Adds the branch that makes a map for each task; returns its outputs by name."""
    source = _source(config)
    x = source.build_stage(features, backbone, stage, prefix="attention_", keep_grid=True)
    if source is backbones:
        x = backbones.finish(x, backbone, prefix="attention_")
    evidence = backbones.convolve(
        x, len(config.attributes), 1, 1, 1, "attention_evidence"
    )  # (B, h, w, T)
    scores = layers.GlobalAveragePooling2D(dtype="float32", name="attention_scores")(evidence)
    activation = config.model.map_activation
    return {
        "attention": layers.Activation("sigmoid", dtype="float32", name="attention")(scores),
        "attention_map": layers.Activation(activation, dtype="float32", name="attention_map")(
            evidence
        ),
    }


def task_logits(scores: KerasTensor) -> KerasTensor:
    """Returns the logits (...,) of the units of tasks (..., u): of one, or of two by softmax.

    The softmax of two units is the sigmoid of their difference, its cross-entropy the binary one.
    """
    return scores[..., -1] - scores[..., 0] if scores.shape[-1] == 2 else scores[..., 0]


def _task_scores(pooled: KerasTensor, task_count: int, units: int) -> KerasTensor:
    """Adds the units of each task: (B, T, C) to (B, T, u)."""
    return layers.EinsumDense(
        "btc,tcu->btu",
        output_shape=(task_count, units),
        bias_axes="tu",
        # Glorot's would count the kernels of all tasks, which are stored side by side, as one.
        kernel_initializer=keras.initializers.RandomNormal(stddev=pooled.shape[-1] ** -0.5),
        dtype="float32",
        name="perception_scores",
    )(pooled)


def _affordable_slice(branch: keras.Model, config: Config) -> int | None:
    """Returns of how many tasks all numbers may be kept; None for all tasks."""
    outputs = [keras.tree.flatten(layer.output)[0].shape[1:] for layer in branch.layers]
    of_a_task = config.training.batch_size * sum(map(math.prod, outputs))
    affordable = max(1, KEPT_NUMBERS // of_a_task)
    return affordable if affordable < len(config.attributes) else None
