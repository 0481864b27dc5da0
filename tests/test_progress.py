"""Bars on terminals of several widths."""

import contextlib
import io
import sys

import pytest
from terminals import terminal

from mcattn_tf import tables
from mcattn_tf.progress import progress, tracked


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_a_bar_is_one_line_of_any_terminal(columns):
    with terminal(columns) as screen, contextlib.redirect_stderr(screen.stream):
        with progress(343, "epoch 12/20", "step", done=3) as bar:
            bar.set_postfix_str("loss 3.18, 96.5%, 611/s", refresh=False)
            bar.update(97)
            bar.refresh()
        assert "\n" not in screen.text
        lines = screen.lines()
    assert max(map(len, lines)) <= columns
    assert "epoch 12/20" in lines[-1] and "100/343" in lines[-1] and "loss 3.18" in lines[-1]
    assert ("left" in lines[-1]) == ("steps" in lines[-1]) == (columns >= 90)
    assert "00:0" in lines[-1]  # the time left


def test_the_bar_of_a_notebook_is_wide():
    with (
        terminal(60) as screen,
        contextlib.redirect_stderr(screen.stream),
        progress(3, "letters") as bar,
    ):
        assert bar.is_narrow
        bar.ncols = "100%"  # as tqdm has it there
        assert not bar.is_narrow


def test_a_bar_leaves_nothing_behind():
    with terminal(60) as screen, contextlib.redirect_stderr(screen.stream):
        assert list(tracked("abc", 3, "letters", "letter")) == ["a", "b", "c"]
        last = screen.text.split("\r")[-2]
        assert "0/3" in screen.text
    assert last.strip() == ""


def test_a_bar_names_what_is_worked_on():
    with terminal(100) as screen, contextlib.redirect_stderr(screen.stream):
        for name in tracked(["masks", "compare"], 2, "drawing", "figure"):
            assert name in screen.lines()[-1]
        assert "1/2 figures" in screen.text


def test_what_is_printed_after_a_bar_begins_a_line():
    """Also where stderr keeps what is written until it is flushed, as in the commands."""
    with terminal(60) as screen, contextlib.redirect_stderr(screen.stream):
        with progress(3, "letters"):
            pass
        raw = screen.printed()
    assert raw.endswith("\r")


def test_an_unknown_total_has_no_time_left():
    with terminal(60) as screen, contextlib.redirect_stderr(screen.stream):
        with progress(None, "analysis") as bar:
            bar.update(7)
            bar.refresh()
        assert "analysis 7 images" in screen.text and "left" not in screen.text


def test_nothing_is_shown_where_there_is_no_terminal():
    with contextlib.redirect_stderr(io.StringIO()), progress(3, "letters") as bar:
        bar.update(3)
        assert sys.stderr.getvalue() == ""


def test_paragraphs_fit_the_terminal_and_a_hundred_columns_elsewhere():
    text = "word " * 60 + "/a/path/" + "long" * 30
    for columns, widest in ((60, 60), (140, 100)):
        with terminal(columns) as screen, contextlib.redirect_stdout(screen.stream):
            assert tables.width() == widest
            *lines, path = tables.paragraph(text).splitlines()
        assert max(map(len, lines)) <= widest and len(lines[0]) > widest - 6
        assert path == "  /a/path/" + "long" * 30
    with contextlib.redirect_stdout(io.StringIO()):
        assert tables.width() == 100
