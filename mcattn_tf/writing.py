"""Files that are there whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial-"  # names of files that are being written begin so


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Puts a file in place whole or not at all.

    Args:
        path: of the file; what is there stays until the new one is complete.

    Yields:
        Where to write it.
    """
    partial = path.with_name(PARTIAL + path.name)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # else a crash may leave the name without the contents
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
