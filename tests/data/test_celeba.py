"""CelebA from its files: layouts, archives and fingerprints."""

import os
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from celeba_files import (
    ATTRIBUTES,
    IMAGES,
    INDICES,
    LABELS,
    NAMES,
    PARTITIONS,
    ROWS,
    image_bytes,
    load,
    make_celeba,
    message_of,
    to_csv,
    write_attributes,
    write_partitions,
)

from mcattn_tf.data.sets import celeba, tfds
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig


@pytest.fixture
def root(tmp_path):
    return make_celeba(tmp_path / "celeba")


def zip_folder(folder, path, base=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(base or folder))
    return path


def read(part, index):
    return part.read(tf.constant(index, tf.int64)).numpy()


def check(source):
    assert source.attributes == NAMES and not source.exclusive
    assert list(source.parts) == ["train", "validation", "test"]
    for name, indices in INDICES.items():
        part = source.parts[name]
        assert part.count == len(indices)
        np.testing.assert_array_equal(part.labels, LABELS[indices])
        assert part.labels.dtype == np.int8
        for place, index in enumerate(indices):
            assert read(part, place) == image_bytes(index)
            assert part.name(place) == f"img_align_celeba/{index:06d}.jpg"
    examples = list(source.parts["train"].examples(1).as_numpy_iterator())
    assert [(index, image) for index, image, _ in examples] == [
        (1, image_bytes(2)),
        (2, image_bytes(4)),
    ]
    np.testing.assert_array_equal([labels for *_, labels in examples], LABELS[[2, 4]])


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
        lambda text: text.replace(b"-1 ", b"False ").replace(b" 1 ", b" 1.0 "),
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
    nowhere = tmp_path / "nowhere"
    assert message_of(nowhere).startswith(f"--data_dir {nowhere} does not exist; name the place")


def test_without_files_the_data_come_through_tfds(root, monkeypatch):
    monkeypatch.setattr(tfds, "source", lambda config: ("tfds", config.data_dir))
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
