"""Measures of slices of the images, such as `Male&not Young`, beside those of all others."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from mcattn_tf.data import RegionSet
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation.ranking import BINS
from mcattn_tf.explain.methods import methods_of
from mcattn_tf.explain.truth.intervals import interval_of, mean_per_attribute, number, within
from mcattn_tf.explain.truth.measurement import Measurement, Settings
from mcattn_tf.metrics import confusions
from mcattn_tf.tables import listed

DRAWS, SEED = 1000, 0
DRAWS_AT_ONCE, IMAGES_AT_ONCE = 100, 1024  # what bounds the memory
FEW = 100  # images; of fewer a warning is given
FEWEST = 20  # labels that a rate is of; of fewer it is not defined
OTHERS = "all others"
NOT = "not "
MEASURES = {
    "accuracy": "accuracy",
    "true_positive_rate": "true positive rate",
    "false_positive_rate": "false positive rate",
    "calibration_error": "calibration error",
    "pointing_game": "pointing game",
}
# Sums of absolute values: the fewer images, the higher. The bootstrap tells by how much.
BIASED = ("calibration_error",)


class Slice(NamedTuple):
    """Images that have some attributes and lack others.

    Attributes:
        name: Its name as it was given.
        terms: {index of an attribute: whether its images have it}.
    """

    name: str
    terms: dict[int, bool]

    @property
    def rest(self) -> str:
        """Name of the other images."""
        if len(self.terms) > 1:
            return OTHERS
        return self.name.removeprefix(NOT) if self.name.startswith(NOT) else f"{NOT}{self.name}"

    def sides(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns which images of labels (N, K) are in the slice and which outside, bool (N,).

        An image of which an unknown label (-1) would decide is on neither side.
        """
        inside, outside = np.ones(len(labels), bool), np.zeros(len(labels), bool)
        for index, wanted in self.terms.items():
            inside &= labels[:, index] == wanted
            outside |= labels[:, index] == (not wanted)
        return inside, outside


def parse_slices(names: Sequence[str], attributes: Sequence[str]) -> list[Slice]:
    """Returns the slices that are named like `Male`, `not Male` or `Male&not Young`.

    Raises:
        UserError: For an unknown attribute, one that is named twice, or no slice.
    """
    if not names:
        raise UserError("--slices must name at least one attribute, such as Male or Male&Young")
    slices = []
    for name in names:
        terms: dict[int, bool] = {}
        words = [" ".join(word.split()) for word in name.split("&")]
        for word in words:
            attribute = word.removeprefix(NOT)
            if attribute not in attributes:
                raise UserError(
                    f"--slices {name}: {attribute!r} is no attribute of the run; slices are "
                    f"written X, not X or X&not Y. Attributes: {listed(attributes, 8)}"
                )
            index = attributes.index(attribute)
            if index in terms:
                raise UserError(f"--slices names {attribute} twice in {name}")
            terms[index] = not word.startswith(NOT)
        slices.append(Slice("&".join(words), terms))
    return list({x.name: x for x in slices}.values())


def require_images(slices: Sequence[Slice], labels: np.ndarray, split: str) -> None:
    """Raises a UserError for a slice of labels (N, K) that has no images, or all of them."""
    for of in slices:
        if len(of.terms) == labels.shape[1]:
            raise UserError(f"--slices {of.name} leaves no other attribute to measure")
        for side, kind in zip(of.sides(labels), ("none", "all that tell"), strict=True):
            if not side.any():
                raise UserError(
                    f"--slices {of.name} cannot be compared: {kind} of the {len(labels)} {split} "
                    "images are such"
                )


class Statistics(NamedTuple):
    """Sums over images that measures of each attribute are computed from.

    Attributes:
        count: N, number of images.
        of: Function from indices (n,) of images to what they add, (n, K, S).
        shares: Function from sums (..., K, S) to {measure: (numerator, denominator)}, (..., K).
    """

    count: int
    of: Callable[[np.ndarray], np.ndarray]
    shares: Callable[[np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]


def of_answers(
    labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray | float = 0.5
) -> Statistics:
    """Returns the statistics of answers (N, K) to labels (N, K), 1, 0 or -1 for unknown.

    Their measures are the accuracy, the rates of true and of false positives at the thresholds,
    and the expected calibration error in 10 bins.
    """

    def of(images: np.ndarray) -> np.ndarray:
        own, p = labels[images], probabilities[images]
        cases = np.moveaxis(confusions(own, p > thresholds), 0, -1)
        bins = np.minimum((p * BINS).astype(int), BINS - 1)
        over = np.where(own >= 0, p - own, 0.0)  # of what is present
        return np.concatenate([cases, over[..., None] * (bins[..., None] == range(BINS))], axis=-1)

    def shares(sums: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        right, rejected, false, missed = np.moveaxis(sums[..., :4], -1, 0)
        count = right + rejected + false + missed
        return {
            "accuracy": (right + rejected, count),
            "true_positive_rate": (right, right + missed),
            "false_positive_rate": (false, false + rejected),
            "calibration_error": (np.abs(sums[..., 4:]).sum(axis=-1), count),
        }

    return Statistics(len(labels), of, shares)


def of_pointing(hits: np.ndarray) -> Statistics:
    """Returns the statistics of pointing games (N, K), NaN where a map was not scored."""

    def of(images: np.ndarray) -> np.ndarray:
        own = hits[images]
        return np.stack([np.nan_to_num(own), np.isfinite(own)], axis=-1)

    return Statistics(len(hits), of, lambda sums: {"pointing_game": (sums[..., 0], sums[..., 1])})


def pointing(
    model: keras.Model, attributes: tuple[str, ...], regions: RegionSet
) -> tuple[np.ndarray, dict]:
    """Plays the pointing game with maps of the default method.

    Returns:
        The hits of N images and K attributes, (N, K), in [0, 1], NaN where none was played: the
        attribute is not present, or has no visible region. And {"method", "regions", "images"}.

    Raises:
        UserError: If no attribute has a region.
    """
    if not regions.attributes:
        raise UserError(
            "the pointing game needs regions of attributes, and these data have none; leave out "
            "--explanations"
        )
    method, every = methods_of(model)[0], list(range(len(attributes)))
    measurement = Measurement(model, attributes, regions, every, [method], Settings())
    scores, groups = measurement.localisation()
    hits = within(scores[method], groups[regions.groups[0]])["pointing_game"]
    return hits, {"method": method, "regions": regions.source, "images": regions.count}


def measure_slices(
    slices: Sequence[Slice],
    labels: np.ndarray,
    attributes: Sequence[str],
    statistics: Sequence[Statistics],
    people: np.ndarray | None = None,
) -> dict[str, dict]:
    """Measures slices and the other images, with 95 % intervals of the gaps by bootstrap.

    Args:
        slices: The slices, each with images on both sides (`require_images`).
        labels: (N, K), 1 present, 0 absent and -1 unknown.
        attributes: Names of the K attributes.
        statistics: Statistics of the first images, at most N.
        people: (N,), a number for the person on each image, whose images are drawn together; None
            to draw single images.

    Returns:
        {slice: {"rest": name of the other images, "images", "rest_images" and "untold", numbers of
        images inside, outside and of neither side, "mean" and "per_attribute": {measure: {"slice",
        "rest", "gap": slice minus rest, "interval": [low, high]}}}}, the latter by attribute.
        Measures are keys of `MEASURES`, shares in [0, 1], None where one is of fewer than `FEWEST`
        labels. Attributes that define the slice are left out. Means are over the attributes for
        which a measure is defined on both sides; a draw may define fewer. The calibration error is
        corrected for its bias: it grows as images get fewer.
    """
    result = {}
    for of in slices:
        inside, outside = of.sides(labels)
        kept = [index for index in range(len(attributes)) if index not in of.terms]
        mean, per_attribute = {}, {attributes[index]: {} for index in kept}
        for part in statistics:
            sides = [np.flatnonzero(side[: part.count]) for side in (inside, outside)]
            alone = np.arange(len(labels)) if people is None else people
            _, person = np.unique(alone[: part.count], return_inverse=True)
            drawn = [_measured(part, side, person, kept) for side in sides]
            for name in drawn[0][0]:
                whole, draws = zip(*((x[name], y[name]) for x, y in drawn), strict=True)
                both = np.isfinite(whole[0]) & np.isfinite(whole[1])
                averages = [mean_per_attribute(x[both]) for x in whole]
                mean[name] = _gap(averages, [mean_per_attribute(x[:, both].T) for x in draws])
                for place, index in enumerate(kept):
                    own = [x[place] for x in whole], [x[:, place] for x in draws]
                    per_attribute[attributes[index]][name] = _gap(*own)
        result[of.name] = {
            "rest": of.rest,
            "images": int(inside.sum()),
            "rest_images": int(outside.sum()),
            "untold": int(np.sum(~inside & ~outside)),
            "mean": mean,
            "per_attribute": per_attribute,
        }
    return result


def _measured(
    part: Statistics, images: np.ndarray, person: np.ndarray, kept: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns measures of k attributes: over images (n,), and over each draw of people.

    The draws are of all people, on either side of a slice: a person may be on both.
    """

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(images), IMAGES_AT_ONCE):
            chunk = images[start : start + IMAGES_AT_ONCE]
            yield chunk, part.of(chunk)[:, kept]

    none = part.of(images[:0])[:, kept].sum(axis=0)
    whole = sum((added.sum(axis=0) for _, added in chunks()), start=none)
    random, people, draws = np.random.default_rng(SEED), int(person.max()) + 1, []
    for _ in range(0, DRAWS, DRAWS_AT_ONCE):
        weights = random.multinomial(people, np.full(people, 1 / people), size=DRAWS_AT_ONCE)
        sums = np.zeros((DRAWS_AT_ONCE, *none.shape))
        for chunk, added in chunks():
            sums += np.tensordot(weights[:, person[chunk]].astype(float), added, axes=1)
        draws.append(part.shares(sums))
    measured, drawn = {}, {}
    for name, (sum_, count) in part.shares(whole).items():
        with np.errstate(invalid="ignore"):
            drawn[name] = np.concatenate([np.divide(*own[name]) for own in draws])
            measured[name] = np.where(count >= FEWEST, sum_ / count, np.nan)
        if name in BIASED:
            bias = mean_per_attribute(drawn[name]) - measured[name]
            measured[name] = measured[name] - bias
            drawn[name] = drawn[name] - 2 * bias
    return measured, drawn


def _gap(whole: Sequence[np.ndarray], draws: Sequence[np.ndarray]) -> dict:
    gap = number(whole[0] - whole[1])
    interval = None if gap is None else interval_of(draws[0] - draws[1])
    sides = {"slice": number(whole[0]), "rest": number(whole[1])}
    return {**sides, "gap": gap, "interval": interval}
