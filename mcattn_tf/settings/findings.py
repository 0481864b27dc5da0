"""What training finds out, apart from the settings that a user chooses."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.settings.checks import require, require_positive

# Fields that runs made before findings had a file of their own keep among their settings.
FORMER_SECTIONS = {"attributes": "model", "receptive_field": "model", "held_out": "data"}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What training finds out from the data set and the network's layers.

    Attributes:
        attributes: names of the K attributes or classes, in the order of the outputs.
        receptive_field: side in pixels of the square of the image that a cell sees, of the cells
            that evidence is read from; None before the network is built.
        held_out: names of the splits that were held out and a digest of their images, so that a
            run is not evaluated on images that it has seen; None where no split was held out.
    """

    attributes: tuple[str, ...] = ()
    receptive_field: int | None = None
    held_out: str | None = None

    def __post_init__(self) -> None:
        if self.receptive_field is not None:
            require_positive(self, "receptive_field")
        rule = "names without repeats"
        unique = len(set(self.attributes)) == len(self.attributes)
        require(unique, "attributes", rule, self.attributes)

    def to_json(self) -> str:
        """Returns the findings as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Findings":
        """Returns the findings that `to_json` wrote.

        Raises:
            UserError: if `text` is not JSON or has other fields.
        """
        try:
            fields = json.loads(text)
            return cls(**fields | {"attributes": tuple(fields["attributes"])})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"not the findings of a training: {reason_of(error)}") from None


def with_findings_apart(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns settings, as they may have been stored, with the findings in a section `found`.

    Args:
        settings: {section: {field: value}}.
    """
    apart = {section: dict(fields) for section, fields in settings.items()}
    found = apart.setdefault("found", {})
    for name, section in FORMER_SECTIONS.items():
        if name in apart.get(section, {}):
            found[name] = apart[section].pop(name)
    return apart
