import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mcattn_tf.data.sets import tfds as through_tfds
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

tfds = pytest.importorskip("tensorflow_datasets")

FORMATS = ("tfrecord", "array_record")
NAMES = {"celeba": "celeb_a"}
COUNTS = {"train": 11, "validation": 5, "test": 3}


def encoded_image(rng, size, kind):
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def celeba_example(rng, module):
    example = {
        "image": encoded_image(rng, (218, 178), "JPEG"),
        "landmarks": dict.fromkeys(module.LANDMARK_HEADINGS, 0),
        "attributes": {name: bool(rng.integers(2)) for name in module.ATTR_HEADINGS},
        "identity": {"Identity_No": 1},
    }
    return example, [int(example["attributes"][name]) for name in module.ATTR_HEADINGS]


def class_example(rng, dataset):
    label = int(rng.integers(10))
    if dataset == "imagenet2012":
        image = encoded_image(rng, rng.integers(20, 40, 2), "JPEG")
        return {"image": image, "label": label, "file_name": "a.JPEG"}, label
    return {"image": encoded_image(rng, (32, 32), "PNG"), "label": label, "id": "a"}, label


@pytest.fixture
def tfds_of(monkeypatch):
    """Lets TFDS's own builder of a data set write a few drawn images, with no download.

    Returns a function that returns the labels of each split's images, by their bytes.
    """

    def make(dataset):
        rng = np.random.default_rng(0)
        cls = tfds.builder_cls(NAMES.get(dataset, dataset))
        labels, examples = {}, {}
        for split, count in COUNTS.items():
            labels[split], examples[split] = {}, []
            for _ in range(count):
                if dataset == "celeba":
                    example, label = celeba_example(rng, sys.modules[cls.__module__])
                else:
                    example, label = class_example(rng, dataset)
                labels[split][example["image"]] = label
                examples[split].append(example)

        def generate(split):
            for key, example in enumerate(examples[split]):
                yield f"{split} {key}", example | {"image": io.BytesIO(example["image"])}

        def split_generators(self, dl_manager):
            if dataset == "cifar10":
                self.info.features["label"].names = [f"class {index}" for index in range(10)]
            return {split: generate(split) for split in COUNTS}

        monkeypatch.setattr(cls, "_split_generators", split_generators)
        return labels

    return make


def prepare(dataset, data_dir, file_format, shards=2):
    tfds.builder(NAMES.get(dataset, dataset), data_dir=data_dir).download_and_prepare(
        file_format=file_format,
        download_config=tfds.download.DownloadConfig(num_shards=shards),
    )


def through(dataset, data_dir):
    return through_tfds.source(DataConfig(dataset=dataset, data_dir=str(data_dir)))


def pairs(examples):
    return [(image, labels.tolist()) for _, image, labels in examples.as_numpy_iterator()]


def indices(examples):
    return [index for index, *_ in examples.as_numpy_iterator()]


def pixels(images):
    return [tf.io.decode_image(image, channels=3).numpy() for image in images]


@pytest.mark.parametrize("file_format", FORMATS)
def test_celeba(tfds_of, tmp_path, file_format):
    labels = tfds_of("celeba")
    prepare("celeba", tmp_path, file_format)
    source = through("celeba", tmp_path)
    assert source.attributes[:3] == ("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive")
    assert source.attributes[-1] == "Young" and len(source.attributes) == 40
    assert not source.exclusive
    assert {name: part.count for name, part in source.parts.items()} == COUNTS
    for name, part in source.parts.items():
        found = pairs(part.examples(0))
        assert dict(found) == labels[name] and len(found) == part.count
        assert part.labels is None and part.groups is None
        assert part.examples(0).element_spec[2].dtype == tf.int8
        assert part.name(2) == f"celeb_a {name}, record 2"


@pytest.mark.parametrize("dataset", ["cifar10", "svhn_cropped", "imagenet2012"])
def test_classes(tfds_of, tmp_path, dataset):
    labels = tfds_of(dataset)
    source = through(dataset, tmp_path)  # prepares it
    if dataset == "imagenet2012":
        assert (
            source.attributes[:2] == ("n01440764", "n01443537") and len(source.attributes) == 1000
        )
    else:
        assert source.attributes == tuple(
            f"class {index}" if dataset == "cifar10" else str(index) for index in range(10)
        )
    assert source.exclusive and set(source.parts) == {"train", "test"}
    splits = {"train": "train", "test": "validation" if dataset == "imagenet2012" else "test"}
    for name, part in source.parts.items():
        assert part.read is not None
        found = pairs(part.examples(0))
        assert dict(found) == labels[splits[name]] and len(found) == part.count
        assert part.examples(0).element_spec[2].dtype == tf.int64
        assert part.name(0) == f"{dataset} {splits[name]}, record 0"


def test_order_is_that_of_the_files_in_either_format(tfds_of, tmp_path):
    tfds_of("svhn_cropped")
    for file_format in FORMATS:
        prepare("svhn_cropped", tmp_path / file_format, file_format, shards=3)
    by_format = [through("svhn_cropped", tmp_path / name).parts["train"] for name in FORMATS]
    builder = tfds.builder("svhn_cropped", data_dir=tmp_path / "tfrecord")
    read_config = tfds.ReadConfig(interleave_cycle_length=1)
    expected = list(builder.as_dataset(split="train", read_config=read_config).as_numpy_iterator())
    for part in by_format:
        found = pairs(part.examples(0))
        assert [label for _, label in found] == [example["label"] for example in expected]
        np.testing.assert_array_equal(
            pixels(image for image, _ in found), [example["image"] for example in expected]
        )
        for start in range(part.count + 1):
            assert pairs(part.examples(start)) == found[start:]
            assert indices(part.examples(start)) == list(range(start, part.count))


def test_read_in_any_order(tfds_of, tmp_path):
    tfds_of("svhn_cropped")
    for file_format in FORMATS:
        prepare("svhn_cropped", tmp_path / file_format, file_format)
    assert through("svhn_cropped", tmp_path / "tfrecord").parts["train"].read is None
    part = through("svhn_cropped", tmp_path / "array_record").parts["train"]
    images = [image for image, _ in pairs(part.examples(0))]
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(part.count), 20))
    read = tf.data.Dataset.from_tensor_slices(order).map(part.read, num_parallel_calls=8)
    assert list(read.as_numpy_iterator()) == [images[index] for index in order]


def test_another_version_that_is_prepared_is_used(tfds_of, tmp_path):
    labels = tfds_of("celeba")
    prepare("celeba", tmp_path, "tfrecord")
    folder = tmp_path / "celeb_a"
    (folder / "2.1.0").rename(folder / "2.0.1")
    file = folder / "2.0.1" / "dataset_info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": "2.0.1"}))
    source = through("celeba", tmp_path)
    assert source.attributes[:2] == ("5_o_Clock_Shadow", "Arched_Eyebrows")
    assert dict(pairs(source.parts["test"].examples(0))) == labels["test"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_damaged_file(tfds_of, tmp_path, file_format):
    tfds_of("svhn_cropped")
    prepare("svhn_cropped", tmp_path, file_format)
    part = through("svhn_cropped", tmp_path).parts["train"]
    whole = pairs(part.examples(0))
    file = next(tmp_path.glob(f"svhn_cropped/*/*train.{file_format}-00000-of-00002"))
    data = bytearray(file.read_bytes())
    at = data.index(whole[2][0][-200:])
    data[at : at + 50] = bytes(50)
    file.write_bytes(data)

    damaged = through("svhn_cropped", tmp_path).parts["train"]
    with pytest.raises(tf.errors.OpError, match=r"is damaged|Corrupted"):
        pairs(damaged.examples(0))
    in_file = 6 if file_format == "tfrecord" else 3  # what follows in a TFRecord file is lost
    kept = damaged.examples(0).map(lambda *example: example).ignore_errors()
    assert pairs(kept) == whole[:2] + whole[in_file:]
    assert indices(kept) == [0, 1, *range(in_file, part.count)]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_that_is_missing_is_named(tfds_of, tmp_path, file_format):
    tfds_of("svhn_cropped")
    prepare("svhn_cropped", tmp_path, file_format)
    path = next(tmp_path.glob(f"svhn_cropped/*/*train.{file_format}-00001-of-00002"))
    path.unlink()
    with pytest.raises(UserError, match=f"cannot read {path}; have svhn_cropped prepared anew"):
        through("svhn_cropped", tmp_path)


def test_fingerprint(tfds_of, tmp_path):
    tfds_of("svhn_cropped")
    prepare("svhn_cropped", tmp_path, "tfrecord")
    parts = through("svhn_cropped", tmp_path).parts
    before = {name: part.fingerprint() for name, part in parts.items()}
    assert before["train"].startswith("svhn_cropped/3.1.0 train 11 ")
    again = through("svhn_cropped", tmp_path).parts
    assert {name: part.fingerprint() for name, part in again.items()} == before
    os.utime(next(tmp_path.glob("svhn_cropped/*/*train*-00001-of-00002")))
    after = {name: part.fingerprint() for name, part in parts.items()}
    assert after["test"] == before["test"] and after["train"] != before["train"]


@pytest.mark.parametrize(
    ("dataset", "by_hand"),
    [
        ("celeba", "img_align_celeba/ (or img_align_celeba.zip), list_attr_celeba.txt"),
        ("cifar10", "Pass --data_dir FILE.npz with the arrays x_train, y_train, x_test and y_test"),
        ("cifar100", "FILE.npz"),
        ("svhn_cropped", "FILE.npz"),
    ],
)
def test_failing_download(tmp_path, monkeypatch, dataset, by_hand):
    def fail(*args, **kwargs):
        raise OSError("Quota exceeded\nwith much more")

    name = NAMES.get(dataset, dataset)
    monkeypatch.setattr(tfds.builder_cls(name), "download_and_prepare", fail)
    with pytest.raises(UserError) as error:
        through(dataset, tmp_path)
    start, _, advice = str(error.value).partition(". ")
    assert start == f"tensorflow-datasets could not prepare {name} (Quota exceeded)"
    assert by_hand in advice and "\n" not in advice


def test_without_a_home_no_folder_of_that_name_is_made(monkeypatch):
    root = Path("~/tensorflow_datasets")  # TFDS leaves it like this
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: SimpleNamespace(data_dir_root=root))
    with pytest.raises(UserError, match=r"no home directory, and HOME .*pass --data_dir"):
        through_tfds.source(DataConfig(dataset="celeba"))


def test_imagenet_without_its_archives(tmp_path):
    with pytest.raises(UserError, match="Manual directory") as error:
        through("imagenet2012", tmp_path)
    assert f"put them into {tmp_path}/downloads/manual/" in str(error.value)


def test_no_images(tfds_of, tmp_path):
    tfds_of("svhn_cropped")
    prepare("svhn_cropped", tmp_path, "tfrecord")
    folder = next(tmp_path.glob("svhn_cropped/*"))
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(UserError, match=r"has no images$"):
        through("svhn_cropped", tmp_path)


def test_files_of_another_format(tfds_of, tmp_path):
    tfds_of("svhn_cropped")
    prepare("svhn_cropped", tmp_path, "parquet")
    with pytest.raises(UserError, match="holds parquet files"):
        through("svhn_cropped", tmp_path)
