"""Results of a command: whole in files, short on the console."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from mcattn_tf.files import written_whole
from mcattn_tf.tables import paragraph


def keep(paths: Sequence[Path], text: Callable[[bool], str], full: bool = False) -> None:
    """Writes the whole text of a result into files, then prints it, whole or short.

    Args:
        paths: Text files.
        text: Function that returns the whole text for True, the short one for False.
        full: Whether to print the whole one.
    """
    for path in paths:
        with (
            written_whole(path) as partial,
            partial.open("w", encoding="utf-8") as file,
            contextlib.redirect_stdout(file),  # `tables.width` is that of a file
        ):
            print(text(True))
    print(text(full))


def keep_answers(directory: Path, name: str, result: dict, full: bool = False) -> None:
    """Writes an evaluation as JSON and text, and prints it with its verdicts and these files."""
    from mcattn_tf import runs
    from mcattn_tf.evaluation import answers
    from mcattn_tf.evaluation.verdicts import verdicts

    paths = [directory / f"{name}.txt", directory / f"{name}.json"]
    runs.write_json(paths[1], result)

    def text(whole: bool) -> str:
        return "\n\n".join([answers.format_table(result, whole), bullets(verdicts(result))])

    keep(paths[:1], text, full)
    for path in paths:
        print(f"written to {path}")


def bullets(texts: Sequence[str]) -> str:
    """Returns texts below one another, each behind a dash."""
    return "\n".join(paragraph(f"- {text}") for text in texts)
