"""Settings of the network of a run."""

import dataclasses

from mcattn_tf.errors import choose
from mcattn_tf.settings.backbones import BACKBONES, backbone_of
from mcattn_tf.settings.checks import (
    require,
    require_defaults,
    require_not_negative,
    require_positive,
)
from mcattn_tf.settings.systems import MODELS, SYSTEMS

ENCODER_STRIDE = 4  # of `gcm` and `cnn`


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shape of a network.

    Attributes:
        name: a key of `MODELS`: `mcattn` (sub-networks, multi-label classifier, reconstructor),
            `baseline` (the same extractor with the multi-label classifier alone), `gcm`
            (generative contribution mappings), `cnn` (the plain network of its size), `abn`
            (attention branch network) or `multitask_abn` (with a map for each attribute).
        stem: filters, kernel size and stride of each convolution before the feature grid. A kernel
            that is even where its stride is 2 leaves each cell in the middle of what it sees.
        channels: C, channels of the features and so of every mask.
        dilations: dilation of each 3x3 convolution on the feature grid.
        centered_context: start those convolutions without their outer taps, as 1x1 ones.
        position_embedding: add to the features numbers that are learnt for each place of the
            grid: a cell learns where it is, which leaves the receptive field as it is.
        pointwise_layers: residual 1x1 convolutions after them: depth that leaves the receptive
            field as it is (Brendel & Bethge 2019).
        channel_masks: whether a mask has a value for each channel of the features, as published,
            or one for all of them.
        pooling_sharpness: of the softmax over positions by which the sub-networks average the
            evidence of places; 0 for the plain average of Kimura & Tanaka 2019.
        head: `linear` (contributions sum to the logit) or `mlp` (one hidden layer, on the plain
            average).
        head_units: hidden units of the `mlp` head.
        exclusive: whether each image has exactly one of the labels, its class, so that the
            probabilities of `gcm`, `cnn` and `abn` are a softmax, else a sigmoid each; None for
            what the data set says, filled in when the network is trained.
        shared_decoder: whether all layers of the decoder of `gcm` but the last are shared by the
            classes.
        nonnegative: clip the weight maps of `gcm`, and so its contributions, at zero.
        backbone: of `abn`, a name that `backbone_config.backbone_of` knows.
        stage: name of the last stage of the backbone before its branches; None for the last but
            one, as published.
        attention_mechanism: `residual`, features times 1 + the map (Fukui et al. 2019, eq. 2),
            `product`, times the map (eq. 1), or `none`, the backbone alone.
        map_kernel: size of the convolution that makes the attention map, 3 as in the authors'
            code or 1 as in their paper.
        weights: `imagenet` to begin with those that `keras.applications` has, where it has the
            backbone; None for random ones.
        map_activation: of the attention maps of `multitask_abn`: `sigmoid`, or `linear` as in the
            paper's code.
        task_units: of each attribute behind the perception branch of `multitask_abn`: 1, or 2 that
            a softmax compares, as published.
        task_slice: how many attributes `multitask_abn` computes together at most; None for as
            many as 2 GiB hold, in prediction on a CPU a quarter of all at most.
    """

    name: str = "mcattn"
    stem: tuple[tuple[int, int, int], ...] = ((32, 4, 2), (64, 3, 1), (128, 2, 2))
    channels: int = 128
    dilations: tuple[int, ...] = (1,)
    centered_context: bool = True
    position_embedding: bool = True
    pointwise_layers: int = 4
    channel_masks: bool = True
    pooling_sharpness: float = 0.25
    head: str = "linear"
    head_units: int = 64
    exclusive: bool | None = None
    shared_decoder: bool = True
    nonnegative: bool = False
    backbone: str = "resnet20"
    stage: str | None = None
    attention_mechanism: str = "residual"
    map_kernel: int = 3
    weights: str | None = None
    map_activation: str = "sigmoid"
    task_units: int = 1
    task_slice: int | None = None

    def __post_init__(self) -> None:
        choose("model", self.name, MODELS)
        require_defaults(self, ("name", *SYSTEMS[self.system].model), self.name)
        choose("head", self.head, ("linear", "mlp"))
        require(
            len(self.stem) > 0 and all(len(x) == 3 and min(x) > 0 and x[2] <= 2 for x in self.stem),
            "stem",
            "triples of positive filters, a positive kernel size and a stride of 1 or 2",
            self.stem,
        )
        require(all(d > 0 for d in self.dilations), "dilations", "positive", self.dilations)
        require_positive(self, "channels", "head_units")
        require_not_negative(self, "pointwise_layers", "pooling_sharpness")
        require(
            self.head == "linear" or self.pooling_sharpness == 0,
            "pooling_sharpness",
            "0 with the head `mlp`",
            self.pooling_sharpness,
        )
        self._check_backbone()

    def _check_backbone(self) -> None:
        backbone = backbone_of(self.backbone)
        choose("stage", self.extractor_end, backbone.stages[:-1])
        choose("attention_mechanism", self.attention_mechanism, ("residual", "product", "none"))
        require(self.map_kernel in (1, 3), "map_kernel", "1 or 3", self.map_kernel)
        if self.weights is not None:
            choose("weights", self.weights, ("imagenet",))
            trained = [name for name, shape in BACKBONES.items() if shape.application]
            choose("backbone (with weights)", self.backbone, trained)
        choose("map_activation", self.map_activation, ("sigmoid", "linear"))
        require(self.task_units in (1, 2), "task_units", "1 or 2", self.task_units)
        if self.task_slice is not None:
            require_positive(self, "task_slice")
        if self.name == "multitask_abn":
            choose("attention_mechanism", self.attention_mechanism, ("residual", "product"))
            if backbone.dropout:  # what is computed again in the backward pass is not drawn anew
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
        stride = 1
        for *_, layer_stride in self.stem:
            stride *= layer_stride
        return stride
