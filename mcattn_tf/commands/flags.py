"""Flags of the commands and of the settings: parsing, `--help`, and errors as one line.

The flag of a setting is made from its field. It has the field's name, but `--model` for the
network's name, and `loss_` before the fields of the section `loss`. `stem` has no flag: `--set`
sets it, as it sets any field.
"""

import contextlib
import dataclasses
import errno
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, get_args, get_origin

from absl import app, flags, logging

from mcattn_tf.commands.environment import lasting_output
from mcattn_tf.errors import Stopped, UserError, choose
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.data import PLACES
from mcattn_tf.settings.fields import KINDS, Rule, kind_of

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
WIDTH = 100
DEFINE = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    list[str]: flags.DEFINE_multi_string,
}


class Flag(NamedTuple):
    """A flag of a command.

    Attributes:
        name: Name without dashes.
        kind: `bool`, `int`, `float` or `str`; a tuple of them for values with commas between;
            `list[str]` for a flag that is given several times.
        default: Value without the flag.
        help: What it sets, beginning with a noun or a verb.
        shown: Default that `--help` shows, where it is not `default`.
    """

    name: str
    kind: Any
    default: Any
    help: str
    shown: Any = None

    def text(self) -> str:
        """Returns the help text with the default."""
        shown = self.default if self.shown is None else self.shown
        if shown is None or shown == []:
            return f"{self.help}."
        if isinstance(shown, bool):
            shown = "on" if shown else "off"
        words = shown if isinstance(shown, tuple) else (shown,)
        words = [f"{word:g}" if isinstance(word, float) else str(word) for word in words]
        return f"{self.help}. Default: {','.join(words)}."


class Command(NamedTuple):
    """A command, called with the words behind its name; the exit status is as `status_of` has it.

    Attributes:
        program: Name of the script or module.
        about: Text above the flags in `--help`.
        flags: {heading: flags below it}.
        action: Function of the flags' values and the arguments that are no flags.
        required: Flag that must be given; empty for none.
        takes_arguments: Whether anything may stand beside the flags.
    """

    program: str
    about: str
    flags: Mapping[str, Sequence[Flag]]
    action: Callable[[Any, list[str]], None]
    required: str = ""
    takes_arguments: bool = False

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Runs the command in this process; None stands for the words of the process."""
        return status_of(lambda: self._run(sys.argv[1:] if arguments is None else arguments))

    def _run(self, arguments: Sequence[str]) -> None:
        values, rest = parse(self, arguments)
        if values.help:
            print(help_text(self))
            return
        if rest and not self.takes_arguments:
            raise UserError(f"unexpected argument {rest[0]!r}; {self.program} takes flags only")
        if self.required and values[self.required].value in (None, []):
            raise UserError(f"--{self.required} must be given; --help lists the flags")
        try:
            self.action(values, rest)
        except UserError as error:
            raise UserError(_with_flags(str(error), values)) from error


class _WithCommas(flags.ArgumentParser):
    def __init__(self, item: type) -> None:
        self._item = item
        self.syntactic_help = f"{KINDS[item][1]} with commas between"

    def parse(self, argument: Any) -> tuple:
        words = argument.split(",") if isinstance(argument, str) else argument
        return tuple(self._item(word.strip()) for word in words if word)


def parse(command: Command, arguments: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """Parses the flags of one call; nothing is kept for the next one.

    Args:
        command: The command.
        arguments: Words behind its name.

    Returns:
        The values, an attribute for each flag, and the arguments that are no flags.

    Raises:
        UserError: for a wrong flag or value.
    """
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    flags.DEFINE_bool("help", False, "show this text", values)
    for flag in [flag for group in command.flags.values() for flag in group]:
        if get_origin(flag.kind) is tuple:
            parser = _WithCommas(get_args(flag.kind)[0])
            flags.DEFINE(parser, flag.name, flag.default, flag.help, values)
        else:
            DEFINE[flag.kind](flag.name, flag.default, flag.help, flag_values=values)
    return values, _parsed(values, [command.program, *arguments])[1:]


def _parsed(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    try:
        return values(list(arguments))
    except (flags.Error, ValueError) as error:  # absl's own for `--noflag=value`
        named = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
        if not named:
            raise UserError(str(error)) from None
        expected = values[named[1]].parser.syntactic_help or "true or false"
        raise UserError(f"--{named[1]} must be {expected}. Received: {named[2]!r}") from None


def help_text(command: Command) -> str:
    """Returns what `--help` prints: the flags by group, each with its default."""
    lines = [command.about.strip()]
    wrap = textwrap.TextWrapper(WIDTH, "  ", " " * 6, break_on_hyphens=False)
    for heading, group in command.flags.items():
        lines += ["", heading]
        for flag in group:
            name = f"--[no]{flag.name}" if flag.kind is bool else f"--{flag.name}"
            needed = " Required." if flag.name == command.required else ""
            lines.append(wrap.fill(f"{name}  {flag.text()}{needed}"))
    return "\n".join(lines)


SECTIONS = {x.name: x.default_factory for x in dataclasses.fields(Config) if x.name != "found"}


def _setting_flag(section: str, field: dataclasses.Field) -> Flag:
    """Returns the flag of a field; None is its default: the preset or the data set decides."""
    name, text = field.metadata["flag"] or field.name, field.metadata["help"]
    choices = field.metadata["rule"] or ()
    if not isinstance(choices, Rule) and not all(choice in text for choice in choices):
        text = f"{text}. One of {', '.join(choices)}"
    prefix = "loss_" if section == "loss" else ""
    return Flag(prefix + name, kind_of(field)[0], None, text, field.default)


SETTING_FLAGS: dict[str, dict[str, Flag]] = {
    section: {
        field.name: _setting_flag(section, field)
        for field in dataclasses.fields(settings)
        if field.metadata["flag"] is not None
    }
    for section, settings in SECTIONS.items()
}


def _with_flags(message: str, values: flags.FlagValues) -> str:
    """Returns an error that begins with a setting, `FIELD`, with its flag --FLAG in its place."""

    def flag_of(field: re.Match) -> str:
        made = {x[field[1]].name for x in SETTING_FLAGS.values() if field[1] in x}
        known = {name for name in made | {field[1]} if name in values}
        known = {name for name in known if values[name].present} if len(known) > 1 else known
        return f"--{known.pop()}" if len(known) == 1 else field[0]

    return re.sub(r"`(\w+)`", flag_of, message) if message.startswith("`") else message


SPLIT = Flag("split", str, "test", "Split to measure: train, validation or test")
IDENTITIES = Flag(
    "identities",
    str,
    None,
    "List like CelebA's identity_CelebA.txt; images of one person are drawn together",
)
PLACE_FLAGS = [SETTING_FLAGS["data"][name]._replace(shown="as the run has it") for name in PLACES]


def given_settings(values: Any) -> dict[str, dict[str, Any]]:
    """Returns the settings that parsed flags set, {section: {field: value}}."""
    given: dict[str, dict[str, Any]] = {}
    for section, fields in SETTING_FLAGS.items():
        named = {field: values[flag.name].value for field, flag in fields.items()}
        given[section] = {field: value for field, value in named.items() if value is not None}
    for words in values.set:
        place, equals, value = words.partition("=")
        section, dot, field = place.partition(".")
        if not dot or not equals:
            raise UserError(f"--set must be SECTION.FIELD=VALUE. Received: {words}")
        choose("section of --set", section, SECTIONS)
        known = [x.name for x in dataclasses.fields(SECTIONS[section])]
        choose(f"field of --set {section}", field, known)
        if field in given[section]:
            raise UserError(f"{place} is set twice; give one flag for it. Received: --set {words}")
        with contextlib.suppress(json.JSONDecodeError):  # a text needs no quotes
            value = json.loads(value)
        given[section][field] = value
    for section, field in (("data", "data_dir"), ("data", "cache_dir"), ("training", "init_from")):
        if isinstance(place := given[section].get(field), str):
            given[section][field] = str(Path(place).absolute())
    return given


def located(config: Config, values: Any) -> Config:
    """Returns the settings of a run with the places of the data that flags name."""
    return config.located(**{name: values[name].value for name in PLACES})


def result_words(kind: str, config: Config, values: Any) -> list[str]:
    """Returns the words of a result's file name: another folder or split has a file of its own.

    `config` has the settings of the run, `values` the flags `data_dir` and `split`.
    """
    place = values.data_dir and Path(values.data_dir).absolute()
    other = [place.name] if place and str(place) != config.data.data_dir else []
    return [kind, *other, *([values.split] if values.split != "test" else [])]


def status_of(action: Callable[[], None]) -> int:
    """Calls a function and returns an exit status; an error of the user is printed as one line.

    Returns:
        0; 1 after a `UserError` or where a file cannot be written; 128 plus the signal's number
        for a training that was stopped, which is 130 for Ctrl-C.
    """
    logging.set_verbosity(logging.WARNING)
    with lasting_output():
        return _status_of(action)


def _status_of(action: Callable[[], None]) -> int:
    try:
        action()
        return 0
    except UserError as error:
        status, message = 1, f"error: {error}"
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        where = f" {error.filename}" if error.filename else ""
        denied = error.errno in (errno.EACCES, errno.EPERM)
        what = "read or write" if denied else "write"
        status, message = 1, f"error: cannot {what}{where}: {error.strerror}"
    except Stopped as stopped:
        status, message = 128 + stopped.signal_number, str(stopped)
    except KeyboardInterrupt:
        status, message = 130, "stopped"
    print(message, file=sys.stderr)
    return status


def end(status: int) -> NoReturn:
    """Ends the process."""
    if "TF_CONFIG" in os.environ:  # TensorFlow would wait for workers that have gone already
        os._exit(status)
    sys.exit(status)


def run_script(main: Callable[[list[str]], None]) -> None:
    """Parses a script's absl flags, calls it with the other arguments and ends the process."""

    def parser(arguments: list[str]) -> list[str]:
        try:
            return _parsed(flags.FLAGS, arguments)
        except UserError as error:
            sys.exit(f"error: {error}")

    app.run(lambda words: end(status_of(lambda: main(words[1:]))), flags_parser=parser)
