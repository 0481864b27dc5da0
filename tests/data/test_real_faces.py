"""Checks on real faces, of folders that MCATTN_CELEBA_DIR and MCATTN_PART_MASKS_DIR name."""

import csv
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import exported
from PIL import Image

from mcattn_tf import data
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.data.regions.attribute_parts import IGNORED, PARTS
from mcattn_tf.data.regions.landmarks import ATTRIBUTE_BOXES, BOXES, box_region
from mcattn_tf.evaluation import published
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.data import DataConfig

FOLDER = os.environ.get("MCATTN_CELEBA_DIR")
MASKS = os.environ.get("MCATTN_PART_MASKS_DIR")
with_celeba = pytest.mark.skipif(not FOLDER, reason="MCATTN_CELEBA_DIR is not set")
with_masks = pytest.mark.skipif(not MASKS, reason="MCATTN_PART_MASKS_DIR is not set")


@with_celeba
def test_partitions_and_labels_are_those_of_the_files():
    loaded = data.load(DataConfig(dataset="celeba", data_dir=FOLDER, image_size=(64, 52)))
    assert loaded.attributes == tuple(published.ACCURACY)
    partition = np.loadtxt(Path(FOLDER) / "list_eval_partition.txt", dtype=str)
    table = np.loadtxt(Path(FOLDER) / "list_attr_celeba.txt", dtype=str, skiprows=2)
    rows = {row[0]: row[1:] == "1" for row in table}
    for part, split in enumerate((loaded.train, loaded.validation, loaded.test)):
        names = partition[partition[:, 1] == str(part), 0]
        assert split.count == len(names)
        images, labels = next(evaluation_batches(split, 32).as_numpy_iterator())
        np.testing.assert_array_equal(labels, [rows[name] for name in names[:32]])
        assert images.shape == (32, 64, 52, 3) and 0.1 < images.mean() < 0.9
        assert images.std(axis=(1, 2, 3)).min() > 0.05  # no picture is empty


@with_celeba
def test_files_are_served_as_the_training_pipeline_has_them(tmp_path):
    folders = {"data_dir": FOLDER, "cache_dir": str(tmp_path)}
    config = make_config(
        {
            "data": {"dataset": "celeba", "image_size": (64, 52), "no_cache": True, **folders},
            "found": {"attributes": tuple(published.ACCURACY)},
        }
    )
    served = exported(config, tmp_path)
    partition = np.loadtxt(Path(FOLDER) / "list_eval_partition.txt", dtype=str)
    names = partition[partition[:, 1] == "2", 0][:17]
    split = data.load_split(config.data, "test", config.found)
    images, _ = next(evaluation_batches(split, 17).as_numpy_iterator())
    expected = served.model.predict_on_batch(images)
    files = [(Path(FOLDER) / "img_align_celeba" / name).read_bytes() for name in names]
    answer = served.ask("predict_bytes", image_bytes=files)
    for output in ("attributes", "multilabel"):
        np.testing.assert_allclose(answer[output], expected[output], atol=1e-4)
        assert np.ptp(answer[output], axis=0).max() > 0.01  # faces are told apart


def table(name):
    with (Path(MASKS) / name).open(newline="") as file:
        return list(csv.DictReader(file))


def fitting_rows():
    return [row for row in table("parts.csv") if 0.25 <= float(row["scale"]) <= 0.40]


def load_masks(image_size, count=None, **fields):
    config = DataConfig(dataset="celeba", image_size=image_size, **fields)
    loaded = data.load_regions(config, "test", MASKS)
    assert 0 < loaded.count == len(fitting_rows())
    return loaded.take(count or loaded.count)


@with_masks
def test_masks_are_those_that_the_table_describes():
    for row in fitting_rows()[:50]:
        mask = np.asarray(Image.open(Path(MASKS) / "masks" / f"{row['key']}.png"))
        for part, value in PARTS.items():
            assert np.sum(mask == value) == int(row[part]), (row["key"], part)
        assert np.mean(mask != IGNORED) == pytest.approx(float(row["valid_fraction"]), abs=1e-3)


@with_masks
def test_parts_lie_on_real_faces_as_on_any_face():
    loaded = load_masks((128, 104), 100)
    batch = loaded.read(range(loaded.count))
    rows = np.arange(128)[:, None] / 128

    def middle(attribute):
        regions = batch.regions[..., loaded.attributes.index(attribute)]
        seen = regions.any(axis=(1, 2))
        assert seen.mean() > 0.9, attribute
        return np.where(seen, (regions * rows).sum((1, 2)) / np.maximum(regions.sum((1, 2)), 1), 0)

    order = ("Bushy_Eyebrows", "Narrow_Eyes", "Big_Nose", "Smiling", "Wearing_Necklace")
    middles = np.stack([middle(attribute) for attribute in order])
    for above, below in itertools.pairwise(middles):
        assert np.mean((above < below)[(above > 0) & (below > 0)]) > 0.95
    # CelebA's eyes are at row 111 of 218.
    assert np.median(middles[1]) == pytest.approx(111 / 218, abs=0.01)
    assert not (batch.regions & ~batch.valid[..., None]).any()
    glasses = loaded.attributes.index("Eyeglasses")
    worn = batch.present["part_labels"][:, glasses]
    sizes = batch.regions[..., glasses].mean(axis=(1, 2))
    assert 0 < worn.sum() < 50 and sizes[worn].mean() > 2 * sizes[~worn].mean()


@with_masks
@pytest.mark.parametrize(
    ("attribute", "held", "filled"),
    [
        ("Bald", 0.4, 0.6),
        ("Bushy_Eyebrows", 0.6, 0.1),
        ("Narrow_Eyes", 0.95, 0.04),
        ("Big_Nose", 0.8, 0.35),
        ("Smiling", 0.95, 0.2),
        ("No_Beard", 0.8, 0.5),
    ],
)
def test_boxes_around_the_usual_landmarks_hold_the_parts(attribute, held, filled):
    """Both ways: how much of the parts lies in the box, and how much of the box is parts."""
    loaded = load_masks((218, 178), 40)
    batch = loaded.read(range(loaded.count))
    regions = batch.regions[..., loaded.attributes.index(attribute)]
    usual = np.array([69, 111, 108, 111, 88, 135, 73, 152, 106, 152])
    box = box_region(usual, BOXES[ATTRIBUTE_BOXES[attribute]]) & batch.valid
    inside = np.sum(regions & box)
    assert inside / regions.sum() > held and inside / box.sum() > filled


@with_celeba
@with_masks
def test_tied_faces_are_celebas_own_and_have_its_labels():
    loaded = load_masks((64, 52), data_dir=FOLDER)
    partition = dict(np.loadtxt(Path(FOLDER) / "list_eval_partition.txt", dtype=str))
    labels = np.loadtxt(Path(FOLDER) / "list_attr_celeba.txt", dtype=str, skiprows=2)
    labels = {row[0]: dict(zip(published.ACCURACY, row[1:], strict=True)) for row in labels}
    files = {row["key"]: row["celeba_file"] for row in table("celeba_match.csv")}
    checked = 0
    for index, row in enumerate(fitting_rows()):
        name = files.get(row["key"])
        if name not in partition or (partition[name] == "0" and checked > 5):
            continue
        batch = loaded.read(range(index, index + 1))
        expected = [
            labels[name][attribute] == "1" and partition[name] != "0"
            for attribute in loaded.attributes
        ]
        assert batch.present["labelled"][0].tolist() == expected, name
        path = Path(FOLDER) / "img_align_celeba" / name
        picture = data.images.read_images([str(path)], (64, 52))[0]
        pixels = picture[batch.valid[0]], batch.images[0][batch.valid[0]]
        assert np.corrcoef(*(values.ravel() for values in pixels))[0, 1] > 0.9, name
        checked += 1
    assert checked > 5
