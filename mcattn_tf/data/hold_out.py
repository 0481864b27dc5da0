"""Which images are held out, where a data set does not say: alike in their labels to the rest."""

import numpy as np

from mcattn_tf.errors import UserError


def _order(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the items' indices, equal labels together and similar ones near each other."""
    order = random.permutation(len(labels))
    if labels.ndim == 1:
        return order[np.argsort(labels[order], kind="stable")]
    positives = labels.sum(axis=0, dtype=np.int64)
    rarest_first = np.argsort(np.minimum(positives, len(labels) - positives), kind="stable")
    bits = labels[order][:, rarest_first].astype(bool)
    # As a reflected Gray code: the items beside a border have all other labels alike.
    reflected = np.logical_xor.accumulate(bits, axis=1)
    padding = -reflected.shape[1] % 64
    packed = np.packbits(np.pad(reflected, ((0, 0), (0, padding))), axis=1)
    words = np.ascontiguousarray(packed).view(">u8").astype(np.uint64)
    return order[np.lexsort(words.T[::-1])]


def _every_so_often(order: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Returns whether each item is taken: at even distances along `order`, from a drawn start."""
    steps = np.floor(random.random() + share * np.arange(len(order) + 1))
    taken = np.zeros(len(order), bool)
    taken[order] = np.diff(steps) > 0
    return taken


def _labels_of_groups(labels: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    """Returns one row of labels a group: those that any member has, or its rarest class."""
    if labels.ndim == 1:
        _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        rarity = np.argsort(np.argsort(sizes, kind="stable"))
        rarest = np.full(count, len(sizes))
        np.minimum.at(rarest, group, rarity[classes])
        return rarest
    by_group = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[by_group], np.arange(count))
    return np.maximum.reduceat(labels[by_group], starts, axis=0)


def _mend(
    taken: np.ndarray, sizes: np.ndarray, due: float, random: np.random.Generator
) -> np.ndarray:
    """Returns `taken` with groups added or given back until half of the largest is the error."""
    taken, slack = taken.copy(), sizes.max() / 2
    held = sizes[taken].sum()
    if held < due - slack or not held:
        others = random.permutation(np.flatnonzero(~taken))
        reached = held + np.cumsum(sizes[others])
        taken[others[: np.searchsorted(reached, due - slack) + 1]] = True
    elif held > due + slack:
        members = random.permutation(np.flatnonzero(taken))
        left = held - np.cumsum(sizes[members])
        needed = 1 + np.searchsorted(-left, -(due + slack))
        taken[members[: min(needed, len(members) - 1)]] = False
    return taken


def hold_out(
    labels: np.ndarray, share: float, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Chooses images to hold out whose labels are distributed as all images' are.

    The images are put in the order of their labels, the rarest label first, and taken at even
    distances along it: each class, and the rarest attribute, is met within one image. The choice
    depends on the arguments alone.

    Args:
        labels: (N, K), 0 or 1, or (N,), the number of each image's class.
        share: of the images, above 0 and below 1, that is held out.
        seed: of which images these are.
        groups: (N,), integers; images with the same number are on the same side, and the share
            is met within the size of the largest group.

    Returns:
        (N,), bool, whether each image is held out.

    Raises:
        UserError: if the share is less than one image, or would leave none that is not held out.
    """
    random = np.random.default_rng(seed)
    count = len(labels)
    if share * count < 1 - 1e-9:  # 29 * (1 / 29) may be a little below 1
        raise UserError(
            f"`hold_out` must be at least one image of {count}. Received: {share * count:.2g}"
        )
    if groups is None:
        taken = _every_so_often(_order(labels, random), share, random)
    else:
        _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        of_groups = _every_so_often(
            _order(_labels_of_groups(labels, group, len(sizes)), random), share, random
        )
        taken = _mend(of_groups, sizes, share * count, random)[group]
    if taken.all() or not taken.any():
        together = "" if groups is None else f" in {len(np.unique(groups))} groups"
        raise UserError(
            f"`hold_out` must leave some images on both sides, of {count}{together}. "
            f"Received: {share * count:.1f} to hold out"
        )
    return taken
