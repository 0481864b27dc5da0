"""Labels of lists and tables, known and unknown, up to batches and counts."""

import numpy as np
import pytest
from celeba_files import ATTRIBUTES, NAMES, make_celeba, to_csv, write_attributes, write_partitions
from conftest import split_of_arrays
from test_celeba_lists import load_boxes, write_landmarks
from test_folder import write_image

from mcattn_tf import data
from mcattn_tf.data.lists import BLANK, FALSE, labels_of, read_label
from mcattn_tf.data.regions import part_masks
from mcattn_tf.data.split import Data, Split, format_statistics, one_sided_labels
from mcattn_tf.errors import UserError
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.data import DataConfig

# Cells of K = 3 attributes of N = 5 images, and what they say.
CELLS = [
    ["0", "1", "?"],
    ["1", "?", "False"],
    ["1", "-1.0", "true"],
    ["0", "1", "false"],
    ["1"] * 3,
]
LABELS = [[0, 1, -1], [1, -1, 0], [1, 0, 1], [0, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("cells", "number"),
    [
        (("1", " 1 ", "1.0", "+1", "True", "TRUE", "true"), 1),
        (("0", "0.0", "-0", " 0"), 0),
        (("-1", "-1.0", " -1"), -1),
        (("False", " false", "FALSE"), FALSE),
        (("", "  ", "?", " ? "), BLANK),
        (("2", "0.5", "yes", "-", "nan", "1 0", "??"), None),
    ],
)
def test_cells_of_labels(cells, number):
    assert [read_label(cell) for cell in cells] == [number] * len(cells)


def test_zero_is_absent_or_unknown_as_the_flag_says(tmp_path):
    values = np.array([[1, 0, -1], [BLANK, 1, 1], [0, 0, BLANK], [FALSE, 1, FALSE]])
    for zero_is_unknown, expected in (
        (False, [[1, 0, 0], [-1, 1, 1], [0, 0, -1], [0, 1, 0]]),
        (True, [[1, -1, 0], [-1, 1, 1], [-1, -1, -1], [0, 1, 0]]),
    ):
        read = labels_of(tmp_path, NAMES, [2, 3, 5, 6], values, zero_is_unknown)
        assert read.tolist() == expected and read.dtype == np.int8


def write_celeba(root, cells, kind):
    root = make_celeba(root)
    write_attributes(root, [" ".join(row) for row in cells])
    write_partitions(root, [0, 0, 0, 1, 2])
    if kind == "csv":
        to_csv(root, minus=b"-1")
    return root


def write_table(root, cells):
    rows = [f"file,{','.join(NAMES)},split"]
    for index, (row, part) in enumerate(zip(cells, ["train"] * 3 + ["val", "test"], strict=True)):
        write_image(root / f"{index}.png", 10 * index)
        rows.append(f"{index}.png,{','.join(row)},{part}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


WRITERS = {
    "celeba": lambda root, cells: write_celeba(root, cells, "txt"),
    "celeba csv": lambda root, cells: write_celeba(root, cells, "csv"),
    "folder": write_table,
}


def config_of(kind, root, **fields):
    settings = {"dataset": kind.split()[0], "data_dir": str(root), "image_size": (8, 6)}
    return DataConfig(**settings | fields)


def every_label(split):
    """The labels that batches have, without the images."""
    return split.labels_of(np.arange(split.count))


@pytest.mark.parametrize("kind", WRITERS)
def test_all_readers_read_labels_by_one_rule(tmp_path, kind):
    root = WRITERS[kind](tmp_path / "data", CELLS)
    for no_cache in (False, True):
        loaded = data.load(config_of(kind, root, no_cache=no_cache))
        read = [every_label(loaded.split(name)) for name in ("train", "validation", "test")]
        if kind == "folder":  # in random order
            read[0] = read[0][np.argsort([loaded.train.name_of(index) for index in range(3)])]
        np.testing.assert_array_equal(np.concatenate(read), LABELS)


@pytest.mark.parametrize("kind", WRITERS)
def test_all_readers_refuse_both_zero_and_minus_one_in_a_column(tmp_path, kind):
    cells = [["1", "0", "1"], ["1", "-1", "-1"], ["1", "-1", "1"], ["1", "0", "1"], ["-1"] * 3]
    root = WRITERS[kind](tmp_path / "data", cells)
    line = 4 if kind == "celeba" else 3
    place = "labels.csv" if kind == "folder" else f"{ATTRIBUTES}.{kind.partition(' ')[2] or 'txt'}"
    with pytest.raises(UserError) as raised:
        data.load(config_of(kind, root))
    assert str(raised.value) == (
        f"{root / place}, line {line}: expected 0 and 1, or -1 and 1, for 'Smiling'. Received: "
        "both 0 and -1; pass --zero_is_unknown if 0 means unknown and -1 absent"
    )
    loaded = data.load(config_of(kind, root, zero_is_unknown=True))
    names = [loaded.train.name_of(index) for index in range(3)]
    read = every_label(loaded.train)
    assert read[np.argsort(names), 1].tolist() == [-1, 0, 0]


@pytest.mark.parametrize("dataset", ["faces", "cifar10", "imagenet2012"])
def test_zero_is_unknown_only_in_lists_of_labels(dataset):
    with pytest.raises(UserError, match="`zero_is_unknown` must be left out for"):
        make_config({"data": {"dataset": dataset, "zero_is_unknown": True}})


def test_zero_is_unknown_only_where_labels_may_be_unknown(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / "folders" / name / "0.png", 0)
        write_image(tmp_path / "table" / f"{name}.png", 0)
    (tmp_path / "table" / "labels.csv").write_text("file,label\na.png,cat\nb.png,dog\n")
    for root in ("folders", "table"):
        config = config_of("folder", tmp_path / root, zero_is_unknown=True)
        with pytest.raises(UserError, match="are classes, which are known; leave it out"):
            data.load(config)
    with pytest.raises(UserError, match="through tensorflow-datasets knows all labels"):
        data.load(DataConfig(dataset="celeba", zero_is_unknown=True))


def test_unknown_labels_have_no_region_to_score(tmp_path):
    """Faces with landmark boxes, and faces with part masks that are tied to CelebA's images."""
    root = write_celeba(tmp_path / "celeba", CELLS, "txt")
    write_partitions(root, [2] * 5)
    write_landmarks(root, "txt")
    boxes = load_boxes(root, range(5), np.array(LABELS))
    assert boxes.attributes == NAMES[:2]
    scored = boxes.read(range(5)).present["labelled"]
    assert scored.tolist() == (np.array(LABELS)[:, :2] == 1).tolist()
    (tmp_path / "celeba_match.csv").write_text("key,celeba_file\na,000001.jpg\n")
    tied = part_masks._celeba_labels(tmp_path, config_of("celeba", root), {"a"})
    assert tied == {"a": {"Bald": True, "Smiling": False, "Young": False}}


def split_of(*rows):
    return split_of_arrays(np.zeros((len(rows), 2, 3, 3), np.uint8), np.array(rows, np.int8))


def test_unknown_labels_are_counted_apart():
    train = split_of([1, 0, -1], [1, -1, -1], [0, -1, -1], [1, 1, -1])
    loaded = Data(train, split_of([0, 1, 1]), split_of([1, 0, 0], [-1, 0, 1]), NAMES)
    lines = [line.split() for line in format_statistics(loaded).splitlines()]
    assert lines[1:] == [
        ["positives", "unknown", "%"] * 3,
        ["Bald", *("3", "0", "75.00"), *("0", "0", "0.00"), *("1", "1", "100.00")],
        ["Smiling", *("1", "2", "50.00"), *("1", "0", "100.00"), *("0", "0", "0.00")],
        ["Young", *("0", "4", "-"), *("1", "0", "100.00"), *("1", "0", "50.00")],
        ["images", *("4", "6", "100.00"), *("1", "0", "100.00"), *("2", "1", "100.00")],
    ]
    assert one_sided_labels(loaded) == [
        "warning: train has no images that tell Young",
        "warning: validation has no images with Bald",
        "warning: validation has no images without Smiling and Young",
        "warning: test has no images with Smiling",
        "warning: test has no images without Bald",
    ]


def test_without_unknown_labels_the_table_has_no_column_of_them():
    both = split_of([1, 0, 1], [0, 1, 0])
    loaded = Data(both, both, both, NAMES)
    assert "unknown" not in format_statistics(loaded)
    assert one_sided_labels(loaded) == []


def test_classes_that_a_split_lacks_are_named():
    def classes(*numbers):
        count = len(numbers)
        images = np.zeros((count, 2, 3, 3), np.uint8)
        return Split(images.__getitem__, np.array(numbers), 14, (2, 3), np.arange(count))

    names = tuple("abcdefghijklmn")
    loaded = Data(classes(*range(14)), classes(0, 1), classes(*range(1, 14)), names, True)
    assert one_sided_labels(loaded) == [
        "warning: validation has no images with c, d, e, f, g, h, i, j, k and 3 more",
        "warning: test has no images with a",
    ]
