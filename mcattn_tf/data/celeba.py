"""CelebA (Liu et al. 2015) from its files, or through tensorflow-datasets."""

import functools
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mcattn_tf.config import DataConfig
from mcattn_tf.data.images import decode
from mcattn_tf.data.pipeline import Data, Split
from mcattn_tf.errors import UserError

IMAGES = "img_align_celeba"
ATTRIBUTE_FILE = "list_attr_celeba.txt"
PARTITION_FILE = "list_eval_partition.txt"
PARTS = ("train", "validation", "test")  # partition numbers 0, 1, 2


class Files:
    """Reads named files of a folder or of a zip archive, from any thread.

    Args:
        root: path of the folder or archive.

    Raises:
        UserError: if `root` is neither.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._archive = None
        if root.is_file():
            try:
                self._archive = zipfile.ZipFile(root)
            except zipfile.BadZipFile:
                raise UserError(f"{root} is neither a folder nor a zip archive") from None
            # An archive may hold everything in one more folder; names count from their end.
            self._members = {"/".join(Path(n).parts[-2:]): n for n in self._archive.namelist()}
            self._members |= {Path(n).name: n for n in self._archive.namelist()}

    def names(self, folder: str) -> set[str]:
        """Returns the names of the files in `folder`."""
        if self._archive is None:
            return {path.name for path in (self.root / folder).glob("*")}
        return {Path(name).name for name in self._members if name.startswith(f"{folder}/")}

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.root / name).exists() if self._archive is None else name in self._members

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file."""
        if self._archive is None:
            return (self.root / name).read_bytes()
        return self._archive.read(self._members[name])

    def reader(self, name: tf.Tensor) -> tf.Tensor:
        """Returns the bytes of a file as a graph operation; `name` and result are strings."""
        if self._archive is None:
            return tf.io.read_file(tf.strings.join([f"{self.root}/", name]))
        encoded = tf.numpy_function(lambda n: self.read(n.decode()), [name], tf.string)
        return tf.ensure_shape(encoded, ())


def _find_files(data_dir: Path) -> tuple[Files, Files] | None:
    """Returns where the two lists and the images are, or None if they are not there."""
    lists = Files(data_dir)
    if ATTRIBUTE_FILE not in lists or PARTITION_FILE not in lists:
        return None
    if lists.names(IMAGES):
        return lists, lists
    archive = data_dir / f"{IMAGES}.zip"
    return (lists, Files(archive)) if archive.is_file() else None


def parse_rows(
    files: Files, name: str, skipped_lines: int, values: int
) -> tuple[list[str], np.ndarray]:
    """Reads a list file of CelebA.

    Args:
        files: where it is.
        name: of the list.
        skipped_lines: before the first row.
        values: V, numbers in a row.

    Returns:
        Image names and (N, V) integers.

    Raises:
        UserError: for a row of another form.
    """
    names, rows = [], []
    lines = files.read(name).decode().splitlines()
    for number, line in enumerate(lines[skipped_lines:], start=skipped_lines + 1):
        if not line.strip():
            continue
        image, *row = line.split()
        try:
            if len(row) != values:
                raise ValueError
            rows.append([int(value) for value in row])
        except ValueError:
            raise UserError(
                f"{files.root / name}, line {number}: expected an image name and {values} whole "
                f"numbers. Received: {line[:80]!r}"
            ) from None
        names.append(image)
    return names, np.array(rows, dtype=np.int64).reshape(len(names), values)


class Lists(NamedTuple):
    """What CelebA's list files say.

    Attributes:
        attributes: names of the K attributes.
        names: of the N image files.
        labels: (N, K), uint8, 0 or 1.
        parts: (N,), 0 to train, 1 to validate, 2 to test.
    """

    attributes: tuple[str, ...]
    names: list[str]
    labels: np.ndarray
    parts: np.ndarray


def list_files(data_dir: Path) -> Files | None:
    """Returns the files beside CelebA's lists; None if they are not there.

    Args:
        data_dir: folder or zip archive.
    """
    found = _find_files(data_dir) if data_dir.exists() else None
    return found and found[0]


def read_lists(lists: Files) -> Lists:
    """Reads CelebA's attribute and partition lists.

    Args:
        lists: the files that they are among.

    Raises:
        UserError: if a list cannot be read.
    """
    header = lists.read(ATTRIBUTE_FILE).decode().splitlines()[1:2]
    attributes = tuple(header[0].split()) if header else ()
    if not attributes:
        raise UserError(
            f"{lists.root / ATTRIBUTE_FILE}, line 2: expected the names of the attributes"
        )
    label_names, values = parse_rows(lists, ATTRIBUTE_FILE, 2, len(attributes))
    names, parts = parse_rows(lists, PARTITION_FILE, 0, 1)
    rows = {name: row for row, name in enumerate(label_names)}
    for name in names:
        if name not in rows:
            raise UserError(f"{lists.root / ATTRIBUTE_FILE} has no row for {name}")
    labels = (values[[rows[name] for name in names]] > 0).astype(np.uint8)
    return Lists(attributes, names, labels, parts[:, 0])


def partitions(name: str, config: DataConfig) -> tuple[int, ...]:
    """Returns the partition numbers of the split `name`."""
    both = name == "train" and config.train_on_validation
    return (0, 1) if both else (PARTS.index(name),)


def _load_files(lists: Files, images: Files, config: DataConfig) -> Data:
    attributes, names, labels, parts = read_lists(lists)
    there = images.names(IMAGES)
    for name in names:
        if name not in there:
            raise UserError(f"{images.root} has no {IMAGES}/{name}, which {PARTITION_FILE} names")

    def split(name: str) -> Split:
        numbers = partitions(name, config)
        chosen = np.flatnonzero(np.isin(parts, numbers))
        if not len(chosen):
            raise UserError(
                f"{lists.root / PARTITION_FILE} has no {name} images (partition {numbers[0]})"
            )
        chosen_names = tf.constant([f"{IMAGES}/{names[index]}" for index in chosen])
        chosen_labels = tf.constant(labels[chosen])

        def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            encoded = images.reader(chosen_names[index])
            return decode(encoded, config.image_size), chosen_labels[index]

        return Split(len(chosen), read)

    return Data(*map(split, PARTS), attributes=attributes)


def _read_tfds(
    builder: Any, split: str, count: int, attributes: tuple[str, ...]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the encoded images (N,), strings, and labels (N, K), 0 or 1, of a TFDS split."""
    import tensorflow_datasets as tfds

    print(f"reading {count} {split} images")
    progress = keras.utils.Progbar(count, verbose=1 if sys.stdout.isatty() else 0)
    images, labels = [], []
    examples = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    for example in tfds.as_numpy(examples):
        images.append(example["image"])
        labels.append([example["attributes"][name] for name in attributes])
        progress.update(len(images))
    return tf.constant(images), tf.constant(np.array(labels, np.uint8))


def _load_tfds(config: DataConfig) -> Data:
    import tensorflow_datasets as tfds  # seconds to import, and most runs do not need it

    builder = tfds.builder("celeb_a", data_dir=config.data_dir)
    try:
        builder.download_and_prepare()
    except Exception as error:
        # Quotas, checksums and broken connections each raise an exception of their own.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"tensorflow-datasets could not prepare celeb_a ({reason[:200]}).\n"
            "Download CelebA by hand from its home page and pass --data_dir DIR, a folder with\n"
            f"  {IMAGES}/ (or {IMAGES}.zip), {ATTRIBUTE_FILE} and {PARTITION_FILE}"
        ) from None
    attributes = tuple(builder.info.features["attributes"].keys())

    def split(*names: str) -> Split:
        count = sum(builder.info.splits[name].num_examples for name in names)

        @functools.cache
        def encoded_examples() -> tuple[tf.Tensor, tf.Tensor]:
            # Encoded, the whole of CelebA takes 1.4 GB; TFRecords alone have no random access.
            with tf.init_scope():  # outside of the graph that first asks for them
                return _read_tfds(builder, "+".join(names), count, attributes)

        def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, labels = encoded_examples()
            return decode(images[index], config.image_size), labels[index]

        return Split(count, read)

    train = split("train", "validation") if config.train_on_validation else split("train")
    return Data(train, split("validation"), split("test"), attributes)


def load(config: DataConfig) -> Data:
    """Loads CelebA with its official partitions.

    Files are looked for first: under `config.data_dir`, a folder (or one zip archive) with
    `img_align_celeba/` (or `img_align_celeba.zip`), `list_attr_celeba.txt` and
    `list_eval_partition.txt`. Without a `data_dir`, or with one that tensorflow-datasets has
    prepared (it holds `celeb_a/` or `downloads/`), the data come through tensorflow-datasets.

    Args:
        config: `data_dir`, `image_size` and `train_on_validation` are used.

    Returns:
        The data set, K = 40 attributes in the file's order.

    Raises:
        UserError: if the files are not there or cannot be read.
    """
    if config.data_dir is None:
        return _load_tfds(config)
    data_dir = Path(config.data_dir)
    if not data_dir.exists():
        raise UserError(f"--data_dir {data_dir} does not exist")
    if found := _find_files(data_dir):
        return _load_files(*found, config)
    if (data_dir / "celeb_a").is_dir() or (data_dir / "downloads").is_dir():
        return _load_tfds(config)
    raise UserError(
        f"--data_dir {data_dir} must hold {IMAGES}/ (or {IMAGES}.zip), {ATTRIBUTE_FILE} and "
        f"{PARTITION_FILE}; leave the flag out to download through tensorflow-datasets"
    )
