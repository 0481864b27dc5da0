import gc
import io
import os
import pickle
import struct
import tarfile
import typing
import weakref
import zipfile

import numpy as np
import pytest
import scipy.io
import tensorflow as tf

from mcattn_tf.data import load_split
from mcattn_tf.data.sets import arrays, cifar, svhn, through_tfds
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

NAMES10 = ["airplane", "automobile", "bird", "cat", "deer"]
NAMES10 += ["dog", "frog", "horse", "ship", "truck"]
TRAIN10 = [f"data_batch_{number}" for number in range(1, 6)]


class Python2Pickler(pickle._Pickler):
    """Writes all text as Python 2 did, as byte strings."""

    dispatch: typing.ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        content = text if isinstance(text, bytes) else text.encode()
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_string


def python2_pickle(value) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def coded_image(code: int) -> np.ndarray:
    """(32, 32, 3): the code in red, the row in green, the column in blue."""
    image = np.empty((32, 32, 3), np.uint8)
    image[..., 0] = code
    image[..., 1] = np.arange(32)[:, None]
    image[..., 2] = np.arange(32)
    return image


def coded_images(*codes: int) -> np.ndarray:
    return np.stack([coded_image(code) for code in codes])


def flat(images: np.ndarray) -> np.ndarray:
    """As CIFAR has them: all red values, row by row, then green, then blue."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), 3072))


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


def read(module, dataset, data_dir):
    return module.source(DataConfig(dataset=dataset, data_dir=str(data_dir)))


def refused(call) -> str:
    with pytest.raises(UserError) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.fixture
def cifar10_dir(tmp_path):
    """Batch n holds two images, coded 10 n and 10 n + 1, of the classes n and 9."""
    root = tmp_path / "data" / "cifar-10-batches-py"
    root.mkdir(parents=True)
    for number, name in enumerate([*TRAIN10, "test_batch"], start=1):
        batch = {
            "batch_label": name,
            "labels": [number, 9],
            "data": flat(coded_images(10 * number, 10 * number + 1)),
            "filenames": ["a.png", "b.png"],
        }
        (root / name).write_bytes(python2_pickle(batch))
    meta = {"num_cases_per_batch": 2, "label_names": [f"{n}s" for n in NAMES10], "num_vis": 3072}
    (root / "batches.meta").write_bytes(python2_pickle(meta))
    return root


def check_cifar10(loaded, names):
    assert loaded.attributes == tuple(names)
    assert loaded.exclusive
    assert list(loaded.parts) == ["train", "test"]
    codes = [10, 11, 20, 21, 30, 31, 40, 41, 50, 51]
    check(loaded.parts["train"], codes, [1, 9, 2, 9, 3, 9, 4, 9, 5, 9])
    check(loaded.parts["test"], [60, 61], [6, 9])


def test_the_pickles_are_python_2s(cifar10_dir):
    content = (cifar10_dir / "data_batch_1").read_bytes()
    assert content[:2] == b"\x80\x02"
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in content
    assert b"_codecs" not in content
    assert pickle.loads(content, encoding="bytes")[b"labels"] == [1, 9]


def test_cifar10_from_its_folder(cifar10_dir):
    plural = [f"{name}s" for name in NAMES10]
    check_cifar10(read(cifar, "cifar10", cifar10_dir), plural)
    loaded = read(cifar, "cifar10", cifar10_dir.parent)
    check_cifar10(loaded, plural)
    assert loaded.parts["train"].name(3) == "train image 3"


def test_cifar10_without_meta_has_the_official_names(cifar10_dir):
    (cifar10_dir / "batches.meta").unlink()
    check_cifar10(read(cifar, "cifar10", cifar10_dir), NAMES10)


def test_cifar10_as_python_3_writes_protocol_2(cifar10_dir):
    for path in cifar10_dir.iterdir():
        path.write_bytes(
            pickle.dumps(pickle.loads(path.read_bytes(), encoding="bytes"), protocol=2)
        )
    assert b"_codecs" in (cifar10_dir / "data_batch_1").read_bytes()
    check_cifar10(read(cifar, "cifar10", cifar10_dir), [f"{name}s" for name in NAMES10])


def pack(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


@pytest.mark.parametrize("given", ["folder", "file"])
def test_cifar10_from_its_archive(cifar10_dir, tmp_path, given):
    path = pack(cifar10_dir, tmp_path / "cifar-10-python.tar.gz")
    loaded = read(cifar, "cifar10", tmp_path if given == "folder" else path)
    check_cifar10(loaded, [f"{name}s" for name in NAMES10])
    assert loaded.parts["test"].name(1) == "test image 1"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cifar-10-python.tar.gz", "data"]


def write_cifar100(root):
    root.mkdir()
    for name, labels, codes in (("train", [0, 99, 42], (1, 2, 3)), ("test", [7], (4,))):
        batch = {"fine_labels": labels, "coarse_labels": [1] * len(labels)}
        (root / name).write_bytes(python2_pickle(batch | {"data": flat(coded_images(*codes))}))


def test_cifar100_has_its_fine_classes(tmp_path):
    root = tmp_path / "cifar-100-python"
    write_cifar100(root)
    loaded = read(cifar, "cifar100", tmp_path)
    assert loaded.attributes == tuple(str(number) for number in range(100))
    check(loaded.parts["train"], [1, 2, 3], [0, 99, 42])
    check(loaded.parts["test"], [4], [7])
    fine = [f"kind {number}" for number in range(100)]
    meta = {"fine_label_names": fine, "coarse_label_names": ["x"] * 20}
    (root / "meta").write_bytes(python2_pickle(meta))
    assert read(cifar, "cifar100", root).attributes == tuple(fine)


class Harm:
    """Runs a call when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("packed", [False, True])
def test_a_pickle_that_would_run_something_is_refused(cifar10_dir, tmp_path, packed):
    marker = tmp_path / "harmed"
    harm = {b"data": Harm(os.mkdir, str(marker)), b"labels": []}
    content = pickle.dumps(harm, protocol=2)
    pickle.loads(content)  # it would
    marker.rmdir()
    (cifar10_dir / "data_batch_2").write_bytes(content)
    where = pack(cifar10_dir, tmp_path / "cifar-10-python.tar.gz") if packed else cifar10_dir
    message = refused(lambda: read(cifar, "cifar10", where))
    assert "data_batch_2: a CIFAR file holds arrays alone. Received: 'posix.mkdir'" in message
    assert not marker.exists()


def test_a_pickle_may_not_use_other_encodings():
    """Some of Python's codecs decompress, and so could fill the memory."""
    harm = pickle.dumps(Harm(__import__("_codecs").encode, b"x", "zip"), protocol=2)
    with pytest.raises(pickle.UnpicklingError, match="zip is not allowed"):
        cifar._ArrayUnpickler(io.BytesIO(harm), encoding="bytes").load()


def batch(**changed):
    return python2_pickle({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]} | changed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read {path}: "),
        (b"not a pickle", "cannot read {path}: "),
        (batch()[:3000], "cannot read {path}: "),
        (python2_pickle([1]), "{path}: expected a dictionary. Received: list"),
        (batch(data=[1, 2]), "{path}, data: expected an array (N, 3072), uint8. Received: list"),
        (batch(data=np.zeros((2, 3072))), "Received: (2, 3072), float64"),
        (batch(data=np.zeros((2, 32, 32, 3), np.uint8)), "Received: (2, 32, 32, 3), uint8"),
        (batch(data=np.zeros((0, 3072), np.uint8), labels=[]), "Received: (0, 32, 32, 3), uint8"),
        (batch(labels=["a", "b"]), "{path}, labels: expected a list of whole numbers"),
        (batch(labels=None), "{path}, labels: expected a list of whole numbers"),
        (batch(labels=[1]), "{path}, labels: expected a whole number for each of the 2 images"),
        (batch(labels=[1, 10]), "expected classes from 0 to 9. Received: 10 at index 1"),
        (batch(labels=[-1, 0]), "expected classes from 0 to 9. Received: -1 at index 0"),
        (batch(labels=[0, 2**70]), "cannot read {path}: "),
    ],
)
def test_damaged_cifar_files_say_which(cifar10_dir, content, message):
    path = cifar10_dir / "data_batch_4"
    path.write_bytes(content)
    assert message.format(path=path) in refused(lambda: read(cifar, "cifar10", cifar10_dir))


def test_cifar_files_that_are_missing_or_misnamed(cifar10_dir, tmp_path):
    (cifar10_dir / "batches.meta").write_bytes(python2_pickle({"label_names": ["a"] * 10}))
    message = refused(lambda: read(cifar, "cifar10", cifar10_dir))
    assert message.endswith("batches.meta, label_names: expected 10 names without repeats")
    (cifar10_dir / "batches.meta").unlink()
    (cifar10_dir / "data_batch_1").unlink()
    message = refused(lambda: read(cifar, "cifar10", cifar10_dir))
    assert message == f"{cifar10_dir} has no data_batch_1"
    path = pack(cifar10_dir, tmp_path / "cifar-10-python.tar.gz")
    message = refused(lambda: read(cifar, "cifar10", path))
    assert message == f"{path} has no data_batch_1"
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"no archive", b""):
        path.write_bytes(damaged)
        message = refused(lambda: read(cifar, "cifar10", path))
        assert message.startswith(f"cannot read {path}: ")


def test_neither_files_nor_tfds(tmp_path):
    message = refused(lambda: read(cifar, "cifar100", tmp_path))
    assert message == (
        f"--data_dir {tmp_path} must hold cifar-100-python/, cifar-100-python.tar.gz or "
        "cifar100.npz; leave the flag out to download through tensorflow-datasets"
    )
    message = refused(lambda: read(svhn, "svhn_cropped", tmp_path))
    assert "must hold train_32x32.mat and test_32x32.mat, or svhn.npz; leave" in message
    assert "x does not exist; name" in refused(lambda: read(cifar, "cifar10", tmp_path / "x"))
    (tmp_path / "x.txt").write_text("")
    assert "x.txt must hold" in refused(lambda: read(svhn, "svhn_cropped", tmp_path / "x.txt"))


def test_without_files_the_data_come_through_tfds(tmp_path, monkeypatch):
    monkeypatch.setattr(through_tfds, "source", lambda config: (config.dataset, config.data_dir))
    assert cifar.source(DataConfig(dataset="cifar10")) == ("cifar10", None)
    assert svhn.source(DataConfig(dataset="svhn_cropped")) == ("svhn_cropped", None)
    (tmp_path / "cifar10").mkdir()
    assert read(cifar, "cifar10", tmp_path) == ("cifar10", str(tmp_path))
    (tmp_path / "downloads").mkdir()
    assert read(svhn, "svhn_cropped", tmp_path) == ("svhn_cropped", str(tmp_path))


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
        loaded = read(cifar, "cifar10", data_dir)
        assert loaded.attributes == tuple(NAMES10)
        assert loaded.exclusive
        check(loaded.parts["train"], [5, 6, 7], [3, 0, 9])
        check(loaded.parts["test"], [8], [4])
        np.testing.assert_array_equal(loaded.parts["train"].groups, [7, 7, 1])
        assert loaded.parts["test"].groups is None
    names = np.array([f"class {number}" for number in range(10)])
    write_npz(path, class_names=names)
    assert read(cifar, "cifar10", path).attributes == tuple(names)


@pytest.mark.parametrize("name", ["svhn.npz", "digits.npz"])
def test_an_npz_of_svhn(tmp_path, name):
    path = write_npz(tmp_path / name, photo_train=np.array([1, 2, 2]))
    for data_dir in (tmp_path, path):
        loaded = read(svhn, "svhn_cropped", data_dir)
        assert loaded.attributes == tuple("0123456789")
        check(loaded.parts["train"], [5, 6, 7], [3, 0, 9])
        np.testing.assert_array_equal(loaded.parts["train"].groups, [1, 2, 2])


@pytest.mark.parametrize(
    ("without", "changed", "message"),
    [
        (("y_train", "x_test"), {}, "{path} has no y_train and no x_test"),
        ((), {"x_train": np.zeros((3, 32, 32, 3))}, "x_train: expected images (N, 32, 32, 3), ui"),
        ((), {"x_test": np.zeros((1, 28, 28), np.uint8)}, "Received: (1, 28, 28), uint8"),
        ((), {"x_test": np.zeros((0, 32, 32, 3), np.uint8)}, "Received: (0, 32, 32, 3), uint8"),
        ((), {"y_train": np.arange(2)}, "y_train: expected a whole number for each of the 3 im"),
        ((), {"y_train": np.ones(3)}, "{path}, y_train: expected a whole number for each"),
        ((), {"y_test": np.eye(10)[:1]}, "Received: (1, 10), float64"),
        ((), {"y_train": np.array([0, 1, 10])}, "from 0 to 9. Received: 10 at index 2"),
        ((), {"y_train": np.array([{}, 1, 2], object)}, "cannot read {path}: Object arrays"),
        ((), {"group_train": np.arange(4)}, "{path}, group_train: expected a whole number"),
        ((), {"class_names": np.arange(10)}, "class_names: expected names without repeats"),
        ((), {"class_names": np.array(["a", "a"])}, "class_names: expected names without repeats"),
        ((), {"class_names": np.array(["a", "b"])}, "class_names: expected 10 names. Received: 2"),
    ],
)
def test_an_npz_that_cannot_be_used_says_why(tmp_path, without, changed, message):
    path = write_npz(tmp_path / "cifar10.npz", *without, **changed)
    assert message.format(path=path) in refused(lambda: read(cifar, "cifar10", path))


def test_a_damaged_npz(tmp_path):
    path = write_npz(tmp_path / "cifar10.npz")
    content = path.read_bytes()
    for damaged in (content[:-30], b"", b"\x93NUMPY"):
        path.write_bytes(damaged)
        message = refused(lambda: read(cifar, "cifar10", path))
        assert message.startswith(f"cannot read {path}: ")


def test_an_array_that_is_longer_than_it_says(tmp_path):
    path = write_npz(tmp_path / "cifar10.npz", "y_test")
    content = io.BytesIO()
    np.save(content, np.array([4]))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y_test.npy", content.getvalue() + b"more")
    message = refused(lambda: read(cifar, "cifar10", path))
    assert message == f"cannot read {path}: y_test is longer than its header says"


def test_damaged_pixels_are_met_when_they_are_read(tmp_path):
    path = tmp_path / "cifar10.npz"
    np.savez(path, **npz_arrays())
    content = bytearray(path.read_bytes())
    content[content.index(coded_image(6)[0].tobytes()) + 300] ^= 1
    path.write_bytes(content)
    part = read(cifar, "cifar10", path).parts["train"]
    assert "Bad CRC-32" in refused(lambda: part.examples(0))


def test_pixels_are_loaded_once_and_not_kept(tmp_path):
    loaded = []

    def load():
        pixels = coded_images(1, 2)
        loaded.append(weakref.ref(pixels))
        return pixels

    path = tmp_path / "x.npz"
    part = arrays.part_of_arrays("train", [path], load, np.array([0, 1]), ("a", "b"))
    assert not loaded
    check(part, [1, 2], [0, 1])
    check(part, [1, 2], [0, 1])
    assert len(loaded) == 1
    gc.collect()

    assert loaded[0]() is not None
    part.release()
    gc.collect()
    assert loaded[0]() is None


def write_mat(root, **changed):
    for name, codes, labels in (("train", (1, 2, 3), [10, 1, 9]), ("test", (4,), [10])):
        stored = coded_images(*codes).transpose(1, 2, 3, 0)
        content = {"X": stored, "y": np.array(labels, np.uint8)[:, None]}
        content |= changed if name == "train" else {}
        content = {key: value for key, value in content.items() if value is not None}
        scipy.io.savemat(root / f"{name}_32x32.mat", content, do_compression=True)


def test_a_part_of_no_images_is_named(tmp_path):
    write_mat(tmp_path)
    empty = {"X": np.zeros((32, 32, 3, 0), np.uint8), "y": np.zeros((0, 1), np.uint8)}
    scipy.io.savemat(tmp_path / "test_32x32.mat", empty)
    config = DataConfig("svhn_cropped", str(tmp_path), (32, 32))
    message = refused(lambda: load_split(config, "test"))
    assert message.startswith("the svhn_cropped data have no test images; add some")


def test_svhn_from_its_files(tmp_path):
    write_mat(tmp_path)
    loaded = read(svhn, "svhn_cropped", tmp_path)
    assert loaded.attributes == tuple("0123456789")
    assert loaded.exclusive
    check(loaded.parts["train"], [1, 2, 3], [0, 1, 9])
    check(loaded.parts["test"], [4], [0])
    name = loaded.parts["train"].name(2)
    assert name == "train image 2"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": None}, "train_32x32.mat has no y"),
        ({"X": None}, "train_32x32.mat has no X"),
        ({"X": np.zeros((3, 32, 32, 3), np.uint8)}, "X: expected images (32, 32, 3, N), uint8. R"),
        ({"X": np.zeros((32, 32, 3, 3))}, "Received: (32, 32, 3, 3), double"),
        ({"y": np.array([[1], [2]])}, "y: expected a whole number for each of the 3 images"),
        ({"y": np.array([[1], [0], [2]])}, "classes from 1 to 10. Received: 0 at index 1"),
        ({"y": np.array([[1], [11], [2]])}, "classes from 1 to 10. Received: 11 at index 1"),
    ],
)
def test_svhn_files_that_cannot_be_used_say_why(tmp_path, changed, message):
    write_mat(tmp_path, **changed)
    assert message in refused(lambda: read(svhn, "svhn_cropped", tmp_path))


def test_damaged_svhn_files(tmp_path):
    write_mat(tmp_path)
    path = tmp_path / "test_32x32.mat"
    content = path.read_bytes()
    for damaged in (b"", b"no mat file" * 50, content[:140], content[: len(content) // 2]):
        path.write_bytes(damaged)
        message = refused(lambda: read(svhn, "svhn_cropped", tmp_path))
        assert message.startswith(f"cannot read {path}: ")
    path.unlink()
    message = refused(lambda: read(svhn, "svhn_cropped", tmp_path))
    assert message == f"{tmp_path} has no test_32x32.mat"


def test_the_fingerprint_changes_with_the_file_and_the_labels(tmp_path):
    path = tmp_path / "cifar10.npz"

    def fingerprints(**changed):
        write_npz(path, **changed)
        os.utime(path, ns=(5, 5))
        parts = read(cifar, "cifar10", path).parts
        return [parts[part].fingerprint(0, 2) for part in ("train", "test")]

    first = fingerprints()
    assert fingerprints() == first
    assert fingerprints(y_train=np.array([3, 1, 9], np.uint8))[0] != first[0]
    fingerprints()
    os.utime(path, ns=(5, 6))
    assert read(cifar, "cifar10", path).parts["test"].fingerprint(0, 2) != first[1]


def check_real(loaded, classes):
    for part in loaded.parts.values():
        counts = np.bincount(part.labels, minlength=classes)
        assert (counts > 0).all()
        images = np.stack([image for _, image, _ in part.examples(0).take(500).as_numpy_iterator()])
        assert 90 < images.mean() < 140
        steps = np.abs(np.diff(images.astype(float), axis=2)).mean()
        assert steps < 20  # neighbours are alike: neither the sides nor the channels are mixed up


@pytest.mark.skipif("MCATTN_CIFAR10" not in os.environ, reason="needs CIFAR-10's files")
def test_real_cifar10():
    loaded = read(cifar, "cifar10", os.environ["MCATTN_CIFAR10"])
    assert loaded.attributes == tuple(NAMES10)
    check_real(loaded, 10)


@pytest.mark.skipif("MCATTN_SVHN" not in os.environ, reason="needs SVHN's files")
def test_real_svhn():
    check_real(read(svhn, "svhn_cropped", os.environ["MCATTN_SVHN"]), 10)
