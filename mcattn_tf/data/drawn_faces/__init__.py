"""Drawn cartoon faces with 16 binary attributes, and the regions where each is seen.

Every image is drawn on demand with NumPy and is a pure function of the seed and of its index, on
every platform and with every NumPy version: random numbers are taken from the raw stream of one
Philox generator, and the drawing uses correctly rounded IEEE operations only. The attributes are
named as in CelebA, some are correlated by design (`CORRELATIONS`), and the region of the picture
that every attribute depends on is known (`draw_regions`). Attributes of an image can be switched,
and its background replaced, with nothing else changed.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mcattn_tf.data.drawn_faces import drawing, geometry
from mcattn_tf.errors import UserError

VERSION = 1
ATTRIBUTES: tuple[str, ...] = (
    *("Bald", "Bangs", "Big_Nose", "Black_Hair", "Blond_Hair", "Bushy_Eyebrows", "Eyeglasses"),
    *("Goatee", "Mouth_Slightly_Open", "Mustache", "Rosy_Cheeks", "Smiling", "Wearing_Earrings"),
    *("Wearing_Hat", "Wearing_Lipstick", "Wearing_Necktie"),
)

# One draw decides between these exclusive attributes; the remaining 0.3 is brown, grey or red hair.
_HAIR = {"Bald": 0.2, "Black_Hair": 0.26, "Blond_Hair": 0.24}

_INDEPENDENT = {"Smiling": 0.5, "Big_Nose": 0.4, "Eyeglasses": 0.35, "Wearing_Hat": 0.35}

# Attribute: (its condition, P(attribute | condition), P(attribute | no condition)), conditions
# before what depends on them.
_CONDITIONAL = {
    "Bangs": ("Bald", 0.0, 0.5),
    "Bushy_Eyebrows": ("Black_Hair", 0.6, 0.3),
    "Mouth_Slightly_Open": ("Smiling", 0.65, 0.25),
    "Wearing_Lipstick": ("Bald", 0.2, 0.5),
    "Mustache": ("Wearing_Lipstick", 0.1, 0.5),
    "Goatee": ("Mustache", 0.6, 0.2),
    "Rosy_Cheeks": ("Wearing_Lipstick", 0.55, 0.2),
    "Wearing_Earrings": ("Wearing_Lipstick", 0.6, 0.2),
    "Wearing_Necktie": ("Wearing_Lipstick", 0.15, 0.5),
}


def _marginals() -> dict[str, float]:
    """Returns the probability of every attribute, by the law of total probability."""
    marginals = _HAIR | _INDEPENDENT
    for attribute, (condition, given, otherwise) in _CONDITIONAL.items():
        probability = marginals[condition]
        marginals[attribute] = probability * given + (1 - probability) * otherwise
    return {attribute: marginals[attribute] for attribute in ATTRIBUTES}


def _correlations() -> dict[tuple[str, str], float]:
    """Returns the Pearson correlation of every pair that the sampler ties directly.

    For binary a, b with probabilities p, q it is (P(a, b) - p q) / sqrt(p (1 - p) q (1 - q)), where
    P(a, b) is 0 for an exclusive pair and p P(b | a) for a condition a of b.
    """
    marginals, correlations = _marginals(), {}
    joint = dict.fromkeys(itertools.combinations(_HAIR, 2), 0.0)
    for attribute, (condition, given, _) in _CONDITIONAL.items():
        joint[condition, attribute] = marginals[condition] * given
    for pair, together in joint.items():
        p, q = (marginals[attribute] for attribute in pair)
        correlation = (together - p * q) / (p * (1 - p) * q * (1 - q)) ** 0.5
        correlations[tuple(sorted(pair))] = correlation
    return dict(sorted(correlations.items()))


CORRELATIONS: dict[tuple[str, str], float] = _correlations()

_LABEL_DRAWS = 1 + len(_INDEPENDENT) + len(_CONDITIONAL)
# Philox yields four draws per counter step, so every image starts at a multiple of four.
_DRAWS = 4 * -(-(_LABEL_DRAWS + len(geometry.PARAMETERS)) // 4)
_CHUNK = 64
_SMALLEST_SIDE = 32
# Far above any image's counter: pixel noise never shares numbers with labels and geometry, which
# therefore do not depend on the image size.
_NOISE_COUNTER = 2**192


class DrawnFaces(NamedTuple):
    """Faces in memory: a toy problem whose true explanations are known."""

    images: np.ndarray  # (n, H, W, 3), float32 in [0, 1]
    labels: np.ndarray  # (n, 16), bool, attributes that are present
    regions: np.ndarray  # (n, H, W, 16), bool, pixels where each is seen or would be
    names: tuple[str, ...] = ATTRIBUTES


def drawn_faces(count: int, seed: int = 0, image_size: tuple[int, int] = (64, 64)) -> DrawnFaces:
    """Returns the first `count` faces of a seed with labels and regions."""
    place = seed, 0, count, image_size
    images, labels = draw_faces(*place)
    return DrawnFaces(images.astype(np.float32) / 255.0, labels > 0, draw_regions(*place))


def _raw_draws(seed: int, counter: int, steps: int) -> np.ndarray:
    """Returns 4 * steps raw 64-bit draws from the given position of the seed's stream."""
    return np.random.Philox(key=seed).advance(counter).random_raw(4 * steps)


def _sample(seed: int, start: int, count: int) -> tuple[geometry.Columns, np.ndarray]:
    """Returns boolean label columns (count,) and drawing parameters (count, parameters)."""
    steps = _DRAWS // 4
    raw = _raw_draws(seed, start * steps, count * steps).reshape(count, _DRAWS)
    uniforms = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53  # in [0, 1)
    draws = iter(uniforms.T)
    hair, columns, lower = next(draws), {}, 0.0
    for attribute, probability in _HAIR.items():
        columns[attribute] = (hair >= lower) & (hair < lower + probability)
        lower += probability
    for attribute, probability in _INDEPENDENT.items():
        columns[attribute] = next(draws) < probability
    for attribute, (condition, given, otherwise) in _CONDITIONAL.items():
        columns[attribute] = next(draws) < np.where(columns[condition], given, otherwise)
    parameters = uniforms[:, _LABEL_DRAWS : _LABEL_DRAWS + len(geometry.PARAMETERS)]
    return {attribute: columns[attribute] for attribute in ATTRIBUTES}, parameters


def _noise(seed: int, start: int, count: int, image_size: tuple[int, int]) -> np.ndarray:
    """Returns noise bytes, uint8 (count, height, width), one counter step for 32 pixels."""
    height, width = image_size
    steps = -(-height * width // 32)
    raw = _raw_draws(seed, _NOISE_COUNTER + start * steps, count * steps)
    noise = raw.astype("<u8", copy=False).view(np.uint8).reshape(count, steps * 32)
    return noise[:, : height * width].reshape(count, height, width)


def _switch(labels: geometry.Columns, switched: np.ndarray) -> geometry.Columns:
    """Returns label columns (n,) with attributes switched, bool (n, 16), as in `draw_faces`."""
    changed = {name: labels[name] ^ own for name, own in zip(labels, switched.T, strict=True)}
    for name in _HAIR:
        new = changed[name] & ~labels[name]
        for other in _HAIR:
            if other != name:
                changed[other] = changed[other] & ~new
    return changed | {"Bangs": changed["Bangs"] & ~changed["Bald"]}


def _chunks(
    seed: int, start: int, count: int, switched: np.ndarray | None = None
) -> Iterator[tuple[slice, geometry.Columns, np.ndarray]]:
    """Yields slices of the outputs, their label columns and their drawing parameters."""
    for first in range(0, count, _CHUNK):
        chunk = slice(first, min(first + _CHUNK, count))
        labels, parameters = _sample(seed, start + first, chunk.stop - first)
        yield chunk, labels if switched is None else _switch(labels, switched[chunk]), parameters


def _check_arguments(
    seed: int,
    start: int,
    count: int,
    image_size: tuple[int, int] = (_SMALLEST_SIDE, _SMALLEST_SIDE),
    switched: np.ndarray | None = None,
    background: int | None = None,
) -> None:
    places = {"seed": seed, "start": start, "count": count, "background": background or 0}
    for name, value in places.items():
        if value < 0:
            raise UserError(f"`{name}` must be at least 0. Received: {name}={value}")
    shape = count, len(ATTRIBUTES)
    if switched is not None and (switched.shape != shape or switched.dtype != bool):
        raise UserError(
            f"`switched` must be bool of shape {shape}, an attribute a column. Received: "
            f"{switched.dtype} of shape {switched.shape}"
        )
    if len(image_size) != 2 or min(image_size) < _SMALLEST_SIDE:
        raise UserError(
            f"`image_size` must be (height, width) of at least {_SMALLEST_SIDE} pixels each. "
            f"Received: image_size={image_size}"
        )


def draw_faces(
    seed: int,
    start: int,
    count: int,
    image_size: tuple[int, int] = (64, 64),
    switched: np.ndarray | None = None,
    background: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the images start ... start + count - 1 of a seed and their labels.

    Switching one attribute changes no pixel outside of its region, and switching it twice nothing,
    but for hair: switching on one of Bald, Black_Hair and Blond_Hair switches the other two off
    (the first of several that are switched on counts), and the bald have no bangs: switching Bald
    on switches Bangs off, which lie in its region, and Bangs cannot be switched on before Bald is
    off.

    Args:
        seed: Non-negative integer below 2**128. Two seeds give unrelated images.
        start: Index of the first image, at least 0.
        count: Number of images, at least 0.
        image_size: Height and width in pixels, each at least 32. Labels, poses and colours of an
            image do not depend on it.
        switched: Attributes that are the other way round, bool (count, 16); None for none.
        background: Index of the first of the images, of the same seed, that lend these their
            backgrounds; light and noise stay. None for their own backgrounds.

    Returns:
        Images (count, height, width, 3) and labels (count, 16) of `ATTRIBUTES`, 0 or 1, uint8.

    Raises:
        UserError: If seed, start, count or background is negative, the image size too small, or
            `switched` of another shape or type.
    """
    _check_arguments(seed, start, count, image_size, switched, background)
    images = np.empty((count, *image_size, 3), np.uint8)
    for chunk, columns, parameters in _chunks(seed, start, count, switched):
        if background is not None:
            _, others = _sample(seed, background + chunk.start, len(parameters))
            parameters = np.where(geometry.OF_BACKGROUND, others, parameters)
        noise = _noise(seed, start + chunk.start, len(parameters), image_size)
        images[chunk] = drawing.render(columns, parameters, noise)
    return images, draw_labels(seed, start, count, switched)


def draw_labels(
    seed: int, start: int, count: int, switched: np.ndarray | None = None
) -> np.ndarray:
    """Returns the labels of `draw_faces`, uint8 (count, 16), without drawing; same arguments."""
    _check_arguments(seed, start, count, switched=switched)
    labels = np.empty((count, len(ATTRIBUTES)), np.uint8)
    for chunk, columns, _ in _chunks(seed, start, count, switched):
        labels[chunk] = np.stack(list(columns.values()), axis=1)
    return labels


def draw_regions(
    seed: int, start: int, count: int, image_size: tuple[int, int] = (64, 64)
) -> np.ndarray:
    """Draws the ground-truth region of every attribute for the images of `draw_faces`.

    A region holds all pixels that would change if that attribute alone were different: where its
    evidence is visible, or would be visible if it were present. Attributes that are seen at the
    same place (the hair's, the mouth's) share their region. Arguments are those of `draw_faces`.

    Returns:
        Regions (count, height, width, 16), bool, in the order of `ATTRIBUTES`, none of them empty.
    """
    _check_arguments(seed, start, count, image_size)
    regions = np.empty((count, *image_size, len(ATTRIBUTES)), bool)
    for chunk, columns, parameters in _chunks(seed, start, count):
        regions[chunk] = drawing.render_regions(columns, parameters, image_size)
    return regions
