"""CelebA from its files: layouts, lists, fingerprints, and what is said of damaged ones."""

import dataclasses
import io
import os
import shutil
import sys
import types
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mcattn_tf.config import DataConfig
from mcattn_tf.data import celeba, landmarks, part_masks
from mcattn_tf.data.files import open_files
from mcattn_tf.data.lists import read_list
from mcattn_tf.data.source import Source
from mcattn_tf.data.split import split_of_arrays
from mcattn_tf.errors import UserError

IMAGES, ATTRIBUTES = "img_align_celeba", "list_attr_celeba"
PARTITIONS, LANDMARKS = "list_eval_partition", "list_landmarks_align_celeba"
NAMES = ("Bald", "Smiling", "Young")
ROWS = ["-1 1 1", "1 -1 -1", "-1 -1 1", "1 1 1", "-1 1 -1"]
LABELS = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]], np.uint8)
PARTS = [0, 2, 0, 1, 0]
INDICES = {"train": [0, 2, 4], "validation": [3], "test": [1]}


def image_bytes(index):
    """A grey image; the last bytes are zeros, which NumPy's texts would drop."""
    file = io.BytesIO()
    Image.new("RGB", (178, 218), (10 * index + 10,) * 3).save(file, "PNG")
    return file.getvalue() + b"\0\0"


@pytest.fixture
def root(tmp_path):
    """Five images in CelebA's layout: 3 to train, 1 to validate, 1 to test."""
    root = tmp_path / "celeba"
    (root / IMAGES).mkdir(parents=True)
    for index in range(5):
        (root / IMAGES / f"{index:06d}.jpg").write_bytes(image_bytes(index))
    write_attributes(root, ROWS)
    write_partitions(root, PARTS)
    return root


def write_attributes(root, rows, header="Bald Smiling Young ", count=None):
    lines = [f"{index:06d}.jpg  {row}" for index, row in enumerate(rows)]
    text = [str(len(rows) if count is None else count), header, *lines]
    (root / f"{ATTRIBUTES}.txt").write_bytes(("\r\n".join(text) + "\r\n").encode())


def write_partitions(root, parts):
    lines = [f"{index:06d}.jpg {part}" for index, part in enumerate(parts)]
    (root / f"{PARTITIONS}.txt").write_bytes(("\r\n".join(lines) + "\r\n").encode())


def replace(root, name, old, new):
    text = (root / name).read_bytes()
    assert text.count(old) == 1
    (root / name).write_bytes(text.replace(old, new))


def to_csv(root, minus=b"0"):
    """Rewrites the lists as the repackaged copies have them."""
    for stem, skipped, header in (
        (ATTRIBUTES, 2, f"image_id,{','.join(NAMES)}"),
        (PARTITIONS, 0, "image_id,partition"),
    ):
        rows = (root / f"{stem}.txt").read_bytes().replace(b"-1", minus).splitlines()[skipped:]
        lines = [header.encode(), *(b",".join(row.split()) for row in rows)]
        (root / f"{stem}.csv").write_bytes(b"\n".join(lines) + b"\n")
        (root / f"{stem}.txt").unlink()


def zip_folder(folder, path, base=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(base or folder))
    return path


def load(data_dir) -> Source:
    return celeba.source(DataConfig(dataset="celeba", data_dir=str(data_dir)))


def read(part, index):
    return part.read(tf.constant(index, tf.int64)).numpy()


def check(source):
    assert source.attributes == NAMES and not source.exclusive
    assert list(source.parts) == ["train", "validation", "test"]
    for name, indices in INDICES.items():
        part = source.parts[name]
        assert part.count == len(indices)
        np.testing.assert_array_equal(part.labels, LABELS[indices])
        assert part.labels.dtype == np.uint8
        for place, index in enumerate(indices):
            assert read(part, place) == image_bytes(index)
            assert part.name(place) == f"img_align_celeba/{index:06d}.jpg"
    examples = list(source.parts["train"].examples(1).as_numpy_iterator())
    assert [image for image, _ in examples] == [image_bytes(2), image_bytes(4)]
    np.testing.assert_array_equal([labels for _, labels in examples], LABELS[[2, 4]])


def message_of(data_dir):
    with pytest.raises(UserError) as raised:
        load(data_dir)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_folder(root):
    check(load(root))


def as_zip(root):
    return zip_folder(root, root.parent / "all.zip")


def as_zip_with_a_folder(root):
    return zip_folder(root, root.parent / "all.zip", root.parent)


def with_zip_of_images(root):
    zip_folder(root / IMAGES, root / f"{IMAGES}.zip", root)
    shutil.rmtree(root / IMAGES)
    return root


def with_zip_of_images_alone(root):
    zip_folder(root / IMAGES, root / f"{IMAGES}.zip")
    shutil.rmtree(root / IMAGES)
    return root


def as_published(root):
    for folder, name in (
        ("Img", IMAGES),
        ("Anno", f"{ATTRIBUTES}.txt"),
        ("Eval", f"{PARTITIONS}.txt"),
    ):
        (root / folder).mkdir()
        (root / name).rename(root / folder / name)
    return root


def as_published_with_zip(root):
    with_zip_of_images(root)
    (root / "Img").mkdir()
    (root / f"{IMAGES}.zip").rename(root / "Img" / f"{IMAGES}.zip")
    (root / "Anno").mkdir()
    (root / f"{ATTRIBUTES}.txt").rename(root / "Anno" / f"{ATTRIBUTES}.txt")
    return root


def repackaged(root, minus=b"0"):
    to_csv(root, minus)
    (root / IMAGES).rename(root / "inner")
    (root / IMAGES).mkdir()
    (root / "inner").rename(root / IMAGES / IMAGES)
    return root


@pytest.mark.parametrize(
    "layout",
    [
        as_zip,
        as_zip_with_a_folder,
        with_zip_of_images,
        with_zip_of_images_alone,
        as_published,
        lambda root: as_zip_with_a_folder(as_published(root)),
        as_published_with_zip,
        repackaged,
        lambda root: repackaged(root, b"-1"),
        lambda root: as_zip(repackaged(root)),
    ],
)
def test_layouts_hold_the_same(root, layout):
    check(load(layout(root)))


def rewrite(root, change):
    for name in (f"{ATTRIBUTES}.txt", f"{PARTITIONS}.txt"):
        (root / name).write_bytes(change((root / name).read_bytes()))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + b"\r\n  \r\n\n",
        lambda text: text.replace(b"\r\n", b"\n"),
        lambda text: text.replace(b"\r\n", b"\r"),
        lambda text: text.rstrip(),
        lambda text: text.replace(b"\r\n", b" \t\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"-1", b"0"),
        lambda text: text.replace(b"-1", b"0", 2),
    ],
)
def test_lists_may_be_written_otherwise(root, change):
    rewrite(root, change)
    check(load(root))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b",", b", ").replace(b"\n", b" \r\n"),
        lambda text: b"\xef\xbb\xbf" + text + b"\n \n",
        lambda text: b'"' + text.replace(b",", b'","').replace(b"\n", b'"\n"')[:-1],
    ],
)
def test_csv_lists_may_be_written_otherwise(root, change):
    to_csv(root)
    for path in root.glob("*.csv"):
        path.write_bytes(change(path.read_bytes()))
    check(load(root))


def test_stray_files_are_no_images(root):
    for name in (".DS_Store", "Thumbs.db", "._000001.jpg", "readme.txt"):
        (root / IMAGES / name).write_text("?")
    (root / IMAGES / "deeper").mkdir()
    check(load(root))
    check(load(as_zip(root)))


def test_rows_come_in_the_order_of_the_partition_list(root):
    path = root / f"{PARTITIONS}.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    train = load(root).parts["train"]
    assert [train.name(index)[-10:] for index in range(3)] == [
        f"{index:06d}.jpg" for index in (4, 2, 0)
    ]
    np.testing.assert_array_equal(train.labels, LABELS[[4, 2, 0]])
    assert read(train, 0) == image_bytes(4)


def test_a_subset_needs_no_other_attribute_list(root):
    write_attributes(root, [*ROWS, "1 1 1", "-1 -1 -1"])
    check(load(root))
    (root / IMAGES / "000005.jpg").write_bytes(image_bytes(5))
    message = message_of(root)
    assert "list_eval_partition.txt: expected a row for" in message
    assert "img_align_celeba/000005.jpg. Received: none, and 1 images" in message


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
        "line 5: expected an image name and 3 whole numbers. Received: 2 in '000002.jpg  1 -1'",
    ),
    (
        lambda d: write_attributes(d, [*ROWS[:4], "1 -1 1 1"]),
        "line 7: expected an image name and 3 whole numbers. Received: 4 in '000004.jpg  1 -1 1 1'",
    ),
    (
        lambda d: write_attributes(d, [*ROWS[:2], "1 2 -1", *ROWS[3:]]),
        "line 5: expected one of -1, 0, 1 for Smiling. Received: '2'",
    ),
    (
        lambda d: write_attributes(d, [*ROWS[:2], "1 1 1.0", *ROWS[3:]]),
        "line 5: expected one of -1, 0, 1 for Young. Received: '1.0'",
    ),
    (
        lambda d: write_attributes(d, ["- 1 1", *ROWS[1:]]),
        "line 3: expected one of -1, 0, 1 for Bald. Received: '-'",
    ),
    (
        lambda d: write_attributes(d, ["1 1 4294967297", *ROWS[1:]]),
        "line 3: expected one of -1, 0, 1 for Young. Received: '4294967297'",
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
        ", line 4: expected an image name and 1 whole numbers. Received: 0 in '000003.jpg'",
    ),
    (
        lambda d: replace(d, f"{PARTITIONS}.txt", b"000003.jpg", b"000001.jpg"),
        ", line 4: expected one row for each image. Received: 000001.jpg again, which line 2 has",
    ),
    (
        lambda d: (d / IMAGES / "000002.jpg").unlink(),
        "line 3: expected an image {images}/000002.jpg. Received: none, and 1 images",
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
        (ATTRIBUTES, b"image_id,Bald,Smiling,Young", b"", "line 1: expected 'image_id' and"),
        (ATTRIBUTES, b"Bald,", b",", "line 1: expected 'image_id' and a name for each column"),
        (ATTRIBUTES, b"000000.jpg,0,1,1", b"000000.jpg,,1,1", "line 2: expected an image name"),
        (ATTRIBUTES, b"000000.jpg,0,1,1", b"000000.jpg,,1,1,0", "line 2: expected an image name"),
        (ATTRIBUTES, b"000000.jpg,0,1,1", b"000000.jpg,0 1,1", "line 2: expected an image name"),
        (ATTRIBUTES, b"000000.jpg,0,1,1", b"000000.jpg,0,1,x", "line 2: expected one of -1, 0, 1"),
        (PARTITIONS, b",partition", b",part", "line 1: expected a column 'partition'. Received"),
        (PARTITIONS, b"000003.jpg,1", b"000003.jpg,7", "line 5: expected one of 0, 1, 2"),
    ],
)
def test_a_damaged_csv_list_is_named_with_its_line(root, name, old, new, message):
    to_csv(root)
    replace(root, f"{name}.csv", old, new)
    assert f"{root / name}.csv, {message}" in message_of(root)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: (d / f"{PARTITIONS}.txt").unlink(),
        lambda d: (d / f"{ATTRIBUTES}.txt").unlink(),
        lambda d: shutil.rmtree(d / IMAGES),
        lambda d: [path.unlink() for path in (d / IMAGES).iterdir()],
    ],
)
def test_what_the_folder_must_hold_is_said(root, damage):
    damage(root)
    assert f"--data_dir {root} must hold img_align_celeba/" in message_of(root)
    assert "must hold img_align_celeba/" in message_of(as_zip(root))


def test_a_data_dir_that_does_not_exist_is_named(tmp_path):
    assert message_of(tmp_path / "nowhere") == f"--data_dir {tmp_path / 'nowhere'} does not exist"


def test_without_files_the_data_come_through_tfds(root, monkeypatch):
    through_tfds = types.ModuleType("mcattn_tf.data.through_tfds")
    through_tfds.source = lambda config: ("tfds", config.data_dir)
    monkeypatch.setitem(sys.modules, through_tfds.__name__, through_tfds)
    monkeypatch.setattr("mcattn_tf.data.through_tfds", through_tfds, raising=False)
    assert celeba.source(DataConfig(dataset="celeba")) == ("tfds", None)
    check(load(root))
    shutil.rmtree(root)
    (root / "downloads").mkdir(parents=True)
    assert load(root) == ("tfds", str(root))


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/evil.jpg", "a/../../evil.jpg", "a\\evil.jpg", "C:/evil.jpg"]
)
def test_a_zip_with_members_outside_of_it_is_refused(root, name):
    path = as_zip(root)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"?")
    assert f"{path} has a member outside of the archive's own folder, {name!r}" in message_of(path)


def test_members_with_dots_in_their_names_are_no_danger(root):
    (root / "..notes").write_text("?")
    check(load(as_zip(root)))


def test_a_damaged_zip_is_named(root):
    path = as_zip(root)
    path.write_bytes(path.read_bytes()[:-30])
    expected = f"cannot read {path}: expected a folder or a zip archive. Received: "
    assert message_of(path).startswith(expected)
    path.write_text("no archive")
    assert message_of(path).startswith(expected)


def test_a_damaged_member_of_a_zip_is_named(root):
    path = with_zip_of_images(root) / f"{IMAGES}.zip"
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo(f"{IMAGES}/000002.jpg").header_offset + 60
    content = bytearray(path.read_bytes())
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)
    train = load(root).parts["train"]
    assert read(train, 0) == image_bytes(0)
    message = rf"cannot read {path}/{IMAGES}/000002\.jpg: "
    with pytest.raises(UserError, match=message):
        read(train, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):  # as of a bad image
        list(train.examples(1))


def test_a_zip_inside_a_zip_is_refused(root):
    path = as_zip(with_zip_of_images(root))
    assert message_of(path) == (
        f"{path / IMAGES}.zip is an archive inside an archive; unpack {path}"
    )


def test_a_zip_is_read_by_many_threads(root):
    path = as_zip(root)
    part = load(path).parts["train"]
    indices = tf.data.Dataset.range(3).repeat(200)
    images = indices.map(part.read, num_parallel_calls=8).as_numpy_iterator()
    expected = [image_bytes(index) for index in INDICES["train"]]
    assert list(images) == expected * 200


def fingerprints(data_dir):
    return {name: part.fingerprint() for name, part in load(data_dir).parts.items()}


def test_fingerprints_change_with_an_image(root):
    before = fingerprints(root)
    assert len(set(before.values())) == 3 and before == fingerprints(root)
    path = root / IMAGES / "000002.jpg"
    times = path.stat()
    path.write_bytes(image_bytes(7))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    after = fingerprints(root)
    assert after["train"] != before["train"] and after["test"] == before["test"]
    with path.open("ab") as file:
        file.write(b"more")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))  # the size alone is another
    assert fingerprints(root)["train"] != after["train"]


def test_fingerprints_change_with_a_label_a_name_and_a_partition(root):
    before = fingerprints(root)
    write_attributes(root, ["-1 -1 1", *ROWS[1:]])
    label = fingerprints(root)
    assert label["train"] != before["train"] and label["test"] == before["test"]
    write_attributes(root, ROWS, header="Bald Smiling Old")
    renamed = fingerprints(root)
    assert all(renamed[name] != before[name] for name in before)
    write_attributes(root, ROWS)
    write_partitions(root, [0, 2, 0, 1, 2])
    moved = fingerprints(root)
    assert moved["train"] != before["train"] and moved["validation"] == before["validation"]


def test_fingerprints_of_moved_data_are_the_same(root, tmp_path):
    before = fingerprints(root)
    (tmp_path / "elsewhere").mkdir()
    moved = root.rename(tmp_path / "elsewhere" / "faces")
    assert fingerprints(moved) == before
    zipped = fingerprints(as_zip(moved))
    with_folder = fingerprints(zip_folder(moved, tmp_path / "other.zip", moved.parent))
    assert zipped == with_folder


def test_fingerprints_of_a_zip_change_with_an_image(root):
    before = fingerprints(as_zip(root))
    (root / IMAGES / "000002.jpg").write_bytes(image_bytes(2)[:-1] + b"\1")  # of the same size
    after = fingerprints(as_zip(root))
    assert after["train"] != before["train"] and after["test"] == before["test"]


def test_images_are_not_looked_at_before_the_fingerprint_is_asked_for(root):
    train = load(root).parts["train"]
    shutil.rmtree(root / IMAGES)
    with pytest.raises(UserError, match=rf"cannot read {root}/{IMAGES}/000000.jpg: No such file"):
        train.fingerprint()


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


def load_boxes(root, indices=(1, 4)):
    images = np.stack([np.full((109, 89, 3), 10 * index, np.uint8) for index in indices])
    split = dataclasses.replace(
        split_of_arrays(images, LABELS[list(indices)]),
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
    as_published(root)
    (root / f"{LANDMARKS}.txt").rename(root / "Anno" / f"{LANDMARKS}.txt")
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
            lambda d: replace(d, f"{LANDMARKS}.txt", b"000004.jpg 69", b"000004.jpg"),
            ".txt, line 3: expected an image name and 10 whole numbers. Received: 9 in ",
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
    numbers = [[0, -1, 12], [-987, 65432, 7], [999999999, -999999999, -0]]
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
