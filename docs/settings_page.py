"""Writes docs/settings.md from the flags of the commands and the presets.

python docs/settings_page.py
"""

from collections.abc import Iterator
from pathlib import Path

from mcattn_tf.commands import client, compare, evaluate, export, prune, train, visualize
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.presets import PRESETS

PAGE = Path(__file__).with_name("settings.md")
COMMANDS = (train, evaluate, visualize, compare, prune, export, client)
HEAD = """# Settings

`python docs/settings_page.py` makes this page from the code. `--set` sets any field
of a run's `config.json`; most fields have a flag, too. A field of the section `loss` has a flag
that begins with `loss_`. A setting that the network does not have is refused. The data set and the
preset may have defaults of their own. `no` before its name turns a switch off: `--noexport`.
"""
PRESETS_HEAD = """## Presets

`default` [explains best at about equal accuracy](locality.md). `paper` is the published MCAttn,
with dilated context over the whole face, the plain average over positions and the published weight
of the masks' L1 norm. `demo` has a schedule for two CPU cores. The presets of [GCM](gcm.md) and
[ABN](abn.md) are as published, but for those that end in `-short`.

| `--preset` | network | data | epochs | batch |
|---|---|---|---|---|"""


def _lines() -> Iterator[str]:
    yield HEAD
    for command in COMMANDS:
        yield f"## {command.main.program}"
        for heading, group in command.main.flags.items():
            yield f"\n| {heading} | |\n|---|---|"
            for flag in group:
                yield f"| `--{flag.name}` | {flag.text()} |"
        yield ""
    yield PRESETS_HEAD
    for name, preset in PRESETS.items():
        config = make_config(preset)
        data = config.data.dataset if "data" in preset else "any"
        schedule = f"{config.training.epochs} | {config.training.batch_size}"
        yield f"| `{name}` | {config.model.name} | {data} | {schedule} |"


def page() -> str:
    """Returns the text of the page."""
    return "\n".join(_lines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"written to {PAGE}")
