"""The dict of figures agrees with the systems, and a figure has room for what it holds."""

import io
import types
import warnings

import pytest

from mcattn_tf.figures.draw import FIGURES, FLAGS, figures_of
from mcattn_tf.figures.explanations import MEASURES, explanations_figure
from mcattn_tf.settings.systems import FOREIGN, MODELS, SYSTEMS

SUBNETWORKS = ("masks", "mean_masks", "channel_correlation", "attribute_correlation")
FIGURES_OF = {
    "mcattn": (
        *(*SUBNETWORKS, "contributions", "local_probabilities"),
        *("reconstruction", "compare"),
    ),
    "baseline": ("compare",),
    "gcm": ("contribution_maps", "compare"),
    "nonnegative_gcm": ("contribution_maps", "nonnegative", "compare"),
    "cnn": ("compare",),
    "abn": ("attention", "feature_space", "compare"),
    "backbone": ("feature_space", "compare"),
    "multitask_abn": ("attention", "compare"),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_figures_of_each_system(name):
    outputs = dict.fromkeys((*SYSTEMS[name].labels, *SYSTEMS[name].others))
    of_channels = ("channels",) if name in ("mcattn", "baseline") else ()
    assert figures_of(types.SimpleNamespace(name=name, output=outputs)) == (
        *FIGURES_OF[name],
        *("reliability", *of_channels),
    )


def test_other_networks_are_compared_and_their_answers_looked_at():
    assert figures_of(types.SimpleNamespace(name="theirs", output={})) == ("compare", "reliability")
    assert not FOREIGN.parts


def test_each_part_that_a_figure_needs_can_be_trained():
    needed = {part for kind in FIGURES.values() for part in kind.parts}
    for part in needed:
        first = next(name for name, row in SYSTEMS.items() if part in row.parts)
        assert first in {*MODELS, *FLAGS}, part


def test_the_figure_of_a_single_method_has_room_for_its_titles():
    scores = dict.fromkeys(MEASURES, 0.5)
    row = {**scores, "intervals": {}, "per_attribute": {"Bald": {"pointing_game": 0.5}}}
    counts = {"images": 2, "faithfulness_images": 2, "sanity_images": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where axes collapse
        figure = explanations_figure({"cam": row}, "cam", counts, "title")
        figure.savefig(io.BytesIO(), dpi=20)
    panels = figure.axes[: len(MEASURES)]
    assert min(axis.bbox.height for axis in panels) > 0.2 * 20  # inches at 20 dots
    assert max(axis.title.get_window_extent().y1 for axis in panels) < figure.bbox.height - 4
