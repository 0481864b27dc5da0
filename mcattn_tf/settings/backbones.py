"""Shapes of the networks that a task's branch can be put on."""

import dataclasses
import re

from mcattn_tf.errors import choose
from mcattn_tf.settings.fields import require

# The convolutions of a block: filters in multiples of the stage's width, and kernel size.
BASIC = ((1, 3), (1, 3))
BOTTLENECK = ((1, 1), (1, 3), (4, 1))
EIGHT_GROUPS = ((8, 1), (8, 3), (4, 1))
DENSE = ((4, 1), (1, 3))


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The shape of a network: a stem, then stages of blocks, each on a grid of its own.

    Attributes:
        widths: Filters of each stage.
        blocks: Number of blocks of each stage.
        convolutions: Convolutions of a block, as (multiple of the stage's width, kernel size).
        joined: Way to join a block's convolutions with its input: `add` (residual networks),
            `concatenate` (DenseNet) or `none` (VGG).
        form: Stem: `cifar`, a 3x3 convolution, and a stride of 2 from stage to stage; `imagenet`,
            a 7x7 convolution with a stride of 2 and a maximum over 3x3 with another before that.
        stem: Filters of the first convolution; 0 for none.
        preactivated: Whether normalisation and ReLU precede a convolution (He et al. 2016b).
        groups: Groups of the 3x3 convolutions (ResNeXt, Xie et al. 2017).
        dropout: Share dropped before a block's second convolution (Zagoruyko & Komodakis 2016).
        squeeze: Channels of a block for one of its squeeze-and-excitation (Hu et al. 2018); 0 for
            none.
        application: Name of the same network in `keras.applications`, from which it is taken
            where a network of one task is built.
        convention: Padding, normalisation and initial weights, a key of
            `models.backbones.CONVENTIONS`.
    """

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    convolutions: tuple[tuple[int, int], ...]
    joined: str = "add"
    form: str = "cifar"
    stem: int = 16
    preactivated: bool = False
    groups: int = 1
    dropout: float = 0.0
    squeeze: int = 0
    application: str | None = None
    convention: str = "pytorch"

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, `stage_1` first."""
        return tuple(f"stage_{number}" for number in range(1, len(self.widths) + 1))

    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of the grid of each stage's output."""
        if self.joined == "none":  # a maximum over 2x2 ends each stage
            return tuple(2**number for number in range(1, len(self.widths) + 1))
        first = 1 if self.form == "cifar" else 4
        steps = [first * 2**number for number in range(len(self.widths))]
        if self.joined == "concatenate":  # a transition ends each stage but the last
            return (*steps[1:], steps[-1])
        return tuple(steps)


def cifar_residual(depth: int) -> Backbone:
    """Returns the network of depth 6 n + 2 for images of 32x32 (He et al. 2016, section 4.2).

    The shortcuts that change the number of channels are 1x1 convolutions (their option B), as the
    authors of ABN have them. Those build networks of a depth from 44 on of bottlenecks, three
    convolutions a block; here every depth is that of He et al.'s basic blocks.
    """
    count, rest = divmod(depth - 2, 6)
    rule = "resnet and a depth of 6 n + 2, or of 18, 34, 50, 101 or 152 for large images"
    require(count > 0 and rest == 0, "backbone", rule, f"resnet{depth}")
    return Backbone((16, 32, 64), (count,) * 3, BASIC)


def _imagenet(
    blocks: tuple[int, ...],
    convolutions: tuple,
    widths: tuple[int, ...] = (64, 128, 256, 512),
    **options: object,
) -> Backbone:
    """Returns a network for images of 224x224; widths are those of He et al. 2016, table 1."""
    return Backbone(widths, blocks, convolutions, form="imagenet", **{"stem": 64, **options})


DENSENET = {"joined": "concatenate", "preactivated": True}
# Simonyan & Zisserman 2015, configuration D.
VGG = ((2, 2, 3, 3, 3), ((1, 3),), (64, 128, 256, 512, 512))
BACKBONES: dict[str, Backbone] = {
    **{f"resnet{depth}": cifar_residual(depth) for depth in (20, 32, 44, 56, 110)},
    # Zagoruyko & Komodakis 2016, 28 layers, four times as wide.
    "wide_resnet28_4": Backbone((64, 128, 256), (4,) * 3, BASIC, preactivated=True, dropout=0.3),
    # Xie et al. 2017, 8 groups, four times as wide. Of 28 layers, as the ABN paper has it, 26 are
    # to be thirds of three stages: its authors' code then takes two blocks a stage, of 29 three.
    "resnext28_8x4": Backbone((64, 128, 256), (2,) * 3, EIGHT_GROUPS, stem=64, groups=8),
    # Huang et al. 2017, 100 layers, growth rate 12, with bottlenecks and half the channels after
    # each of the first two stages.
    "densenet100_12": Backbone((12,) * 3, (16,) * 3, DENSE, stem=24, **DENSENET),
    "resnet18": _imagenet((2, 2, 2, 2), BASIC),
    "resnet34": _imagenet((3, 4, 6, 3), BASIC),
    "resnet50": _imagenet((3, 4, 6, 3), BOTTLENECK, application="ResNet50"),
    "resnet101": _imagenet((3, 4, 23, 3), BOTTLENECK, application="ResNet101"),
    "resnet152": _imagenet((3, 8, 36, 3), BOTTLENECK, application="ResNet152"),
    **{
        f"se_resnet{depth}": _imagenet(blocks, BOTTLENECK, squeeze=16)
        for depth, blocks in ((50, (3, 4, 6, 3)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3)))
    },
    "densenet121": _imagenet(
        (6, 12, 24, 16), DENSE, (32,) * 4, application="DenseNet121", **DENSENET
    ),
    "vgg16": _imagenet(*VGG, stem=0, joined="none", application="VGG16"),
    "vgg16_bn": _imagenet(*VGG, stem=0, joined="none"),
}


def backbone_of(name: str) -> Backbone:
    """Returns the backbone of a name: of `BACKBONES`, or `resnet` and another depth of 6 n + 2."""
    if name not in BACKBONES and (found := re.fullmatch(r"resnet(\d+)", name)):
        return cifar_residual(int(found[1]))
    return BACKBONES[choose("backbone", name, BACKBONES)]
