"""What the settings of a run are held to."""

import dataclasses

from mcattn_tf.errors import UserError


def require(condition: bool, field: str, rule: str, received: object) -> None:
    """Raises `UserError`, which names the field, unless `condition` holds."""
    if not condition:
        raise UserError(f"`{field}` must be {rule}. Received: {received!r}")


def require_positive(config: object, *fields: str) -> None:
    """Raises for a field that is not above zero."""
    for field in fields:
        value = getattr(config, field)
        require(value > 0, field, "positive", value)


def require_defaults(config: object, used: tuple[str, ...], where: str) -> None:
    """Raises for a field that is set and that nothing would read."""
    for field in dataclasses.fields(config):
        if field.name not in used:
            value = getattr(config, field.name)
            require(value == field.default, field.name, f"left out for {where}", value)


def require_not_negative(config: object, *fields: str) -> None:
    """Raises for a field below zero."""
    for field in fields:
        value = getattr(config, field)
        require(value >= 0, field, "zero or more", value)
