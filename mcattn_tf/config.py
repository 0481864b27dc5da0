"""Settings of a run: frozen dataclasses, checked when made, to and from JSON."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from mcattn_tf.errors import UserError, choose

# What a data set's settings are where none are given.
DATASETS: dict[str, dict[str, Any]] = {
    "faces": {"image_size": (64, 64)},
    "celeba": {"image_size": (128, 104)},
    "folder": {"image_size": (128, 128)},
    "cifar10": {"image_size": (32, 32)},
    "cifar100": {"image_size": (32, 32)},
    "svhn_cropped": {"image_size": (32, 32), "flip": False},  # a mirrored digit is no digit
    "imagenet2012": {"image_size": (224, 224)},
}
# Of `model`: the extractor and the pooling that follows it.
EXTRACTOR = (
    *("stem", "channels", "dilations", "centered_context", "position_embedding"),
    *("pointwise_layers", "pooling_sharpness"),
)
# What each network has settings for, of `model` and `loss`: others are refused, not ignored.
MODELS: dict[str, dict[str, tuple[str, ...]]] = {
    "mcattn": {
        "model": (*EXTRACTOR, "mask_kernel", "head", "head_units", "mask_l1_reduction"),
        "loss": (
            *("attributes", "multilabel", "reconstruction", "mask_l1"),
            "reconstruction_reduction",
        ),
    },
    "baseline": {"model": EXTRACTOR, "loss": ("multilabel",)},
    "gcm": {"model": ("exclusive", "shared_decoder", "nonnegative"), "loss": ()},
    "cnn": {"model": ("exclusive",), "loss": ()},
}
OF_EVERY_MODEL = ("name", "attributes", "receptive_field")
ENCODER_STRIDE = 4  # of `gcm` and `cnn`
PLACES = ("data_dir", "cache_dir", "no_cache")  # of `data`: they change no image
OF_FILES = (*PLACES, "skip_bad_images", "hold_out", "hold_out_seed", "train_on_validation")
OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "step", "one_cycle")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def _require(condition: bool, field: str, rule: str, received: object) -> None:
    if not condition:
        raise UserError(f"`{field}` must be {rule}. Received: {received!r}")


def _require_positive(config: object, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        _require(value > 0, field, "positive", value)


def _require_defaults(config: object, used: tuple[str, ...], where: str) -> None:
    """Raises for a field that is set and that nothing would read."""
    for field in dataclasses.fields(config):
        if field.name not in used:
            value = getattr(config, field.name)
            _require(value == field.default, field.name, f"left out for {where}", value)


def _require_not_negative(config: object, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        _require(value >= 0, field, "zero or more", value)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images are read, and how.

    Attributes:
        dataset: a key of `DATASETS`.
        data_dir: folder or zip with the data set's files; None for what needs none.
        image_size: height and width in pixels of the network's input.
        cache_dir: folder for decoded images; None for the user's own cache folder.
        no_cache: decode images each time they are read.
        skip_bad_images: leave out images that cannot be decoded, up to 1 % of a part.
        hold_out: share of the images that is held out for validation where the data set has no
            validation part, and as many for the test where it has no test part.
        hold_out_seed: of which images these are, and of the order of a folder's images.
        held_out: which splits were held out, and a digest of their images; filled in from the
            data set, so that a run is not evaluated where others would be held out.
        train_examples: how many training images are used; None for all (`faces`: 8,000).
        train_on_validation: train on the training and validation parts together, as
            Kimura & Tanaka 2019 did on CelebA (182,637 images); validation figures then are of
            seen images.
        flip: mirror half of the training images left to right.
        pad_and_crop: shift training images by up to so many pixels each way, black where nothing
            is known (He et al. 2016 padded CIFAR's by 4).
        color_jitter: change brightness, contrast and saturation of training images, each by a
            factor drawn from 1 - `color_jitter` to 1 + `color_jitter`.
    """

    dataset: str = "faces"
    data_dir: str | None = None
    image_size: tuple[int, int] = (64, 64)
    cache_dir: str | None = None
    no_cache: bool = False
    skip_bad_images: bool = False
    hold_out: float = 0.1
    hold_out_seed: int = 0
    held_out: str | None = None
    train_examples: int | None = None
    train_on_validation: bool = False
    flip: bool = True
    pad_and_crop: int = 0
    color_jitter: float = 0.0

    def __post_init__(self) -> None:
        choose("dataset", self.dataset, DATASETS)
        _require(
            len(self.image_size) == 2 and min(self.image_size) > 0,
            "image_size",
            "two positive numbers, height and width",
            self.image_size,
        )
        if self.train_examples is not None:
            _require_positive(self, "train_examples")
        _require(0 < self.hold_out < 0.5, "hold_out", "above 0 and below 0.5", self.hold_out)
        _require_not_negative(self, "hold_out_seed")
        _require(
            0 <= self.pad_and_crop < min(self.image_size),
            "pad_and_crop",
            "from 0 to less than the image's sides",
            self.pad_and_crop,
        )
        _require(0 <= self.color_jitter < 1, "color_jitter", "from 0 to 1", self.color_jitter)
        if self.dataset == "faces":
            # Drawn, not read: what would change nothing is refused rather than ignored.
            names = {field.name for field in dataclasses.fields(self)}
            _require_defaults(self, tuple(names - set(OF_FILES)), "faces")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shape of a network.

    Attributes:
        name: a key of `MODELS`: `mcattn` (sub-networks, multi-label classifier, reconstructor),
            `baseline` (the same extractor with the multi-label classifier alone), `gcm`
            (generative contribution mappings) or `cnn` (the plain network of its size).
        attributes: names of the K attributes, in the order of the outputs; filled in from the
            data set.
        stem: filters, kernel size and stride of each convolution before the feature grid. A kernel
            that is even where its stride is 2 leaves each cell in the middle of what it sees.
        channels: C, channels of the features and so of every mask.
        dilations: dilation of each 3x3 convolution on the feature grid.
        centered_context: start those convolutions without their outer taps, as 1x1 ones.
        position_embedding: add to the features numbers that are learnt for each place of the
            grid: a cell learns where it is, which leaves the receptive field as it is.
        pointwise_layers: residual 1x1 convolutions after them: depth that leaves the receptive
            field as it is (Brendel & Bethge 2019).
        mask_kernel: size of the convolution that makes the masks, 1 or 3.
        pooling_sharpness: of the softmax over positions by which the sub-networks average the
            evidence of places; 0 for the plain average of Kimura & Tanaka 2019.
        head: `linear` (contributions sum to the logit) or `mlp` (one hidden layer, on the plain
            average).
        head_units: hidden units of the `mlp` head.
        mask_l1_reduction: `sum` over all mask entries of an image, as published, or
            `per_position`, that sum divided by the number of positions h w.
        exclusive: whether each image has exactly one of the labels, its class, so that the
            probabilities of `gcm` and `cnn` are a softmax, else a sigmoid each; None for what the
            data set says, filled in when the network is trained.
        shared_decoder: whether all layers of the decoder of `gcm` but the last are shared by the
            classes.
        nonnegative: clip the weight maps of `gcm`, and so its contributions, at zero.
        receptive_field: side in pixels of the square of the image that a cell sees, of those that
            evidence is read from; filled in from the network's layers when it is trained.
    """

    name: str = "mcattn"
    attributes: tuple[str, ...] = ()
    stem: tuple[tuple[int, int, int], ...] = ((32, 4, 2), (64, 3, 1), (128, 2, 2))
    channels: int = 128
    dilations: tuple[int, ...] = (1,)
    centered_context: bool = True
    position_embedding: bool = True
    pointwise_layers: int = 4
    mask_kernel: int = 1
    pooling_sharpness: float = 0.25
    head: str = "linear"
    head_units: int = 64
    mask_l1_reduction: str = "sum"
    exclusive: bool | None = None
    shared_decoder: bool = True
    nonnegative: bool = False
    receptive_field: int | None = None

    def __post_init__(self) -> None:
        choose("model", self.name, MODELS)
        _require_defaults(self, (*OF_EVERY_MODEL, *MODELS[self.name]["model"]), self.name)
        choose("head", self.head, ("linear", "mlp"))
        choose("mask_l1_reduction", self.mask_l1_reduction, ("sum", "per_position"))
        _require(
            len(self.stem) > 0 and all(len(x) == 3 and min(x) > 0 and x[2] <= 2 for x in self.stem),
            "stem",
            "triples of positive filters, a positive kernel size and a stride of 1 or 2",
            self.stem,
        )
        _require(all(d > 0 for d in self.dilations), "dilations", "positive", self.dilations)
        _require(self.mask_kernel in (1, 3), "mask_kernel", "1 or 3", self.mask_kernel)
        _require_positive(self, "channels", "head_units")
        _require_not_negative(self, "pointwise_layers", "pooling_sharpness")
        _require(
            self.head == "linear" or self.pooling_sharpness == 0,
            "pooling_sharpness",
            "0 with the head `mlp`",
            self.pooling_sharpness,
        )
        if self.receptive_field is not None:
            _require_positive(self, "receptive_field")
        _require(
            len(set(self.attributes)) == len(self.attributes),
            "attributes",
            "names without repeats",
            self.attributes,
        )

    @property
    def stride(self) -> int:
        """Pixels of the image per cell of the feature grid."""
        if "stem" not in MODELS[self.name]["model"]:
            return ENCODER_STRIDE
        stride = 1
        for *_, layer_stride in self.stem:
            stride *= layer_stride
        return stride


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the loss (Kimura & Tanaka 2019, eq. 6).

    Attributes:
        attributes: alpha, of the sub-networks' summed cross-entropies.
        multilabel: beta, of the multi-label classifier's.
        reconstruction: gamma, of the reconstruction error.
        mask_l1: lambda, of the masks' L1 norm.
        reconstruction_reduction: `mean` over the pixels of an image, or their `sum`.
    """

    attributes: float = 1.0
    multilabel: float = 1.0
    reconstruction: float = 4.0
    mask_l1: float = 1e-6
    reconstruction_reduction: str = "mean"

    def __post_init__(self) -> None:
        choose("reconstruction_reduction", self.reconstruction_reduction, ("mean", "sum"))
        _require_not_negative(self, "attributes", "multilabel", "reconstruction", "mask_l1")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step.
        optimizer: `adam`, or `sgd` with a momentum of 0.9.
        learning_rate: peak of the schedule.
        schedule: `cosine`, a linear rise over the first tenth of the steps, then half a cosine
            down to zero; `step`, a tenth after 5/9 and a hundredth after 5/6 of the training, as
            after 100 and 150 of 180 epochs; `one_cycle`, a linear rise from a 25th over the first
            three tenths, then linearly down to zero.
        precision: Keras dtype policy of the layers; outputs and losses are float32 always.
        seed: of initial weights, data order and augmentation.
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        choose("optimizer", self.optimizer, OPTIMIZERS)
        choose("schedule", self.schedule, SCHEDULES)
        choose("precision", self.precision, PRECISIONS)
        _require_positive(self, "epochs", "batch_size", "learning_rate")
        _require(0 <= self.seed < 2**32, "seed", "from 0 to 2^32 - 1", self.seed)


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run; `config.json` in its directory."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        _require_defaults(self.loss, MODELS[self.model.name]["loss"], self.model.name)
        stride = self.model.stride
        _require(
            all(side % stride == 0 for side in self.data.image_size),
            "image_size",
            f"divisible by {stride}, the pixels per feature cell",
            self.data.image_size,
        )

    @property
    def feature_size(self) -> tuple[int, int]:
        """Height and width (h, w) of the feature grid."""
        height, width = self.data.image_size
        return height // self.model.stride, width // self.model.stride

    def replace(self, section: str, **fields: Any) -> "Config":
        """Returns a copy in which `fields` of one section (`data`, `model`, ...) are changed."""
        changed = dataclasses.replace(getattr(self, section), **fields)
        return dataclasses.replace(self, **{section: changed})

    def located(self, **places: str | bool | None) -> "Config":
        """Returns a copy that finds its data elsewhere.

        Args:
            **places: fields of `data` out of `PLACES`; None changes nothing.
        """
        return self.replace(
            "data", **{k: place for k, place in places.items() if place is not None}
        )

    def to_json(self) -> str:
        """Returns the settings that the network has, as indented JSON."""
        return json.dumps(used_settings(dataclasses.asdict(self), self.model.name), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Returns the settings that `to_json` wrote.

        Raises:
            UserError: if `text` is not JSON, or a section, field or value is not valid.
        """
        try:
            return make_config(json.loads(text))
        except json.JSONDecodeError as error:
            raise UserError(f"not JSON: {error}") from None
        except (AttributeError, TypeError) as error:
            raise UserError(f"a setting has a value of the wrong kind: {error}") from None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def used_settings(
    settings: Mapping[str, Mapping[str, Any]], model: str
) -> dict[str, dict[str, Any]]:
    """Returns those settings that a network has: a preset may serve several.

    Args:
        settings: {section: {field: value}}.
        model: a key of `MODELS`.
    """
    own = MODELS[choose("model", model, MODELS)]
    used = {"model": (*OF_EVERY_MODEL, *own["model"]), "loss": own["loss"]}
    return {
        section: {k: v for k, v in fields.items() if k in used.get(section, fields)}
        for section, fields in settings.items()
    }


def make_config(*sources: Mapping[str, Mapping[str, Any]]) -> Config:
    """Returns the default settings changed by each of `sources` in turn.

    Args:
        *sources: {section: {field: value}}, such as a preset. Lists become tuples.

    Returns:
        The settings. Without an `image_size` the data set's own is taken.

    Raises:
        UserError: for an unknown section or field, or a value out of its range.
    """
    sections = {field.name: field.default_factory for field in dataclasses.fields(Config)}
    merged: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for source in sources:
        for section, fields in source.items():
            choose("section of config", section, sections)
            merged[section].update({name: _tuples(value) for name, value in fields.items()})
    dataset = merged["data"].get("dataset", DataConfig.dataset)
    merged["data"] = DATASETS.get(dataset, {}) | merged["data"]
    made = {}
    for section, section_class in sections.items():
        known = tuple(field.name for field in dataclasses.fields(section_class))
        for name in merged[section]:
            choose(f"field of config.{section}", name, known)
        made[section] = section_class(**merged[section])
    return Config(**made)
