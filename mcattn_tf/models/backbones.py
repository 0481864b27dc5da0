"""Residual, dense and plain networks in stages, of which a branch can have one of its own.

`build_backbone` is every stage up to a named one, `build_stage` one stage, whose layers are named
with a prefix: the feature extractor, the attention branch and the perception branch of ABN are made
of these two.
"""

from keras import KerasTensor, layers, ops

from mcattn_tf.settings.backbones import Backbone

BATCH_MOMENTUM = 0.9


def subsample(x: KerasTensor, stride: int, name: str) -> KerasTensor:
    """Takes every so manieth row and column, the first among them.

    Args:
        x: (B, h, w, C).
        stride: every which one is taken.
        name: of the layer.

    Returns:
        (B, ceil(h / stride), ceil(w / stride), C).
    """
    return x if stride == 1 else layers.AveragePooling2D(1, stride, name=name)(x)


def convolve(
    x: KerasTensor, filters: int, kernel_size: int, stride: int, groups: int, name: str
) -> KerasTensor:
    """Adds a convolution without a bias.

    Args:
        x: (B, h, w, C).
        filters: C', of the output.
        kernel_size: height and width.
        stride: the output has ceil(h / stride) rows.
        groups: each so manieth part of the output sees the same part of the input alone.
        name: of the layer; of several groups their names begin with it.

    Returns:
        (B, h', w', C').
    """
    if kernel_size == 1:
        # A 1x1 convolution with a stride is one of fewer cells.
        x, stride = subsample(x, stride, f"{name}_subsample"), 1

    def layer(count: int, name: str) -> layers.Layer:
        return layers.Conv2D(
            count,
            kernel_size,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=name,
        )

    if groups == 1:
        return layer(filters, name)(x)
    # A layer with groups goes through XLA on the CPU, a hundred times slower, and the SavedModel
    # would not be free of it.
    parts = ops.split(x, groups, axis=-1)
    return layers.Concatenate(name=name)(
        [layer(filters // groups, f"{name}_{number}")(part) for number, part in enumerate(parts)]
    )


def normalize(x: KerasTensor, name: str) -> KerasTensor:
    """Adds batch normalisation."""
    return layers.BatchNormalization(momentum=BATCH_MOMENTUM, name=name)(x)


def squeeze_and_excite(x: KerasTensor, ratio: int, name: str) -> KerasTensor:
    """Multiplies each channel by a number made of the means of all (Hu et al. 2018, eq. 2 to 4).

    Args:
        x: (B, h, w, C).
        ratio: of C to the channels of the hidden layer.
        name: what the names of the layers begin with.

    Returns:
        (B, h, w, C).
    """
    channels = x.shape[-1]
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    hidden = layers.Dense(channels // ratio, activation="relu", name=f"{name}_hidden")(pooled)
    gates = layers.Dense(channels, activation="sigmoid", name=f"{name}_gates")(hidden)
    return layers.Multiply(name=f"{name}_excite")([x, gates])


def build_block(
    x: KerasTensor,
    backbone: Backbone,
    width: int,
    stride: int,
    name: str,
) -> KerasTensor:
    """Adds a block: some convolutions, joined with what they were given.

    The first 3x3 convolution has the stride, also where a 1x1 convolution comes before it, as in
    the authors' PyTorch networks and not in He et al. 2016.

    Args:
        x: (B, h, w, C).
        backbone: `convolutions`, `joined`, `preactivated`, `groups`, `dropout` and `squeeze` are
            used.
        width: of the stage, in filters.
        stride: the output has ceil(h / stride) rows.
        name: what the names of the layers begin with.

    Returns:
        (B, h', w', C'); zero or more unless `preactivated`.
    """

    def activate(x: KerasTensor, number: int) -> KerasTensor:
        x = normalize(x, f"{name}_bn_{number}")
        return layers.ReLU(name=f"{name}_relu_{number}")(x)

    kernels = [kernel for _, kernel in backbone.convolutions]
    strided = kernels.index(3)
    last, filters = len(kernels), backbone.convolutions[-1][0] * width
    changes = backbone.joined == "add" and (stride > 1 or x.shape[-1] != filters)
    shortcut = branch = x
    for number, (multiple, kernel) in enumerate(backbone.convolutions, start=1):
        if backbone.preactivated:
            branch = activate(branch, number)
            if number == 1 and changes:
                shortcut = branch
        if backbone.dropout and number == 2:
            branch = layers.Dropout(backbone.dropout, name=f"{name}_dropout")(branch)
        branch = convolve(
            branch,
            multiple * width,
            kernel,
            stride if number == strided + 1 else 1,
            backbone.groups if kernel == 3 else 1,
            f"{name}_conv_{number}",
        )
        if not backbone.preactivated and (number < last or backbone.joined == "none"):
            branch = activate(branch, number)
    if backbone.joined == "none":
        return branch
    if backbone.joined == "concatenate":
        return layers.Concatenate(name=f"{name}_concatenate")([shortcut, branch])
    if not backbone.preactivated:
        branch = normalize(branch, f"{name}_bn_{last}")
    if backbone.squeeze:
        branch = squeeze_and_excite(branch, backbone.squeeze, name)
    if changes:
        shortcut = convolve(shortcut, filters, 1, stride, 1, f"{name}_shortcut")
        if not backbone.preactivated:
            shortcut = normalize(shortcut, f"{name}_shortcut_bn")
    x = layers.Add(name=f"{name}_add")([shortcut, branch])
    return x if backbone.preactivated else layers.ReLU(name=f"{name}_relu_{last}")(x)


def _transition(x: KerasTensor, keep_grid: bool, name: str) -> KerasTensor:
    """Halves the channels, and the grid unless it is kept (Huang et al. 2017, section 3)."""
    x = layers.ReLU(name=f"{name}_relu")(normalize(x, f"{name}_bn"))
    x = convolve(x, x.shape[-1] // 2, 1, 1, 1, f"{name}_conv")
    return x if keep_grid else layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def build_stage(
    x: KerasTensor,
    backbone: Backbone,
    stage: str,
    prefix: str = "",
    keep_grid: bool = False,
) -> KerasTensor:
    """Adds a stage of a backbone.

    Args:
        x: (B, h, w, C), the output of the stage before it, or what took its place.
        backbone: the network.
        stage: one of its `stages`.
        prefix: what the names of all layers begin with.
        keep_grid: leave out the stride, as the attention branch does (Fukui et al. 2019, section
            3.1), or the pooling that ends the stage (VGG, DenseNet).

    Returns:
        (B, h', w', C').
    """
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
        return _transition(x, keep_grid, f"{name}_transition")
    return x


def build_backbone(images: KerasTensor, backbone: Backbone, until: str) -> KerasTensor:
    """Adds the stem of a backbone and its stages up to one of them.

    Args:
        images: (B, H, W, 3), values in [0, 1].
        backbone: the network.
        until: name of the last stage that is added.

    Returns:
        (B, h, w, C).
    """
    x = images * 2.0 - 1.0  # not layers.Rescaling, which needs TensorFlow on every backend
    if backbone.stem:
        large = backbone.form == "imagenet"
        x = convolve(x, backbone.stem, 7 if large else 3, 2 if large else 1, 1, "stem_conv")
        if large or not backbone.preactivated:
            x = layers.ReLU(name="stem_relu")(normalize(x, "stem_bn"))
        if large:
            x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for stage in backbone.stages[: backbone.stages.index(until) + 1]:
        x = build_stage(x, backbone, stage)
    return x


def finish(x: KerasTensor, backbone: Backbone, prefix: str = "") -> KerasTensor:
    """Adds what follows the last stage: of pre-activated networks normalisation and ReLU.

    Args:
        x: (B, h, w, C).
        backbone: the network.
        prefix: what the names of all layers begin with.

    Returns:
        (B, h, w, C), zero or more.
    """
    if not backbone.preactivated:
        return x
    return layers.ReLU(name=f"{prefix}last_relu")(normalize(x, f"{prefix}last_bn"))
