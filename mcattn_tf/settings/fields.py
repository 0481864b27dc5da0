"""Fields of the settings: default, help text and rule of each, written once.

Flags, docstrings and docs/settings.md are made from them.
"""

import dataclasses
import math
import os
import textwrap
from collections.abc import Callable, Collection
from numbers import Real
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin

from mcattn_tf.errors import UserError, choose

KINDS = {
    bool: ("true or false", ""),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "names"),
}


class Rule(NamedTuple):
    """Rule of a value: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]


POSITIVE = Rule("positive", lambda value: value > 0)
NOT_NEGATIVE = Rule("zero or more", lambda value: value >= 0)
SHARE = Rule("from 0 to less than 1", lambda value: 0 <= value < 1)


def setting(
    default: Any, help: str, rule: Rule | Collection[str] | None = None, flag: str | None = ""
) -> Any:
    """Returns a field of a dataclass of settings.

    Args:
        default: Value without a preset and a flag.
        help: Text for `--help`, docs/settings.md and the docstring.
        rule: Rule for any value but None, or all valid values.
        flag: Name of the flag, by default the field's; None for a field that only `--set` sets.
    """
    return dataclasses.field(default=default, metadata={"help": help, "rule": rule, "flag": flag})


class Section:
    """Base of the sections of the settings: values are checked, and help texts documented."""

    def __init_subclass__(cls) -> None:
        fields = {k: v for k, v in vars(cls).items() if isinstance(v, dataclasses.Field)}
        wrap = textwrap.TextWrapper(100, " " * 8, " " * 12)
        lines = [wrap.fill(f"{name}: {x.metadata['help']}.") for name, x in fields.items()]
        if lines:
            cls.__doc__ = "\n".join([cls.__doc__ or "", "", "    Attributes:", *lines])

    def __post_init__(self) -> None:
        """Raises for the first field whose value has a wrong type, or breaks its rule."""
        for field in dataclasses.fields(self):
            value, (kind, optional) = getattr(self, field.name), kind_of(field)
            if optional and value is None:
                continue
            rule = field.metadata.get("rule")
            if rule and not isinstance(rule, Rule):
                choose(field.metadata["flag"] or field.name, value, rule)
            require(_fits(value, kind), field.name, _words(kind), value)
            if isinstance(rule, Rule):
                require(rule.holds(value), field.name, rule.words, value)

    def require_defaults(self, used: Collection[str], where: str) -> None:
        """Raises for a field that is set and that nothing would read."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in used:
                require(value == field.default, field.name, f"left out for {where}", value)


def kind_of(field: dataclasses.Field) -> tuple[Any, bool]:
    """Returns the type of a field without None, and whether None is allowed."""
    kind, *or_none = get_args(field.type) if isinstance(field.type, UnionType) else [field.type]
    return kind, bool(or_none)


def require(condition: bool, field: str, rule: str, received: object) -> None:
    """Raises `UserError`, which names the field, unless `condition` holds."""
    if not condition:
        raise UserError(f"`{field}` must be {rule}. Received: {received!r}")


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(kind)[0]) for item in value)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if kind is str:
        return isinstance(value, str | os.PathLike)
    return type(value) is kind  # True is an int, too


def _words(kind: Any) -> str:
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return f"a list of {KINDS[item][1] if item in KINDS else 'lists of whole numbers'}"
    return KINDS[kind][0]
