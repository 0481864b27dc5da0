"""Tables that fit the width of the output."""

import contextlib

from terminals import terminal

from mcattn_tf.tables import Column, extremes, lay_out, legend, percent

NAMES = ["Bald", "Wearing_Hat"]


def column(group, heading):
    return Column(group, heading, ["1.25", "-"])


def test_columns_that_do_not_fit_stand_below_with_their_group():
    columns = [column("first", "acc."), column("first", "bal."), column("second", "precision")]
    assert lay_out(NAMES, columns) == [
        "              first        second",
        "              acc.  bal.   precision",
        "Bald          1.25  1.25        1.25",
        "Wearing_Hat      -     -           -",
    ]
    wide = [column("first", "a" * 12), column("second", "b" * 12), column("second", "c" * 12)]
    with terminal(50) as screen, contextlib.redirect_stdout(screen.stream):
        below = lay_out(NAMES, wide)
    assert [line.split() for line in below[:2]] == [["first"], ["a" * 12]]
    assert below[4] == "" and [line.split() for line in below[5:7]] == [
        ["second"],
        ["b" * 12, "c" * 12],
    ]
    assert [line.split()[0] for line in below[7:]] == NAMES
    with terminal(40) as screen, contextlib.redirect_stdout(screen.stream):
        below = lay_out(NAMES, [column("all", "d" * 12)] * 4)
    assert max(map(len, below)) <= 40 and sum(line.split() == ["all"] for line in below) == 2


def test_long_names_are_cut_in_the_middle_and_no_group_has_no_line():
    name = "runs/" + "very" * 20 + "/celeba: attributes"
    with terminal(60) as screen, contextlib.redirect_stdout(screen.stream):
        heads, row = lay_out([name], [Column("", "acc.", ["91.00"])])
    assert heads.split() == ["acc."] and len(row) <= 60
    assert row.startswith("runs/very") and "..." in row and row.split()[-1] == "91.00"
    assert row.split()[1] == "attributes"


def test_extremes_are_the_highest_and_lowest_five_below_the_means():
    names = [str(value) for value in range(12)]
    values = [float(value) if value != 6 else None for value in range(12)]
    rows, (cells,) = extremes(
        [*names, "mean"], [Column("", "x", [*names, "m"])], [*values, None], 1
    )
    assert rows == ["mean", *["11", "10", "9", "8", "7"], "... 2 more", *["4", "3", "2", "1", "0"]]
    assert cells.cells == ["m", *["11", "10", "9", "8", "7"], "", *["4", "3", "2", "1", "0"]]
    rows, _ = extremes([*names[:11], "mean"], [], [*values[:11], None], 1)
    assert rows == ["mean", *names[:11]]


def test_a_legend_explains_what_stands_there():
    columns = [column("a", "acc."), column("b", "acc."), Column("", "new", ["1"])]
    assert legend(columns, {"acc.": "accuracy", "bal.": "balanced"}).startswith(
        "acc.: accuracy; -: not defined"
    )
    assert legend(columns[2:], {}) == ""


def test_what_is_undefined_is_a_dash():
    assert [percent(share) for share in (None, float("nan"), 0.125)] == ["-", "-", "12.50"]
