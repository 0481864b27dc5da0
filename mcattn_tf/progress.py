"""Progress of long work on a terminal."""

from tqdm.auto import tqdm


def progress(total: int | None, label: str, unit: str = "image") -> tqdm:
    """Returns a progress bar with the time left, on stderr; silent where that is no terminal.

    Args:
        total: how many units there are; None for a number that is not known.
        label: what is done.
        unit: what `update(n)` counts.

    Example:
        >>> with progress(len(images), "evaluation") as bar:
        ...     for batch in batches:
        ...         bar.update(len(batch))
    """
    return tqdm(total=total, desc=label, unit=unit, disable=None, dynamic_ncols=True, leave=False)
