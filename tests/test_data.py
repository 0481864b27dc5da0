import io
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import random_split
from PIL import Image

from mcattn_tf import data
from mcattn_tf.config import DataConfig
from mcattn_tf.data import drawn_faces
from mcattn_tf.data.images import decode, read_images
from mcattn_tf.data.pipeline import evaluation_batches, training_batches
from mcattn_tf.errors import UserError

NAMES = ("Bald", "Smiling", "Young")


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def celeba_dir(tmp_path):
    """Five images of grey 10, 20, ... in CelebA's layout: 3 to train, 1 to validate, 1 to test."""
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    labels = ["-1 1 1", "1 -1 -1", "-1 -1 1", "1 1 1", "-1 1 -1"]
    for index in range(5):
        grey = np.full((218, 178, 3), 10 * (index + 1), np.uint8)
        (root / "img_align_celeba" / f"{index:06d}.jpg").write_bytes(png(grey))
    rows = [f"{index:06d}.jpg  {row}" for index, row in enumerate(labels)]
    (root / "list_attr_celeba.txt").write_text(
        "\r\n".join(["5", " ".join(NAMES) + " ", *rows]) + "\r\n"
    )
    partitions = [f"{index:06d}.jpg {part}" for index, part in enumerate([0, 2, 0, 1, 0])]
    (root / "list_eval_partition.txt").write_text("\r\n".join(partitions) + "\r\n")
    return root


def zip_folder(root, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in root.rglob("*"):
            archive.write(file, file.relative_to(root.parent))
    return path


def celeba(data_dir, **fields):
    return data.load(
        DataConfig(dataset="celeba", data_dir=str(data_dir), image_size=(32, 28), **fields)
    )


def read_all(split):
    batches = list(evaluation_batches(split, 2).as_numpy_iterator())
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def check_celeba(loaded):
    assert loaded.attributes == NAMES
    images, labels = read_all(loaded.train)
    assert images.shape == (3, 32, 28, 3)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), np.array([10, 30, 50]) / 255)
    np.testing.assert_array_equal(labels, [[0, 1, 1], [0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(read_all(loaded.validation)[1], [[1, 1, 1]])
    np.testing.assert_array_equal(read_all(loaded.test)[1], [[1, 0, 0]])


def test_celeba_from_a_folder(celeba_dir):
    check_celeba(celeba(celeba_dir))


def test_celeba_from_a_zip_of_everything(celeba_dir, tmp_path):
    check_celeba(celeba(zip_folder(celeba_dir, tmp_path / "celeba.zip")))


def test_celeba_from_a_folder_with_a_zip_of_images(celeba_dir):
    zip_folder(celeba_dir / "img_align_celeba", celeba_dir / "img_align_celeba.zip")
    shutil.rmtree(celeba_dir / "img_align_celeba")
    check_celeba(celeba(celeba_dir))


def test_celeba_trains_on_validation_images_too_as_an_option(celeba_dir):
    loaded = celeba(celeba_dir, train_on_validation=True)
    np.testing.assert_allclose(
        read_all(loaded.train)[0].mean(axis=(1, 2, 3)), np.array([10, 30, 40, 50]) / 255
    )
    assert loaded.validation.count == 1


def test_train_examples_takes_the_first(celeba_dir):
    loaded = celeba(celeba_dir, train_examples=2)
    np.testing.assert_array_equal(read_all(loaded.train)[1], [[0, 1, 1], [0, 0, 1]])


def test_blank_lines_of_the_lists_are_passed_over(celeba_dir):
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        path = celeba_dir / name
        path.write_text(path.read_text() + "\n  \n")
    check_celeba(celeba(celeba_dir))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda d: (d / "list_attr_celeba.txt").write_text(""),
            "list_attr_celeba.txt, line 2: expected the names of the attributes",
        ),
        (lambda d: (d / "list_eval_partition.txt").unlink(), "must hold img_align_celeba/"),
        (lambda d: shutil.rmtree(d / "img_align_celeba"), "must hold img_align_celeba/"),
        (
            lambda d: (d / "img_align_celeba" / "000002.jpg").unlink(),
            "has no img_align_celeba/000002.jpg",
        ),
        (
            lambda d: (d / "list_attr_celeba.txt").write_text("1\nBald Young\n000000.jpg 1\n"),
            "list_attr_celeba.txt, line 3: expected an image name and 2 whole numbers",
        ),
        (
            lambda d: (d / "list_attr_celeba.txt").write_text("1\nBald\n000000.jpg 1\n"),
            "list_attr_celeba.txt has no row for 000001.jpg",
        ),
        (
            lambda d: (d / "list_eval_partition.txt").write_text("000000.jpg 0\n"),
            "has no validation images (partition 1)",
        ),
    ],
)
def test_celeba_with_something_missing_says_what(celeba_dir, damage, message):
    damage(celeba_dir)
    with pytest.raises(UserError) as raised:
        celeba(celeba_dir)
    assert message in str(raised.value)


def test_decoding_is_the_same_for_files_and_for_training(celeba_dir):
    path = celeba_dir / "img_align_celeba" / "000003.jpg"
    given = read_images([str(path)], (32, 28))
    trained_on = decode(tf.constant(path.read_bytes()), (32, 28)).numpy() / np.float32(255)
    np.testing.assert_array_equal(given[0], trained_on)


def test_evaluation_counts_every_example_once_in_order():
    split = random_split(7, seed=0)
    images, labels = read_all(split)
    expected = [split.read(tf.constant(index, tf.int64)) for index in range(7)]
    np.testing.assert_array_equal(labels, np.stack([label for _, label in expected]))
    np.testing.assert_allclose(images, np.stack([image for image, _ in expected]) / 255.0)


def numbered(count):
    """Images whose left half is their number and whose right half is 255."""
    images = np.zeros((count, 2, 2, 3), np.uint8)
    images[:, :, 0] = np.arange(count)[:, None, None]
    images[:, :, 1] = 255
    images, labels = tf.constant(images), tf.zeros((count, 1), tf.uint8)
    return data.pipeline.Split(count, lambda index: (images[index], labels[index]))


def order_of(split, epochs, seed=0, flip=False):
    batches = training_batches(split, 4, epochs, seed, flip).as_numpy_iterator()
    images = np.concatenate([np.round(batch * 255).astype(int) for batch, _ in batches])
    return images[:, 0, :, 0].min(axis=1).tolist(), images[:, 0, 0, 0] == 255


def test_training_order_visits_each_example_once_and_differs_by_epoch_and_seed():
    split = numbered(12)
    order, _ = order_of(split, range(2))
    first, second = order[:12], order[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert order_of(split, range(2), seed=1)[0] != order


def test_training_from_an_epoch_on_sees_what_it_would_have_seen():
    split = numbered(14)  # does not divide by the batch of 4
    order, flipped = order_of(split, range(3), flip=True)
    resumed_order, resumed_flipped = order_of(split, range(1, 3), flip=True)
    assert len(order) == 3 * 12 and order[12:] == resumed_order
    np.testing.assert_array_equal(flipped[12:], resumed_flipped)


def test_flips_mirror_about_half_of_the_images():
    _, flipped = order_of(numbered(200), range(2), flip=True)
    assert 150 < flipped.sum() < 250  # of 400, seven standard deviations either way
    assert not order_of(numbered(12), range(1), flip=False)[1].any()


def test_faces_are_the_generators_images_at_its_default_size():
    loaded = data.load(DataConfig(dataset="faces", train_examples=5))
    images, labels = read_all(loaded.train)
    drawn, drawn_labels = drawn_faces.draw_faces(data.faces.SEEDS["train"], 0, 5)
    np.testing.assert_allclose(images, drawn / 255.0, atol=1e-6)
    np.testing.assert_array_equal(labels, drawn_labels)
    assert loaded.attributes == drawn_faces.ATTRIBUTES
