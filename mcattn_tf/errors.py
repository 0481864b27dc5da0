"""Errors that a user can cause and fix."""

from collections.abc import Collection


class UserError(ValueError):
    """A mistake in a flag, file or setting; its message is one line that says how to fix it.

    The commands print only the message and exit with status 1. A library caller sees an ordinary
    `ValueError`.
    """

    ag_pass_through = True  # otherwise TensorFlow's AutoGraph wraps it in an error of many lines


class Stopped(Exception):
    """The end of a training that a signal requested; its message says how to resume."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def reason_of(error: BaseException) -> str:
    """Returns the message of an exception, in one line of at most 200 characters."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def choose(name: str, value: str, options: Collection[str]) -> str:
    """Returns the value of the flag or field `name` if it is one of `options`.

    Raises:
        UserError: If `value` is not valid; the message lists the options.
    """
    if not isinstance(value, str) or value not in options:
        raise UserError(f"`{name}` must be one of {', '.join(options)}. Received: {value!r}")
    return value
