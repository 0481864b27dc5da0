"""Every kind of figure in one dict, and the drawing of the figures that are asked for."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
from matplotlib import rc_context
from matplotlib.figure import Figure

from mcattn_tf.errors import UserError, choose
from mcattn_tf.figures import (
    attention,
    channels,
    compare,
    contribution_maps,
    contributions,
    correlation,
    feature_space,
    local_probabilities,
    masks,
    mean_masks,
    reconstruction,
    reliability,
)
from mcattn_tf.figures.fonts import complete_fonts
from mcattn_tf.figures.panels import PLAIN_TEXT
from mcattn_tf.figures.scene import Pictures, Scene, Undrawable
from mcattn_tf.progress import tracked
from mcattn_tf.runs import file_name
from mcattn_tf.settings.systems import SYSTEMS, system_of


class Kind(NamedTuple):
    """A kind of figure."""

    draw: Callable[[Scene], dict[str, Figure]]  # {file name without its ending: figure}
    parts: tuple[str, ...] = ()  # one of them a network must have (`systems.System.parts`)
    several: bool = False  # shows several networks
    analysis: bool = False  # needs nothing but the analysis of the feature space
    in_all: bool = True  # is among `all`


FIGURES: dict[str, Kind] = {
    "masks": Kind(masks.draw, ("subnetworks",)),
    "mean_masks": Kind(mean_masks.draw, ("subnetworks",), analysis=True),
    "channel_correlation": Kind(correlation.draw_channels, ("subnetworks",), analysis=True),
    "attribute_correlation": Kind(correlation.draw_attributes, ("subnetworks",), analysis=True),
    "contributions": Kind(contributions.draw, ("subnetworks",)),
    "local_probabilities": Kind(local_probabilities.draw, ("subnetworks",)),
    "reconstruction": Kind(reconstruction.draw, ("reconstruction",)),
    "contribution_maps": Kind(contribution_maps.draw, ("weight_maps",)),
    "nonnegative": Kind(contribution_maps.draw_nonnegative, ("nonnegative_maps",)),
    "attention": Kind(attention.draw, ("attention_map", "task_maps")),
    # It needs an optional package and many images.
    "feature_space": Kind(feature_space.draw, ("pooled_perception",), several=True, in_all=False),
    "compare": Kind(compare.draw, several=True),
    "reliability": Kind(reliability.draw, in_all=False),  # it needs all test images
    "channels": Kind(channels.draw, ("extractor",), in_all=False),  # it needs many of them
}
OF_SEVERAL_RUNS = tuple(name for name, kind in FIGURES.items() if kind.several)
OF_ANALYSIS = tuple(name for name, kind in FIGURES.items() if kind.analysis)
# Systems that a flag makes out of another.
FLAGS = {"nonnegative_gcm": "gcm --nonnegative"}
FORMATS = ("png", "pdf", "svg")
NOTHING_NAMED = "`what` and `attributes` must each name something or be left out"
DPI = 130
SHOWN = 20  # characters of a warning


def figures_of(model: keras.Model) -> tuple[str, ...]:
    """Returns the names of the figures that can be drawn of a model."""
    parts = set(system_of(model).parts)
    return tuple(n for n, kind in FIGURES.items() if not kind.parts or parts & set(kind.parts))


def indices_of(attributes: Sequence[str], wanted: Sequence[str] | None) -> list[int]:
    """Returns the indices of wanted attributes, or of all for None.

    Raises:
        UserError: for an unknown name, or none at all.
    """
    if wanted is not None and not wanted:
        raise UserError(NOTHING_NAMED)
    names = attributes if wanted is None else list(dict.fromkeys(wanted))
    return [attributes.index(choose("attributes", name, tuple(attributes))) for name in names]


def drawable(
    models: Mapping[str, keras.Model], what: Sequence[str], top: int = 3, order: str = "channel"
) -> list[str]:
    """Returns the names of the figures that are asked for.

    Args:
        models: {name: network}; networks after the first are drawn in `OF_SEVERAL_RUNS` only.
        what: names out of `FIGURES`; `all` for those of `figures_of` that have `in_all`.
        top: number of channels of each attribute in `masks`.
        order: order of the channels in `mean_masks`, a key of `mean_masks.ORDERS`.

    Raises:
        UserError: for a figure or number of channels that a network does not have, an unknown
            order, or no figure at all.
    """
    model = next(iter(models.values()))
    if "all" in what:
        what = [name for name in figures_of(model) if FIGURES[name].in_all]
    for name in what:
        choose("what", name, FIGURES)
        for network in models.values() if FIGURES[name].several else [model]:
            if name not in figures_of(network):
                parts = set(FIGURES[name].parts)
                system = next(key for key, row in SYSTEMS.items() if parts & set(row.parts))
                raise UserError(
                    f"model {network.name!r} has no {name} to draw, but "
                    f"{', '.join(figures_of(network))} and report; train.py --model "
                    f"{FLAGS.get(system, system)} makes one that has"
                )
    if not what:
        raise UserError(NOTHING_NAMED)
    choose("order", order, mean_masks.ORDERS)
    if "masks" in what:
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
        pictures: images to draw.
        what: names of figures, as `drawable` takes them; `all` leaves out correlations of fewer
            than two images, attributes or channels.
        wanted: names of the attributes to draw; None for all.
        top: number of channels, as `drawable` takes it.
        order: order of channels, as `drawable` takes it.

    Returns:
        {file name without its ending: figure}; wanted attributes are in the name.

    Raises:
        UserError: as `drawable`, or for an unknown attribute or too few things to correlate.
    """
    names = drawable(models, what, top, order)
    indices = indices_of(attributes, wanted)
    scene = Scene(models, attributes, pictures, indices, wanted is not None, top, order)
    figures: dict[str, Figure] = {}
    for name in tracked(names, len(names), "drawing", "figure"):
        try:
            figures |= FIGURES[name].draw(scene)
        except Undrawable:
            if "all" not in what:
                raise
    if wanted is None:
        return figures
    return {file_name([name, *wanted]): figure for name, figure in figures.items()}


def unique_stems(paths: Sequence[str]) -> list[str]:
    """Returns the names of files without folder and ending, numbered where they repeat."""
    stems = [path.name if path.is_dir() else path.stem for path in map(Path, paths)]
    numbered = [f"{stem}_{index}" for index, stem in enumerate(stems)]
    names = [n if stems.count(s) > 1 else s for s, n in zip(stems, numbered, strict=True)]
    return names if len(set(names)) == len(names) else numbered


def save(figures: Mapping[str, Figure], directory: Path, file_format: str = "png") -> list[Path]:
    """Writes figures into a folder as files of a format out of `FORMATS`; returns their paths.

    Names are drawn in installed fonts that have their script; a line says what no font has.

    Raises:
        UserError: if the directory cannot be written.
    """
    path_of = {name: directory / f"{name}.{file_format}" for name in figures}
    lacking = set().union(*map(complete_fonts, figures.values()))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with rc_context(PLAIN_TEXT), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # one for each place
            for name in tracked(figures, len(figures), "writing", "figure"):
                figures[name].savefig(path_of[name], dpi=DPI)
    except OSError as error:
        raise UserError(f"cannot write figures to {directory}: {error.strerror}") from None
    if lacking:
        print(
            f"warning: no installed font has {''.join(sorted(lacking))[:SHOWN]}, drawn as boxes in "
            f"{directory}; install one for this script, such as Noto Sans CJK, and draw again",
            file=sys.stderr,
        )
    return list(path_of.values())
