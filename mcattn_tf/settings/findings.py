"""Findings of a training: not settings, which a user chooses."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.settings.fields import Section, require

# Older runs keep these findings among their settings: {field: section}.
FORMER_SECTIONS = {"attributes": "model", "receptive_field": "model", "held_out": "data"}


@dataclasses.dataclass(frozen=True)
class Findings(Section):
    """What training finds out from the data set and the network's layers.

    Attributes:
        attributes: Names of the K attributes or classes, in the order of the outputs.
        receptive_field: Side in pixels of the square that a cell of the evidence sees; None before
            the network is built.
        held_out: Names of the held-out splits and a digest of their images, so that a run is not
            evaluated on images that it was trained on; None without a held-out split.
        positive_weights: Weights of the present labels of the K attributes in the loss; empty
            for 1.
    """

    attributes: tuple[str, ...] = ()
    receptive_field: int | None = None
    held_out: str | None = None
    positive_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        field = self.receptive_field
        require(field is None or field > 0, "receptive_field", "positive", field)
        unique = len(set(self.attributes)) == len(self.attributes)
        require(unique, "attributes", "names without repeats", self.attributes)

    def to_json(self) -> str:
        """Returns the findings as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Findings":
        """Returns the findings that `to_json` wrote; raises a UserError for other text."""
        try:
            fields = json.loads(text)
            lists = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
            return cls(**fields | {"attributes": tuple(fields["attributes"])} | lists)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"not the findings of a training: {reason_of(error)}") from None


def with_findings_apart(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns stored settings, {section: {field: value}}, with the findings in `found`."""
    apart = {section: dict(fields) for section, fields in settings.items()}
    found = apart.setdefault("found", {})
    for name, section in FORMER_SECTIONS.items():
        if name in apart.get(section, {}):
            found[name] = apart[section].pop(name)
    return apart
