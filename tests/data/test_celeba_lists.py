"""CelebA's lists: what they say, and what is said of damaged ones."""

import dataclasses
import json

import numpy as np
import pytest
from celeba_files import (
    ATTRIBUTES,
    IMAGES,
    LABELS,
    LANDMARKS,
    NAMES,
    PARTITIONS,
    ROWS,
    make_celeba,
    message_of,
    replace,
    to_csv,
    write_attributes,
    write_partitions,
)
from conftest import split_of_arrays
from processes import run

from mcattn_tf.commands import train
from mcattn_tf.data.files import open_files
from mcattn_tf.data.lists import read_list
from mcattn_tf.data.regions import landmarks, part_masks
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig


@pytest.fixture
def root(tmp_path):
    return make_celeba(tmp_path / "celeba")


ATTRIBUTE_DAMAGE = [
    (lambda d: (d / f"{ATTRIBUTES}.txt").write_text(""), "line 1: expected the number of images"),
    (
        lambda d: (d / f"{ATTRIBUTES}.txt").write_text("5\n"),
        "line 2: expected the names of the columns. Received: ''",
    ),
    (
        lambda d: write_attributes(d, ROWS, header="000000.jpg 1 1 1"),
        "line 2: expected the names of the columns. Received: '000000.jpg 1 1 1'",
    ),
    (
        lambda d: write_attributes(d, ROWS, count="many"),
        "line 1: expected the number of images. Received: 'many'",
    ),
    (
        lambda d: write_attributes(d, ROWS, count=6),
        "line 1: expected the number of rows that follow, 5. Received: 6; get the whole list",
    ),
    (
        lambda d: write_attributes(d, ROWS, count=4),
        "line 1: expected the number of rows that follow, 5. Received: 4; correct it",
    ),
    (
        lambda d: write_attributes(d, ROWS, header="Bald Young Bald"),
        "line 2: expected a name of its own for each column. Received: 'Bald' 2 times",
    ),
    (
        lambda d: write_attributes(d, [*ROWS[:2], "1 -1", *ROWS[3:]]),
        "line 5: expected an image name and 3 values. Received: 2 in '000002.jpg 1 -1'",
    ),
    (
        lambda d: write_attributes(d, [*ROWS[:4], "1 -1 1 1"]),
        "line 7: expected an image name and 3 values. Received: 4 in '000004.jpg 1 -1 1 1'",
    ),
    (
        lambda d: write_attributes(d, [*ROWS[:2], "1 2 -1", *ROWS[3:]]),
        "line 5: expected 0, 1, -1 or ? (unknown) for Smiling. Received: '2'",
    ),
    (
        lambda d: write_attributes(d, [*ROWS[:2], "1 1 1.5", *ROWS[3:]]),
        "line 5: expected 0, 1, -1 or ? (unknown) for Young. Received: '1.5'",
    ),
    (
        lambda d: write_attributes(d, ["- 1 1", *ROWS[1:]]),
        "line 3: expected 0, 1, -1 or ? (unknown) for Bald. Received: '-'",
    ),
    (
        lambda d: write_attributes(d, ["1 1 4294967297", *ROWS[1:]]),
        "line 3: expected 0, 1, -1 or ? (unknown) for Young. Received: '4294967297'",
    ),
    (
        lambda d: replace(d, f"{ATTRIBUTES}.txt", b"000003.jpg", b"000001.jpg"),
        "line 6: expected one row for each image. "
        "Received: 000001.jpg again, which line 4 has; delete one of the two",
    ),
    (lambda d: write_attributes(d, ROWS[:4]), " has no row for 000004.jpg, which "),
    (
        lambda d: replace(d, f"{ATTRIBUTES}.txt", b"Smiling", b"Smil\xe9ng"),
        "line 2: expected text in UTF-8. Received: a byte 0xe9; save or get the list anew",
    ),
    (
        lambda d: replace(d, f"{ATTRIBUTES}.txt", b"000003.jpg", b"\0" * 10),
        "line 6: expected text in UTF-8. Received: a byte 0x00",
    ),
]


@pytest.mark.parametrize(("damage", "message"), ATTRIBUTE_DAMAGE)
def test_a_damaged_attribute_list_is_named_with_its_line(root, damage, message):
    damage(root)
    assert f"{root / ATTRIBUTES}.txt{',' * message.startswith('line')} {message.strip()}" in (
        message_of(root)
    )


PARTITION_DAMAGE = [
    (
        lambda d: replace(d, f"{PARTITIONS}.txt", b"000003.jpg 1", b"000003.jpg 3"),
        ", line 4: expected one of 0, 1, 2 for partition. Received: '3'",
    ),
    (
        lambda d: replace(d, f"{PARTITIONS}.txt", b"000003.jpg 1", b"000003.jpg"),
        ", line 4: expected an image name and 1 values. Received: 0 in '000003.jpg'",
    ),
    (
        lambda d: replace(d, f"{PARTITIONS}.txt", b"000003.jpg", b"000001.jpg"),
        ", line 4: expected one row for each image. Received: 000001.jpg again, which line 2 has",
    ),
    (
        lambda d: (d / IMAGES / "000002.jpg").unlink(),
        "line 3: expected an image {images}/000002.jpg. Received: none, and 1 train images",
    ),
    (
        lambda d: replace(d, f"{PARTITIONS}.txt", b"000003.jpg 1\r\n", b""),
        ": expected a row for {images}/000003.jpg. Received: none, and 1 images",
    ),
    (
        lambda d: (d / f"{PARTITIONS}.txt").write_text(""),
        ": expected a row for {images}/000000.jpg. Received: none, and 5 images",
    ),
    (lambda d: write_partitions(d, [2, 2, 2, 1, 2]), " has no train images (partition 0)"),
    (lambda d: write_partitions(d, [0, 2, 0, 2, 0]), " has no validation images (partition 1)"),
    (lambda d: write_partitions(d, [0, 1, 0, 1, 0]), " has no test images (partition 2)"),
]


@pytest.mark.parametrize(("damage", "message"), PARTITION_DAMAGE)
def test_a_damaged_partition_list_is_named_with_its_line(root, damage, message):
    damage(root)
    received = message_of(root)
    assert received.startswith(f"{root / PARTITIONS}.txt")
    assert message.format(images=root / IMAGES) in received


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (ATTRIBUTES, b"image_id", b"file", "line 1: expected 'image_id' and a name for each"),
        (ATTRIBUTES, b"image_id,Bald,Smiling,Young", b"", "line 2: expected 'image_id' and"),
        (ATTRIBUTES, b"Bald,", b",", "line 1: expected 'image_id' and a name for each column"),
        (
            ATTRIBUTES,
            b"000000.jpg,0,1,1",
            b"000000.jpg,none,1,1",
            "line 2: expected 0, 1, -1 or ? (unknown) for Bald",
        ),
        (ATTRIBUTES, b"000000.jpg,0,1,1", b"000000.jpg,,1,1,0", "line 2: expected an image name"),
        (ATTRIBUTES, b"000000.jpg,0,1,1", b"000000.jpg,0 1,1", "line 2: expected an image name"),
        (ATTRIBUTES, b"000000.jpg,0,1,1", b"000000.jpg,0,1,x", "line 2: expected 0, 1, -1 or ?"),
        (PARTITIONS, b",partition", b",part", "line 1: expected a column 'partition'. Received"),
        (PARTITIONS, b"000003.jpg,1", b"000003.jpg,7", "line 5: expected one of 0, 1, 2"),
    ],
)
def test_a_damaged_csv_list_is_named_with_its_line(root, name, old, new, message):
    to_csv(root)
    replace(root, f"{name}.csv", old, new)
    assert f"{root / name}.csv, {message}" in message_of(root)


POINTS = np.array([69, 111, 109, 111, 89, 131, 73, 151, 105, 151])
COORDINATES = tuple(
    f"{point}_{axis}"
    for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    for axis in "xy"
)


def write_landmarks(root, ending, count=5):
    rows = [[f"{i:06d}.jpg", *map(str, POINTS + [0, 4 * i] * 5)] for i in reversed(range(count))]
    if ending == "csv":
        lines = [",".join(("image_id", *COORDINATES)), *map(",".join, rows)]
    else:
        lines = [str(len(rows)), " ".join(COORDINATES), *map(" ".join, rows)]
    (root / f"{LANDMARKS}.{ending}").write_text("\n".join(lines))


def load_boxes(root, indices=(1, 4), labels=LABELS):
    images = np.stack([np.full((109, 89, 3), 10 * index, np.uint8) for index in indices])
    split = dataclasses.replace(
        split_of_arrays(images, labels[list(indices)]),
        name=lambda place: f"{IMAGES}/{indices[place]:06d}.jpg",
    )
    config = DataConfig(dataset="celeba", data_dir=str(root), image_size=(109, 89))
    return landmarks.load(config, "test", split)


@pytest.mark.parametrize("ending", ["txt", "csv"])
def test_landmark_boxes_are_those_of_the_splits_images(root, ending):
    write_landmarks(root, ending)
    loaded = load_boxes(root)
    assert loaded.attributes == ("Bald", "Smiling") and loaded.count == 2
    batch = loaded.read(range(2))
    for row, index in enumerate((1, 4)):
        np.testing.assert_allclose(batch.images[row], 10 * index / 255, rtol=1e-6)
        # Of the mouth's rows 139 to 164 and columns 63 to 114 those of odd number.
        expected = np.zeros((109, 89), bool)
        expected[69 + 2 * index : 82 + 2 * index, 31:57] = True
        np.testing.assert_array_equal(batch.regions[row, ..., 1], expected)
        assert batch.present["labelled"][row].tolist() == (LABELS[index, :2] == 1).tolist()
    assert batch.valid.all() and batch.valid.shape == (2, 109, 89)


def test_landmarks_lie_beside_the_lists_of_the_official_download(root):
    write_landmarks(root, "txt")
    (root / "Anno").mkdir()
    for name in (f"{ATTRIBUTES}.txt", f"{LANDMARKS}.txt"):
        (root / name).rename(root / "Anno" / name)
    assert load_boxes(root).count == 2
    (root / "Anno" / f"{LANDMARKS}.txt").unlink()
    assert load_boxes(root) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda d: write_landmarks(d, "txt", count=4),
            ".txt has no row for 000004.jpg, which is one of the test images",
        ),
        (
            lambda d: replace(d, f"{LANDMARKS}.txt", b"nose_y", b"nose"),
            ".txt, line 2: expected a column 'nose_y'. Received: 'lefteye_x",
        ),
        (
            lambda d: replace(d, f"{LANDMARKS}.txt", b"000004.jpg 69", b"000004.jpg 69.5"),
            ".txt, line 3: expected a whole number for lefteye_x. Received: '69.5'",
        ),
        (
            lambda d: replace(d, f"{LANDMARKS}.txt", b"000004.jpg 69", b"000004.jpg 2147483648"),
            ".txt, line 3: expected a whole number for lefteye_x. Received: '2147483648'",
        ),
        (
            lambda d: replace(d, f"{LANDMARKS}.txt", b"000004.jpg 69", b"000004.jpg"),
            ".txt, line 3: expected an image name and 10 values. Received: 9 in ",
        ),
        (
            lambda d: replace(d, f"{LANDMARKS}.txt", b"5\nl", b"7\nl"),
            ".txt, line 1: expected the number of rows that follow, 5. Received: 7",
        ),
    ],
)
def test_damaged_landmarks_are_named_with_their_line(root, damage, message):
    write_landmarks(root, "txt")
    damage(root)
    with pytest.raises(UserError) as raised:
        load_boxes(root)
    assert f"{root / LANDMARKS}{message}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_whole_numbers_are_read_as_they_are_written(root):
    numbers = [[0, -1, 12], [-987, 65432, 7], [2147483647, -2147483648, -0]]
    write_attributes(root, [" ".join(map(str, row)) for row in numbers])
    table = read_list(open_files(root), f"{ATTRIBUTES}.txt")
    np.testing.assert_array_equal(table.values, numbers)
    assert table.names.tolist() == [b"000000.jpg", b"000001.jpg", b"000002.jpg"]
    assert table.lines.tolist() == [3, 4, 5] and table.columns == NAMES
    names = np.array([b"000002.jpg", b"999999.jpg", b"000000", b"000000.jpg"])
    assert table.rows_of(names).tolist() == [2, -1, -1, 0]


@pytest.mark.parametrize(("joined", "expected"), [(False, {"b", "c"}), (True, {"c"})])
def test_tied_faces_have_the_labels_of_images_not_trained_on(root, tmp_path, joined, expected):
    ties = "key,celeba_file\na,000000.jpg\nb,000003.jpg\nc,000001.jpg\nd,000009.jpg\n"
    (tmp_path / "celeba_match.csv").write_text(ties)
    config = DataConfig(dataset="celeba", data_dir=str(root), train_on_validation=joined)
    labels = part_masks._celeba_labels(tmp_path, config, {"a", "b", "c", "d"})
    assert set(labels) == expected
    assert labels["c"] == {"Bald": True, "Smiling": False, "Young": False}


@pytest.mark.slow
def test_a_resumed_run_finds_landmarks_where_the_data_are_now(tmp_path):
    data_dir = make_celeba(tmp_path / "celeba")
    write_landmarks(data_dir, "txt")
    out = f"--out={tmp_path / 'run'}"
    sizes = ("--image_size=12,8", "--batch_size=1", "--epochs=1", "--no_cache", "--noexport")
    run(train.main, "--dataset=celeba", f"--data_dir={data_dir}", *sizes, out)
    evaluation = tmp_path / "run" / "evaluation.json"
    before = json.loads(evaluation.read_text())
    moved = data_dir.rename(tmp_path / "moved")
    run(train.main, "--resume", f"--data_dir={moved}", "--noexport", out)
    assert "explanations" in before and json.loads(evaluation.read_text()) == before
