"""Residual, dense and plain networks, built stage by stage, for ABN's extractor and branches."""

from collections.abc import Callable
from typing import NamedTuple

from keras import KerasTensor, initializers, layers, ops

from mcattn_tf.layers import BatchNormalization
from mcattn_tf.models import applications
from mcattn_tf.settings.backbones import Backbone

BATCH_MOMENTUM = 0.9


class Convention(NamedTuple):
    """What frameworks do differently where papers say nothing.

    Attributes:
        even: Whether a strided window has the same padding on both sides. Otherwise a grid of even
            size is padded at the far side alone, and the window is a cell off a 1x1 shortcut.
        epsilon: Added to the variance of batch normalisation.
        initializer: Of the kernels of convolutions in so many groups.
    """

    even: bool
    epsilon: float
    initializer: Callable[[int], str | initializers.Initializer]


def _by_outputs(groups: int) -> initializers.Initializer:
    """Variance 2 / n for n = kernel size^2 x filters of all groups (He et al. 2015, eq. 14)."""
    return initializers.VarianceScaling(2.0 / groups, "fan_out", "untruncated_normal")


CONVENTIONS = {  # {value of `convention` in the settings: what it means}
    "pytorch": Convention(True, 1e-5, _by_outputs),
    "keras": Convention(False, 1e-3, lambda groups: "he_normal"),
}


def build_backbone(images: KerasTensor, backbone: Backbone, until: str) -> KerasTensor:
    """Adds the stem of a backbone and its stages up to a named one.

    Args:
        images: (B, H, W, 3), values in [0, 1].
        backbone: Shape of the network; one with an `application` is taken from there.
        until: Name of the last stage to add.

    Returns:
        Features, (B, h, w, C).
    """
    if backbone.application:
        return applications.build_backbone(images, backbone, until)
    x = images * 2.0 - 1.0  # not layers.Rescaling, which needs TensorFlow on every backend
    if backbone.stem:
        large = backbone.form == "imagenet"
        kernel, stride = (7, 2) if large else (3, 1)
        x = convolve(x, backbone, backbone.stem, kernel, "stem_conv", stride)
        if large or not backbone.preactivated:
            x = layers.ReLU(name="stem_relu")(normalize(x, backbone, "stem_bn"))
        if large:
            x, padding = _pad(x, backbone, 3, 2, "stem_pool")
            x = layers.MaxPooling2D(3, 2, padding=padding, name="stem_pool")(x)
    for stage in backbone.stages[: backbone.stages.index(until) + 1]:
        x = build_stage(x, backbone, stage)
    return x


def build_stage(
    x: KerasTensor, backbone: Backbone, stage: str, prefix: str = "", keep_grid: bool = False
) -> KerasTensor:
    """Adds a stage of a backbone.

    Args:
        x: Output of the stage before it or its replacement, (B, h, w, C).
        backbone: Shape of the network.
        stage: Name of the stage; for an `application` not the first.
        prefix: Prefix of all layer names.
        keep_grid: Whether to omit the stride, as the attention branch does (Fukui et al. 2019,
            section 3.1), or the pooling that ends the stage (VGG, DenseNet).

    Returns:
        (B, h', w', C').
    """
    if backbone.application:
        return applications.build_stage(x, backbone, stage, prefix, keep_grid)
    index = backbone.stages.index(stage)
    by_stride = backbone.joined == "add" and index > 0 and not keep_grid
    for number in range(1, backbone.blocks[index] + 1):
        stride = 2 if by_stride and number == 1 else 1
        name = f"{prefix}{stage}_block_{number}"
        x = build_block(x, backbone, backbone.widths[index], stride, name)
    name = f"{prefix}{stage}"
    if backbone.joined == "none" and not keep_grid:
        return layers.MaxPooling2D(2, padding="same", name=f"{name}_pool")(x)
    if backbone.joined == "concatenate" and stage != backbone.stages[-1]:
        return _transition(x, backbone, keep_grid, f"{name}_transition")
    return x


def finish(x: KerasTensor, backbone: Backbone, prefix: str = "") -> KerasTensor:
    """Adds the normalisation and ReLU behind the last stage of pre-activated networks."""
    if backbone.application or not backbone.preactivated:
        return x
    return layers.ReLU(name=f"{prefix}last_relu")(normalize(x, backbone, f"{prefix}last_bn"))


def build_block(
    x: KerasTensor, backbone: Backbone, width: int, stride: int, name: str
) -> KerasTensor:
    """Adds a block: convolutions, joined with the block's input.

    The first 3x3 convolution has the stride, even behind a 1x1 convolution, as in the authors'
    PyTorch networks and unlike He et al. 2016.

    The output has ceil(h / stride) rows. Each layer's name begins with `name`.
    """
    kernels, last = [kernel for _, kernel in backbone.convolutions], len(backbone.convolutions)
    filters = backbone.convolutions[-1][0] * width
    changes = backbone.joined == "add" and (stride > 1 or x.shape[-1] != filters)
    shortcut = branch = x
    for number, (multiple, kernel) in enumerate(backbone.convolutions, start=1):
        if backbone.preactivated:
            branch = _activate(branch, backbone, name, number)
            shortcut = branch if number == 1 and changes else shortcut
        if backbone.dropout and number == 2:
            branch = layers.Dropout(backbone.dropout, name=f"{name}_dropout")(branch)
        step = stride if number == kernels.index(3) + 1 else 1
        groups = backbone.groups if kernel == 3 else 1
        conv = f"{name}_conv_{number}"
        branch = convolve(branch, backbone, multiple * width, kernel, conv, step, groups)
        if not backbone.preactivated and (number < last or backbone.joined == "none"):
            branch = _activate(branch, backbone, name, number)
    if backbone.joined == "none":
        return branch
    if backbone.joined == "concatenate":
        return layers.Concatenate(name=f"{name}_concatenate")([shortcut, branch])
    if not backbone.preactivated:
        branch = normalize(branch, backbone, f"{name}_bn_{last}")
    if backbone.squeeze:
        branch = _squeeze_and_excite(branch, backbone.squeeze, name)
    if changes:
        shortcut = convolve(shortcut, backbone, filters, 1, f"{name}_shortcut", stride)
        if not backbone.preactivated:
            shortcut = normalize(shortcut, backbone, f"{name}_shortcut_bn")
    x = layers.Add(name=f"{name}_add")([shortcut, branch])
    return x if backbone.preactivated else layers.ReLU(name=f"{name}_relu_{last}")(x)


def convolve(
    x: KerasTensor,
    backbone: Backbone,
    filters: int,
    kernel_size: int,
    name: str,
    stride: int = 1,
    groups: int = 1,
) -> KerasTensor:
    """Adds a convolution without a bias: (B, h, w, C) to (B, ceil(h / stride), ..., filters).

    The channels are in groups; each part of the output sees one part of the input. Padding and
    initial weights follow the convention of the backbone.
    """
    if kernel_size == 1 and stride > 1:
        # A strided 1x1 convolution is a plain one of every `stride`-th row and column.
        x, stride = layers.AveragePooling2D(1, stride, name=f"{name}_subsample")(x), 1
    x, padding = _pad(x, backbone, kernel_size, stride, name)
    initializer = CONVENTIONS[backbone.convention].initializer(groups)
    plain = {"padding": padding, "use_bias": False, "kernel_initializer": initializer}
    if groups == 1:
        return layers.Conv2D(filters, kernel_size, stride, name=name, **plain)(x)
    # On a CPU a layer with groups goes through XLA, a hundred times slower, and the SavedModel
    # would depend on XLA.
    outputs = [
        layers.Conv2D(filters // groups, kernel_size, stride, name=f"{name}_{number}", **plain)(
            part
        )
        for number, part in enumerate(ops.split(x, groups, axis=-1))
    ]
    return layers.Concatenate(name=name)(outputs)


def _pad(
    x: KerasTensor, backbone: Backbone, size: int, stride: int, name: str
) -> tuple[KerasTensor, str]:
    """Pads a grid for a strided window; returns it with the padding that the window still needs."""
    if stride == 1 or size == 1 or not CONVENTIONS[backbone.convention].even:
        return x, "same"
    return layers.ZeroPadding2D((size - 1) // 2, name=f"{name}_pad")(x), "valid"


def normalize(x: KerasTensor, backbone: Backbone, name: str) -> KerasTensor:
    """Adds batch normalisation."""
    epsilon = CONVENTIONS[backbone.convention].epsilon
    return BatchNormalization(momentum=BATCH_MOMENTUM, epsilon=epsilon, name=name)(x)


def _activate(x: KerasTensor, backbone: Backbone, name: str, number: int) -> KerasTensor:
    return layers.ReLU(name=f"{name}_relu_{number}")(normalize(x, backbone, f"{name}_bn_{number}"))


def _squeeze_and_excite(x: KerasTensor, ratio: int, name: str) -> KerasTensor:
    """Multiplies channels by gates computed from the means of all (Hu et al. 2018, eq. 2-4)."""
    channels = x.shape[-1]
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    hidden = layers.Dense(channels // ratio, activation="relu", name=f"{name}_hidden")(pooled)
    gates = layers.Dense(channels, activation="sigmoid", name=f"{name}_gates")(hidden)
    return layers.Multiply(name=f"{name}_excite")([x, gates])


def _transition(x: KerasTensor, backbone: Backbone, keep_grid: bool, name: str) -> KerasTensor:
    """Halves the channels, and the grid unless it is kept (Huang et al. 2017, section 3)."""
    x = layers.ReLU(name=f"{name}_relu")(normalize(x, backbone, f"{name}_bn"))
    x = convolve(x, backbone, x.shape[-1] // 2, 1, f"{name}_conv")
    return x if keep_grid else layers.AveragePooling2D(2, name=f"{name}_pool")(x)
