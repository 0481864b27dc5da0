"""Text of files, or a line that says why there is none."""

from pathlib import Path

from mcattn_tf.errors import UserError, reason_of


def read_text(path: Path) -> str:
    """Returns the text of a file.

    Args:
        path: of the file, in UTF-8.

    Raises:
        UserError: if it cannot be read or is in another encoding; names the line.
    """
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: expected text in UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
