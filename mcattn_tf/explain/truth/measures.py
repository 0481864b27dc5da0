"""Every measure of the maps of a network, on images with or without regions."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from mcattn_tf.data.regions.region_set import RegionBatch, RegionSet
from mcattn_tf.errors import choose
from mcattn_tf.explain.methods import Attributor, Pairs
from mcattn_tf.explain.methods.perturbation import whole_cells
from mcattn_tf.explain.truth import sanity
from mcattn_tf.explain.truth.faithfulness import BASELINES, Faithfulness, FaithfulnessMeter
from mcattn_tf.explain.truth.intervals import Scores
from mcattn_tf.explain.truth.interventions import InterventionMeter, Interventions
from mcattn_tf.explain.truth.localisation import Localisation, localise
from mcattn_tf.progress import Stages

SANITY_IMAGES = 32  # one present attribute of each, or one absent attribute if none is present
KINDS = {1: "present", -1: "absent"}
SEED = 0  # of selected attributes, random maps, random weights and bootstrap


@dataclasses.dataclass(frozen=True)
class Settings:
    """Size and choices of a measurement.

    Attributes:
        baseline: replacement of removed cells: `blur`, `mean` or `zero`.
        faithfulness_images: number of images; one present and one absent attribute of each is
            measured.
        draws: draws of randomised weights; 0 skips the sanity check.
        batch_size: images at a time.
    """

    baseline: str = "blur"
    faithfulness_images: int = 128
    draws: int = sanity.DRAWS
    batch_size: int = 16

    def __post_init__(self) -> None:
        choose("baseline", self.baseline, BASELINES)


class Measurement:
    """Every measure of the maps of attributes `indices`; see `measure`."""

    def __init__(
        self,
        model: keras.Model,
        attributes: tuple[str, ...],
        regions: RegionSet,
        indices: list[int],
        methods: Sequence[str] | None,
        settings: Settings,
        asked: np.ndarray | None = None,
    ) -> None:
        self.stages = Stages()
        self.regions, self.indices, self.settings = regions, indices, settings
        self.asked = asked
        self.attributes, self.shape = attributes, (regions.count, len(attributes))
        self.attributor = Attributor(model, methods)
        self.model = self.attributor.model
        self.grid = whole_cells(self.model.input.shape[1:3], self.attributor.grid)
        # (index among the regions, index among the model's attributes).
        self.placed = [
            (place, attributes.index(name))
            for place, name in enumerate(regions.attributes)
            if name in attributes and attributes.index(name) in indices
        ]

    def _batches(self, images: RegionSet, label: str) -> Iterator[tuple[slice, RegionBatch]]:
        """Yields the rows of each batch among all images, and the batch, with a progress bar."""
        start = 0
        with self.stages.bar(images.count, label) as bar:
            for batch in images.batches(self.settings.batch_size):
                rows = slice(start, start + len(batch.images))
                yield rows, batch
                bar.update(len(batch.images))
                start = rows.stop

    def _maps(self, batch: RegionBatch, outputs: dict, pairs: Pairs) -> dict[str, np.ndarray]:
        if not len(pairs.images):
            return {}
        return self.attributor.maps(batch.images, outputs, pairs, self.stages.show)

    def _blank(self, metrics: Sequence[str]) -> dict[str, Scores]:
        names = self.attributor.methods
        return {name: {x: np.full(self.shape, np.nan) for x in metrics} for name in names}

    def adapt(self) -> None:
        """Gives methods the means over images that they need."""
        self.attributor.adapt(batch.images for _, batch in self._batches(self.regions, "means"))

    def localisation(self) -> tuple[dict[str, Scores], dict[str, np.ndarray]]:
        """Returns the scores of every pair in a group, and the groups, bool (N, K)."""
        scores = self._blank(Localisation._fields)
        groups = {name: np.zeros(self.shape, bool) for name in self.regions.groups}
        places = [place for place, _ in self.placed]
        columns = [index for _, index in self.placed]
        cell = tuple(x // n for x, n in zip(self.model.input.shape[1:3], self.grid, strict=True))
        for rows, batch in self._batches(self.regions, "localisation"):
            outputs = self.attributor.forward(batch.images)
            regions = batch.regions[..., places] & batch.valid[..., None]
            visible = regions.any(axis=(1, 2))
            predicted = outputs["probabilities"][:, columns] > 0.5
            for name, members in groups.items():
                known = predicted if name == "predicted" else batch.present[name][:, places]
                members[rows, columns] = known & visible
            scored = np.any([members[rows, columns] for members in groups.values()], axis=0)
            images, own = np.nonzero(scored)
            pairs = Pairs(images, np.array(columns, int)[own], np.ones(len(images), int))
            regions, valid = regions[images, :, :, own], batch.valid[images]
            for method, values in self._maps(batch, outputs, pairs).items():
                threshold = self.attributor.threshold_of(method)
                measures = localise(values, regions, valid, cell, threshold)
                _record(scores[method], measures, rows, pairs)
        return scores, groups

    def _one_attribute_each(
        self,
        probabilities: np.ndarray,
        sign: int,
        random: np.random.Generator,
        rows: slice = slice(None),
    ) -> Pairs:
        """Draws for each image one attribute that the model calls present (1) or absent (-1).

        Where pairs were asked for, it draws one of those in place of present attributes.
        """
        fits = (probabilities > 0.5) == (sign > 0)
        if self.asked is not None:
            fits = self.asked[rows] & (sign > 0)
        draws = np.where(fits, random.random(fits.shape), -1)[:, self.indices]
        images = np.flatnonzero(draws.max(axis=1) >= 0)
        attributes = np.array(self.indices)[draws.argmax(axis=1)][images]
        return Pairs(images, attributes, np.full(len(images), sign))

    @functools.cached_property
    def _meters(self) -> dict[str, FaithfulnessMeter]:
        baseline = self.settings.baseline
        outputs = {self.attributor.output_of(name) for name in self.attributor.methods}
        return {name: FaithfulnessMeter(self.model, name, self.grid, baseline) for name in outputs}

    def faithfulness(self, sign: int) -> dict[str, Scores]:
        """Returns the scores of one present (1) or absent (-1) attribute of each image."""
        images = self.regions.take(self.settings.faithfulness_images)
        scores = self._blank(Faithfulness._fields)
        random = np.random.default_rng(SEED)
        for rows, batch in self._batches(images, f"faithfulness, {KINDS[sign]}"):
            outputs = self.attributor.forward(batch.images)
            pairs = self._one_attribute_each(outputs["probabilities"], sign, random, rows)
            own = batch.images[pairs.images], pairs.attributes, pairs.signs
            for method, values in self._maps(batch, outputs, pairs).items():
                self.stages.show(method)
                meter = self._meters[self.attributor.output_of(method)]
                _record(scores[method], meter(*own, values), rows, pairs)
        return scores

    def interventions(self) -> dict[str, Scores]:
        """Returns the scores of one present attribute of each image, that of `faithfulness`."""
        images = self.regions.take(self.settings.faithfulness_images)
        scores = self._blank(Interventions._fields)
        meter = InterventionMeter(self.attributor, self.attributes, images)
        random = np.random.default_rng(SEED)
        for rows, batch in self._batches(images, "interventions"):
            outputs = self.attributor.forward(batch.images)
            pairs = self._one_attribute_each(outputs["probabilities"], 1, random, rows)
            maps, place = self._maps(batch, outputs, pairs), range(rows.start, rows.stop)
            for method, measures in meter(place, batch.regions, pairs, maps):
                _record(scores[method], measures, rows, pairs)
        return scores

    def sanity(self) -> tuple[list[str], dict[str, dict[str, np.ndarray]]]:
        """Returns the stages of the randomisation and the similarities after each."""
        images = self.regions.take(SANITY_IMAGES)
        batch = images.read(range(images.count)).images
        random = np.random.default_rng(SEED)
        probabilities = self.attributor.forward(batch)["probabilities"]
        draw, rows = functools.partial(self._one_attribute_each, probabilities), slice(images.count)
        present, absent = (draw(sign, random, rows) for sign in (1, -1))
        rest = absent.take(~np.isin(absent.images, present.images))
        pairs = Pairs(*map(np.concatenate, zip(present, rest, strict=True)))

        def explain() -> dict[str, np.ndarray]:
            self.attributor.adapt([batch])
            return self.attributor.maps(batch, self.attributor.forward(batch), pairs)

        names = [stage.name for stage in sanity.stages(self.model)]
        draws = self.settings.draws
        with self.stages.bar(draws * len(names), "sanity", "stage") as bar:
            maps = self.model, explain
            return names, sanity.cascading_randomisation(*maps, draws, SEED, bar.update)


def _record(scores: Scores, measures: NamedTuple, rows: slice, pairs: Pairs) -> None:
    """Writes the measures of a batch's pairs into the scores of all images."""
    for metric, values in measures._asdict().items():
        scores[metric][rows][pairs.images, pairs.attributes] = values
