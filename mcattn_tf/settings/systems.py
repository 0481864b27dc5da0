"""What each network has, as data: one row of `SYSTEMS` for each.

Nothing outside the builders asks a network for the names of its layers to learn what it is: a
network is named after its row, and `system_of` finds the row. `tests/models/test_systems.py` builds
every network and compares.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

# Fields of `model` that describe the extractor and the pooling behind it.
EXTRACTOR = (
    *("stem", "channels", "inner_channels", "dilations", "centered_context"),
    *("position_embedding", "pointwise_layers", "pooling_sharpness"),
)
SUBNETWORKS = (
    *("mask_rank", "mask_stride", "mask_context", "channel_masks", "head", "head_units"),
    "reconstructor",
)
ATTENTION = ("backbone", "convention", "stage", "attention_mechanism", "map_kernel", "weights")
TASK_ATTENTION = (
    *("backbone", "convention", "stage", "attention_mechanism", "weights"),
    *("map_activation", "task_units", "task_slice"),
)
MAPPING = ("exclusive", "shared_decoder", "nonnegative")
OF_LABELS = ("positive_weight",)  # fields of `loss` that every network reads
LOSS = ("attributes", "multilabel", "reconstruction", "mask_l1", *OF_LABELS)


@dataclasses.dataclass(frozen=True)
class System:
    """What a network has.

    Attributes:
        model: Fields of the section `model` of the settings that the network reads, beside `name`.
        loss: Fields of the section `loss` that the network reads.
        labels: Outputs that are probabilities of the labels, (B, K), the main output first.
        others: Outputs beside `labels`.
        parts: Names of what methods and figures need: `subnetworks`, `extractor` (of channels that
            logits are contributions of, which can be pruned), `reconstruction`,
            `weight_maps`, `nonnegative_maps`, `attention_map` (one for all classes), `task_maps`
            (one for each attribute) and `pooled_perception`. A method or figure says which part it
            needs; what a network can be explained by and drawn as follows.
        served_maps: Outputs of the endpoint `explain` beside the answers.
        evidence: Layer whose cells the evidence is read from; the receptive field is theirs.
        extractor_end: Last layer of the extractor in the sanity check, which randomises weights
            from the heads down.
        trunk: Last layer of the extractor that `--freeze extractor` keeps, and that `--init_from`
            takes of a run with other attributes.
        selectable: {output: name of a layer}, for outputs that cost less where one attribute of an
            image is asked for: the layer's `selected` computes that attribute alone.
    """

    model: tuple[str, ...]
    loss: tuple[str, ...]
    labels: tuple[str, ...]
    others: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    served_maps: tuple[str, ...] = ("cam", "local_probabilities")
    evidence: str = "features"
    extractor_end: str = "features"
    trunk: str = "features"
    selectable: Mapping[str, str] = dataclasses.field(default_factory=dict)


GCM = System(
    model=MAPPING,
    loss=OF_LABELS,
    labels=("probabilities",),
    others=("scores",),
    parts=("weight_maps",),
    served_maps=("contribution_maps", "weight_maps"),
    evidence="weight_maps",
    extractor_end="weight_maps",
)
SYSTEMS: dict[str, System] = {
    "mcattn": System(
        model=(*EXTRACTOR, *SUBNETWORKS),
        loss=LOSS,
        labels=("attributes", "multilabel"),
        others=("reconstruction", "mask_l1"),
        parts=("subnetworks", "extractor", "reconstruction"),
        served_maps=("contributions", "local_probabilities"),
        evidence="masked_pooling",
        selectable={"attributes": "masked_pooling"},
    ),
    "baseline": System(
        model=EXTRACTOR,
        loss=("multilabel", *OF_LABELS),
        labels=("multilabel",),
        parts=("extractor",),
    ),
    "gcm": GCM,
    "nonnegative_gcm": dataclasses.replace(GCM, parts=("weight_maps", "nonnegative_maps")),
    "cnn": System(
        model=("exclusive",), loss=OF_LABELS, labels=("probabilities",), others=("scores",)
    ),
    "abn": System(
        model=("exclusive", *ATTENTION),
        loss=OF_LABELS,
        labels=("perception", "attention"),
        others=("attention_map",),
        parts=("attention_map", "pooled_perception"),
        served_maps=("attention_map",),
        trunk="extracted",
    ),
    "backbone": System(
        model=("exclusive", *ATTENTION),
        loss=OF_LABELS,
        labels=("perception",),
        parts=("pooled_perception",),
        trunk="extracted",
    ),
    "multitask_abn": System(
        model=TASK_ATTENTION,
        loss=OF_LABELS,
        labels=("perception", "attention"),
        others=("attention_map",),
        parts=("task_maps",),
        served_maps=("attention_map",),
        selectable={"perception": "folded_tasks"},
    ),
}
# Outputs that may be probabilities of the labels, in a network of any kind, the main one first.
LABEL_OUTPUTS = tuple(dict.fromkeys(name for row in SYSTEMS.values() for name in row.labels))
# A network that was not built here: no parts of its own; `cam` where its classifier has one.
FOREIGN = System(model=(), loss=(), labels=LABEL_OUTPUTS)
# Names that `model.name` may have in the settings.
MODELS = ("mcattn", "baseline", "gcm", "cnn", "abn", "multitask_abn")


class Network(Protocol):
    """Anything with a name and named outputs, such as a `keras.Model`."""

    name: str
    output: Mapping[str, object]


def system_of(network: Network) -> System:
    """Returns the row of a network that was built here, `FOREIGN` for any other.

    Every builder of `models` names its network after its row. One that has a name of ours by
    chance has other outputs.
    """
    row = SYSTEMS.get(network.name, FOREIGN)
    outputs = getattr(network, "output", None)  # Keras' Sequential may have none
    own = isinstance(outputs, Mapping) and set(outputs) == {*row.labels, *row.others}
    return row if own else FOREIGN
