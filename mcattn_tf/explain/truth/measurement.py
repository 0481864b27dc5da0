"""The truth of a network's explanations: every method by every metric."""

from collections.abc import Sequence

import keras

from mcattn_tf.data.regions.region_set import RegionSet
from mcattn_tf.errors import UserError, choose
from mcattn_tf.explain.methods.attribution import methods_of
from mcattn_tf.explain.truth.faithfulness import STEPS
from mcattn_tf.explain.truth.intervals import Scores, differences, merge, summarize, within
from mcattn_tf.explain.truth.measurement_parts import Measurement, Settings
from mcattn_tf.runs.checkpoints import weights_of

GLANCE_IMAGES = 256  # that every evaluation measures localisation on


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


def _require_whole_cells(model: keras.Model, grid: tuple[int, int]) -> None:
    size = model.input.shape[1:3]
    if any(pixels % cells for pixels, cells in zip(size, grid, strict=True)):
        raise UserError(
            "explanations are measured on whole feature cells: the sides of `image_size` must be "
            f"divisible by the cells along them, {grid[0]},{grid[1]}. Received: {size[0]},{size[1]}"
        )


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
        "weights": weights_of(model),
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
    if measurement.placed:
        print(f"localisation on {regions.count} images")
        _add_localisation(result, measurement, attributes)
    for sign, kind in ((1, "present"), (-1, "absent")):
        print(f"faithfulness to {kind} attributes on {result['faithfulness_images']} images")
        _add_faithfulness(result, measurement, attributes, sign)
    if settings.draws:
        print(f"sanity: {settings.draws} draws of weights on {result['sanity_images']} images")
        _add_sanity(result, measurement)
    return result


def _add_localisation(result: dict, measurement: Measurement, attributes: tuple[str, ...]) -> None:
    scored, seed = measurement.regions.groups[0], measurement.settings.seed
    scores, groups = measurement.localisation()
    for name, values in scores.items():
        summaries = {
            group: summarize(within(values, members), attributes, seed)
            for group, members in groups.items()
        }
        merge(result[name], summaries[scored])
        result[name]["groups"] = summaries
    main = {name: within(values, groups[scored]) for name, values in scores.items()}
    _add_differences(result, main, seed)


def _add_faithfulness(
    result: dict, measurement: Measurement, attributes: tuple[str, ...], sign: int
) -> None:
    """Adds the scores of attributes that the model calls present, or absent where `sign` is -1."""
    seed, suffix = measurement.settings.seed, "_absent" if sign < 0 else ""
    faithfulness = measurement.faithfulness(sign)
    for name, scores in faithfulness.items():
        merge(result[name], summarize(scores, attributes, seed, "faithfulness_pairs"), suffix)
    _add_differences(result, faithfulness, seed, suffix)


def _add_differences(result: dict, scores: dict[str, Scores], seed: int, suffix: str = "") -> None:
    """Adds the differences of the default method, the first, from each other."""
    first, *others = scores
    for name in others:
        found = differences(scores[first], scores[name], seed, suffix)
        result[name].setdefault("default_minus_this", {}).update(found)


def _add_sanity(result: dict, measurement: Measurement) -> None:
    stages, similarities = measurement.sanity()
    for name, values in similarities.items():
        result[name] |= {f"sanity_{key}": float(v[-1]) for key, v in values.items()}
        lists = {key: [float(x) for x in v] for key, v in values.items()}
        result[name]["sanity"] = {"stages": stages, **lists}


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
