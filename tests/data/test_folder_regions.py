"""Masks and boxes beside the user's own images."""

import numpy as np
import pytest
from PIL import Image

from mcattn_tf import data
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

SIZE = (8, 12)  # of the images in the files; half of it is read
ATTRIBUTES = ("Hat", "Glasses", "Tie")


@pytest.fixture
def root(tmp_path):
    """Five images; masks of Hat, boxes of Glasses, nothing of Tie."""
    rows = ["file,Hat,Glasses,Tie,split"]
    for index, name in enumerate(("a", "b", "more/c", "d", "e")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), 40 * index, np.uint8)).save(path)
        rows.append(f"{name}.png,{index % 2},1,0,{'test' if index < 3 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    for name, (row, column) in {"a": (0, 0), "more/c": (4, 6)}.items():
        mask = np.zeros(SIZE, np.uint8)
        mask[row : row + 4, column : column + 6] = 255
        path = tmp_path / "regions" / "Hat" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    boxes = ["file,attribute,top,left,bottom,right"]
    boxes += ["b.png,Glasses,0,0,2,4", "b.png,Glasses,6,8,8,12", "more/c.png,Glasses,2,2,4,6"]
    (tmp_path / "regions.csv").write_text("\n".join(boxes), encoding="utf-8")
    return tmp_path


def load(root):
    config = DataConfig(
        dataset="folder",
        data_dir=str(root),
        image_size=(4, 6),
        hold_out=0.4,
        no_cache=True,
    )
    split = data.load_split(config, "test")
    return split, data.load_regions(config, "test", None, split, ATTRIBUTES)


def test_masks_and_boxes_are_read_with_their_images(root, capsys):
    split, regions = load(root)
    assert regions.attributes == ("Hat", "Glasses") and regions.count == 3
    assert "not used" not in capsys.readouterr().out
    batch = regions.read(range(3))
    place = {split.name_of(index): index for index in range(3)}
    expected = np.zeros((3, 4, 6, 2), bool)
    expected[place["a.png"], :2, :3, 0] = True
    expected[place["more/c.png"], 2:, 3:, 0] = True
    expected[place["b.png"], :1, :2, 1] = expected[place["b.png"], 3:, 4:, 1] = True
    expected[place["more/c.png"], 1:2, 1:3, 1] = True
    np.testing.assert_array_equal(batch.regions, expected)
    assert batch.present["labelled"][place["b.png"]].tolist() == [True, True]
    assert batch.present["labelled"][place["a.png"]].tolist() == [False, True]
    grey = batch.images[place["more/c.png"]]
    np.testing.assert_allclose(grey, 80 / 255, atol=1e-6)


def test_images_without_regions_have_none(root):
    (root / "regions.csv").unlink()
    for path in (root / "regions").rglob("*.png"):
        path.unlink()
    for path in sorted((root / "regions").rglob("*"), reverse=True):
        path.rmdir()
    assert load(root)[1].attributes == ()


def test_the_folder_of_regions_is_no_class(tmp_path):
    for name in ("cat", "dog"):
        for index in range(4):
            path = tmp_path / name / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((*SIZE, 3), index, np.uint8)).save(path)
    (tmp_path / "regions" / "dog").mkdir(parents=True)
    Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "regions" / "dog" / "1.png")
    config = DataConfig(
        dataset="folder", data_dir=str(tmp_path), image_size=(4, 6), hold_out=0.25, no_cache=True
    )
    loaded = data.load(config)
    assert loaded.attributes == ("cat", "dog")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: (root / "regions" / "Scarf").mkdir(),
            "must be one of Hat, Glasses, Tie. Received: 'Scarf'",
        ),
        (
            lambda root: (root / "regions.csv").write_text("file,left\n", encoding="utf-8"),
            "regions.csv, line 1: expected the columns file,attribute,top,left,bottom,right",
        ),
        (
            lambda root: (root / "regions.csv").write_text(
                "file,attribute,top,left,bottom,right\na.png,Hat,3,0,3,4\n", encoding="utf-8"
            ),
            "regions.csv, line 2: expected a file, an attribute, top below bottom and left",
        ),
        (
            lambda root: (root / "regions.csv").write_text(
                "file,attribute,top,left,bottom,right\na.png,Hat,0,0,9,4\n", encoding="utf-8"
            ),
            "Hat of a.png: a box must be within the pixels of its file, 8x12. Received: 0,0,9,4",
        ),
        (
            lambda root: Image.fromarray(np.ones((4, 4), np.uint8)).save(
                root / "regions" / "Hat" / "a.png"
            ),
            "a.png must be of its image's size, 8x12. Received: 4x4",
        ),
    ],
)
def test_regions_that_do_not_fit_are_refused_in_one_line(root, change, message):
    change(root)
    with pytest.raises(UserError) as error:
        load(root)[1].read(range(3))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_table_of_regions_is_found_before_a_training(root):
    labels = (root / "labels.csv").read_text("utf-8")
    last = labels.removesuffix("train") + "validation"
    (root / "labels.csv").write_text(last, encoding="utf-8")
    config = DataConfig(dataset="folder", data_dir=str(root), image_size=(4, 6), no_cache=True)
    assert data.load(config).attributes == ATTRIBUTES
    with (root / "regions.csv").open("a", encoding="utf-8") as table:
        table.write("\nb.png,Glasses,0,4,2,4\n")
    with pytest.raises(UserError, match=r"regions.csv, line 5: expected a file, an attribute"):
        data.load(config)
