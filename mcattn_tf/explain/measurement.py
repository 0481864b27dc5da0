"""The truth of a network's explanations: every method by every metric."""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from mcattn_tf.data.regions import RegionSet
from mcattn_tf.errors import UserError, choose
from mcattn_tf.explain import sanity
from mcattn_tf.explain.attribution import Attributor, Pairs, methods_of
from mcattn_tf.explain.averages import Scores, differences, merge, summarize, within
from mcattn_tf.explain.faithfulness import BASELINES, STEPS, Faithfulness, FaithfulnessMeter
from mcattn_tf.explain.localisation import Localisation, localise

GLANCE_IMAGES = 256  # that every evaluation measures localisation on


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


def _chosen_attributes(
    wanted: Sequence[str] | None, attributes: tuple[str, ...], regions: RegionSet
) -> list[int]:
    """Returns the indices of the attributes that are measured."""
    if regions.attributes and not {*regions.attributes} & {*attributes}:
        raise UserError(
            f"none of the model's attributes has a region among the {regions.source}; those that "
            f"have one: {', '.join(sorted(regions.attributes))}"
        )
    if wanted is not None and not wanted:
        raise UserError("`attributes` must name at least one attribute or be left out")
    for name in wanted or ():
        choose("attributes", name, attributes)
        if regions.attributes and name not in regions.attributes:
            raise UserError(
                f"`attributes` names {name}, which has no region among the {regions.source}; "
                f"those that have one: {', '.join(sorted({*regions.attributes} & {*attributes}))}"
            )
    return [index for index, name in enumerate(attributes) if wanted is None or name in wanted]


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


def _require_whole_cells(model: keras.Model, grid: tuple[int, int]) -> None:
    size = model.input.shape[1:3]
    if any(pixels % cells for pixels, cells in zip(size, grid, strict=True)):
        raise UserError(
            "explanations are measured on whole feature cells: the sides of `image_size` must be "
            f"divisible by the cells along them, {grid[0]},{grid[1]}. Received: {size[0]},{size[1]}"
        )


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


def measure(
    model: keras.Model,
    attributes: tuple[str, ...],
    regions: RegionSet,
    settings: Settings,
    wanted: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
) -> dict:
    """Measures how far the explanations of a model can be trusted.

    Localisation is measured on all images of `regions`, for the present attributes; faithfulness
    for one attribute an image that the model calls present and, apart, one that it calls absent,
    by its first output for all methods alike. Both are means over attributes of means over
    images, so that rare attributes count like common ones. Sanity is measured for one present
    attribute of a few images and is a plain mean over them and the draws.

    Args:
        model: a network with a layer `features`, in float32.
        attributes: names of the K attributes.
        regions: images and regions; without regions localisation is left out.
        settings: how much is measured.
        wanted: names of the attributes to measure; None for all.
        methods: names out of `attribution.methods_of(model)`; None for all.

    Returns:
        `explanations.json`: {"default_method": name, method: {metric: value, "intervals":
        {metric: [low, high]}, "per_attribute": {name: {metric: value}}, "groups": {group: the
        same for each group of labels}, "default_minus_this": {metric: {"mean": of the differences
        of pairs, "interval": [low, high]}} of all but the default method, "sanity": {"stages":
        [...], "rank_correlation": [...], "ssim": [...]}}}, and how it was measured under keys
        whose value is not a dict. Metrics
        are the fields of `Localisation` and `Faithfulness` (of absent attributes with the suffix
        `_absent`), `sanity_rank_correlation` and `sanity_ssim` with all weights randomised. None
        where nothing was scored.

    Raises:
        UserError: for an attribute that does not exist or has no region, or an unknown method or
            baseline.
    """
    chosen = _chosen_attributes(wanted, attributes, regions)
    measurement = Measurement(model, attributes, regions, chosen, methods, settings)
    _require_whole_cells(model, measurement.attributor.grid)
    print(f"means over {regions.count} images")
    measurement.adapt()
    names = measurement.attributor.methods
    result: dict = {
        "default_method": names[0],
        "regions": regions.source,
        "images": regions.count,
        "faithfulness_images": min(settings.faithfulness_images, regions.count),
        "scored": regions.groups[0] if regions.groups else None,
        "attributes": [attributes[index] for index in chosen],
        "baseline": settings.baseline,
        "steps": STEPS,
        "sanity_images": min(settings.sanity_images, regions.count),
        "draws": settings.draws,
        "seed": settings.seed,
    }
    result |= {name: {"output": measurement.attributor.output_of(name)} for name in names}

    def compare(scores: dict[str, Scores], suffix: str) -> None:
        for name in names[1:]:
            found = differences(scores[names[0]], scores[name], settings.seed, suffix)
            result[name].setdefault("default_minus_this", {}).update(found)

    if measurement.placed:
        print(f"localisation on {regions.count} images")
        scores, groups = measurement.localisation()
        for name in names:
            summaries = {
                group: summarize(within(scores[name], members), attributes, settings.seed)
                for group, members in groups.items()
            }
            merge(result[name], summaries[regions.groups[0]])
            result[name]["groups"] = summaries
        main = groups[regions.groups[0]]
        compare({name: within(values, main) for name, values in scores.items()}, "")
    for sign, suffix in ((1, ""), (-1, "_absent")):
        kind = "absent" if suffix else "present"
        print(f"faithfulness to {kind} attributes on {result['faithfulness_images']} images")
        faithfulness = measurement.faithfulness(sign)
        for name, scores in faithfulness.items():
            summary = summarize(scores, attributes, settings.seed, "faithfulness_pairs")
            merge(result[name], summary, suffix)
        compare(faithfulness, suffix)
    if settings.draws:
        print(f"sanity: {settings.draws} draws of weights on {result['sanity_images']} images")
        stages, similarities = measurement.sanity()
        for name, values in similarities.items():
            result[name] |= {f"sanity_{key}": float(v[-1]) for key, v in values.items()}
            lists = {key: [float(x) for x in v] for key, v in values.items()}
            result[name]["sanity"] = {"stages": stages, **lists}
    return result


def where_it_looks(
    model: keras.Model, attributes: tuple[str, ...], regions: RegionSet
) -> dict[str, dict]:
    """Measures whether the maps that are drawn by default lie where their attributes are seen.

    Args:
        model: a network with a layer `features`, in float32.
        attributes: names of the K attributes.
        regions: images with regions, of which the first 256 are used.

    Returns:
        {"explanations": {"method": name, "regions": where they come from, "images": their number,
        "intervals": {metric: [low, high]}, "mean": {metric: value}, "per_attribute": {name:
        {metric: value}}}}, the metrics those of `Localisation`; empty without regions.
    """
    if not regions.attributes:
        return {}
    regions, every = regions.take(GLANCE_IMAGES), list(range(len(attributes)))
    method = methods_of(model)[0]
    measurement = Measurement(model, attributes, regions, every, [method], Settings())
    scores, groups = measurement.localisation()
    summary = summarize(within(scores[method], groups[regions.groups[0]]), attributes, seed=0)
    intervals, per_attribute = summary.pop("intervals"), summary.pop("per_attribute")
    return {
        "explanations": {
            "method": method,
            "regions": regions.source,
            "images": regions.count,
            "intervals": intervals,
            "mean": summary,
            "per_attribute": per_attribute,
        }
    }
