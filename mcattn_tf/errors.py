"""The error that a user can cause and mend."""

from collections.abc import Collection


class UserError(ValueError):
    """A mistake in a flag, file or setting; its message is one line that says how to mend it.

    The scripts print the message alone and exit with status 1; a library caller sees an ordinary
    `ValueError`.
    """

    ag_pass_through = True  # else TensorFlow's AutoGraph wraps it in an error of many lines


class Stopped(Exception):
    """The end of a training that was asked for; its message says how to go on.

    Args:
        message: one line.
        signal_number: of the signal that asked.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def reason_of(error: BaseException) -> str:
    """Returns what an exception says, in one line of at most 200 characters."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def choose(name: str, value: str, options: Collection[str]) -> str:
    """Returns `value` if it is one of `options`.

    Args:
        name: what is being chosen, for the message: a flag or a field.
        value: the choice.
        options: the valid choices.

    Returns:
        `value`, unchanged.

    Raises:
        UserError: if `value` is not one of `options`; the message lists them.
    """
    if not isinstance(value, str) or value not in options:
        raise UserError(f"`{name}` must be one of {', '.join(options)}. Received: {value!r}")
    return value
