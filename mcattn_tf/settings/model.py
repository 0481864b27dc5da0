"""Settings of the network of a run."""

import dataclasses
import math

from mcattn_tf.errors import choose
from mcattn_tf.settings.backbones import BACKBONES, Backbone, backbone_of
from mcattn_tf.settings.fields import NOT_NEGATIVE, POSITIVE, Rule, Section, require, setting
from mcattn_tf.settings.systems import MODELS, SYSTEMS

ENCODER_STRIDE = 4  # of `gcm` and `cnn`
STEM = Rule(
    "triples of positive filters, a positive kernel size and a stride of 1 or 2",
    lambda stem: len(stem) > 0 and all(len(x) == 3 and min(x) > 0 and x[2] <= 2 for x in stem),
)


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The shape of a network; a network reads the fields that `systems.SYSTEMS` gives it."""

    name: str = setting(
        "mcattn",
        "Network. mcattn: sub-networks, multi-label classifier and reconstructor; baseline: the "
        "same extractor with the multi-label classifier alone; gcm: generative contribution "
        "mappings; cnn: the plain network of the size of gcm; abn: attention branch network; "
        "multitask_abn: attention branch network with a map for each attribute",
        MODELS,
        flag="model",
    )
    stem: tuple[tuple[int, int, int], ...] = setting(
        ((32, 4, 2), (64, 3, 1), (128, 2, 2)),
        "Filters, kernel size and stride of each convolution before the feature grid, such as "
        "--set model.stem=[[32,4,2],[128,2,2]]; an even kernel with a stride of 2 leaves a cell in "
        "the middle of the pixels that it sees",
        STEM,
        flag=None,
    )
    channels: int = setting(128, "Channels C of the features and of every mask", POSITIVE)
    inner_channels: int | None = setting(
        None,
        "Channels of the 3x3 convolutions on the feature grid but the last, and those that the "
        "layers of the reconstructor are sized by; by default `channels`, of which pruning keeps "
        "fewer",
        POSITIVE,
    )
    dilations: tuple[int, ...] = setting(
        (1,),
        "Dilation of each 3x3 convolution on the feature grid",
        Rule("positive", lambda values: all(d > 0 for d in values)),
    )
    centered_context: bool = setting(
        True, "Initialize the 3x3 convolutions on the feature grid as 1x1 convolutions"
    )
    position_embedding: bool = setting(
        True, "Add a learnt vector for each cell to the features; the receptive field stays"
    )
    pointwise_layers: int = setting(
        4,
        "Residual 1x1 convolutions after the 3x3 ones; the receptive field stays (Brendel & "
        "Bethge 2019)",
        NOT_NEGATIVE,
    )
    mask_rank: int | None = setting(
        16,
        "Shared masks that every mask of mcattn is a mixture of; none for masks with weights of "
        "their own, as published",
        POSITIVE,
    )
    mask_stride: int = setting(
        2, "Cells of the feature grid along a cell of the shared masks", POSITIVE
    )
    mask_context: int = setting(
        5,
        "Kernel size of the convolution that makes the shared masks, in cells of their grid",
        Rule("odd and positive", lambda value: value > 0 and value % 2 == 1),
    )
    channel_masks: bool = setting(
        True, "Give a mask a value for each channel, as published, in place of one for all"
    )
    pooling_sharpness: float = setting(
        0.25,
        "Sharpness of the softmax pooling over positions; 0 gives the plain average of Kimura & "
        "Tanaka 2019",
        NOT_NEGATIVE,
    )
    head: str = setting(
        "linear",
        "Head of a sub-network: linear (contributions sum to the logit) or mlp (one hidden layer "
        "on the plain average)",
        ("linear", "mlp"),
    )
    head_units: int = setting(64, "Hidden units of the head mlp", POSITIVE)
    reconstructor: str = setting(
        "subpixel",
        "Last layers of the reconstructor: subpixel (each cell makes all its pixels) or transposed "
        "(convolutions that double the grid)",
        ("subpixel", "transposed"),
    )
    exclusive: bool | None = setting(
        None,
        "Softmax over classes (an image has one class) in place of a sigmoid for each label; gcm, "
        "cnn and abn; by default set by the data set",
    )
    shared_decoder: bool = setting(
        True, "Share all layers of the decoder of gcm but the last among the classes"
    )
    nonnegative: bool = setting(
        False, "Clip the weight maps of gcm, and so its contributions, at zero"
    )
    backbone: str = setting(
        "resnet20",
        f"Backbone of abn and multitask_abn: {', '.join(BACKBONES)}, or resnet and a depth of "
        "6 n + 2",
    )
    convention: str = setting(
        "pytorch",
        "Convention of the backbones that are not from keras.applications. pytorch: as the "
        "authors' code, strided convolutions padded on both sides, an epsilon of 1e-5 in "
        "normalisation and initial weights by the number of outputs; keras: padded at the far "
        "side, 1e-3 and by inputs, as runs without this setting",
        ("pytorch", "keras"),
    )
    stage: str | None = setting(
        None, "Last stage of the backbone before its branches; by default the last but one"
    )
    attention_mechanism: str = setting(
        "residual",
        "Attention: residual (features times 1 + the map; Fukui et al. 2019, eq. 2), product "
        "(times the map, eq. 1) or none (the backbone alone)",
        ("residual", "product", "none"),
    )
    map_kernel: int = setting(
        3,
        "Kernel size of the convolution that makes the attention map of abn: 3 as in the authors' "
        "code, 1 as in their paper",
        Rule("1 or 3", lambda value: value in (1, 3)),
    )
    weights: str | None = setting(
        None,
        "Initial weights: imagenet (from keras.applications); by default random",
        ("imagenet",),
    )
    map_activation: str = setting(
        "sigmoid",
        "Activation of the attention maps of multitask_abn; linear as in the authors' code",
        ("sigmoid", "linear"),
    )
    task_units: int = setting(
        1,
        "Units for each attribute behind the perception branch of multitask_abn: 1, or 2 with a "
        "softmax as published",
        Rule("1 or 2", lambda value: value in (1, 2)),
    )
    task_slice: int | None = setting(
        None,
        "Largest number of attributes that multitask_abn computes together; by default as many as "
        "fit into 2 GiB, on a CPU in prediction a quarter",
        POSITIVE,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_defaults(("name", *SYSTEMS[self.system].model), self.name)
        require(
            self.head == "linear" or self.pooling_sharpness == 0,
            "pooling_sharpness",
            "0 with the head `mlp`",
            self.pooling_sharpness,
        )
        for name, shared in (("head", "linear"), ("channel_masks", True)):
            value = getattr(self, name)
            if value != shared:
                rule = f"none with {name} {value!r} (--set model.mask_rank=null)"
                require(self.mask_rank is None, "mask_rank", rule, self.mask_rank)
        backbone = backbone_of(self.backbone)
        choose("stage", self.extractor_end, backbone.stages[:-1])
        if self.weights is not None:
            trained = [name for name, shape in BACKBONES.items() if shape.application]
            choose("backbone (with weights)", self.backbone, trained)
        if self.name == "multitask_abn":
            choose("attention_mechanism", self.attention_mechanism, ("residual", "product"))
            if backbone.dropout:  # the backward pass recomputes and would draw other units
                steady = [name for name, shape in BACKBONES.items() if not shape.dropout]
                choose("backbone (of multitask_abn)", self.backbone, steady)

    @property
    def system(self) -> str:
        """Key of the network's row in `systems.SYSTEMS`."""
        if self.name == "gcm" and self.nonnegative:
            return "nonnegative_gcm"
        if self.name == "abn" and self.attention_mechanism == "none":
            return "backbone"
        return self.name

    @property
    def backbone_shape(self) -> Backbone:
        """Shape of the backbone with the convention of this network."""
        return dataclasses.replace(backbone_of(self.backbone), convention=self.convention)

    @property
    def extractor_end(self) -> str:
        """Name of the last stage of the backbone before its branches."""
        return self.stage or backbone_of(self.backbone).stages[-2]

    @property
    def stride(self) -> int:
        """Pixels of the image per cell of the feature grid."""
        fields = SYSTEMS[self.system].model
        if "backbone" in fields:
            return backbone_of(self.backbone).strides()[-1]
        if "stem" not in fields:
            return ENCODER_STRIDE
        return math.prod(stride for *_, stride in self.stem)
