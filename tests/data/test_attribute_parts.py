"""Where parts of hand-drawn masks show attributes."""

import numpy as np
import pytest

from mcattn_tf.data.regions.attribute_parts import (
    ATTRIBUTE_PARTS,
    IGNORED,
    PART_LABELS,
    PARTS,
    attribute_regions,
    skin_pieces,
)
from mcattn_tf.data.regions.landmarks import ATTRIBUTE_BOXES, BOXES
from mcattn_tf.evaluation import published

# A face of 20x16 pixels; l_ and r_ are the person's, so r_ is drawn on the left.
LETTERS = {
    ".": "background",
    "s": "skin",
    "n": "nose",
    "g": "eye_g",
    "E": "l_eye",
    "e": "r_eye",
    "B": "l_brow",
    "b": "r_brow",
    "A": "l_ear",
    "a": "r_ear",
    "m": "mouth",
    "u": "u_lip",
    "l": "l_lip",
    "H": "hair",
    "T": "hat",
    "r": "ear_r",
    "k": "neck_l",
    "N": "neck",
    "c": "cloth",
}
FACE = (
    "...HHHHHHHHHH...",
    "...HHHHHHHHHH...",
    "...HHssssssHH...",
    "...ssssssssss...",
    "...sbbbssBBBs...",
    "...ssssssssss...",
    "..asseessEEssA..",
    "..assssnnssssA..",
    "...ssssnnssss...",
    "...ssssnnssss...",
    "...sssnnnnsss...",
    "...ssssssssss...",
    "...sssuuuusss...",
    "...sssmmmmsss...",
    "...sssllllsss...",
    "....ssssssss....",
    "......NNNN......",
    "......NNNN......",
    "..cccccccccccc..",
    "cccccccccccccccc",
)
WHOLE, SPLIT = "...##########...", "...####..####..."
NEAR_NOSE, NEAR_MOUTH = "...###....###...", "...###....###..."
PIECES = {
    "forehead": {2: ".....######.....", 3: WHOLE},
    "under_eyes": {7: SPLIT, 8: SPLIT},
    "cheeks": {7: SPLIT, 8: SPLIT, 9: SPLIT, 10: NEAR_NOSE, 11: WHOLE},
    "sides": dict.fromkeys(range(7, 15), "...##......##..."),
    "mustache_area": {11: WHOLE},
    "lower_face": {
        11: WHOLE,
        **dict.fromkeys((12, 13, 14), NEAR_MOUTH),
        15: "....########....",
    },
    "chin": {15: "....########...."},
}


def face(changed=None, replaced=None):
    """The mask of `FACE` with some rows changed and some letters replaced."""
    rows = [(changed or {}).get(index, row) for index, row in enumerate(FACE)]
    table = str.maketrans(replaced or {})
    return np.array([[PARTS[LETTERS[c]] for c in row.translate(table)] for row in rows], np.uint8)


def pixels(rows):
    """A region whose rows are given as text; other rows are empty."""
    there = [[c != "." for c in rows.get(index, "." * 16)] for index in range(20)]
    return np.array(there, bool)


def region(attribute, mask):
    return attribute_regions(mask, (attribute,))[..., 0]


MOUTH = dict.fromkeys((12, 13, 14), "......####......")
EYES = {6: ".....##..##....."}


@pytest.mark.parametrize("piece", PIECES)
def test_each_piece_of_skin_lies_at_its_rows(piece):
    np.testing.assert_array_equal(skin_pieces(face())[piece], pixels(PIECES[piece]))


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("Smiling", MOUTH),
        ("Big_Lips", {12: MOUTH[12], 14: MOUTH[14]}),
        ("Bushy_Eyebrows", {4: "....###..###...."}),
        ("Narrow_Eyes", EYES),
        ("Eyeglasses", EYES),  # where glasses would be
        ("Bald", {0: WHOLE, 1: WHOLE, 2: WHOLE, 3: WHOLE}),  # hair and the skin above the brows
        ("Wavy_Hair", {0: WHOLE, 1: WHOLE, 2: "...##......##..."}),
        ("Wearing_Hat", {0: WHOLE, 1: WHOLE, 2: "...##......##..."}),
        ("Mustache", {11: WHOLE, 12: MOUTH[12]}),
        ("No_Beard", {11: WHOLE, 12: WHOLE, 13: NEAR_MOUTH, 14: WHOLE, 15: "....########...."}),
        ("Double_Chin", {15: "....########....", **dict.fromkeys((16, 17), "......####......")}),
        (
            "Sideburns",
            {7: "..###......###..", 6: "..#..........#.."}
            | dict.fromkeys(range(8, 15), "...##......##..."),
        ),
        ("Wearing_Earrings", dict.fromkeys((6, 7), "..#..........#..")),
        ("Wearing_Necklace", dict.fromkeys((16, 17), "......####......")),
        ("Wearing_Necktie", {18: "..############..", 19: "#" * 16}),
    ],
)
def test_regions_of_a_face(attribute, expected):
    np.testing.assert_array_equal(region(attribute, face()), pixels(expected))


@pytest.mark.parametrize(
    ("attribute", "row", "text", "letter"),
    [
        ("Eyeglasses", 5, "...ssggggggss...", "g"),  # the eyes stay to be seen
        ("Wearing_Earrings", 8, "..rssssnnssss...", "r"),
        ("Wearing_Hat", 0, "...TTTTTTTTTT...", "T"),
        ("Wearing_Necklace", 16, "......Nkkk......", "k"),
    ],
)
def test_what_is_worn_takes_the_place_of_where_it_would_be(attribute, row, text, letter):
    alone = "".join("#" if c == letter else "." for c in text)
    np.testing.assert_array_equal(
        region(attribute, face(changed={row: text})), pixels({row: alone})
    )


def test_a_necktie_without_clothes_is_looked_for_at_the_neck():
    expected = pixels(dict.fromkeys((16, 17), "......####......"))
    np.testing.assert_array_equal(region("Wearing_Necktie", face(replaced={"c": "."})), expected)


def test_pieces_whose_bounds_are_not_seen_are_missing():
    without_nose = face(replaced={"n": "s"})
    assert set(skin_pieces(without_nose)) == {"forehead", "cheeks", "sides", "chin"}
    assert not region("5_o_Clock_Shadow", without_nose).any()
    lips = pixels({12: MOUTH[12], 14: MOUTH[14]})
    np.testing.assert_array_equal(region("Goatee", without_nose), lips)
    without_mouth = face(replaced={"u": "s", "m": "s", "l": "s"})
    assert set(skin_pieces(without_mouth)) == {"forehead", "under_eyes", "lower_face"}
    assert skin_pieces(np.ones((5, 4), np.uint8)) == {}


def test_eyes_stand_for_brows_and_glasses_for_eyes():
    without_brows = face(replaced={"b": "s", "B": "s"})
    above_eyes = pixels(PIECES["forehead"] | {4: WHOLE, 5: WHOLE})
    np.testing.assert_array_equal(skin_pieces(without_brows)["forehead"], above_eyes)
    behind_glasses = face(replaced={"b": "s", "B": "s", "e": "g", "E": "g"})
    for piece, expected in skin_pieces(without_brows).items():
        np.testing.assert_array_equal(skin_pieces(behind_glasses)[piece], expected)


def test_what_is_not_known_is_in_no_region():
    mask = face()
    mask[:, :8] = IGNORED
    regions = attribute_regions(mask, tuple(ATTRIBUTE_PARTS))
    assert not regions[:, :8].any()
    np.testing.assert_array_equal(
        regions[:, 8:, list(ATTRIBUTE_PARTS).index("Smiling")], pixels(MOUTH)[:, 8:]
    )


def test_tables_name_attributes_of_celeba_and_parts_that_exist():
    assert set(ATTRIBUTE_PARTS) == set(ATTRIBUTE_BOXES) < set(published.ACCURACY)
    known = {*PARTS, *PIECES}
    assert set(skin_pieces(face())) == set(PIECES)
    for attribute, choices in ATTRIBUTE_PARTS.items():
        assert {part for parts in choices for part in parts} <= known, attribute
    assert set(ATTRIBUTE_BOXES.values()) == set(BOXES)
    assert set(PART_LABELS) <= set(ATTRIBUTE_PARTS) and set(PART_LABELS.values()) <= set(PARTS)
