"""The parts of a measurement: localisation, faithfulness and sanity, each pair by every method."""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from mcattn_tf.data.regions.region_set import RegionSet
from mcattn_tf.errors import choose
from mcattn_tf.explain.methods.attribution import Attributor, Pairs
from mcattn_tf.explain.truth import sanity
from mcattn_tf.explain.truth.faithfulness import BASELINES, STEPS, Faithfulness, FaithfulnessMeter
from mcattn_tf.explain.truth.intervals import Scores
from mcattn_tf.explain.truth.localisation import Localisation, localise


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured, and how.

    Attributes:
        baseline: what stands where something is taken away: `blur`, `mean` or `zero`.
        faithfulness_images: of each, one present and one absent attribute is measured.
        sanity_images: of each, one present attribute is measured, one absent where none is
            present.
        draws: of randomised weights; 0 leaves the sanity check out.
        batch_size: images at a time.
        seed: of the choice of attributes, of random maps, weights and bootstrap.
    """

    baseline: str = "blur"
    faithfulness_images: int = 128
    sanity_images: int = 32
    draws: int = sanity.DRAWS
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        choose("baseline", self.baseline, BASELINES)


class _Progress:
    """A progress bar; nothing where there is no terminal."""

    def __init__(self, total: int) -> None:
        self._bar = keras.utils.Progbar(total, verbose=1 if sys.stdout.isatty() else 0)

    def update(self, done: int) -> None:
        self._bar.update(done)

    def add(self, done: int) -> None:
        self._bar.add(done)


class Measurement:
    """What the parts of a measurement share: the network, its maps, the images and the settings.

    Args:
        model: a network with a layer `features`, in float32.
        attributes: names of the K attributes.
        regions: N images, and regions.
        chosen: indices of the attributes that are measured.
        methods: names out of `attribution.methods_of(model)`; None for all.
        settings: how much is measured.
    """

    def __init__(
        self,
        model: keras.Model,
        attributes: tuple[str, ...],
        regions: RegionSet,
        chosen: list[int],
        methods: Sequence[str] | None,
        settings: Settings,
    ) -> None:
        self.regions = regions
        self.chosen = chosen
        self.settings = settings
        self.shape = (regions.count, len(attributes))
        self.attributor = Attributor(model, methods, settings.seed)
        self.model = self.attributor.model
        # Where each region's attribute is among the model's.
        self.placed = [
            (place, attributes.index(name))
            for place, name in enumerate(regions.attributes)
            if name in attributes and attributes.index(name) in chosen
        ]

    @functools.cached_property
    def _meters(self) -> dict[str, FaithfulnessMeter]:
        outputs = {self.attributor.output_of(name) for name in self.attributor.methods}
        return {
            name: FaithfulnessMeter(
                self.model, name, self.attributor.grid, self.settings.baseline, STEPS
            )
            for name in outputs
        }

    def adapt(self) -> None:
        """Takes means over images for the methods that need them."""
        progress = _Progress(self.regions.count)

        def watched() -> Iterator[np.ndarray]:
            for batch in self.regions.batches(self.settings.batch_size):
                yield batch.images
                progress.add(len(batch.images))

        self.attributor.adapt(watched())

    def _blank(self, metrics: Sequence[str]) -> dict[str, Scores]:
        return {
            method: {metric: np.full(self.shape, np.nan) for metric in metrics}
            for method in self.attributor.methods
        }

    def localisation(self) -> tuple[dict[str, Scores], dict[str, np.ndarray]]:
        """Returns the scores of every pair that a group scores, and the groups, bool (N, K)."""
        scores = self._blank(Localisation._fields)
        groups = {name: np.zeros(self.shape, bool) for name in self.regions.groups}
        places = [place for place, _ in self.placed]
        columns = [index for _, index in self.placed]
        cell = _cell(self.model, self.attributor.grid)
        progress = _Progress(self.regions.count)
        start = 0
        for batch in self.regions.batches(self.settings.batch_size):
            rows = slice(start, start + len(batch.images))
            outputs = self.attributor.forward(batch.images)
            regions = batch.regions[..., places] & batch.valid[..., None]
            seen = regions.any(axis=(1, 2))
            present = batch.present | {"predicted": outputs["probabilities"][:, columns] > 0.5}
            for name, members in groups.items():
                known = present[name] if name == "predicted" else present[name][:, places]
                members[rows, columns] = known & seen
            wanted = np.any([members[rows, columns] for members in groups.values()], axis=0)
            images, places_of_pairs = np.nonzero(wanted)
            if len(images):
                indices = np.array(columns)[places_of_pairs]
                pairs = Pairs(images, indices, np.ones(len(images), int))
                region, valid = regions[images, :, :, places_of_pairs], batch.valid[images]
                maps = self.attributor.maps(batch.images, outputs, pairs)
                for method, values in maps.items():
                    measured = localise(values, region, valid, cell)
                    _store(scores[method], measured, images + start, indices)
            start += len(batch.images)
            progress.update(start)
        return scores, groups

    def _one_attribute_each(
        self, probabilities: np.ndarray, sign: int, random: np.random.Generator
    ) -> Pairs:
        """Draws for each image one attribute that the model calls present (1) or absent (-1)."""
        fits = (probabilities > 0.5) == (sign > 0)
        draws = np.where(fits, random.random(fits.shape), -1)[:, self.chosen]
        images = np.flatnonzero(draws.max(axis=1) >= 0)
        attributes = np.array(self.chosen)[draws.argmax(axis=1)][images]
        return Pairs(images, attributes, np.full(len(images), sign))

    def faithfulness(self, sign: int) -> dict[str, Scores]:
        """Returns the scores of one present (1) or absent (-1) attribute an image."""
        settings = self.settings
        few = self.regions.take(settings.faithfulness_images)
        scores = self._blank(Faithfulness._fields)
        random = np.random.default_rng(settings.seed)
        progress = _Progress(few.count * len(scores))
        start = done = 0
        for batch in few.batches(settings.batch_size):
            outputs = self.attributor.forward(batch.images)
            pairs = self._one_attribute_each(outputs["probabilities"], sign, random)
            maps = self.attributor.maps(batch.images, outputs, pairs) if len(pairs.images) else {}
            for method, values in maps.items():
                measured = self._meters[self.attributor.output_of(method)](
                    batch.images[pairs.images], pairs.attributes, pairs.signs, values
                )
                _store(scores[method], measured, pairs.images + start, pairs.attributes)
                done += len(batch.images)
                progress.update(done)
            start += len(batch.images)
            done = start * len(scores)
            progress.update(done)
        return scores

    def sanity(self) -> tuple[list[str], dict[str, dict[str, np.ndarray]]]:
        """Returns the stages of the randomisation and the similarities after each."""
        settings = self.settings
        images = self.regions.take(settings.sanity_images)
        batch = images.read(range(images.count)).images
        random = np.random.default_rng(settings.seed)
        probabilities = self.attributor.forward(batch)["probabilities"]
        present, absent = (self._one_attribute_each(probabilities, s, random) for s in (1, -1))
        rest = ~np.isin(absent.images, present.images)
        pairs = Pairs(*map(np.concatenate, zip(present, absent.take(rest), strict=True)))

        def explain() -> dict[str, np.ndarray]:
            self.attributor.adapt([batch])
            return self.attributor.maps(batch, self.attributor.forward(batch), pairs)

        names = [stage.name for stage in sanity.stages(self.model)]
        progress = _Progress(settings.draws * len(names))
        similarities = sanity.cascading_randomisation(
            self.model, explain, settings.draws, settings.seed, progress.update
        )
        return names, similarities


def _cell(model: keras.Model, grid: tuple[int, int]) -> tuple[int, int]:
    _, height, width, _ = model.input.shape
    return height // grid[0], width // grid[1]


def _store(
    scores: Scores,
    measured: Localisation | Faithfulness,
    images: np.ndarray,
    attributes: np.ndarray,
) -> None:
    for metric, values in measured._asdict().items():
        scores[metric][images, attributes] = values
