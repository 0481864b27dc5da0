import gc
import io
import os
import weakref
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from mcattn_tf.data import load_split
from mcattn_tf.data.sets import arrays, tfds
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

NAMES10 = ["airplane", "automobile", "bird", "cat", "deer"]
NAMES10 += ["dog", "frog", "horse", "ship", "truck"]


def coded_image(code: int) -> np.ndarray:
    """(32, 32, 3): the code in red, the row in green, the column in blue."""
    image = np.empty((32, 32, 3), np.uint8)
    image[..., 0] = code
    image[..., 1] = np.arange(32)[:, None]
    image[..., 2] = np.arange(32)
    return image


def coded_images(*codes: int) -> np.ndarray:
    return np.stack([coded_image(code) for code in codes])


def check(part, codes, labels):
    assert part.count == len(codes)
    np.testing.assert_array_equal(part.labels, labels)
    assert part.labels.dtype == np.int64
    examples = list(part.examples(0).as_numpy_iterator())
    np.testing.assert_array_equal([image for _, image, _ in examples], coded_images(*codes))
    assert [(index, label) for index, _, label in examples] == list(enumerate(labels))
    last = tf.data.Dataset.range(len(codes) - 1, len(codes)).map(part.read)
    assert last.element_spec == tf.TensorSpec((32, 32, 3), tf.uint8)
    np.testing.assert_array_equal(next(last.as_numpy_iterator()), coded_image(codes[-1]))


def read(dataset, data_dir):
    return arrays.source(DataConfig(dataset=dataset, data_dir=str(data_dir)))


def refused(call) -> str:
    with pytest.raises(UserError) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    return message


EXPECTED = "must be or hold an .npz file with the arrays x_train, y_train, x_test, y_test. "
MEND = "make one, or leave the flag out to download through tensorflow-datasets"


def test_neither_files_nor_tfds(tmp_path):
    message = refused(lambda: read("cifar100", tmp_path))
    assert message == f"--data_dir {tmp_path} {EXPECTED}{MEND}"
    assert "x does not exist; name" in refused(lambda: read("cifar10", tmp_path / "x"))
    (tmp_path / "x.txt").write_text("")
    assert f"x.txt {EXPECTED}" in refused(lambda: read("svhn_cropped", tmp_path / "x.txt"))
    for name in ("a.npz", "b.npz"):  # which of them is not said
        write_npz(tmp_path / name)
    assert EXPECTED in refused(lambda: read("svhn_cropped", tmp_path))


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar100", "cifar-100-python/train"),
        ("svhn_cropped", "train_32x32.mat"),
    ],
)
def test_published_archives_are_named_with_what_to_do(tmp_path, dataset, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"?")
    archive = tmp_path / name.split("/")[0]
    message = refused(lambda: read(dataset, tmp_path))
    assert message == (
        f"--data_dir {tmp_path} {EXPECTED}Received: {archive}, a format that is not read; {MEND}"
    )
    assert f"Received: {archive}, a format" in refused(lambda: read(dataset, archive))


def test_without_files_the_data_come_through_tfds(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "source", lambda config: (config.dataset, config.data_dir))
    assert arrays.source(DataConfig(dataset="cifar10")) == ("cifar10", None)
    assert arrays.source(DataConfig(dataset="svhn_cropped")) == ("svhn_cropped", None)
    (tmp_path / "cifar10").mkdir()
    assert read("cifar10", tmp_path) == ("cifar10", str(tmp_path))
    (tmp_path / "downloads").mkdir()
    assert read("svhn_cropped", tmp_path) == ("svhn_cropped", str(tmp_path))


def npz_arrays():
    return {
        "x_train": coded_images(5, 6, 7),
        "y_train": np.array([3, 0, 9], np.uint8),
        "x_test": coded_images(8),
        "y_test": np.array([[4]], np.int32),  # as Keras has them
    }


def write_npz(path, *without, **changed):
    kept = {key: array for key, array in npz_arrays().items() if key not in without}
    np.savez_compressed(path, **(kept | changed))
    return path


def test_an_npz_of_cifar(tmp_path):
    path = write_npz(tmp_path / "cifar10.npz", group_train=np.array([7, 7, 1], np.uint16))
    for data_dir in (tmp_path, path):
        loaded = read("cifar10", data_dir)
        assert loaded.attributes == tuple(NAMES10)
        assert loaded.exclusive
        check(loaded.parts["train"], [5, 6, 7], [3, 0, 9])
        check(loaded.parts["test"], [8], [4])
        np.testing.assert_array_equal(loaded.parts["train"].groups, [7, 7, 1])
        assert loaded.parts["test"].groups is None
    names = np.array([f"class {number}" for number in range(10)])
    write_npz(path, class_names=names)
    assert read("cifar10", path).attributes == tuple(names)


@pytest.mark.parametrize("name", ["svhn.npz", "digits.npz"])
def test_an_npz_of_svhn(tmp_path, name):
    path = write_npz(tmp_path / name, photo_train=np.array([1, 2, 2]))
    for data_dir in (tmp_path, path):
        loaded = read("svhn_cropped", data_dir)
        assert loaded.attributes == tuple("0123456789")
        check(loaded.parts["train"], [5, 6, 7], [3, 0, 9])
        np.testing.assert_array_equal(loaded.parts["train"].groups, [1, 2, 2])


@pytest.mark.parametrize(
    ("without", "changed", "message"),
    [
        (("y_train", "x_test"), {}, "{path} has no y_train and no x_test"),
        ((), {"x_train": np.zeros((3, 32, 32, 3))}, "x_train: expected images (3, 32, 32, 3), ui"),
        ((), {"x_test": np.zeros((1, 28, 28), np.uint8)}, "Received: (1, 28, 28), uint8"),
        ((), {"x_test": np.zeros((0, 32, 32, 3), np.uint8)}, "Received: (0, 32, 32, 3), uint8"),
        ((), {"y_train": np.arange(2)}, "expected images (2, 32, 32, 3), uint8, one for each lab"),
        ((), {"y_train": np.ones(3)}, "{path}, y_train: expected a whole number for each"),
        ((), {"y_test": np.eye(10)[:1]}, "Received: (1, 10), float64"),
        ((), {"y_train": np.array([0, 1, 10])}, "from 0 to 9. Received: 10 at index 2"),
        ((), {"y_train": np.array([{}, 1, 2], object)}, "cannot read {path}: Object arrays"),
        ((), {"group_train": np.arange(4)}, "{path}, group_train: expected a whole number"),
        ((), {"class_names": np.arange(10)}, "class_names: expected 10 names without repeats"),
        (
            (),
            {"class_names": np.array(["a", "a"])},
            "class_names: expected 10 names without repeats",
        ),
        ((), {"class_names": np.array(["a", "b"])}, "Received: (2,), <U1"),
    ],
)
def test_an_npz_that_cannot_be_used_says_why(tmp_path, without, changed, message):
    path = write_npz(tmp_path / "cifar10.npz", *without, **changed)

    def read_pixels():
        for part in read("cifar10", path).parts.values():
            part.examples(0)

    assert message.format(path=path) in refused(read_pixels)


def test_a_damaged_npz(tmp_path):
    path = write_npz(tmp_path / "cifar10.npz")
    content = path.read_bytes()
    for damaged in (content[:-30], b"", b"\x93NUMPY"):
        path.write_bytes(damaged)
        message = refused(lambda: read("cifar10", path))
        assert message.startswith(f"cannot read {path}: ")


def test_an_array_that_is_longer_than_it_says(tmp_path):
    path = write_npz(tmp_path / "cifar10.npz", "y_test")
    content = io.BytesIO()
    np.save(content, np.array([4]))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y_test.npy", content.getvalue() + b"more")
    message = refused(lambda: read("cifar10", path))
    assert message == f"cannot read {path}: y_test is longer than its header says"


def test_damaged_pixels_are_met_when_they_are_read(tmp_path):
    path = tmp_path / "cifar10.npz"
    np.savez(path, **npz_arrays())
    content = bytearray(path.read_bytes())
    content[content.index(coded_image(6)[0].tobytes()) + 300] ^= 1
    path.write_bytes(content)
    part = read("cifar10", path).parts["train"]
    assert "Bad CRC-32" in refused(lambda: part.examples(0))


def test_pixels_are_loaded_once_and_not_kept(tmp_path):
    gc.freeze()  # graphs of other tests take seconds to look through
    loaded = []

    def load():
        pixels = coded_images(1, 2)
        loaded.append(weakref.ref(pixels))
        return pixels

    path = tmp_path / "x.npz"
    part = arrays.part_of_arrays("train", path, load, np.array([0, 1]), ("a", "b"))
    assert not loaded
    check(part, [1, 2], [0, 1])
    check(part, [1, 2], [0, 1])
    assert len(loaded) == 1
    gc.collect()
    assert loaded[0]() is not None
    part.release()
    gc.collect()
    assert loaded[0]() is None


def test_a_part_of_no_images_is_named(tmp_path):
    empty = {"x_test": np.zeros((0, 32, 32, 3), np.uint8), "y_test": np.zeros(0, np.uint8)}
    config = DataConfig("svhn_cropped", str(write_npz(tmp_path / "svhn.npz", **empty)), (32, 32))
    message = refused(lambda: load_split(config, "test"))
    assert message.startswith(
        f"the svhn_cropped data in {config.data_dir} have no test images; add some"
    )


def test_the_fingerprint_changes_with_the_file_and_the_labels(tmp_path):
    path = tmp_path / "cifar10.npz"

    def fingerprints(**changed):
        write_npz(path, **changed)
        os.utime(path, ns=(5, 5))
        parts = read("cifar10", path).parts
        return [parts[part].fingerprint() for part in ("train", "test")]

    first = fingerprints()
    assert fingerprints() == first
    assert fingerprints(y_train=np.array([3, 1, 9], np.uint8))[0] != first[0]
    fingerprints()
    os.utime(path, ns=(5, 6))
    assert read("cifar10", path).parts["test"].fingerprint() != first[1]


def check_real(loaded, classes):
    for part in loaded.parts.values():
        counts = np.bincount(part.labels, minlength=classes)
        assert (counts > 0).all()
        images = np.stack([image for _, image, _ in part.examples(0).take(500).as_numpy_iterator()])
        assert 90 < images.mean() < 140
        steps = np.abs(np.diff(images.astype(float), axis=2)).mean()
        assert steps < 20  # neighbours are alike: neither the sides nor the channels are mixed up


@pytest.mark.skipif("MCATTN_CIFAR10" not in os.environ, reason="needs an .npz file of CIFAR-10")
def test_real_cifar10():
    loaded = read("cifar10", os.environ["MCATTN_CIFAR10"])
    assert loaded.attributes == tuple(NAMES10)
    check_real(loaded, 10)


@pytest.mark.skipif("MCATTN_SVHN" not in os.environ, reason="needs an .npz file of SVHN")
def test_real_svhn():
    check_real(read("svhn_cropped", os.environ["MCATTN_SVHN"]), 10)
