"""Settings of a run: frozen dataclasses, checked when made, to and from JSON."""

import dataclasses
import json
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from mcattn_tf.errors import UserError, choose
from mcattn_tf.settings.checks import (
    require,
    require_defaults,
    require_not_negative,
    require_positive,
)
from mcattn_tf.settings.data import DATASETS, DataConfig
from mcattn_tf.settings.findings import Findings, with_findings_apart
from mcattn_tf.settings.model import ModelConfig
from mcattn_tf.settings.systems import MODELS, SYSTEMS

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "step", "one_cycle")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Fields that no longer exist, at the only value that a stored run has ever had.
RETIRED = {
    ("model", "mask_kernel"): 1,
    ("model", "mask_l1_reduction"): "sum",
    ("loss", "reconstruction_reduction"): "mean",
}
MANY = {int: "whole numbers", float: "numbers", str: "names"}


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the loss (Kimura & Tanaka 2019, eq. 6).

    Attributes:
        attributes: alpha, of the sub-networks' summed cross-entropies.
        multilabel: beta, of the multi-label classifier's.
        reconstruction: gamma, of the reconstruction error.
        mask_l1: lambda, of the masks' L1 norm.
    """

    attributes: float = 1.0
    multilabel: float = 1.0
    reconstruction: float = 4.0
    mask_l1: float = 1e-6

    def __post_init__(self) -> None:
        require_not_negative(self, "attributes", "multilabel", "reconstruction", "mask_l1")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step.
        optimizer: `adam`, or `sgd` with a momentum of 0.9.
        learning_rate: peak of the schedule.
        schedule: `cosine`, a linear rise over the first tenth of the steps, then half a cosine
            down to zero; `step`, a tenth after each of `milestones`; `one_cycle`, a linear rise
            from a 25th over the first three tenths, then linearly down to zero.
        milestones: of `step`, as shares of the training; by default 100 and 150 of 180 epochs;
            none for a rate that stays.
        weight_decay: of `sgd`, as the weight of half the sum of all squared weights in the loss.
        label_smoothing: share by which the targets of the labels are moved towards an even guess:
            1/2 of an attribute, 1/N of one of N classes (Szegedy et al. 2016).
        ema: momentum of the exponential moving average of the weights that is validated, evaluated
            and exported, such as 0.999 for about the last 1,000 steps; 0 for the weights
            themselves. Statistics of batch normalisation are those of the weights themselves.
        precision: Keras dtype policy of the layers; outputs and losses are float32 always.
        seed: of initial weights, data order and augmentation.
        deterministic: compute in an order that does not change from run to run, so that the same
            seed gives the same weights to the last bit; slower.
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (5 / 9, 5 / 6)
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    precision: str = "float32"
    seed: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        choose("optimizer", self.optimizer, OPTIMIZERS)
        choose("schedule", self.schedule, SCHEDULES)
        choose("precision", self.precision, PRECISIONS)
        require_positive(self, "epochs", "batch_size", "learning_rate")
        rising = list(self.milestones) == sorted(set(self.milestones))
        require(
            rising and all(0 < share < 1 for share in self.milestones),
            "milestones",
            "rising, above 0 and below 1",
            self.milestones,
        )
        require_not_negative(self, "weight_decay")
        require(
            self.optimizer == "sgd" or self.weight_decay == 0,
            "weight_decay",
            "0 with the optimizer `adam`",
            self.weight_decay,
        )
        for name in ("label_smoothing", "ema"):
            value = getattr(self, name)
            require(0 <= value < 1, name, "from 0 to less than 1", value)
        require(0 <= self.seed < 2**32, "seed", "from 0 to 2^32 - 1", self.seed)


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run, `config.json` in its directory, and what its training found out."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    found: Findings = dataclasses.field(default_factory=Findings)

    def __post_init__(self) -> None:
        require_defaults(self.loss, SYSTEMS[self.model.system].loss, self.model.name)
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
        """Returns a copy that finds its data elsewhere.

        Args:
            **places: fields of `data` out of `PLACES`; None changes nothing.
        """
        return self.replace(
            "data", **{k: place for k, place in places.items() if place is not None}
        )

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
            return make_config(with_findings_apart(json.loads(text)))
        except json.JSONDecodeError as error:
            raise UserError(f"not JSON: {error}") from None
        except (AttributeError, TypeError) as error:
            raise UserError(f"a setting has a value of the wrong kind: {error}") from None


def tuples(value: Any) -> Any:
    """Returns lists, as JSON has them, as tuples, also inside of each other."""
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


def used_settings(
    settings: Mapping[str, Mapping[str, Any]], model: str
) -> dict[str, dict[str, Any]]:
    """Returns those settings that a network has: a preset may serve several.

    Args:
        settings: {section: {field: value}}.
        model: a key of `MODELS`.
    """
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
            choose("section of config", section, sections)
            merged[section].update(_without_retired(section, fields))
    dataset = choose("dataset", merged["data"].get("dataset", DataConfig.dataset), DATASETS)
    merged["data"] = DATASETS[dataset] | merged["data"]
    made = {}
    for section, section_class in sections.items():
        known = tuple(field.name for field in dataclasses.fields(section_class))
        for name in merged[section]:
            choose(f"field of config.{section}", name, known)
        _require_kinds(section_class, merged[section])
        try:
            made[section] = section_class(**merged[section])
        except (AttributeError, TypeError) as error:
            raise UserError(
                f"a setting of `{section}` has a value of the wrong kind: {error}"
            ) from None
    return Config(**made)


def _without_retired(section: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that still exist; raises for a retired one at another value than its."""
    for name in fields:
        if (section, name) in RETIRED:
            only = RETIRED[section, name]
            require(
                fields[name] == only, name, f"{only!r} or left out: it is retired", fields[name]
            )
    return {name: tuples(v) for name, v in fields.items() if (section, name) not in RETIRED}


def _require_kinds(section_class: type, values: Mapping[str, Any]) -> None:
    """Raises where a setting is true or false, a whole number or a list, and its value is not."""
    for field in dataclasses.fields(section_class):
        value = values.get(field.name)
        kind, *or_none = get_args(field.type) if isinstance(field.type, UnionType) else [field.type]
        if field.name in values and not (or_none and value is None):
            require(_fits(value, kind), field.name, _rule_of(kind), value)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of this kind; numbers that need not be whole and texts are not checked."""
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(kind)[0]) for item in value)
    return kind not in (bool, int) or type(value) is kind  # True is an int, too


def _rule_of(kind: Any) -> str:
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return f"a list of {MANY.get(inner, 'lists of whole numbers')}"
    return "true or false" if kind is bool else "a whole number"
