"""Names of images, classes and attributes stand in figures as they are written."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from mcattn_tf.figures import correlation as correlation_figures
from mcattn_tf.figures import maps as map_figures
from mcattn_tf.figures import subnetworks as figures

NAME = "a$5^$b"  # no formula that matplotlib could read
NAMES = [NAME, "B"]
RANDOM = np.random.default_rng(0)
IMAGE, IMAGES = RANDOM.random((4, 6, 3)), RANDOM.random((2, 4, 6, 3))
MAPS, HALVES = RANDOM.random((2, 3, 2)), np.array([0.5, 0.5])
MASKS, CHANNELS = RANDOM.random((2, 3, 2, 1)), [[0], [1]]
BOXES = [(0, 0, 2, 3)] * 2
CORRELATION = np.array([[1, 0.5], [0.5, 1]])
MEASURED = {
    "pointing_game": 0.5,
    "intervals": {},
    "per_attribute": {name: {"pointing_game": 0.5} for name in NAMES},
}
MAP = map_figures.Map(MAPS[..., 0], True)
DRAWN = {
    figures.contributions_figure: (IMAGE, MAPS, BOXES, HALVES, NAMES, NAME),
    figures.masks_figure: (IMAGE, MAPS, BOXES, MASKS, CHANNELS, HALVES, NAMES, NAME),
    figures.shared_masks_figure: (IMAGES, MASKS[None].repeat(2, 0), CHANNELS, NAMES, NAMES, NAME),
    figures.reconstruction_figure: (IMAGES, IMAGES, NAMES, NAME),
    figures.explanations_figure: ({"random": MEASURED, "grad_cam": MEASURED}, "grad_cam", NAME),
    correlation_figures.mean_masks_figure: (RANDOM.random((2, 4)), NAMES, NAME),
    correlation_figures.channel_correlation_figure: (CORRELATION, NAME),
    correlation_figures.attribute_correlation_figure: ({NAME: CORRELATION}, NAME, NAMES, NAME),
    map_figures.contribution_maps_figure: (IMAGE, MAPS, HALVES, HALVES, NAMES, NAME),
    map_figures.task_attention_figure: (IMAGE, MAPS.transpose(2, 0, 1), True, HALVES, NAMES, NAME),
    map_figures.comparison_figure: (IMAGES, NAMES, {NAME: [MAP, MAP]}, NAME),
    map_figures.nonnegative_figure: (IMAGES, IMAGES, NAMES, NAME),
    map_figures.answer_figure: (IMAGE, MAPS, True, HALVES, NAMES, NAME, NAME),
    map_figures.scatter_figure: (
        {NAME: (RANDOM.random((4, 2)), np.array([0, 0, 1, 1]))},
        NAMES,
        NAME,
    ),
}


def test_every_figure_is_drawn_here():
    modules = (figures, correlation_figures, map_figures)
    there = {name for module in modules for name in vars(module) if name.endswith("_figure")}
    assert {draw.__name__ for draw in DRAWN} == there


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_a_name_with_two_dollars_is_no_formula(draw):
    figure = draw(*DRAWN[draw])
    figure.savefig(io.BytesIO(), dpi=20)
    assert any(NAME in text.get_text() for text in figure.findobj(Text))


def test_figures_of_others_keep_their_formulas():
    figures.reconstruction_figure(*DRAWN[figures.reconstruction_figure])
    assert matplotlib.rcParams["text.parse_math"]
    figure = Figure()
    figure.text(0, 0, NAME)
    with pytest.raises(ValueError, match="Expected"):
        figure.savefig(io.BytesIO())
