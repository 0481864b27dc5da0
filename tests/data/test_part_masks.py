"""Part masks of real faces, read from files."""

import csv

import numpy as np
import pytest
from celeba_files import make_celeba_with_parts
from PIL import Image

from mcattn_tf import data
from mcattn_tf.data.regions.attribute_parts import (
    ATTRIBUTE_PARTS,
    IGNORED,
    PARTS,
    attribute_regions,
)
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

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


def test_faces_of_another_scale_are_counted(masks_dir, capsys):
    assert load_masks(masks_dir).count == 3
    path = masks_dir / "parts.csv"
    expected = f"not used: 1 faces of {path}, whose scale is not from 0.25 to 0.4"
    assert expected in capsys.readouterr().out.splitlines()


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


@pytest.fixture
def celeba_dir(tmp_path):
    return make_celeba_with_parts(tmp_path / "celeba")


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


def test_part_masks_have_no_validation_split(masks_dir):
    with pytest.raises(UserError, match="leave out --split validation"):
        load_masks(masks_dir, name="validation")


def test_faces_that_are_not_aligned_like_celebas_are_refused(masks_dir, celeba_dir):
    for folder, name in (("images", "one.jpg"), ("masks", "one.png")):
        path = masks_dir / folder / name
        Image.open(path).resize((64, 64), Image.Resampling.NEAREST).save(path)
    with pytest.raises(UserError, match=r"one\.jpg is not aligned like CelebA's images") as raised:
        load_masks(masks_dir, data_dir=str(celeba_dir)).read(range(3))
    assert "Received: 64x64" in str(raised.value)
