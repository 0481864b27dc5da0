"""Where attributes are seen: parts of hand-drawn masks, boxes of landmarks, drawn regions."""

import csv

import numpy as np
import pytest
from PIL import Image

from mcattn_tf import data, published
from mcattn_tf.data import drawn_faces, faces
from mcattn_tf.data.attribute_parts import (
    ATTRIBUTE_PARTS,
    IGNORED,
    PART_LABELS,
    PARTS,
    attribute_regions,
    skin_pieces,
)
from mcattn_tf.data.images import resize_regions
from mcattn_tf.data.landmarks import ATTRIBUTE_BOXES, BOXES, box_region
from mcattn_tf.data.regions import drawn_regions, without_regions
from mcattn_tf.data_config import DataConfig
from mcattn_tf.errors import UserError

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


SOURCE = (64, 60)  # height and width of the pictures with part masks
SIZE = (32, 20)  # cuts ten columns off at either side and halves what is left
NOSE = np.s_[20:40, 24:36]
FITTING = {"one": 0.25, "two": 0.31, "misfit": 0.41, "three": 0.40}


def part_mask(number):
    mask = np.zeros(SOURCE, np.uint8)
    mask[50:, :] = PARTS["cloth"]
    mask[NOSE] = PARTS["nose"]
    mask[44 + number :, 10:50] = PARTS["mouth"]
    mask[:16] = IGNORED
    return mask


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def parts_rows():
    rows = []
    for number, (key, scale) in enumerate(FITTING.items()):
        sizes = dict.fromkeys(PARTS, 0) | {"eye_g": 9 * (number == 1), "hat": 7 * (number == 3)}
        rows.append({"key": key, "scale": scale, **sizes})
    return rows


@pytest.fixture
def masks_dir(tmp_path):
    """Four faces, three of them of a fitting scale: white noses and part masks of two kinds."""
    root = tmp_path / "masks_dir"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for number, key in enumerate(FITTING):
        image = np.zeros((*SOURCE, 3), np.uint8)
        image[NOSE] = 255
        Image.fromarray(image).save(root / "images" / f"{key}.jpg", quality=100)
        mask = Image.fromarray(part_mask(number))
        if number % 2:
            mask.putpalette([(37 * value + 91) % 256 for value in range(768)])
        mask.save(root / "masks" / f"{key}.png")
    write_csv(root / "parts.csv", parts_rows())
    return root


def load_masks(root, size=SIZE, name="test", **fields):
    config = DataConfig(dataset="celeba", image_size=size, **fields)
    return data.load_regions(config, name, str(root))


def test_part_masks_are_read_whatever_their_kind(masks_dir):
    modes = {Image.open(path).mode for path in (masks_dir / "masks").iterdir()}
    assert modes == {"L", "P"}
    loaded = load_masks(masks_dir, SOURCE)
    assert loaded.count == 3 and loaded.groups == ("predicted", "part_labels")
    assert loaded.attributes == tuple(ATTRIBUTE_PARTS)
    batch = loaded.read(range(3))
    for index, number in enumerate((0, 1, 3)):  # the third does not fit
        expected = attribute_regions(part_mask(number), loaded.attributes)
        np.testing.assert_array_equal(batch.regions[index], expected)
        assert expected[44 + number, 30, loaded.attributes.index("Smiling")]
        np.testing.assert_array_equal(batch.valid[index], part_mask(number) != IGNORED)


def test_tables_may_begin_with_a_byte_order_mark(masks_dir, celeba_dir):
    tie(masks_dir, two="000003")
    for name in ("parts.csv", "celeba_match.csv"):
        rewrite_bytes(masks_dir / name, b"key", b"\xef\xbb\xbfkey")
    loaded = load_masks(masks_dir, data_dir=str(celeba_dir))
    assert loaded.count == 3 and labelled(loaded) == {1: {"Bald", "Smiling"}}


def test_regions_lie_on_the_image_after_resizing(masks_dir):
    loaded = load_masks(masks_dir)
    nose = loaded.attributes.index("Big_Nose")
    expected = np.zeros(SIZE, bool)
    expected[10:20, 7:13] = True
    unknown = np.zeros(SIZE, bool)
    unknown[:8] = True
    for index in range(3):
        batch = loaded.read(range(index, index + 1))
        np.testing.assert_array_equal(batch.regions[0, ..., nose], expected)
        np.testing.assert_array_equal(batch.images[0].mean(axis=-1) > 0.5, expected)
        np.testing.assert_array_equal(batch.valid[0], ~unknown)


@pytest.mark.parametrize("size", [(23, 21), (100, 60), (31, 44)])
def test_regions_lie_on_the_image_at_any_size(masks_dir, size):
    loaded = load_masks(masks_dir, size)
    batch = loaded.read(range(1))
    there = batch.regions[0, ..., loaded.attributes.index("Big_Nose")]
    bright = batch.images[0].mean(axis=-1)
    # Both are of the same place, but for half a pixel's width at the edges.
    assert there[bright > 0.55].all() and bright[there].min() > 0.2
    assert (bright > 0.9).any() and (bright < 0.1).any()


def test_labels_of_parts_are_those_of_the_table(masks_dir):
    loaded = load_masks(masks_dir)
    present = loaded.read(range(3)).present
    expected = np.zeros((3, len(ATTRIBUTE_PARTS)), bool)
    expected[1, loaded.attributes.index("Eyeglasses")] = True
    expected[2, loaded.attributes.index("Wearing_Hat")] = True
    assert set(present) >= {"part_labels"}
    np.testing.assert_array_equal(present["part_labels"], expected)


CELEBA = {  # file: labels of `CELEBA_NAMES`, partition
    "000000.jpg": ("1 1 1 1", 0),
    "000001.jpg": ("1 -1 -1 1", 2),
    "000002.jpg": ("-1 1 -1 -1", 0),
    "000003.jpg": ("-1 1 1 -1", 1),
    "000004.jpg": ("1 1 -1 1", 2),
}
CELEBA_NAMES = ("Young", "Bald", "Smiling", "Wearing_Necktie")


@pytest.fixture
def celeba_dir(tmp_path):
    """Five images of grey 10, 20, ... in CelebA's layout: 2 to train, 1 to validate, 2 to test."""
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    for index, name in enumerate(CELEBA):
        grey = Image.new("RGB", (178, 218), (10 * index + 10,) * 3)
        grey.save(root / "img_align_celeba" / name, format="PNG")
    rows = [f"{name} {labels}" for name, (labels, _) in CELEBA.items()]
    (root / "list_attr_celeba.txt").write_text("\n".join(["5", " ".join(CELEBA_NAMES), *rows]))
    parts = [f"{name} {part}" for name, (_, part) in CELEBA.items()]
    (root / "list_eval_partition.txt").write_text("\n".join(parts))
    return root


def tie(root, **files):
    write_csv(
        root / "celeba_match.csv",
        [{"key": key, "ncc": 0.99, "celeba_file": f"{file}.jpg"} for key, file in files.items()],
    )


def labelled(loaded):
    """{row: names} of what is labelled as present."""
    table = loaded.read(range(loaded.count)).present["labelled"]
    return {
        row: {name for name, known in zip(loaded.attributes, values, strict=True) if known}
        for row, values in enumerate(table)
        if values.any()
    }


def test_celeba_labels_are_those_of_faces_that_were_not_trained_on(masks_dir, celeba_dir):
    tie(masks_dir, one="000000", two="000003", three="000001")  # trained on, validation, test
    loaded = load_masks(masks_dir, data_dir=str(celeba_dir))
    assert loaded.groups == ("predicted", "part_labels", "labelled")
    assert labelled(loaded) == {1: {"Bald", "Smiling"}, 2: {"Wearing_Necktie"}}
    joined = load_masks(masks_dir, data_dir=str(celeba_dir), train_on_validation=True)
    assert labelled(joined) == {2: {"Wearing_Necktie"}}


def test_without_labels_of_celeba_there_is_no_group_of_them(masks_dir, celeba_dir):
    without_ties = load_masks(masks_dir, data_dir=str(celeba_dir))
    tie(masks_dir, two="000003", three="009999")
    without_files = load_masks(masks_dir)
    tie(masks_dir, one="000000", misfit="000001", three="009999")
    tied_to_nothing = load_masks(masks_dir, data_dir=str(celeba_dir))
    for loaded in (without_ties, without_files, tied_to_nothing):
        assert loaded.groups == ("predicted", "part_labels")


def rewrite_parts(root, change):
    rows = parts_rows()
    change(rows)
    write_csv(root / "parts.csv", rows)


def save_mask(root, mask, name="two.png", **options):
    Image.fromarray(mask).save(root / "masks" / name, **options)


def with_blank_line(root):
    lines = (root / "parts.csv").read_text().replace("0.31", "much").splitlines()
    (root / "parts.csv").write_text("\n".join([lines[0], "", *lines[1:]]))


def rewrite_bytes(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "messages"),
    [
        (lambda d: (d / "parts.csv").unlink(), ("has no parts.csv", "masks/KEY.png")),
        (lambda d: (d / "parts.csv").write_text(""), ("parts.csv, line 1", "a column 'key'")),
        (
            lambda d: rewrite_parts(d, lambda rows: [row.pop("ear_r") for row in rows]),
            ("parts.csv, line 1", "expected a column 'ear_r'"),
        ),
        (
            lambda d: rewrite_parts(d, lambda rows: rows[2].update(scale="?")),
            ("parts.csv, line 4", "'misfit' with scale '?'"),
        ),
        (
            lambda d: rewrite_parts(d, lambda rows: rows[1].update(hat="many")),
            ("parts.csv, line 3", "'two' with hat 'many'"),
        ),
        (with_blank_line, ("parts.csv, line 4", "'two' with scale 'much'")),
        (
            lambda d: rewrite_parts(d, lambda rows: [row.update(scale=0.5) for row in rows]),
            ("parts.csv has no face with a scale from 0.25 to 0.4",),
        ),
        (
            lambda d: (d / "images" / "two.jpg").unlink(),
            ("images/two.jpg is missing", "parts.csv names two"),
        ),
        (
            lambda d: (d / "images" / "two.jpg").write_text("no image"),
            ("cannot decode image", "images/two.jpg"),
        ),
        (
            lambda d: (d / "masks" / "two.png").unlink(),
            ("masks/two.png is missing", "parts.csv names two"),
        ),
        (
            lambda d: (d / "masks" / "two.png").write_text("no mask"),
            ("cannot read", "masks/two.png", "not a PNG file"),
        ),
        (lambda d: cut_in_half(d / "masks" / "two.png"), ("cannot read", "masks/two.png")),
        (
            lambda d: save_mask(d, part_mask(1), format="JPEG"),  # would blur the values
            ("cannot read", "masks/two.png", "not a PNG file"),
        ),
        (
            lambda d: save_mask(d, part_mask(1)[:, :-1]),
            ("masks/two.png", "64x60 with one value a pixel", "Received: 64x59"),
        ),
        (
            lambda d: save_mask(d, np.dstack([part_mask(1)] * 3)),
            ("masks/two.png", "one value a pixel", "Received: 64x60x3"),
        ),
        (
            lambda d: save_mask(d, np.full(SOURCE, 19, np.uint8)),
            ("masks/two.png", "0 to 18", "255", "Received: 19"),
        ),
        (
            lambda d: (d / "celeba_match.csv").write_text("key,file\ntwo,000001.jpg\n"),
            ("celeba_match.csv, line 1", "expected a column 'celeba_file'"),
        ),
        (
            lambda d: (d / "celeba_match.csv").write_text("key,celeba_file\ntwo,000001.jpg\none\n"),
            ("celeba_match.csv, line 3", "expected 2 values", "Received: 1"),
        ),
        (
            lambda d: (d / "celeba_match.csv").write_text('key,celeba_file\n"two,000001.jpg\n'),
            ("celeba_match.csv, line 2: not a row of a table",),
        ),
        (
            lambda d: rewrite_bytes(d / "parts.csv", b"two", "zwölf".encode("latin1")),
            ("parts.csv, line 3: expected text in UTF-8",),
        ),
        (
            lambda d: rewrite_bytes(d / "parts.csv", b"two,", b'two,"'),
            ("parts.csv, line", "not a row of a table"),
        ),
        (
            lambda d: rewrite_bytes(d / "parts.csv", b"three,", b""),
            ("parts.csv, line 5: expected 21 values, one for each column. Received: 20",),
        ),
        (
            lambda d: (d / "celeba_match.csv").symlink_to("/proc/self/mem"),
            ("cannot read", "celeba_match.csv: Input/output error"),
        ),
    ],
)
def test_part_masks_that_cannot_be_read_say_why_in_one_line(
    masks_dir, celeba_dir, damage, messages
):
    damage(masks_dir)
    with pytest.raises(UserError) as raised:
        load_masks(masks_dir, data_dir=str(celeba_dir)).read(range(3))
    assert all(message in str(raised.value) for message in messages), raised.value
    assert "\n" not in str(raised.value)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere has no parts\.csv"):
        load_masks(tmp_path / "nowhere")


# Both eyes, the nose and the corners of the mouth; the eyes are 40 pixels apart.
POINTS = np.array([69, 111, 109, 111, 89, 131, 73, 151, 105, 151])


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("hair", (0, 86), (29, 148)),  # from row -1 on, 60 pixels to either side of column 89
        ("brows", (87, 104), (51, 126)),
        ("eyes", (99, 122), (51, 126)),
        ("nose", (115, 140), (73, 104)),  # 111 + 4 to 131 + 10, 16 to either side
        ("mouth", (139, 164), (63, 114)),
        ("chin", (165, 194), (61, 116)),
        ("neck", (177, 217), (45, 132)),  # to row 227, below the image
    ],
)
def test_a_box_lies_where_it_is_worked_out_by_hand(name, rows, columns):
    expected = np.zeros((218, 178), bool)
    expected[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    np.testing.assert_array_equal(box_region(POINTS, BOXES[name]), expected)


def test_a_box_may_leave_its_middle_out():
    expected = np.zeros((218, 178), bool)
    expected[123:151, 45:133] = True  # 44 to either side
    expected[123:151, 77:101] = False  # but for 12 to either side
    np.testing.assert_array_equal(box_region(POINTS, BOXES["cheeks"]), expected)


def test_lengths_are_those_between_the_eyes_of_a_tilted_face_too():
    # Eyes 24 columns and 32 rows apart, so 40 pixels; middles at (81, 95) and (91, 151).
    tilted = np.array([69, 79, 93, 111, 89, 131, 71, 149, 111, 153])
    expected = np.zeros((218, 178), bool)
    expected[139:165, 60:112] = True  # 26 to either side of column 86
    np.testing.assert_array_equal(box_region(tilted, BOXES["mouth"]), expected)


def write_landmarks(root, rows):
    lines = [f"{name} {' '.join(map(str, points))}" for name, points in rows.items()]
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y"
    text = [str(len(rows)), f"{header} rightmouth_x rightmouth_y", *lines]
    (root / "list_landmarks_align_celeba.txt").write_text("\r\n".join(text) + "\r\n")


def shifted(index):
    return POINTS + np.array([0, 4 * index] * 5)  # the whole face lower down


HALF = (109, 89)


def load_boxes(celeba_dir, name="test", **fields):
    config = DataConfig(dataset="celeba", data_dir=str(celeba_dir), image_size=HALF, **fields)
    return data.load_regions(config, name)


@pytest.mark.parametrize(
    ("split", "indices"), [("train", (0, 2)), ("validation", (3,)), ("test", (1, 4))]
)
def test_landmark_boxes_follow_the_split(celeba_dir, split, indices):
    rows = {name: shifted(index) for index, name in enumerate(CELEBA)}
    write_landmarks(celeba_dir, dict(reversed(rows.items())))
    loaded = load_boxes(celeba_dir, split)
    assert loaded.attributes == ("Bald", "Smiling", "Wearing_Necktie")
    assert loaded.count == len(indices) and loaded.groups == ("labelled",)
    batch = loaded.read(range(len(indices)))
    assert batch.valid.all()
    for row, index in enumerate(indices):
        np.testing.assert_allclose(batch.images[row], (10 * index + 10) / 255, atol=1e-6)
        # Of the mouth's rows 139 to 164 and columns 63 to 114 those of odd number.
        expected = np.zeros(HALF, bool)
        expected[69 + 2 * index : 82 + 2 * index, 31:57] = True
        np.testing.assert_array_equal(batch.regions[row, ..., 1], expected)
        labels = CELEBA[f"{index:06d}.jpg"][0].split()[1:]
        assert batch.present["labelled"][row].tolist() == [label == "1" for label in labels]


def test_landmark_boxes_are_of_the_images_that_were_trained_on(celeba_dir):
    write_landmarks(celeba_dir, dict.fromkeys(CELEBA, POINTS))
    joined = load_boxes(celeba_dir, "train", train_on_validation=True)
    greys = joined.read(range(3)).images.mean(axis=(1, 2, 3)) * 255
    np.testing.assert_allclose(greys, [10, 30, 40], atol=1e-3)
    assert joined.count == 3
    assert load_boxes(celeba_dir, "train", train_examples=1).count == 1
    assert load_boxes(celeba_dir, "test", train_examples=1).count == 2


def test_without_landmarks_the_images_have_no_regions(celeba_dir):
    loaded = load_boxes(celeba_dir)
    assert loaded.attributes == loaded.groups == ()
    (batch,) = loaded.batches(5)
    np.testing.assert_allclose(batch.images.mean(axis=(1, 2, 3)), np.array([20, 50]) / 255, 1e-6)
    assert batch.regions.shape == (2, *HALF, 0) and batch.present == {}
    assert batch.valid.all() and batch.valid.shape == (2, *HALF)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {name: POINTS for name in CELEBA if name != "000004.jpg"},
            "list_landmarks_align_celeba.txt has no row for 000004.jpg",
        ),
        (
            dict.fromkeys(CELEBA, POINTS) | {"000002.jpg": POINTS[:8]},
            "list_landmarks_align_celeba.txt, line 5: expected an image name and 10 whole numbers",
        ),
    ],
)
def test_landmarks_that_are_missing_are_named(celeba_dir, rows, message):
    write_landmarks(celeba_dir, rows)
    with pytest.raises(UserError) as raised:
        load_boxes(celeba_dir)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_data_dir_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        load_boxes(tmp_path / "nowhere")


DRAWN = DataConfig(image_size=(32, 36), train_examples=12)


@pytest.mark.parametrize("name", ["train", "validation"])
def test_drawn_regions_are_those_of_the_split(name):
    loaded, split = data.load_regions(DRAWN, name), data.load(DRAWN).split(name)
    assert loaded.count == split.count == {"train": 12, "validation": 1000}[name]
    assert loaded.attributes == drawn_faces.ATTRIBUTES
    batch = loaded.read(range(5, 8))
    images, labels = split.read([5, 6, 7])
    np.testing.assert_allclose(batch.images, images / 255.0, atol=1e-6)
    np.testing.assert_array_equal(batch.present["labelled"], labels == 1)
    expected = drawn_faces.draw_regions(faces.SEEDS[name], 5, 3, (32, 36))
    np.testing.assert_array_equal(batch.regions, expected)
    assert batch.valid.all()


def test_batches_hold_every_image_once():
    loaded = drawn_regions(DRAWN).take(7)
    batches = list(loaded.batches(3))
    assert [len(batch.images) for batch in batches] == [3, 3, 1]
    images, labels = drawn_faces.draw_faces(faces.SEEDS["test"], 0, 7, (32, 36))
    np.testing.assert_array_equal(
        np.concatenate([np.rint(batch.images * 255) for batch in batches]), images
    )
    np.testing.assert_array_equal(
        np.concatenate([batch.present["labelled"] for batch in batches]), labels == 1
    )
    assert loaded.take(9).count == 7 and drawn_regions(DRAWN).take(5000).count == 2000


def test_without_regions_gives_the_images_of_the_split_in_order():
    split = data.load(DRAWN).train
    batch = without_regions(split).read(range(2, 5))
    images, _ = drawn_faces.draw_faces(faces.SEEDS["train"], 2, 3, (32, 36))
    np.testing.assert_allclose(batch.images, images / 255.0, atol=1e-6)
    assert batch.regions.shape == (3, 32, 36, 0)


def test_splits_that_do_not_exist_are_refused(masks_dir):
    with pytest.raises(UserError, match="`split` must be one of train, validation, test"):
        data.load_regions(DRAWN, "all")
    with pytest.raises(UserError, match="leave out --split validation"):
        load_masks(masks_dir, name="validation")


def test_a_region_that_no_sample_meets_keeps_the_pixels_that_it_touches():
    regions = np.zeros((40, 60, 2), bool)
    regions[21, 31, 0] = True  # one pixel; a sample is taken every 5 pixels, from row 2, column 2
    regions[20:25, 30:36, 1] = True  # 5x6 pixels: a row of cells, and one column of the next
    small, large = np.moveaxis(resize_regions(regions, (8, 12)), -1, 0)
    assert np.argwhere(small).tolist() == [[4, 6]]
    assert np.argwhere(large).tolist() == [[4, 6]]  # the touched column holds no sample


def test_faces_that_are_not_aligned_like_celebas_are_refused(masks_dir, celeba_dir):
    for folder, name in (("images", "one.jpg"), ("masks", "one.png")):
        path = masks_dir / folder / name
        Image.open(path).resize((64, 64), Image.Resampling.NEAREST).save(path)
    with pytest.raises(UserError, match=r"one\.jpg is not aligned like CelebA's images") as raised:
        load_masks(masks_dir, data_dir=str(celeba_dir)).read(range(3))
    assert "Received: 64x64" in str(raised.value)
