"""The dict of figures agrees with the systems."""

import types

import pytest

from mcattn_tf.figures.draw import FIGURES, FLAGS, figures_of
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
