"""Data sets that tensorflow-datasets (TFDS) has prepared, or downloads and prepares."""

import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from mcattn_tf.data.split import Part, Source
from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.settings.data import DataConfig

Builder = Any  # tfds.core.DatasetBuilder: TFDS takes seconds to import, and most runs need none
Parse = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]  # image and labels of a record


class _DataSet(NamedTuple):
    """TFDS' name of a data set, {our part: TFDS' split}, and advice where it cannot prepare it."""

    name: str
    parts: Mapping[str, str]
    by_hand: str


_TRAIN_TEST = {"train": "train", "test": "test"}
_NPZ = "Pass --data_dir FILE.npz with the arrays x_train, y_train, x_test and y_test"
_DATA_SETS = {
    "celeba": _DataSet(
        "celeb_a",
        {"train": "train", "validation": "validation", "test": "test"},
        "Download CelebA from its home page and pass --data_dir DIR, a folder with "
        "img_align_celeba/ (or img_align_celeba.zip), list_attr_celeba.txt and "
        "list_eval_partition.txt",
    ),
    **{name: _DataSet(name, _TRAIN_TEST, _NPZ) for name in ("cifar10", "cifar100", "svhn_cropped")},
    "imagenet2012": _DataSet(
        "imagenet2012",
        {"train": "train", "test": "validation"},  # the labels of its test are not published
        "Download ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from "
        "https://image-net.org/download-images, which asks for an account, and put them into "
        "{manual_dir}/",
    ),
}


def _prepared_builder(data_set: _DataSet, data_dir: str | None) -> Builder:
    import tensorflow_datasets as tfds

    manual_dir = "<data_dir>/downloads/manual"
    # Files of this format can be read in any order; there are no wheels of it but for Linux.
    file_format = "array_record" if importlib.util.find_spec("array_record") else "tfrecord"
    try:
        # Any version that is prepared, else TFDS' own.
        builder = tfds.builder(data_set.name, data_dir=data_dir, version="*.*.*")
        manual_dir = os.fspath(builder.data_dir_root / "downloads" / "manual")
        if manual_dir.startswith("~"):  # else a folder of this name would be made here
            raise UserError("this user has no home directory, and HOME is not set")
        builder.download_and_prepare(file_format=file_format)
    except Exception as error:
        # Quotas, checksums and broken connections each raise an exception of their own.
        raise UserError(
            f"tensorflow-datasets could not prepare {data_set.name} ({reason_of(error)}). "
            + data_set.by_hand.format(manual_dir=manual_dir)
        ) from None
    return builder


def _fingerprint(builder: Builder, split: str) -> str:
    info = builder.info
    lines = [f"{info.full_name} {split} {info.splits[split].num_examples}"]
    for path in map(Path, info.splits[split].filepaths):
        if path.exists():
            status = path.stat()
            lines.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    # A digest: ImageNet has a thousand files.
    return f"{lines[0]} {hashlib.sha256(str(lines).encode()).hexdigest()}"


def _tfrecords(builder: Builder, split: str, start: int) -> tf.data.Dataset:
    """Returns the records of TFRecord files from index `start` on, file after file."""
    files = builder.info.splits[f"{split}[{start}:]"].file_instructions

    def records(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
        # All that follows a damaged record in its file is lost. Empty records stand for it, so
        # that records of other files keep their index.
        lost = tf.data.Dataset.from_tensors("").repeat()
        found = tf.data.TFRecordDataset(path)
        return found.ignore_errors().concatenate(lost).skip(skip).take(take)

    columns = (
        [os.fspath(file.filename) for file in files],
        np.array([file.skip for file in files], np.int64),
        np.array([file.take for file in files], np.int64),
    )
    return tf.data.Dataset.from_tensor_slices(columns).flat_map(records)


def _part(builder: Builder, split: str, parse: Parse) -> Part:
    """Returns a part; of TFRecord files it can be read from front to back alone."""
    import tensorflow_datasets as tfds

    info = builder.info
    count, read = info.splits[split].num_examples, None
    if info.file_format is tfds.core.FileFormat.TFRECORD:
        damaged = f"a TFRecord file of {info.name} {split} in {builder.data_dir} is damaged"

        def example(index: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.control_dependencies([tf.debugging.Assert(record != "", [damaged])]):
                return index, *parse(tf.identity(record))

        def examples(start: int) -> tf.data.Dataset:
            if start >= count:
                return examples(0).take(0)  # TFDS refuses an empty slice
            records = _tfrecords(builder, split, start)
            return records.enumerate(start).map(example, num_parallel_calls=tf.data.AUTOTUNE)

    else:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        # From any thread: it has one reader for each file, which C++ guards.
        records = builder.as_data_source(split, deserialize_method=raw)

        def example(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            record = tf.numpy_function(lambda at: records[at], [index], tf.string)
            return index, *parse(tf.ensure_shape(record, ()))

        def examples(start: int) -> tf.data.Dataset:
            indices = tf.data.Dataset.range(start, count)
            return indices.map(example, num_parallel_calls=tf.data.AUTOTUNE)

        def read(index: tf.Tensor) -> tf.Tensor:
            return example(index)[1]

    def name(index: int) -> str:
        return f"{info.name} {split}, record {index}"

    return Part(count, name, lambda: _fingerprint(builder, split), read, records=examples)


def source(config: DataConfig) -> Source:
    """Returns a data set through TFDS.

    `config.data_dir` is TFDS' own directory, None for its default. Prepared files are used in the
    format that they have. Otherwise TFDS downloads the data set, where it may, and prepares it as
    array_record files; of other formats `read` is None.
    """
    import tensorflow_datasets as tfds

    data_set = _DATA_SETS[config.dataset]
    builder = _prepared_builder(data_set, config.data_dir)
    info = builder.info
    formats = tfds.core.FileFormat
    if info.file_format not in (formats.TFRECORD, formats.ARRAY_RECORD):
        raise UserError(
            f"{builder.data_dir} holds {info.file_format.value} files; "
            "prepare the data set as tfrecord or array_record"
        )
    splits = {part: split for part, split in data_set.parts.items() if split in info.splits}
    if not splits:
        raise UserError(f"{builder.data_dir} has no images")
    for path in (path for split in splits.values() for path in info.splits[split].filepaths):
        if not os.access(path, os.R_OK):  # TensorFlow would try it again for ever
            raise UserError(f"cannot read {path}; have {info.name} prepared anew")
    label = "label" if "label" in info.features else "attributes"
    # TFDS' files have attributes in no order; sorted, they are as in CelebA's own list.
    names = (
        info.features["label"].names if label == "label" else sorted(info.features[label].keys())
    )
    wanted = tfds.decode.PartialDecoding(
        {"image": True, label: True}, decoders={"image": tfds.decode.SkipDecoding()}
    )
    features = wanted.extract_features(info.features)

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = features.deserialize_example(record, decoders=wanted.decoders)
        labels = example[label]
        if label == "attributes":
            labels = tf.cast(tf.stack([labels[name] for name in names]), tf.int8)
        return example["image"], labels

    parts = {part: _part(builder, split, parse) for part, split in splits.items()}
    return Source(tuple(names), parts, exclusive=label == "label")
