"""Flags of the settings, made from the fields of their dataclasses.

A flag has its field's name, but `--model` for the network's name, and `loss_` before the fields of
the section `loss`. `stem` has no flag: `--set` sets it, as it sets any field.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from mcattn_tf.commands.flags import Flag
from mcattn_tf.errors import UserError, choose
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.data import PLACES
from mcattn_tf.settings.fields import Rule, kind_of

SECTIONS = {x.name: x.default_factory for x in dataclasses.fields(Config) if x.name != "found"}


def _flag(section: str, field: dataclasses.Field) -> Flag:
    """Returns the flag of a field; None is its default: the preset or the data set decides."""
    name, text = field.metadata["flag"] or field.name, field.metadata["help"]
    choices = field.metadata["rule"] or ()
    if not isinstance(choices, Rule) and not all(choice in text for choice in choices):
        text = f"{text}. One of {', '.join(choices)}"
    prefix = "loss_" if section == "loss" else ""
    return Flag(prefix + name, kind_of(field)[0], None, text, field.default)


FLAGS: dict[str, dict[str, Flag]] = {
    section: {
        field.name: _flag(section, field)
        for field in dataclasses.fields(settings)
        if field.metadata.get("flag") is not None
    }
    for section, settings in SECTIONS.items()
}
PLACE_FLAGS = tuple(FLAGS["data"][name]._replace(shown="as the run has it") for name in PLACES)
SET = Flag(
    "set",
    list[str],
    [],
    "SECTION.FIELD=VALUE, any setting of config.json, such as model.dilations=[1,2]; may be given "
    "several times",
)


def given_settings(values: Any) -> dict[str, dict[str, Any]]:
    """Returns the settings that flags set, {section: {field: value}}.

    Args:
        values: Parsed flags.

    Raises:
        UserError: for a `--set` that names no setting.
    """
    given: dict[str, dict[str, Any]] = {}
    for section, fields in FLAGS.items():
        for field, flag in fields.items():
            if (value := values[flag.name].value) is not None:
                given.setdefault(section, {})[field] = value
    for words in values.set:
        place, equals, text = words.partition("=")
        section, dot, field = place.partition(".")
        if not dot or not equals:
            raise UserError(f"--set must be SECTION.FIELD=VALUE. Received: {words}")
        choose("section of config", section, SECTIONS)
        known = [x.name for x in dataclasses.fields(SECTIONS[section])]
        choose(f"field of config.{section}", field, known)
        given.setdefault(section, {})[field] = _value_of(text)
    for field in ("data_dir", "cache_dir"):
        if isinstance(place := given.get("data", {}).get(field), str):
            given["data"][field] = str(Path(place).absolute())
    return given


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def flag_of(values: Any, section: str, field: str) -> str:
    """Returns the flag, or `set SECTION.FIELD`, that set a setting."""
    flag = FLAGS[section].get(field)
    used = flag is not None and values[flag.name].value is not None
    return flag.name if used else f"set {section}.{field}"


def located(config: Config, values: Any) -> Config:
    """Returns the settings of a run with the places of the data that flags name."""
    return config.located(**{name: values[name].value for name in PLACES})
