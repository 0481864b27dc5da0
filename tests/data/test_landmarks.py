"""Boxes around landmarks of faces, and landmarks read from their list."""

import numpy as np
import pytest
from celeba_files import WITH_PARTS, make_celeba_with_parts

from mcattn_tf import data
from mcattn_tf.data.regions.landmarks import BOXES, box_region
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

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


@pytest.fixture
def celeba_dir(tmp_path):
    return make_celeba_with_parts(tmp_path / "celeba")


def load_boxes(celeba_dir, name="test", **fields):
    config = DataConfig(dataset="celeba", data_dir=str(celeba_dir), image_size=HALF, **fields)
    return data.load_regions(config, name)


@pytest.mark.parametrize(
    ("split", "indices"), [("train", (0, 2)), ("validation", (3,)), ("test", (1, 4))]
)
def test_landmark_boxes_follow_the_split(celeba_dir, split, indices):
    rows = {name: shifted(index) for index, name in enumerate(WITH_PARTS)}
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
        labels = WITH_PARTS[f"{index:06d}.jpg"][0].split()[1:]
        assert batch.present["labelled"][row].tolist() == [label == "1" for label in labels]


def test_landmark_boxes_are_of_the_images_that_were_trained_on(celeba_dir):
    write_landmarks(celeba_dir, dict.fromkeys(WITH_PARTS, POINTS))
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
            {name: POINTS for name in WITH_PARTS if name != "000004.jpg"},
            "list_landmarks_align_celeba.txt has no row for 000004.jpg",
        ),
        (
            dict.fromkeys(WITH_PARTS, POINTS) | {"000002.jpg": POINTS[:8]},
            "list_landmarks_align_celeba.txt, line 5: expected an image name and 10 values",
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
