"""Draws the figures of a run: images through the model, arrays into Figures, Figures into files."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.errors import UserError, choose
from mcattn_tf.explain.feature_space.correlation import Analysis, analyze
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.figures import drawn_maps as map_visualization
from mcattn_tf.figures import subnetworks as figures
from mcattn_tf.figures.analysis import OF_ANALYSIS, ORDERS, draw_analysis, too_few_for
from mcattn_tf.models.receptive_field import ReceptiveField, receptive_field

OF_SUBNETWORKS = ("masks", *OF_ANALYSIS, "contributions", "reconstruction")
OF_ATTENTION = ("attention", "feature_space")
FIGURES = (*OF_SUBNETWORKS, "contribution_maps", "nonnegative", *OF_ATTENTION, "compare")
OF_SEVERAL_RUNS = ("feature_space", "compare")
# What must be trained for a figure that a network does not have.
TRAINED_BY = {
    **dict.fromkeys(OF_SUBNETWORKS, "--model mcattn"),
    "contribution_maps": "--model gcm",
    "nonnegative": "--model gcm --nonnegative",
    **dict.fromkeys(OF_ATTENTION, "--model abn"),
}
FORMATS = ("png", "pdf", "svg")
NOTHING_NAMED = "`what` and `attributes` must each name something or be left out"
DPI = 130


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What is drawn.

    Attributes:
        images: (B, H, W, 3), in [0, 1], each with figures of its own.
        names: of the B images.
        batches: of images and labels, as `analyze` takes them, that what is drawn of all masks, and
            of feature spaces, is over.
        analysis: where it has been made before; `batches` are not looked at then.
    """

    images: np.ndarray
    names: Sequence[str]
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]]
    analysis: Analysis | None = None


def figures_of(model: keras.Model) -> tuple[str, ...]:
    """Returns the names of the figures that can be drawn of a model."""
    layers = {layer.name: layer for layer in model.layers}
    names = OF_SUBNETWORKS if "attributes" in model.output else ()
    if "weight_maps" in layers:
        clipped = layers["weight_maps"].activation is keras.activations.relu
        names = ("contribution_maps", "nonnegative") if clipped else ("contribution_maps",)
    if "perception" in model.output:
        names = OF_ATTENTION if "attention_map" in layers else OF_ATTENTION[1:]
    if "folded_tasks" in layers:
        names = OF_ATTENTION[:1]
    return (*names, "compare")


def indices_of(attributes: Sequence[str], wanted: Sequence[str] | None) -> list[int]:
    """Returns the indices of attributes.

    Args:
        attributes: names of the K attributes or classes.
        wanted: names of some of them; None for all.

    Raises:
        UserError: for an unknown name, or none at all.
    """
    if wanted is not None and not wanted:
        raise UserError(NOTHING_NAMED)
    names = attributes if wanted is None else wanted
    return [attributes.index(choose("attributes", name, tuple(attributes))) for name in names]


def drawable(
    models: Mapping[str, keras.Model],
    what: Sequence[str],
    top: int = 3,
    order: str = "channel",
) -> list[str]:
    """Returns the names of figures that are asked for.

    Args:
        models: {name: network}; others than the first are drawn in `OF_SEVERAL_RUNS` alone.
        what: names out of `FIGURES`; `all` for those of `figures_of` but `feature_space`, which
            needs an optional package and many images.
        top: how many channels an attribute has in `masks`.
        order: of the channels in `mean_masks`, a key of `ORDERS`.

    Raises:
        UserError: for a figure or number of channels that a network does not have, an unknown
            order, or no figure at all.
    """
    model = next(iter(models.values()))
    if "all" in what:
        what = [name for name in figures_of(model) if name != "feature_space"]
    for name in what:
        choose("what", name, FIGURES)
        for drawn_of in models.values() if name in OF_SEVERAL_RUNS else [model]:
            if name not in figures_of(drawn_of):
                raise UserError(
                    f"model {drawn_of.name!r} has no {name} to draw, but "
                    f"{', '.join(figures_of(drawn_of))} and report; train.py {TRAINED_BY[name]} "
                    "makes one that has"
                )
    if not what:
        raise UserError(NOTHING_NAMED)
    choose("order", order, ORDERS)
    if set(OF_SUBNETWORKS) & set(what):
        channels = model.get_layer("features").output.shape[-1]
        if not 1 <= top <= channels:
            raise UserError(f"`top` must be from 1 to {channels}. Received: {top}")
    return list(what)


def draw(
    models: Mapping[str, keras.Model],
    attributes: Sequence[str],
    pictures: Pictures,
    what: Sequence[str],
    wanted: Sequence[str] | None = None,
    top: int = 3,
    order: str = "channel",
) -> dict[str, Figure]:
    """Draws figures of a model.

    Args:
        models: {name: network}, as `drawable` takes them.
        attributes: names of the K attributes or classes.
        pictures: what is drawn.
        what: names of figures, as `drawable` takes them.
        wanted: names of the attributes that are drawn; None for all.
        top: as `drawable` takes it.
        order: as `drawable` takes it.

    Returns:
        {file name without its ending: figure}.

    Raises:
        UserError: for a figure, attribute or number of channels that the model does not have, or an
            unknown order.
    """
    every, what = "all" in what, drawable(models, what, top, order)
    model = next(iter(models.values()))
    chosen = indices_of(attributes, wanted)
    drawn: dict[str, Figure] = {}
    if set(OF_SUBNETWORKS) & set(what):
        analysis = pictures.analysis
        if analysis is None and {"masks", *OF_ANALYSIS} & set(what):
            analysis = analyze(model, attributes, pictures.batches)
        if every:
            what = [name for name in what if name not in too_few_for(analysis, chosen)]
        drawn |= _draw_subnetworks(model, attributes, pictures, analysis, what, chosen, top)
        if set(OF_ANALYSIS) & set(what):
            drawn |= draw_analysis(analysis, what, chosen, order)
    images = pictures.images
    if "contribution_maps" in what:
        maps = map_visualization.contribution_maps
        drawn |= maps(model, attributes, images, pictures.names, chosen)
    if "nonnegative" in what:
        drawn["nonnegative"] = map_visualization.nonnegative(model, attributes, images, chosen)
    if "attention" in what:
        if "folded_tasks" in {layer.name for layer in model.layers}:
            maps = map_visualization.task_attention
            drawn |= maps(model, attributes, images, pictures.names, chosen)
        else:
            drawn["attention"] = map_visualization.attention(model, attributes, images, chosen)
    if "feature_space" in what:
        batches = (images for images, _ in pictures.batches)
        drawn["feature_space"] = map_visualization.feature_space(models, attributes, batches)
    if "compare" in what:
        drawn["compare"] = map_visualization.compare(models, attributes, images, chosen)
    return drawn


def _draw_subnetworks(
    model: keras.Model,
    attributes: Sequence[str],
    pictures: Pictures,
    analysis: Analysis | None,
    what: Sequence[str],
    chosen: Sequence[int],
    top: int,
) -> dict[str, Figure]:
    drawn: dict[str, Figure] = {}
    if "reconstruction" in what:
        outputs = model.predict_on_batch(pictures.images)
        drawn["reconstruction"] = figures.reconstruction_figure(
            pictures.images,
            outputs["reconstruction"],
            pictures.names,
            "Images and their reconstructions",
        )
    if {"masks", "contributions"} & set(what):
        explainer = build_explainer(model, range(len(attributes)))
        field = receptive_field(model)
        channels = [analysis.top_channels(k, top) for k in chosen] if "masks" in what else []
        top_masks = []
        for name, image in zip(pictures.names, pictures.images, strict=True):
            outputs = explainer.predict_on_batch(image[None])
            explanation = {key: values[0] for key, values in outputs.items()}
            boxes = _seen_by_the_strongest(explanation["contributions"][..., chosen], field)
            if "contributions" in what:
                drawn[f"contributions_{name}"] = _draw_contributions(
                    name, image, explanation, boxes, chosen, attributes
                )
            if "masks" in what:
                chosen_masks = zip(chosen, channels, strict=True)
                masks = [explanation["masks"][:, :, k, own] for k, own in chosen_masks]
                top_masks.append(np.stack(masks, axis=2))
                drawn[f"masks_{name}"] = _draw_masks(
                    name, image, explanation, boxes, chosen, attributes, top_masks[-1], channels
                )
        if len(top_masks) > 1:
            drawn["masks"] = figures.shared_masks_figure(
                pictures.images,
                np.stack(top_masks),
                channels,
                pictures.names,
                [attributes[index] for index in chosen],
                f"Masks of each attribute's {top} most important channels",
            )
    return drawn


def _seen_by_the_strongest(
    contributions: np.ndarray, field: ReceptiveField
) -> list[tuple[int, int, int, int]]:
    """Returns what the cell that weighs most for or against each attribute sees."""
    _, width, attribute_count = contributions.shape
    strongest = np.abs(contributions).reshape(-1, attribute_count).argmax(axis=0)
    return [field.box(*divmod(int(cell), width)) for cell in strongest]


def _draw_contributions(
    name: str,
    image: np.ndarray,
    explanation: dict[str, np.ndarray],
    boxes: Sequence[tuple[int, int, int, int]],
    chosen: Sequence[int],
    attributes: Sequence[str],
) -> Figure:
    return figures.contributions_figure(
        image,
        explanation["contributions"][..., chosen],
        boxes,
        explanation["attributes"][chosen],
        [attributes[index] for index in chosen],
        f"Contributions to each attribute: {name}",
    )


def _draw_masks(
    name: str,
    image: np.ndarray,
    explanation: dict[str, np.ndarray],
    boxes: Sequence[tuple[int, int, int, int]],
    chosen: Sequence[int],
    attributes: Sequence[str],
    masks: np.ndarray,
    channels: Sequence[Sequence[int]],
) -> Figure:
    return figures.masks_figure(
        image,
        explanation["contributions"][..., chosen],
        boxes,
        masks,
        channels,
        explanation["attributes"][chosen],
        [attributes[index] for index in chosen],
        f"Masks of each attribute's most important channels: {name}",
    )


def unique_stems(paths: Sequence[str]) -> list[str]:
    """Returns the names of files without folder and ending, numbered where they repeat."""
    stems = [path.name if path.is_dir() else path.stem for path in map(Path, paths)]
    numbered = [f"{stem}_{index}" for index, stem in enumerate(stems)]
    named = [
        number if stems.count(stem) > 1 else stem
        for stem, number in zip(stems, numbered, strict=True)
    ]
    return named if len(set(named)) == len(named) else numbered


def save(drawn: dict[str, Figure], directory: Path, file_format: str = "png") -> list[Path]:
    """Writes figures as files.

    Args:
        drawn: {file name without its ending: figure}.
        directory: made if it is not there.
        file_format: out of `FORMATS`.

    Returns:
        The paths written.

    Raises:
        UserError: if the directory cannot be written.
    """
    paths = [directory / f"{name}.{file_format}" for name in drawn]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, figure in zip(paths, drawn.values(), strict=True):
            figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise UserError(f"cannot write figures to {directory}: {error.strerror}") from None
    return paths
