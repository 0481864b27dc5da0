"""Settings of a run: frozen dataclasses, checked when made, to and from JSON."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from mcattn_tf.errors import UserError, choose
from mcattn_tf.settings.data import DATASETS, DataConfig
from mcattn_tf.settings.fields import NOT_NEGATIVE, POSITIVE, SHARE, Rule, Section, require, setting
from mcattn_tf.settings.findings import Findings, with_findings_apart
from mcattn_tf.settings.model import ModelConfig
from mcattn_tf.settings.systems import MODELS, SYSTEMS

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "step", "one_cycle")
MONITORS = ("accuracy", "balanced_accuracy", "average_precision")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Fields that no longer exist, at the only value that a stored run has ever had.
RETIRED = {
    ("model", "mask_kernel"): 1,
    ("model", "mask_l1_reduction"): "sum",
    ("loss", "reconstruction_reduction"): "mean",
}
# Values of stored runs without these settings, where the default is another by now.
FORMER = {"model": {"convention": "keras", "mask_rank": None, "reconstructor": "transposed"}}


@dataclasses.dataclass(frozen=True)
class LossConfig(Section):
    """Weights of the parts of the loss (Kimura & Tanaka 2019, eq. 6)."""

    attributes: float = setting(
        1.0, "Weight alpha of the cross-entropies of the sub-networks", NOT_NEGATIVE
    )
    multilabel: float = setting(
        1.0, "Weight beta of the cross-entropies of the multi-label classifier", NOT_NEGATIVE
    )
    reconstruction: float = setting(4.0, "Weight gamma of the reconstruction error", NOT_NEGATIVE)
    mask_l1: float = setting(1e-6, "Weight lambda of the masks' L1 norm", NOT_NEGATIVE)
    positive_weight: float | None = setting(
        None,
        "Cap N of the weights of present labels: an attribute's is its number of absent training "
        "labels divided by that of present ones, within 1/N and N; by default all are 1",
        Rule("1 or more", lambda value: value >= 1),
    )


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Section):
    """How a network is trained."""

    epochs: int = setting(20, "Passes over the training images", POSITIVE)
    batch_size: int = setting(64, "Images in a step, on all devices together", POSITIVE)
    optimizer: str = setting("adam", "Optimizer; sgd has a momentum of 0.9", OPTIMIZERS)
    learning_rate: float = setting(2e-3, "Peak of the learning rate", POSITIVE)
    schedule: str = setting(
        "cosine",
        "Schedule of the learning rate. cosine: a linear rise over the first tenth of the steps, "
        "then half a cosine down to zero; step: a tenth after each milestone; one_cycle: a linear "
        "rise from a 25th over three tenths of the steps, then linearly down to zero",
        SCHEDULES,
    )
    milestones: tuple[float, ...] = setting(
        (5 / 9, 5 / 6),
        "Milestones of the schedule step as shares of the training, such as 0.5,0.75; none for a "
        "constant rate; by default 100 and 150 of 180 epochs",
        Rule(
            "rising, above 0 and below 1",
            lambda shares: (
                list(shares) == sorted(set(shares)) and all(0 < share < 1 for share in shares)
            ),
        ),
    )
    weight_decay: float = setting(
        0.0, "Factor of half the sum of squared weights in the loss (L2); sgd only", NOT_NEGATIVE
    )
    label_smoothing: float = setting(
        0.0,
        "Label smoothing factor, which moves targets towards 1/2 (attributes) or 1/N (one of N "
        "classes; Szegedy et al. 2016)",
        SHARE,
    )
    ema: float = setting(
        0.0,
        "Momentum of the moving average of the weights that is validated, evaluated and exported, "
        "such as 0.999 for about 1,000 steps; 0 for the weights themselves",
        SHARE,
    )
    init_from: str | None = setting(
        None,
        "Run directory whose best weights a training begins with, layer by layer where names and "
        "shapes agree; of a run with other attributes those of the extractor",
    )
    freeze: str | None = setting(
        None,
        "Part that keeps its initial weights and batch statistics: extractor; needs --init_from or "
        "--weights",
        ("extractor",),
    )
    monitor: str = setting(
        "accuracy", "Validation measure whose highest value chooses the best epoch", MONITORS
    )
    patience: int = setting(
        0, "Epochs without a new best one after which the training ends; 0 for none", NOT_NEGATIVE
    )
    precision: str = setting(
        "float32", "Keras dtype policy of the layers; outputs and losses stay float32", PRECISIONS
    )
    seed: int = setting(
        0,
        "Random seed for initial weights, data order and augmentation",
        Rule("from 0 to 2^32 - 1", lambda value: 0 <= value < 2**32),
    )
    deterministic: bool = setting(
        False,
        "Compute in a fixed order: the same seed gives bit-equal weights; turns XLA off on a GPU",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.optimizer == "sgd" or self.weight_decay == 0,
            "weight_decay",
            "0 with the optimizer `adam`",
            self.weight_decay,
        )


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run (`config.json` in its directory) and the findings of its training."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    found: Findings = dataclasses.field(default_factory=Findings)

    def __post_init__(self) -> None:
        self.loss.require_defaults(SYSTEMS[self.model.system].loss, self.model.name)
        begun = self.training.init_from or self.model.weights
        rule = "left out without initial weights: --init_from RUN or --weights imagenet"
        require(bool(begun) or self.training.freeze is None, "freeze", rule, self.training.freeze)
        size, stride = self.data.image_size, self.model.stride
        if "backbone" in SYSTEMS[self.model.system].model:
            rule = f"at least {stride},{stride}: the pixels per feature cell of its backbone"
            require(min(size) >= stride, "image_size", rule, size)
        else:
            rule = f"divisible by {stride}, the pixels per feature cell"
            require(all(side % stride == 0 for side in size), "image_size", rule, size)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the K attributes or classes, in the order of the outputs."""
        return self.found.attributes

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
        """Returns a copy with other fields of `data` out of `PLACES`; None changes nothing."""
        return self.replace("data", **{k: v for k, v in places.items() if v is not None})

    def to_json(self) -> str:
        """Returns the settings that the network has, as indented JSON."""
        settings = used_settings(dataclasses.asdict(self), self.model.name)
        return json.dumps({k: v for k, v in settings.items() if k != "found"}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Returns the settings that `to_json` wrote.

        Raises:
            UserError: if `text` is not JSON, or a section, field or value is not valid.
        """
        try:
            return stored_config(json.loads(text))
        except json.JSONDecodeError as error:
            raise UserError(f"not JSON: {error}") from None
        except (AttributeError, TypeError) as error:
            raise UserError(f"a setting has a value of the wrong kind: {error}") from None


def stored_config(settings: Mapping[str, Mapping[str, Any]]) -> Config:
    """Returns the settings of a run as it stored them, {section: {field: value}}.

    Settings that were added since then have their defaults, or what `FORMER` says of them.
    """
    stored = with_findings_apart(settings)
    name = stored.get("model", {}).get("name", ModelConfig.name)
    return make_config(used_settings(FORMER, name), stored)


def tuples(value: Any) -> Any:
    """Returns lists as tuples, also nested ones; other values as they are."""
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


def used_settings(
    settings: Mapping[str, Mapping[str, Any]], model: str
) -> dict[str, dict[str, Any]]:
    """Returns the settings, {section: {field: value}}, that a network of `MODELS` has."""
    own = SYSTEMS[choose("model", model, MODELS)]
    used = {"model": ("name", *own.model), "loss": own.loss}
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
            known = dataclasses.fields(sections[choose("section of config", section, sections)])
            for name, value in fields.items():
                if (section, name) in RETIRED:
                    only = RETIRED[section, name]
                    require(value == only, name, f"{only!r} or left out: it is retired", value)
                else:
                    choose(f"field of config.{section}", name, [field.name for field in known])
                    merged[section][name] = tuples(value)
    dataset = choose("dataset", merged["data"].get("dataset", DataConfig.dataset), DATASETS)
    merged["data"] = DATASETS[dataset] | merged["data"]
    return Config(**{name: section(**merged[name]) for name, section in sections.items()})
