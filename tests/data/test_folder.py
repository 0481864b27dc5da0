import os
import shutil

import numpy as np
import pytest
from PIL import Image

from mcattn_tf.data.sets import folder
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig


def write_image(path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6, 3), grey, np.uint8)).save(path)


def source(root):
    return folder.source(DataConfig(dataset="folder", data_dir=str(root)))


def read_all(part):
    return list(part.examples(0).as_numpy_iterator())


def names(part):
    return [part.name(index) for index in range(part.count)]


def refused(root) -> str:
    with pytest.raises(UserError) as raised:
        for part in source(root).parts.values():
            part.check()
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.fixture
def table_dir(tmp_path):
    """Four images and a table with parts and groups."""
    root = tmp_path / "table"
    for index, name in enumerate(("a.png", "b.JPG", "more/c.png", "ü d.png")):
        write_image(root / name, 10 * index)
    rows = ("file,Bald,split,group,Young", "a.png,1,train,ann,0", "b.JPG,0,train,bob,0")
    rows += ("more/c.png,1,val,cid,1", "ü d.png,0,train,ann,1")
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def check_table(loaded):
    assert loaded.attributes == ("Bald", "Young")
    assert not loaded.exclusive
    assert list(loaded.parts) == ["train", "validation"]
    train, validation = loaded.parts.values()
    assert names(train) == ["a.png", "b.JPG", "ü d.png"]
    assert train.labels.dtype == np.int8
    np.testing.assert_array_equal(train.labels, [[1, 0], [0, 0], [0, 1]])
    np.testing.assert_array_equal(train.groups, [0, 1, 0])
    assert names(validation) == ["more/c.png"]
    np.testing.assert_array_equal(validation.labels, [[1, 1]])
    np.testing.assert_array_equal(validation.groups, [2])


def test_a_table_of_labels(table_dir):
    loaded = source(table_dir)
    check_table(loaded)
    indices, encoded, labels = zip(*read_all(loaded.parts["train"]), strict=True)
    assert list(encoded) == [(table_dir / n).read_bytes() for n in ("a.png", "b.JPG", "ü d.png")]
    np.testing.assert_array_equal(labels, [[1, 0], [0, 0], [0, 1]])
    assert indices == (0, 1, 2)
    third = loaded.parts["train"].read(np.int64(2)).numpy()
    assert third == (table_dir / "ü d.png").read_bytes()
    assert [labels.numpy().tolist() for *_, labels in loaded.parts["train"].examples(2)] == [[0, 1]]


def test_a_table_as_spreadsheets_write_it(table_dir):
    path = table_dir / "labels.csv"
    text = path.read_text(encoding="utf-8").replace(",1,", ", 1 ,").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n   \r\n")
    check_table(source(table_dir))


def test_minus_one_is_absent_and_without_a_split_all_images_are_to_train_on(table_dir):
    (table_dir / "labels.csv").write_text('x,"Bald, or so"\n./a.png,-1\nmore/../b.JPG,1\n')
    loaded = source(table_dir)
    assert loaded.attributes == ("Bald, or so",)
    assert list(loaded.parts) == ["train"]
    assert names(loaded.parts["train"]) == ["a.png", "b.JPG"]
    np.testing.assert_array_equal(loaded.parts["train"].labels, [[0], [1]])
    assert loaded.parts["train"].groups is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "line 1: expected a column of file names and one or more of attributes"),
        ("file,split\na.png,train", "line 1: expected a column of file names and one or more"),
        ("file;Bald\na.png;1", "line 1: expected columns divided by commas. Received: 'file;Bald'"),
        ("file\tBald\na.png\t1", "line 1: expected columns divided by commas"),
        ("file,Bald,Old,Bald\n", "line 1: two columns are called 'Bald'"),
        ("file,Bald,\na.png,1,", "line 1: column 3 has no name"),
        ("file,Bald\n", "labels.csv has no rows of images"),
        ("file,Bald\na.png,1\n\nz.png,1", "line 4: there is no file 'z.png'"),
        ("file,Bald\nmore.png,1", "line 2: there is no file 'more.png'"),
        (
            "file,Bald,split,group\na.png,1,train,ann\nmore/c.png,1,val,ann",
            "line 3: group 'ann' is in validation, and in train by line 2",
        ),
        ("file,Bald\nmore,1", "line 2: there is no file 'more'"),
        ("file,Bald\nmore\\c.png,1", "no file 'more\\\\c.png'; write / between folders, not \\"),
        ("file,Bald\n,1", "line 2: expected the name of an image"),
        ("file,Bald\na\0.png,1", "line 2: there is no file 'a\\x00.png'"),
        ("file,Bald\n/a.png,1", "expected the name of a file in the folder of labels.csv"),
        ("file,Bald\nC:\\a.png,1", "expected the name of a file in the folder of labels.csv"),
        ("file,Bald\n../a.png,1", "Received: '../a.png'"),
        ("file,Bald\nmore/../../a.png,1", "Received: 'more/../../a.png'"),
        ("file,Bald\na.png,1\nb.JPG,0\n./a.png,1", "lines 2 and 4: both name 'a.png'"),
        ("file,Bald\na.png,1,0", "line 2: expected 2 values. Received: 3"),
        ("file,Bald,Old\na.png,1", "line 2: expected 3 values. Received: 2"),
        (
            "file,Bald,Old\na.png,1,yes",
            "line 2: expected 0, 1, -1 or ? (unknown) for 'Old'. Received: 'yes'",
        ),
        (
            "file,Bald\na.png,1\nb.JPG,2",
            "line 3: expected 0, 1, -1 or ? (unknown) for 'Bald', or names of classes alone. "
            "Received: '2'",
        ),
        (
            "file,Old,Bald\na.png,0,1\nb.JPG,1,-1\nmore/c.png,1,0",
            "line 4: expected 0 and 1, or -1 and 1, for 'Bald'. Received: both 0 and -1; "
            "pass --zero_is_unknown if 0 means unknown and -1 absent",
        ),
        (
            "file,Bald,split\na.png,1,practice",
            "line 2: expected a split of train, training, validation, valid, val, dev, test, "
            "testing. Received: 'practice'",
        ),
        ("file,Bald,group\na.png,1, ", "line 2: expected a group. Received: ' '"),
        ('file,Bald\na.png,1\n"b.JPG,0\n', "line 3: not a row of a table"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(table_dir, table, message):
    (table_dir / "labels.csv").write_text(table)
    assert message in refused(table_dir)


def test_a_table_in_another_encoding_says_where(table_dir):
    (table_dir / "labels.csv").write_bytes("file,Bald\na.png,1\nü d.png,1\n".encode("latin1"))
    assert refused(table_dir).endswith("labels.csv, line 3: expected text in UTF-8")


@pytest.fixture
def class_dir(tmp_path):
    """Two images of a bus, one of a car, and what is no image."""
    root = tmp_path / "classes"
    write_image(root / "car" / "1.png", 30)
    write_image(root / "bus" / "red" / "2.JPEG", 20)
    write_image(root / "bus" / "1.jpg", 10)
    write_image(root / ".cache" / "1.png", 0)
    write_image(root / "bus" / ".hidden" / "1.png", 0)
    write_image(root / "bus" / "._1.png", 0)
    (root / "bus" / "notes.txt").write_text("two buses")
    return root


def test_a_folder_a_class(class_dir):
    loaded = source(class_dir)
    assert loaded.attributes == ("bus", "car")
    assert loaded.exclusive
    assert list(loaded.parts) == ["train"]
    train = loaded.parts["train"]
    assert names(train) == ["bus/1.jpg", "bus/red/2.JPEG", "car/1.png"]
    assert train.labels.dtype == np.int64
    np.testing.assert_array_equal(train.labels, [0, 0, 1])
    examples = read_all(train)
    assert [encoded for _, encoded, _ in examples] == [
        (class_dir / name).read_bytes() for name in names(train)
    ]
    assert [label for *_, label in examples] == [0, 0, 1]


def test_parts_of_class_folders(class_dir, tmp_path):
    root = tmp_path / "parts"
    shutil.copytree(class_dir, root / "train")
    write_image(root / "val" / "car" / "9.jpeg", 90)
    write_image(root / "test" / "bus" / "8.png", 80)
    loaded = source(root)
    assert {part: names(loaded.parts[part]) for part in loaded.parts} == {
        "test": ["test/bus/8.png"],
        "train": ["train/bus/1.jpg", "train/bus/red/2.JPEG", "train/car/1.png"],
        "validation": ["val/car/9.jpeg"],
    }
    assert loaded.parts["validation"].labels.tolist() == [1]
    assert loaded.parts["test"].labels.tolist() == [0]
    assert loaded.attributes == ("bus", "car")


def test_a_class_may_be_called_train(class_dir):
    write_image(class_dir / "train" / "1.png", 1)
    loaded = source(class_dir)
    assert loaded.attributes == ("bus", "car", "train")
    assert loaded.parts["train"].labels.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: shutil.rmtree(d / "car"), "two or more classes. Received: bus"),
        (
            lambda d: (d / "car" / "1.png").unlink(),
            "car has no JPEG or PNG images. Received: no file",
        ),
        (
            lambda d: [shutil.rmtree(d / name) for name in ("car", "bus")],
            "must hold labels.csv, or one folder of images for each class",
        ),
        (
            lambda d: [(d / name).mkdir() for name in ("train", "test")],
            "must hold folders of parts (test, train) or of classes. Received: 'bus' too",
        ),
        (
            lambda d: [(d / "bus").rename(d / "train"), (d / "car").rename(d / "val")],
            "train must hold one folder of images for each of two or more classes. Received: red",
        ),
    ],
)
def test_folders_that_cannot_be_used_say_why(class_dir, damage, message):
    damage(class_dir)
    assert message in refused(class_dir)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (["test/van/1.png"], "test/van: expected a class that train has too. Received: 'van'"),
        (["test/bus/1.txt"], "test/bus has no JPEG or PNG images. Received: 1 .txt"),
        (["test/1.png"], "test has no class folders"),
        (["val/bus/1.png", "validation/bus/1.png"], "has both val and validation"),
    ],
)
def test_parts_that_cannot_be_used_say_why(class_dir, tmp_path, made, message):
    root = tmp_path / "parts"
    shutil.copytree(class_dir, root / "train")
    for name in made:
        (root / name).parent.mkdir(parents=True)
        source = class_dir / ("bus/notes.txt" if name.endswith(".txt") else "car/1.png")
        shutil.copy(source, root / name)
    assert message in refused(root)


def test_the_folder_must_be_there(tmp_path):
    with pytest.raises(UserError, match=r"^--dataset folder needs --data_dir DIR"):
        folder.source(DataConfig(dataset="folder"))
    assert "none does not exist; name the place" in refused(tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file").endswith("file is not a folder")


def test_the_fingerprint_is_of_files_and_labels_and_not_of_the_place(table_dir, tmp_path):
    def fingerprint(root):
        return source(root).parts["train"].fingerprint()

    first = fingerprint(table_dir)
    moved = shutil.copytree(table_dir, tmp_path / "moved")
    assert fingerprint(moved) == first
    assert source(moved).parts["validation"].fingerprint() != first
    table = (moved / "labels.csv").read_text(encoding="utf-8")
    for changed in (table.replace("a.png,1", "a.png,0"), table.replace("Bald", "Old")):
        (moved / "labels.csv").write_text(changed, encoding="utf-8")
        assert fingerprint(moved) != first
    (moved / "labels.csv").write_text(table, encoding="utf-8")
    write_image(moved / "more" / "c.png", 99)  # of another part
    assert fingerprint(moved) == first
    os.utime(moved / "a.png", ns=(1, 1))
    assert fingerprint(moved) != first


def test_the_fingerprint_of_a_file_that_has_gone(table_dir):
    part = source(table_dir).parts["train"]
    (table_dir / "b.JPG").unlink()
    with pytest.raises(UserError, match=r"cannot read .*/b\.JPG: No such file"):
        part.fingerprint()
