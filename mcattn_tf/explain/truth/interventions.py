"""Interventions: whether a map marks the parts of a picture whose change changes the answer.

The protocols are those of FunnyBirds (Hesse, Schaub-Meyer and Roth, ICCV 2023), for pictures that
can be drawn with one part changed. A part is a region where attributes are seen, and it is changed
by switching the explained attribute if that is one of them, else the first of them. The true
importance of a part is the drop of the explained logit. Where we differ from the paper: parts are
switched, not removed, so that a part may appear; the parts that a map marks are those of at least
the mean mass, not those above a threshold of each method; background independence compares maps
of one face on two backgrounds, where the paper asks the network alone.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np

from mcattn_tf.data.regions.region_set import RegionSet
from mcattn_tf.explain.methods import Attributor, Pairs
from mcattn_tf.explain.truth.localisation import block_means
from mcattn_tf.explain.truth.sanity import rank_correlation

SMALL = 0.05  # share of the largest value below which a value counts as none


class Interventions(NamedTuple):
    """Scores of P maps; every field is an array (P,).

    What chance gives depends on the sizes of the parts: see the rows `random` and `center`.

    Attributes:
        single_deletion: (1 + r) / 2, r Spearman's rank correlation over parts of the map's mass and
            the drop of the logit; 0.5 if either is constant.
        single_deletion_tied: the same with values of less than 5 % of the largest as 0. Most parts
            change nothing, and their order is chance: where one of 12 parts matters, a map of that
            part alone has 1 here, but 0.74 above.
        distractors: share of the mass in parts that lies in no part whose switch changes the logit
            by at least 5 % of the largest change; lower is better. NaN if no switch changes it.
        background_independence: Spearman's rank correlation of the maps on two backgrounds; 1 if
            both are constant, so that a map that is always the same has 1.
        completeness: 1 if the answer stays when all parts are switched that the map does not mark.
    """

    single_deletion: np.ndarray
    single_deletion_tied: np.ndarray
    distractors: np.ndarray
    background_independence: np.ndarray
    completeness: np.ndarray


def part_masses(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Returns the share of each map's positive part in each region, (P, R).

    It is `energy_in_region` of `localise`: a position's value is spread evenly over its pixels, and
    a map without a positive value counts as a constant one. What lies in two regions counts in
    both.

    Args:
        maps: (P, h, w), any values; h divides H and w divides W.
        regions: (P, H, W, R), bool.
    """
    positive = np.maximum(maps, 0).astype(np.float64)
    positive = np.where(positive.any(axis=(1, 2), keepdims=True), positive, 1)
    planes = np.moveaxis(regions, -1, 1)
    inside = block_means(planes.reshape(-1, *planes.shape[2:]), maps.shape[1:])
    inside = inside.reshape(*planes.shape[:2], *maps.shape[1:])
    shares = positive / positive.sum(axis=(1, 2), keepdims=True)
    return np.einsum("phw,prhw->pr", shares, inside)


def marked_parts(masses: np.ndarray) -> np.ndarray:
    """Returns the parts, bool (P, R), that hold at least the mean of masses (P, R), and some."""
    return (masses >= masses.mean(axis=1, keepdims=True) - 1e-9) & (masses > 0)


def single_deletion(masses: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Returns the agreement (P,), in [0, 1], of masses and drops (P, R) in order."""
    constant = np.ptp(drops, axis=1) == 0
    return np.where(constant, 0.5, (1 + rank_correlation(masses, drops)) / 2)


def _without_small(values: np.ndarray) -> np.ndarray:
    """Returns values (P, R) with 0 for those of less than 5 % of the largest, without signs."""
    sizes = np.abs(values)
    return np.where(sizes < SMALL * sizes.max(axis=1, keepdims=True), 0, values)


def distractors(maps: np.ndarray, regions: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Returns the share (P,) of the mass in parts that lies in no part that matters.

    A map without mass in any part has the share of a constant map. Arguments are those of
    `part_masses`, and drops (P, R); NaN where all are 0.
    """
    matters = _without_small(drops) != 0
    areas = regions.any(axis=-1), (regions & matters[:, None, None]).any(axis=-1)
    areas = np.stack(areas, axis=-1)  # (P, H, W, 2)
    inside = part_masses(maps, areas)
    inside = np.where(inside[:, :1] > 0, inside, areas.mean(axis=(1, 2)))
    everywhere, own = inside.T
    share = (everywhere - own) / np.where(everywhere > 0, everywhere, 1)
    return np.where(matters.any(axis=1), share, np.nan)


class InterventionMeter:
    """Measures the maps of an attributor's methods on images that can be drawn anew.

    Args:
        attributor: network and methods.
        attributes: names of the network's K attributes.
        regions: images with `redrawing`.
    """

    def __init__(
        self, attributor: Attributor, attributes: tuple[str, ...], regions: RegionSet
    ) -> None:
        self._attributor, self._drawn = attributor, regions.attributes
        parts, self._draw = regions.redrawing
        outputs = {attributor.output_of(method) for method in attributor.methods}
        logits = {name: attributor.model.get_layer(name).input for name in sorted(outputs)}
        self._logits = keras.Model(attributor.model.input, logits)
        # (K, R), the drawn attribute that is switched to change a part.
        self._switches = np.array(
            [[self._drawn.index(x if x in part else part[0]) for part in parts] for x in attributes]
        )

    def _logits_without(
        self, indices: range, pairs: Pairs, changed: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns {output: logits (P,)} of pairs whose parts `changed`, bool (P, R), are others."""
        switched = np.zeros((len(indices), len(self._drawn)), bool)
        rows, parts = np.nonzero(changed)
        switched[pairs.images[rows], self._switches[pairs.attributes[rows], parts]] = True
        logits = self._logits.predict_on_batch(self._draw(indices, switched, False))
        return {name: x[pairs.images, pairs.attributes] for name, x in logits.items()}

    def __call__(
        self, indices: range, regions: np.ndarray, pairs: Pairs, maps: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[str, Interventions]]:
        """Yields each method and the scores of its maps.

        Args:
            indices: B images.
            regions: (B, H, W, k), bool, regions of the drawn attributes.
            pairs: P pairs of an image, in at most one of them, and a present attribute.
            maps: {method: (P, h, w)}.
        """
        if not maps:  # nothing is present
            return
        regions = regions[..., self._switches[0]][pairs.images]
        each = np.eye(regions.shape[-1], dtype=bool)[:, None].repeat(len(pairs.images), axis=1)
        before = self._logits_without(indices, pairs, np.zeros_like(each[0]))
        after = [self._logits_without(indices, pairs, part) for part in each]
        images = self._draw(indices, None, True)
        others = self._attributor.maps(images, self._attributor.forward(images), pairs)
        for method, values in maps.items():
            output = self._attributor.output_of(method)
            drops = np.stack([before[output] - one[output] for one in after], axis=1)
            masses = part_masses(values, regions)
            kept = self._logits_without(indices, pairs, ~marked_parts(masses))[output]
            tied = _without_small(masses), _without_small(drops)
            scores = Interventions(
                single_deletion=single_deletion(masses, drops),
                single_deletion_tied=single_deletion(*tied),
                distractors=distractors(values, regions, drops),
                background_independence=rank_correlation(values, others[method]),
                completeness=((kept > 0) == (before[output] > 0)).astype(np.float64),
            )
            yield method, scores
