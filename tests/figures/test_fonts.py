"""Names in any script: fonts that have them, or one line that none has."""

import logging
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mcattn_tf.figures import draw
from mcattn_tf.figures.fonts import complete_fonts
from mcattn_tf.figures.panels import readable

BUNDLED = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """DejaVu Sans beside a damaged file and boxes for everything; figures are in a Latin font."""
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    names = ("DejaVuSans-Oblique.ttf", "DejaVuSans.ttf", "LastResortHE-Regular.ttf")
    paths = [str(tmp_path / "damaged.ttf"), *(str(BUNDLED / name) for name in names)]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    with matplotlib.rc_context({"font.family": ["cmss10"]}):
        yield


def pixels(family: list[str] | None, text: str) -> np.ndarray:
    figure = Figure(figsize=(1, 0.5))
    figure.text(0.1, 0.3, text, fontfamily=family)
    if family is None:
        assert complete_fonts(figure) == set()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_a_script_that_the_font_lacks_is_drawn_in_an_installed_one(installed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = pixels(None, "Жя")
    np.testing.assert_array_equal(drawn, pixels(["DejaVu Sans"], "Жя"))
    np.testing.assert_array_equal(pixels(None, "Wag"), pixels(["cmss10"], "Wag"))


def test_what_no_font_has_is_said_in_one_line(installed, tmp_path, capsys, caplog):
    figure = Figure()
    axis = figure.subplots()
    axis.set_title("犬Ж", fontweight="bold")
    axis.set_xticks([0, 1], ["猫", "犬"])
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        draw.save({"a": figure, "b": figure}, tmp_path / "figures")
    printed, errors = capsys.readouterr()
    assert printed == "" and caplog.messages == []
    assert errors.startswith("warning: no installed font has 犬猫, ") and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Wearing_Necklace", "Wearing Necklace"),
        ("abcdefghijklmnopqrstuvwxyz0", "abcdefghijklmnopqrstuvwxyz0"),
        ("abcdefghijklmnopqrstuvwxyz01", "abcdefghijklm…pqrstuvwxyz01"),
        ("a_word_and_then_one_more_word", "a word and th…one more word"),
        # Thirteen columns on either side have six characters of two.
        ("とても長い名前の猫と犬の写真", "とても長い名…猫と犬の写真"),
        ("", ""),
    ],
)
def test_of_a_long_name_titles_have_both_ends(name, title):
    assert readable(name) == title
