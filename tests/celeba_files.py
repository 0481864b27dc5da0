"""A small CelebA, written as its authors publish it."""

import io

import numpy as np
import pytest
from PIL import Image

from mcattn_tf.data.sets import celeba
from mcattn_tf.data.split import Source
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

IMAGES, ATTRIBUTES = "img_align_celeba", "list_attr_celeba"
PARTITIONS, LANDMARKS = "list_eval_partition", "list_landmarks_align_celeba"
NAMES = ("Bald", "Smiling", "Young")
ROWS = ["-1 1 1", "1 -1 -1", "-1 -1 1", "1 1 1", "-1 1 -1"]
LABELS = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]], np.uint8)
PARTS = [0, 2, 0, 1, 0]
INDICES = {"train": [0, 2, 4], "validation": [3], "test": [1]}


WITH_PARTS = {  # file: labels of `WITH_PARTS_NAMES`, partition
    "000000.jpg": ("1 1 1 1", 0),
    "000001.jpg": ("1 -1 -1 1", 2),
    "000002.jpg": ("-1 1 -1 -1", 0),
    "000003.jpg": ("-1 1 1 -1", 1),
    "000004.jpg": ("1 1 -1 1", 2),
}
WITH_PARTS_NAMES = "Young Bald Smiling Wearing_Necktie"


def image_bytes(index):
    """A grey image; the last bytes are zeros, which NumPy's texts would drop."""
    file = io.BytesIO()
    Image.new("RGB", (178, 218), (10 * index + 10,) * 3).save(file, "PNG")
    return file.getvalue() + b"\0\0"


def make_celeba(path):
    """Makes five images in CelebA's layout: 3 to train, 1 to validate, 1 to test."""
    (path / IMAGES).mkdir(parents=True)
    for index in range(5):
        (path / IMAGES / f"{index:06d}.jpg").write_bytes(image_bytes(index))
    write_attributes(path, ROWS)
    write_partitions(path, PARTS)
    return path


def make_celeba_with_parts(path):
    """Makes them with attributes that parts show: 2 to train, 1 to validate, 2 to test."""
    labels, partitions = zip(*WITH_PARTS.values(), strict=True)
    write_attributes(make_celeba(path), labels, WITH_PARTS_NAMES)
    write_partitions(path, partitions)
    return path


def write_attributes(root, rows, header="Bald Smiling Young ", count=None):
    lines = [f"{index:06d}.jpg  {row}" for index, row in enumerate(rows)]
    text = [str(len(rows) if count is None else count), header, *lines]
    (root / f"{ATTRIBUTES}.txt").write_bytes(("\r\n".join(text) + "\r\n").encode())


def write_partitions(root, parts):
    lines = [f"{index:06d}.jpg {part}" for index, part in enumerate(parts)]
    (root / f"{PARTITIONS}.txt").write_bytes(("\r\n".join(lines) + "\r\n").encode())


def replace(root, name, old, new):
    text = (root / name).read_bytes()
    assert text.count(old) == 1
    (root / name).write_bytes(text.replace(old, new))


def to_csv(root, minus=b"0"):
    """Rewrites the lists as the repackaged copies have them."""
    for stem, skipped, header in (
        (ATTRIBUTES, 2, f"image_id,{','.join(NAMES)}"),
        (PARTITIONS, 0, "image_id,partition"),
    ):
        rows = (root / f"{stem}.txt").read_bytes().replace(b"-1", minus).splitlines()[skipped:]
        lines = [header.encode(), *(b",".join(row.split()) for row in rows)]
        (root / f"{stem}.csv").write_bytes(b"\n".join(lines) + b"\n")
        (root / f"{stem}.txt").unlink()


def load(data_dir) -> Source:
    return celeba.source(DataConfig(dataset="celeba", data_dir=str(data_dir)))


def message_of(data_dir):
    with pytest.raises(UserError) as raised:
        for part in load(data_dir).parts.values():
            part.check()
    assert "\n" not in str(raised.value)
    return str(raised.value)
