"""A finished run on images of another folder, which holds only the split that is asked for."""

import functools
import json

import numpy as np
import pytest
from celeba_files import IMAGES, LABELS, NAMES, make_celeba, write_partitions
from conftest import he_weights, tiny_config, tiny_config_of
from PIL import Image
from processes import call, run

from mcattn_tf import data, models, runs
from mcattn_tf.commands import compare, evaluate, visualize
from mcattn_tf.errors import UserError
from mcattn_tf.explain.truth import measurement
from mcattn_tf.settings.data import DataConfig
from mcattn_tf.settings.findings import Findings

CLASSES = ("blue", "green", "red")


def finished_run(directory, config, data_dir, dataset, **found):
    """Makes a run of random weights, and returns its network."""
    config = config.replace("found", **found).replace(
        "data", dataset=dataset, data_dir=str(data_dir), no_cache=True
    )
    model = he_weights(models.build(config))
    runs.create(directory, config)
    model.save(directory / runs.BEST)
    return model


def grey_images(*greys):
    return np.full((len(greys), 12, 8, 3), 1 / 255, np.float32) * np.reshape(greys, (-1, 1, 1, 1))


@pytest.fixture(params=["rows of the test part alone", "images of the test part alone"])
def test_images(request, tmp_path):
    """CelebA's images 1 and 3 as a test part, and nothing of the other parts."""
    root = make_celeba(tmp_path / "other")
    write_partitions(root, [0, 2, 0, 2, 1])
    for index in (0, 2, 4):
        (root / IMAGES / f"{index:06d}.jpg").unlink()
    if request.param.startswith("rows"):
        (root / "list_eval_partition.txt").write_text("000001.jpg 2\n000003.jpg 2\n")
    return root


def test_only_the_asked_for_part_of_celeba_has_to_exist(test_images, tmp_path):
    directory = tmp_path / "run"
    model = finished_run(directory, tiny_config(), "gone", "celeba", attributes=NAMES)
    there = (f"--run={directory}", f"--data_dir={test_images}")
    printed = run(evaluate.main, *there, "--split=test")
    assert "mcattn on 2 test images of celeba" in printed
    answers = model.predict_on_batch(grey_images(20, 40))["attributes"] > 0.5
    accuracy = json.loads((directory / "evaluation_other.json").read_text())["attributes"]["mean"]
    assert accuracy["accuracy"] == pytest.approx((answers == LABELS[[1, 3]]).mean())
    run(compare.main, directory, f"--data_dir={test_images}", "--table=intervals")
    intervals = json.loads((directory / "intervals_other.json").read_text())["all"]
    assert intervals["answers"]["attributes"]["accuracy"] == pytest.approx(accuracy["accuracy"])
    status, _, refused = call(evaluate.main, *there, "--split=validation")
    assert status == 1 and refused.count("\n") == 1
    assert "list_eval_partition.txt" in refused and "validation images" in refused


@pytest.mark.slow  # other images differ in their files alone, which the tests above have
@pytest.mark.parametrize("test_images", ["rows of the test part alone"], indirect=True)
def test_it_is_explained_and_drawn_too(test_images, tmp_path, monkeypatch):
    without_sanity = functools.partial(measurement.Settings, draws=0)  # which reads no image anew
    monkeypatch.setattr(measurement, "Settings", without_sanity)
    directory = tmp_path / "run"
    finished_run(directory, tiny_config(), "gone", "celeba", attributes=NAMES)
    there = (f"--run={directory}", f"--data_dir={test_images}")
    run(evaluate.main, *there, "--explanations")
    assert json.loads((directory / "explanations_other.json").read_text())["images"] == 2
    run(visualize.main, *there, "--what=contributions", "--attributes=Bald")


def write_images(root, folder, names):
    for name in names:
        path = root / folder / name / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (9, 12), name).save(path)


def test_a_folder_of_some_classes_has_the_numbers_of_the_run(tmp_path, capsys):
    """The run held its test part out of the training images, which are not there."""
    directory, other = tmp_path / "run", tmp_path / "other"
    write_images(other, "test", ("red", "blue"))
    config = tiny_config_of("cnn", exclusive=True)
    found = {"attributes": CLASSES, "held_out": "test,validation:0123"}
    model = finished_run(directory, config, "gone", "folder", **found)
    printed = run(evaluate.main, f"--run={directory}", f"--data_dir={other}")
    assert "warning: the folder data have no training images: that this run" in printed
    pixels = np.zeros((2, 12, 8, 3), np.float32)
    pixels[0, ..., 2] = pixels[1, ..., 0] = 1  # blue, red
    right = model.predict_on_batch(pixels)["probabilities"].argmax(axis=1) == [0, 2]
    result = json.loads((directory / "evaluation_other.json").read_text())["probabilities"]
    assert result["mean"]["accuracy"] == pytest.approx(right.mean())
    split = data.load_split(DataConfig("folder", str(other), (12, 8)), "test", Findings(CLASSES))
    np.testing.assert_array_equal(split.labels_of(np.arange(2)).sum(axis=0), [1, 0, 1])


def folder_of(root, table):
    root.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (9, 12), 60).save(root / name)
    (root / "labels.csv").write_text(table)
    return DataConfig("folder", str(root), (12, 8))


def test_a_table_without_training_rows_is_evaluated_but_not_trained_on(tmp_path):
    table = "file,Bald,split\na.png,1,test\nb.png,0,test\nnone.png,0,val\n"
    config = folder_of(tmp_path / "table", table)
    split = data.load_split(config, "test", Findings(("Bald",)))
    np.testing.assert_array_equal(split.labels_of(np.arange(split.count)).sum(axis=0), [1])
    with pytest.raises(UserError, match=r"^the folder data in .*table have no train images; add"):
        data.load(config)
    with pytest.raises(UserError, match=r"labels\.csv, line 4: there is no file 'none\.png'"):
        data.load_split(config, "validation", Findings(("Bald",)))


def test_a_run_that_held_nothing_out_holds_nothing_out_of_other_images(tmp_path):
    config = folder_of(tmp_path / "table", "file,Bald\na.png,1\nb.png,0\n")
    with pytest.raises(UserError, match="have no test images, and this run held none out; add"):
        data.load_split(config, "test", Findings(("Bald",)))


def test_an_npz_of_test_images_alone(tmp_path):
    path = tmp_path / "cifar10.npz"
    np.savez(path, x_test=np.full((3, 32, 32, 3), 7, np.uint8), y_test=np.array([9, 0, 9]))
    config = DataConfig("cifar10", str(path), (32, 32))
    split = data.load_split(config, "test")
    assert split.labels_of(np.arange(3))[:, [0, 9]].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert (split.read([0])[0] == 7).all()
    with pytest.raises(UserError, match=r"cifar10\.npz has no x_train and no y_train$"):
        data.load(config)
