"""Rows of a table in CSV, each with the number of its line."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from mcattn_tf.errors import UserError
from mcattn_tf.files import read_text


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a table that are not blank, each with the number of its line.

    Args:
        path: of the table, in UTF-8.

    Raises:
        UserError: if it cannot be read, is in another encoding or has a row that is none.
    """
    text = read_text(path).removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a row of a table: {error}") from None
