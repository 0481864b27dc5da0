"""How far a network's explanations can be trusted: every method by every metric."""

from collections.abc import Sequence

import keras
import numpy as np

from mcattn_tf.data.regions.region_set import RegionSet
from mcattn_tf.errors import UserError, choose
from mcattn_tf.explain.methods import applicable
from mcattn_tf.explain.truth.faithfulness import STEPS
from mcattn_tf.explain.truth.intervals import Scores, differences, merge, summarize, within
from mcattn_tf.explain.truth.measures import KINDS, SANITY_IMAGES, SEED, Measurement, Settings
from mcattn_tf.runs.checkpoints import weights_of

GLANCE_IMAGES = 256  # images on which every evaluation measures localisation


def _indices(
    wanted: Sequence[str] | None, attributes: tuple[str, ...], regions: RegionSet
) -> list[int]:
    """Returns the indices of the attributes to measure."""
    placed = sorted({*regions.attributes} & {*attributes})
    if regions.attributes and not placed:
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
                f"those that have one: {', '.join(placed)}"
            )
    return [index for index, name in enumerate(attributes) if wanted is None or name in wanted]


def measure(
    model: keras.Model,
    attributes: tuple[str, ...],
    regions: RegionSet,
    settings: Settings,
    wanted: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    asked: np.ndarray | None = None,
) -> dict:
    """Measures how far the explanations of a model can be trusted.

    Localisation is measured on all images of `regions`, for the present attributes. Faithfulness
    is measured for one attribute of each image that the model's first output calls present and,
    separately, one that it calls absent. Both are means over attributes of means over images, so
    that rare attributes count like common ones. Sanity is a mean over a few images and the draws.
    Interventions are measured on the pairs of present attributes where images can be drawn anew.

    Args:
        model: network with a layer `features`, in float32.
        attributes: names of the K attributes.
        regions: images and regions; localisation needs regions.
        settings: size and choices.
        wanted: names of the attributes to measure; None for all.
        methods: names from `applicable(model)`; None for all.
        asked: pairs, bool (N, K), to measure in place of the network's answers; None for these.

    Returns:
        `explanations.json`: {"default_method": name, method: {metric: value, "intervals":
        {metric: [low, high]}, "per_attribute": {name: {metric: value}}, "groups": {group: the
        same for each group of labels}, "default_minus_this": {metric: {"mean": of the differences
        of pairs, "interval": [low, high]}} of all but the default method, "sanity": {"stages":
        [...], "rank_correlation": [...], "ssim": [...]}}}, and the settings under keys whose value
        is not a dict. Metrics are the fields of `Localisation`, `Interventions` and `Faithfulness`
        (for absent attributes with the suffix `_absent`), `sanity_rank_correlation` and
        `sanity_ssim` with all weights randomised. Values are None where nothing was scored.

    Raises:
        UserError: for an attribute that does not exist or has no region, or an unknown method or
            baseline.
    """
    indices = _indices(wanted, attributes, regions)
    measurement = Measurement(model, attributes, regions, indices, methods, settings, asked)
    print(f"means over {regions.count} images")
    measurement.adapt()
    parts = [measurement.placed, regions.redrawing, settings.draws]
    measurement.stages.count = 2 + sum(map(bool, parts))  # faithfulness is two
    result = _about(measurement, regions, settings, weights_of(model))
    if measurement.placed:
        print(f"localisation on {regions.count} images")
        _add_localisation(result, measurement, attributes)
    signs = {1: "", -1: "_absent"} if asked is None else {1: ""}
    for sign, suffix in signs.items():
        print(f"faithfulness to {KINDS[sign]} attributes on {result['faithfulness_images']} images")
        scores = {
            name: {f"{metric}{suffix}": x for metric, x in values.items()}
            for name, values in measurement.faithfulness(sign).items()
        }
        _add(result, scores, attributes, f"faithfulness_pairs{suffix}")
    if regions.redrawing:
        print(f"interventions on {result['faithfulness_images']} images")
        _add(result, measurement.interventions(), attributes, "intervention_pairs")
    if settings.draws:
        print(f"sanity: {settings.draws} draws of weights on {result['sanity_images']} images")
        _add_sanity(result, measurement)
    return result


def _about(measurement: Measurement, regions: RegionSet, settings: Settings, weights: str) -> dict:
    """Returns the settings of a measurement, and a row for each method."""
    attributor, attributes = measurement.attributor, measurement.attributes
    result: dict = {
        "default_method": attributor.methods[0],
        "weights": weights,
        "regions": regions.source,
        "images": regions.count,
        "faithfulness_images": min(settings.faithfulness_images, regions.count),
        "scored": regions.groups[0] if regions.groups else None,
        "attributes": [attributes[index] for index in measurement.indices],
        "baseline": settings.baseline,
        "steps": STEPS,
        "sanity_images": min(SANITY_IMAGES, regions.count),
        "draws": settings.draws,
        "seed": SEED,
    }
    return result | {name: {"output": attributor.output_of(name)} for name in attributor.methods}


def _add_localisation(result: dict, measurement: Measurement, attributes: tuple[str, ...]) -> None:
    """Adds where the maps lie, on each group of labels."""
    scores, groups = measurement.localisation()
    for group, members in groups.items():
        own = {name: within(values, members) for name, values in scores.items()}
        if group == result["scored"]:
            _add(result, own, attributes)
        for name, values in own.items():
            merge(result[name], {"groups": {group: summarize(values, attributes)}})


def _add_sanity(result: dict, measurement: Measurement) -> None:
    """Adds how alike the maps are to those of randomised weights."""
    stages, similarities = measurement.sanity()
    for name, values in similarities.items():
        result[name] |= {f"sanity_{key}": float(v[-1]) for key, v in values.items()}
        lists = {key: [float(x) for x in v] for key, v in values.items()}
        result[name]["sanity"] = {"stages": stages, **lists}


def _add(
    result: dict, scores: dict[str, Scores], attributes: tuple[str, ...], pairs: str = "pairs"
) -> None:
    """Adds the averages of each method, and differences of the default method, the first, to it."""
    default = next(iter(scores.values()))
    for name, values in scores.items():
        merge(result[name], summarize(values, attributes, pairs))
        if values is not default:
            merge(result[name], {"default_minus_this": differences(default, values)})


def where_it_looks(
    model: keras.Model, attributes: tuple[str, ...], regions: RegionSet
) -> dict[str, dict]:
    """Measures whether maps of the default method lie on the regions of their attributes.

    Args:
        model: network with a layer `features`, in float32.
        attributes: names of the K attributes.
        regions: images with regions; the first 256 are used.

    Returns:
        {"explanations": {"method": name, "regions": their source, "images": their number,
        "intervals": {metric: [low, high]}, "mean": {metric: value}, "per_attribute": {name:
        {metric: value}}}} with the metrics of `Localisation`; empty without regions.
    """
    if not regions.attributes:
        return {}
    regions, indices = regions.take(GLANCE_IMAGES), list(range(len(attributes)))
    method = applicable(model)[0]
    measurement = Measurement(model, attributes, regions, indices, [method], Settings())
    scores, groups = measurement.localisation()
    summary = summarize(within(scores[method], groups[regions.groups[0]]), attributes)
    result = {"method": method, "regions": regions.source, "images": regions.count}
    result |= {"intervals": summary.pop("intervals"), "mean": summary}
    return {"explanations": result | {"per_attribute": summary.pop("per_attribute")}}
