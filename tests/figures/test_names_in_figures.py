"""Names of images, classes and attributes stand in figures as they are written."""

import importlib
import io
import pkgutil
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

import mcattn_tf.figures
from mcattn_tf.explain.feature_space.atlas import Atlas
from mcattn_tf.figures.channels import page_figure, sheet_figure
from mcattn_tf.figures.compare import Maps, comparison_figure
from mcattn_tf.figures.contribution_maps import contribution_maps_figure
from mcattn_tf.figures.contributions import Explanation, contributions_figure
from mcattn_tf.figures.correlation import attribute_correlation_figure, channel_correlation_figure
from mcattn_tf.figures.draw import save
from mcattn_tf.figures.explanations import explanations_figure
from mcattn_tf.figures.feature_space import scatter_figure
from mcattn_tf.figures.fonts import complete_fonts
from mcattn_tf.figures.masks import masks_figure, shared_masks_figure
from mcattn_tf.figures.mean_masks import clustered_mean_masks_figure, mean_masks_figure
from mcattn_tf.figures.panels import Heading, maps_figure, overview_figure, two_rows_figure
from mcattn_tf.figures.reconstruction import reconstruction_figure
from mcattn_tf.figures.reliability import reliability_figure
from mcattn_tf.figures.slices import slices_figure

NAME = "a$5^$b犬"  # no formula that matplotlib could read
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
TASK_MAPS = MAPS.transpose(2, 0, 1)
HEADINGS = [Heading(name) for name in NAMES]
EXPLANATION = Explanation(NAME, IMAGE, MAPS, MASKS, BOXES, HALVES, HEADINGS)
COUNTS = {"images": 2, "faithfulness_images": 2, "sanity_images": 2}
GAP = {"gap": 0.1, "interval": [0.0, 0.2]}
SLICE = {"images": 2, "mean": {"accuracy": GAP}, "per_attribute": {NAME: {"accuracy": GAP}}}
POINTS = {NAME: (RANDOM.random((4, 2)), np.array([0, 0, 1, 1]))}
ATLAS = Atlas(
    attributes=tuple(NAMES),
    parts=(NAME,),
    weights="",
    images=2,
    source="regions",
    importance=np.ones((2, 1)),
    mean_contributions=np.ones((2, 1)),
    mean_maps=np.ones((1, 2, 3)),
    thresholds=np.zeros(1),
    overlaps=np.full((1, 1), 0.5),
    chance=np.full((4, 1, 1), 0.1),
    values=np.zeros((1, 9)),
    patches=np.zeros((1, 9, 4, 4, 3), np.uint8),
)
DRAWN = {
    maps_figure: (IMAGE, TASK_MAPS, HEADINGS, NAME, NAME),
    overview_figure: (IMAGES, np.stack([TASK_MAPS] * 2), [HEADINGS] * 2, NAME, NAME, True),
    two_rows_figure: (IMAGES, IMAGES, NAMES, NAMES, NAME),
    contributions_figure: (EXPLANATION,),
    masks_figure: (EXPLANATION, CHANNELS),
    shared_masks_figure: ([EXPLANATION, EXPLANATION], CHANNELS, NAMES),
    reconstruction_figure: (IMAGES, IMAGES, NAMES, NAME),
    explanations_figure: ({"random": MEASURED, "grad_cam": MEASURED}, "grad_cam", COUNTS, NAME),
    mean_masks_figure: (RANDOM.random((2, 4)), NAMES, NAME),
    clustered_mean_masks_figure: (RANDOM.random((2, 4)), NAMES, NAME),
    channel_correlation_figure: (CORRELATION, NAME),
    attribute_correlation_figure: ({NAME: CORRELATION}, NAME, NAMES, NAME),
    contribution_maps_figure: (IMAGE, MAPS, HEADINGS, NAME),
    comparison_figure: (IMAGES, HEADINGS, {NAME: Maps(TASK_MAPS, True)}, NAME),
    scatter_figure: (POINTS, NAMES, NAME),
    reliability_figure: ({NAME: (np.ones((2, 10)), *[np.full((2, 10), 0.5)] * 2)}, NAMES, 2),
    slices_figure: ({NAME: SLICE}, NAME),
    page_figure: (ATLAS, NAME),
    sheet_figure: (ATLAS, 0, np.array([0])),
}


def test_every_figure_is_drawn_here():
    modules = [
        importlib.import_module(f"mcattn_tf.figures.{module.name}")
        for module in pkgutil.iter_modules(mcattn_tf.figures.__path__)
    ]
    there = {name for module in modules for name in vars(module) if name.endswith("_figure")}
    assert {draw.__name__ for draw in DRAWN} == there


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_a_name_with_two_dollars_is_no_formula_and_its_script_is_seen(draw, monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    figure = draw(*DRAWN[draw])
    assert complete_fonts(figure) == {"犬"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(io.BytesIO(), dpi=20)
    assert any(NAME in text.get_text() for text in figure.findobj(Text))


def test_latex_that_a_file_of_settings_asks_for_is_not_used(tmp_path):
    with matplotlib.rc_context({"text.usetex": True}):
        figure = mean_masks_figure(*DRAWN[mean_masks_figure])
        (path,) = save({"a": figure}, tmp_path)
    assert path.stat().st_size > 1000


def test_figures_of_others_keep_their_formulas():
    reconstruction_figure(*DRAWN[reconstruction_figure])
    assert matplotlib.rcParams["text.parse_math"]
    figure = Figure()
    figure.text(0, 0, NAME)
    with pytest.raises(ValueError, match="Expected"):
        figure.savefig(io.BytesIO())
