"""What `load` makes of a data set: its splits, and what is held out."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
from celeba_files import INDICES, LABELS, NAMES, image_bytes, make_celeba
from PIL import Image
from test_pipeline import read_all

from mcattn_tf import data
from mcattn_tf.data import drawn_faces
from mcattn_tf.data.images import decode, read_images
from mcattn_tf.data.sets import faces
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig
from mcattn_tf.settings.findings import Findings


@pytest.fixture
def celeba_dir(tmp_path):
    return make_celeba(tmp_path / "celeba")


def celeba(data_dir, **fields):
    return data.load(
        DataConfig(dataset="celeba", data_dir=str(data_dir), image_size=(32, 28), **fields)
    )


def check(split, indices):
    images, labels = read_all(split)
    greys = images.mean(axis=(1, 2, 3)) * 255
    np.testing.assert_allclose(greys, [10 * index + 10 for index in indices], atol=1e-3)
    np.testing.assert_array_equal(labels, LABELS[indices])


@pytest.mark.parametrize("no_cache", [False, True])
def test_celeba_has_its_official_partitions(celeba_dir, no_cache):
    loaded = celeba(celeba_dir, no_cache=no_cache)
    assert loaded.attributes == NAMES and not loaded.exclusive
    for name, indices in INDICES.items():
        check(loaded.split(name), indices)


def test_a_trial_measures_the_first_images_and_evaluation_all():
    config = DataConfig(image_size=(32, 36), train_examples=30, eval_examples=7)
    loaded = data.load(config)
    assert [loaded.split(name).count for name in ("train", "validation", "test")] == [30, 7, 7]
    for name in ("validation", "test"):
        every = data.load_split(config, name)
        assert every.count == faces.EXAMPLES[name] > 7
        for few, first in zip(loaded.split(name).read(range(7)), every.read(range(7)), strict=True):
            np.testing.assert_array_equal(few, first)


@pytest.mark.parametrize("no_cache", [False, True])
def test_celeba_trains_on_validation_images_too_as_an_option(celeba_dir, no_cache):
    loaded = celeba(celeba_dir, train_on_validation=True, no_cache=no_cache)
    check(loaded.train, INDICES["train"] + INDICES["validation"])
    assert loaded.train.name_of(3) == "img_align_celeba/000003.jpg"
    check(loaded.validation, INDICES["validation"])


def test_train_examples_are_of_every_class_and_the_same_each_time(classes_dir):
    def chosen(**fields):
        settings = {"train_examples": 30} | fields
        split = data.load_split(classes(classes_dir, **settings), "train")
        return [split.name_of(index) for index in range(split.count)]

    assert len(set(chosen())) == 30 and chosen() == chosen() != chosen(hold_out_seed=1)
    assert {name.split("/")[0] for name in chosen()} == set(COLOURS)
    assert set(chosen()) < set(chosen(train_examples=None)) == set(chosen(train_examples=99))


def test_decoding_is_the_same_for_files_and_for_training(celeba_dir):
    path = celeba_dir / "img_align_celeba" / "000003.jpg"
    given = read_images([str(path)], (32, 28))
    trained_on = decode(tf.constant(image_bytes(3)), (32, 28)).numpy() / np.float32(255)
    np.testing.assert_array_equal(given[0], trained_on)
    np.testing.assert_array_equal(given, read_all(celeba(celeba_dir).validation)[0])


def test_faces_are_the_generators_images_at_its_default_size():
    loaded = data.load(DataConfig(dataset="faces", train_examples=5))
    images, labels = read_all(loaded.train)
    drawn, drawn_labels = drawn_faces.draw_faces(faces.SEEDS["train"], 0, 5)
    np.testing.assert_allclose(images, drawn / 255.0, atol=1e-6)
    np.testing.assert_array_equal(labels, drawn_labels)
    assert loaded.attributes == drawn_faces.ATTRIBUTES


COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}


@pytest.fixture
def classes_dir(tmp_path):
    """40 red, 20 green and 10 blue images in a folder each."""
    for name, count in {"red": 40, "green": 20, "blue": 10}.items():
        folder = tmp_path / "classes" / name
        folder.mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (9, 12), COLOURS[name]).save(folder / f"{index}.png")
    return tmp_path / "classes"


def classes(folder, **fields):
    settings = {"image_size": (8, 6), "hold_out": 0.2} | fields
    return DataConfig(dataset="folder", data_dir=str(folder), **settings)


@pytest.mark.parametrize("joined", [False, True])
def test_what_is_held_out_is_stratified_and_nowhere_else(classes_dir, joined):
    loaded = data.load(classes(classes_dir, train_on_validation=joined))
    assert loaded.attributes == ("blue", "green", "red") and loaded.exclusive
    seen = {}
    for name in ("train", "validation", "test"):
        split = loaded.split(name)
        images, labels = read_all(split)
        expected = [COLOURS[loaded.attributes[label]] for label in labels.argmax(axis=1)]
        np.testing.assert_allclose(images.mean(axis=(1, 2)) * 255, expected, atol=1e-3)
        seen[name] = {split.name_of(index) for index in range(split.count)}
        shares = {"train": 0.8 if joined else 0.6}.get(name, 0.2)
        np.testing.assert_array_equal(labels.sum(axis=0), np.array([10, 20, 40]) * shares)
    assert not seen["test"] & (seen["train"] | seen["validation"])
    assert (seen["validation"] <= seen["train"]) == joined
    assert len(seen["train"] | seen["validation"] | seen["test"]) == 70


def test_another_seed_holds_out_other_images(classes_dir):
    def held_out(seed):
        split = data.load_split(classes(classes_dir, hold_out_seed=seed), "validation")
        return [split.name_of(index) for index in range(split.count)]

    assert held_out(0) == held_out(0) != held_out(1)


def test_groups_stay_on_one_side_without_their_bad_images(tmp_path):
    rows = ["file,group,Round"]
    for index in range(120):
        Image.new("L", (9, 12), index).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,person {index // 3},{index % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    (tmp_path / "0.png").write_bytes(b"")
    loaded = data.load(classes(tmp_path, skip_bad_images=True))
    people = {}
    for name in ("train", "validation", "test"):
        split = loaded.split(name)
        numbers = [int(split.name_of(index).split(".")[0]) for index in range(split.count)]
        images, labels = read_all(split)
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)) * 255, numbers, atol=1e-3)
        np.testing.assert_array_equal(labels[:, 0], np.array(numbers) % 2)
        people[name] = {number // 3 for number in numbers}
        assert len(numbers) == 3 * len(people[name]) - (0 in people[name])
    assert sum(map(len, people.values())) == len(set().union(*people.values())) == 40
    assert 7 <= len(people["validation"]) <= 9 and 7 <= len(people["test"]) <= 9


def test_splits_have_names():
    with pytest.raises(UserError, match="`split` must be one of train, validation, test"):
        data.load_split(DataConfig(), "all")


def sides_of(config, known=None):
    loaded = data.load(config, known)
    return loaded, {
        name: {loaded.split(name).name_of(i) for i in range(loaded.split(name).count)}
        for name in ("train", "validation", "test")
    }


def test_one_more_bad_image_moves_no_other(classes_dir, tmp_path):
    folder = tmp_path / "many"
    for index in range(130):
        path = folder / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 12), index).save(path)
    config = classes(folder, skip_bad_images=True)
    loaded, before = sides_of(config)
    bad = min(before["test"])
    (folder / bad).write_bytes(b"no image")
    again, after = sides_of(config, Findings(held_out=loaded.held_out))
    assert after == before | {"test": before["test"] - {bad}}
    assert again.held_out == loaded.held_out


def test_a_run_is_not_evaluated_where_other_images_are_held_out(classes_dir, tmp_path):
    config = classes(classes_dir)
    trained = Findings(held_out=data.load(config).held_out)
    moved = shutil.move(classes_dir, tmp_path / "moved")
    data.load_split(dataclasses.replace(config, data_dir=str(moved)), "test", trained)
    (moved / "red" / "0.png").rename(moved / "red" / "99.png")
    with pytest.raises(UserError, match="are not those that this run was trained on"):
        data.load_split(dataclasses.replace(config, data_dir=str(moved)), "test", trained)


def test_a_run_is_not_evaluated_where_a_table_divides_what_was_held_out(classes_dir):
    config = classes(classes_dir)
    trained = Findings(held_out=data.load(config).held_out)
    for name in ("train", "test"):
        for colour in COLOURS:
            shutil.copytree(classes_dir / colour, classes_dir / name / colour)
    for colour in COLOURS:
        shutil.rmtree(classes_dir / colour)
    data.load(config)
    for name in ("test", "train"):
        with pytest.raises(UserError, match="are not those that this run was trained on"):
            data.load_split(config, name, trained)


def test_a_split_of_bad_images_alone_is_refused(classes_dir):
    for colour in COLOURS:
        for index in range(40, 100):
            Image.new("RGB", (9, 12), COLOURS[colour]).save(classes_dir / colour / f"{index}.png")
    config = classes(classes_dir, skip_bad_images=True, hold_out=1 / 240)
    _, sides = sides_of(config)
    (bad,) = sides["validation"]
    (classes_dir / bad).write_bytes(b"")
    with pytest.raises(UserError, match="all images held out for validation are bad"):
        data.load(config)


def test_another_data_set_than_the_runs_is_refused(classes_dir):
    message = "expected cat, dog. Received: blue, green, red"
    with pytest.raises(UserError, match=message):
        data.load_split(classes(classes_dir), "test", Findings(attributes=("cat", "dog")))


def test_uncached_images_of_one_joined_part_are_read(celeba_dir):
    train = celeba(celeba_dir, train_on_validation=True, no_cache=True).train
    for indices in ([0, 1], [3], []):
        images, labels = train.read(indices)
        expected = [[10, 30, 50, 40][index] for index in indices]
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), expected, atol=1e-3)
        assert labels.shape == (len(indices), 3)
