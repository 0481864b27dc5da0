"""Progress of long work on a terminal."""

from tqdm.auto import tqdm


def progress(total: int | None, label: str, unit: str = "image") -> tqdm:
    """Returns a progress bar with the time left, on stderr; silent where that is no terminal.

    Args:
        total: Number of units; None if it is not known.
        label: Name of the work.
        unit: Name of what `update(n)` counts.
    """
    return tqdm(total=total, desc=label, unit=unit, disable=None, dynamic_ncols=True, leave=False)
