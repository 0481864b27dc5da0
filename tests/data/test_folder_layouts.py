"""Spellings of parts, kinds of files and columns of classes in the user's own images."""

import shutil
import zipfile

import numpy as np
import pytest
from celeba_files import ATTRIBUTES, IMAGES, load, make_celeba, message_of, write_attributes
from PIL import Image
from test_folder import names, refused, source, write_image

from mcattn_tf.data.sets import arrays
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig


def write_encoded(path, kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(path, kind)


@pytest.mark.parametrize(
    "spellings",
    [
        ("train", "valid", "test"),
        ("Train", "Val", "Test"),
        ("TRAINING", "Validation", "Testing"),
        ("seg_train", "seg_dev", "seg_test"),
        ("train_set", "val-images", "test data"),
    ],
)
def test_parts_have_their_usual_names(tmp_path, spellings):
    for name in spellings:
        for class_name in "ab":
            write_image(tmp_path / name / class_name / "1.jpg", 10)
    loaded = source(tmp_path)
    assert loaded.attributes == ("a", "b")
    assert {part: names(loaded.parts[part]) for part in loaded.parts} == {
        part: [f"{name}/a/1.jpg", f"{name}/b/1.jpg"]
        for part, name in zip(("train", "validation", "test"), spellings, strict=True)
    }


def test_a_part_may_lie_in_a_folder_of_its_own_name(tmp_path):
    for name in ("seg_train", "seg_test"):
        for class_name in "ab":
            write_image(tmp_path / name / name / class_name / "1.jpg", 10)
    loaded = source(tmp_path)
    assert loaded.attributes == ("a", "b")
    assert names(loaded.parts["test"]) == ["seg_test/seg_test/a/1.jpg", "seg_test/seg_test/b/1.jpg"]


def test_folders_that_all_hold_the_same_folders_are_no_classes(tmp_path):
    for name in ("one/a", "one/b", "two/a"):
        write_image(tmp_path / name / "1.jpg", 10)
    message = "Received: one, two, which all hold folders of the same names (a, b); call parts"
    assert message in refused(tmp_path)
    write_image(tmp_path / "two" / "c" / "1.jpg", 10)  # now a class has kinds of its own
    assert source(tmp_path).attributes == ("one", "two")


def test_columns_and_values_of_splits_have_their_usual_names(tmp_path):
    rows = ["file,Bald,SPLIT,Group"]
    for name, split in {"a": "Train", "b": "training", "c": "Valid", "d": "TEST "}.items():
        write_image(tmp_path / f"{name}.png", 10)
        rows.append(f"{name}.png,1,{split},{name}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    loaded = source(tmp_path)
    assert loaded.attributes == ("Bald",)
    assert {part: names(loaded.parts[part]) for part in loaded.parts} == {
        "train": ["a.png", "b.png"],
        "validation": ["c.png"],
        "test": ["d.png"],
    }
    assert loaded.parts["train"].groups.tolist() == [0, 1]


def test_what_the_decoder_reads_is_read_and_the_rest_is_counted(tmp_path, capsys):
    for name in ("a/1.jpg", "a/2.jfif", "a/3.JPE", "a/4.webp", "b/5", "b/6.png"):
        write_encoded(tmp_path / name, "PNG" if name == "b/6.png" else "JPEG")
    for name in ("a/7.webp", "a/8.WEBP", "b/9.bmp"):
        write_encoded(tmp_path / name, name[4:].upper())
    for name in ("list.txt", "b/.DS_Store", "b/Thumbs.db"):
        (tmp_path / name).write_bytes(b"no image")
    write_encoded(tmp_path / "loose.jpg", "JPEG")  # of no class
    write_encoded(tmp_path / ".elsewhere" / "1.jpg", "JPEG")
    (tmp_path / "b" / "more").symlink_to(tmp_path / ".elsewhere")
    (tmp_path / "b" / "again").symlink_to(tmp_path)  # a loop
    loaded = source(tmp_path)
    assert loaded.attributes == ("a", "b")
    assert names(loaded.parts["train"]) == [
        *("a/1.jpg", "a/2.jfif", "a/3.JPE", "a/4.webp", "b/5", "b/6.png", "b/more/1.jpg")
    ]
    assert capsys.readouterr().out == (
        f"not used in {tmp_path}: 2 hidden, 2 .webp, 1 .bmp, 1 .db, 1 without ending, 1 .txt, "
        "1 .jpg (such as '.elsewhere')\n"
    )


def test_images_without_a_row_are_counted(tmp_path, capsys):
    for name in ("a.png", "b.png", "more/c.png"):
        write_image(tmp_path / name, 10)
    (tmp_path / "labels.csv").write_text("file,Bald\na.png,1\n")
    source(tmp_path)
    expected = f"not used in {tmp_path}: 2 .png (such as 'b.png')\n"
    assert capsys.readouterr().out == expected
    (tmp_path / "labels.csv").write_text("file,Bald\na.png,1\nb.png,0\nmore/c.png,1")
    source(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("zipped", [False, True])
def test_rows_and_files_of_celeba_that_are_not_used_are_counted(tmp_path, capsys, zipped):
    root = make_celeba(tmp_path / "celeba")
    (root / IMAGES / "Thumbs.db").write_bytes(b"no image")
    write_attributes(root, ["1 -1 1"] * 7)
    if zipped:
        with zipfile.ZipFile(root / f"{IMAGES}.zip", "w") as archive:
            for path in (root / IMAGES).iterdir():
                archive.write(path, f"{IMAGES}/{path.name}")
        shutil.rmtree(root / IMAGES)
    assert load(root).parts["train"].count == 3
    rows, files = capsys.readouterr().out.splitlines()
    assert rows.startswith(f"not used: 2 rows of {root / ATTRIBUTES}.txt, whose images ")
    place = root / f"{IMAGES}.zip" / IMAGES if zipped else root / IMAGES
    assert files == f"not used in {place}: 1 .db (such as 'Thumbs.db')"


def test_lists_and_archives_beside_those_of_celeba_that_are_read_are_named(tmp_path, capsys):
    root = make_celeba(tmp_path / "celeba")
    (root / "Img").mkdir()
    for name in (f"{IMAGES}.zip", f"Img/{IMAGES}.zip", f"{ATTRIBUTES}.csv", "list_other.csv"):
        (root / name).write_bytes(b"not read")
    assert load(root).parts["train"].count == 3
    [line] = capsys.readouterr().out.splitlines()
    expected = f"{ATTRIBUTES}.csv, {IMAGES}.zip, Img/{IMAGES}.zip"
    assert line == f"not used in {root}: {expected}"


def test_png_copies_of_celeba_are_told_from_missing_images(tmp_path):
    root = make_celeba(tmp_path / "celeba")
    for path in list((root / IMAGES).iterdir()):
        path.rename(path.with_suffix(".png"))
    message = "000000.jpg. Received: 000000.png; write .png for .jpg into every list"
    assert message_of(root).endswith(message)


def test_arrays_that_are_not_used_are_named(tmp_path, capsys):
    pixels, labels = np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 9])
    used = {f"x_{part}": pixels for part in ("train", "test")}
    used |= {f"y_{part}": labels for part in ("train", "test")}
    path = tmp_path / "cifar10.npz"
    np.savez(path, **used, x_valid=pixels, y_valid=labels)
    config = DataConfig(dataset="cifar10", data_dir=str(path))
    arrays.source(config)
    assert capsys.readouterr().out == f"not used in {path}: the arrays x_valid, y_valid\n"
    np.savez(path, **used, class_names=np.array([*"abcdefghi", "j\n"]))
    with pytest.raises(UserError, match=r"class_names: expected a name of 1 to 200 .*'j\\n'"):
        arrays.source(config)


@pytest.fixture
def table_of_classes(tmp_path):
    for name in "abcd":
        write_image(tmp_path / f"{name}.png", 10)

    def write(*cells, header="file,kind,split"):
        rows = [f"{name}.png,{cell}" for name, cell in zip("abcd", cells, strict=True)]
        (tmp_path / "labels.csv").write_text("\n".join([header, *rows]))
        return tmp_path

    return write


def test_names_in_a_single_column_are_classes(table_of_classes):
    loaded = source(table_of_classes("dog,train", "cat,train", " dog ,train", "cat,test"))
    assert loaded.attributes == ("cat", "dog") and loaded.exclusive
    assert loaded.parts["train"].labels.tolist() == [1, 0, 1]
    assert loaded.parts["test"].labels.tolist() == [0]
    assert loaded.parts["train"].labels.dtype == np.int64


def test_words_for_yes_and_no_are_labels(table_of_classes):
    loaded = source(table_of_classes("True", "0.0", " false", "1.0", header="file,Bald"))
    assert loaded.attributes == ("Bald",) and not loaded.exclusive
    assert loaded.parts["train"].labels.tolist() == [[1], [0], [0], [1]]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("dog,train", "?,train", "cat,train", "cat,test"), "line 3: expected the name of a class"),
        (("dog,train", "cat,train", "cat,train", "cow,test"), "line 5: expected the name of a"),
        (("dog,train", "dog,train", "dog,train", "dog,test"), "two or more classes. Received: dog"),
        (("dog,train", "1,train", "0,train", "1,test"), "line 2: expected 0, 1, -1 or ? (unk"),
        (("dog,train", "c\tat,train", "dog,train", "dog,test"), r"line 3: expected a name of 1"),
    ],
)
def test_a_column_of_classes_that_cannot_be_used_says_where(table_of_classes, cells, message):
    assert message in refused(table_of_classes(*cells))


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[31mred", "a\u2028b", " ", "x" * 201])
def test_names_that_cannot_be_printed_are_refused(tmp_path, name):
    """Columns of a table, class folders, and columns of a list."""
    expected = "expected a name of 1 to 200 characters that can be printed on a line. Received: "
    of_table = {" ": "column 3 has no name", "a\tb": "columns divided by commas"}.get(
        name, expected
    )
    write_image(tmp_path / "table" / "a.png", 10)
    (tmp_path / "table" / "labels.csv").write_text(f'file,Old,"{name}"\na.png,1,0\n')
    assert of_table in refused(tmp_path / "table")
    write_image(tmp_path / "classes" / "ok" / "1.png", 10)
    write_image(tmp_path / "classes" / name / "1.png", 10)
    assert f"{tmp_path / 'classes'}: {expected}" in refused(tmp_path / "classes")
    if "\n" not in name and name.split() == [name]:
        root = make_celeba(tmp_path / "celeba")
        write_attributes(root, ["1 -1 1"] * 5, f"Bald {name} Young")
        assert f"{root / ATTRIBUTES}.txt, line 2: {expected}" in message_of(root)


def test_a_class_folder_whose_name_is_not_utf8_is_refused(tmp_path):
    write_image(tmp_path / "ok" / "1.png", 10)
    write_image(tmp_path / "caf\udce9" / "1.png", 10)
    assert "on a line. Received: 'caf\\udce9'; rename it" in refused(tmp_path)


def test_names_in_any_script_are_taken(tmp_path):
    for name in ("笑顔", "5 o'clock", "\u0645\u06cc\u200c\u062e", "<b>$x_{$", "x" * 200):
        write_image(tmp_path / name / "1.png", 10)
    assert len(source(tmp_path).attributes) == 5
