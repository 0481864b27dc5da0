"""Held-out images where a data set has no such split, stratified by labels."""

import numpy as np

from mcattn_tf.errors import UserError


def hold_out(
    labels: np.ndarray, share: float, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Chooses images to hold out, with labels distributed as those of all images.

    Images, or groups, are sorted by their labels, the rarest label first, in a random order where
    these are equal. Along that order the share is taken at even distances.

    Args:
        labels: (N, K), 0 or 1, or (N,), the number of each image's class.
        share: Share of the images to hold out, above 0 and below 1.
        seed: Random seed; the choice depends on the arguments alone.
        groups: (N,), integers; images with the same number are held out together, and the share
            is met within the size of the largest group.

    Returns:
        (N,), bool, whether each image is held out. Each class keeps an image that is not, unless
        nothing would be held out then.

    Raises:
        UserError: If the share is less than one image, or would leave none that is not held out.
    """
    random = np.random.default_rng(seed)
    count = len(labels)
    if share * count < 1 - 1e-9:  # 29 * (1 / 29) may be a little below 1
        raise UserError(
            f"`hold_out` must be at least one image of {count}. Received: {share * count:.2g}"
        )
    _, group, sizes = np.unique(
        np.arange(count) if groups is None else groups, return_inverse=True, return_counts=True
    )
    order = random.permutation(len(sizes))
    order = order[np.lexsort(_sort_keys(labels, group, len(sizes))[:, order])]
    taken = np.zeros(len(sizes), bool)
    start, seen, held = random.random(), 0, 0
    for number, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        seen += size
        if start * size + share * seen >= held + size:
            taken[number] = True
            held += size
    if not held:
        taken[np.argmin(sizes)] = True
    if labels.ndim == 1:  # a class that is held out whole gets its first group back
        for number in np.setdiff1d(labels, labels[~taken[group]]):
            if taken.sum() > 1:
                taken[group[np.argmax(labels == number)]] = False
    if taken.all() or not taken.any():
        together = "" if groups is None else f" in {len(sizes)} groups"
        raise UserError(
            f"`hold_out` must leave some images on both sides, of {count}{together}. "
            f"Received: {share * count:.1f} to hold out"
        )
    return taken[group]


def _sort_keys(labels: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    """Returns sort keys (n, groups): labels that any member has, or the rarest class of a group."""
    if labels.ndim == 1:
        _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        rarest_first = np.argsort(sizes, kind="stable")
        ranks = np.full(count, len(sizes))
        np.minimum.at(ranks, group, np.argsort(rarest_first)[classes])
        return rarest_first[ranks][None]
    keys = np.zeros((labels.shape[1], count), bool)
    for key, column in zip(keys, labels.T, strict=True):
        key[group[column > 0]] = True
    positives = labels.sum(axis=0, dtype=np.int64)
    rarest_last = np.argsort(-np.minimum(positives, len(labels) - positives), kind="stable")
    return keys[rarest_last]
