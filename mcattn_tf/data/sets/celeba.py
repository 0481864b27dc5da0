"""CelebA (Liu et al. 2015) from its files, or through tensorflow-datasets."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mcattn_tf.data.files import Files, open_files, report_unused, require_there
from mcattn_tf.data.lists import (
    LABELS,
    PARTITIONS,
    Table,
    find_list,
    find_lists,
    labels_of,
    read_list,
    refuse,
)
from mcattn_tf.data.sets import tfds
from mcattn_tf.data.split import SPLITS, Part, Source
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

Lists = tuple[tuple[str, ...], np.ndarray, Table]  # attributes, labels (N, K), partitions
IMAGES = "img_align_celeba"
ATTRIBUTE_LIST = "list_attr_celeba"
PARTITION_LIST = "list_eval_partition"


def list_files(data_dir: Path) -> Files | None:
    """Returns the files of the folder or archive of CelebA's lists; None if there are no lists."""
    if not data_dir.exists():
        return None
    files = open_files(data_dir)
    members = files.archive.namelist() if files.archive else []  # lists may lie a folder deeper
    folders = sorted({name.split("/", 1)[0] for name in members if "/" in name})
    for place in (files, *map(files.within, folders)):
        if find_list(place, ATTRIBUTE_LIST) and find_list(place, PARTITION_LIST):
            return place
    return None


def read_lists(files: Files, zero_is_unknown: bool = False) -> Lists:
    """Reads CelebA's attribute and partition lists from the files of `list_files`."""
    table = read_list(files, find_list(files, ATTRIBUTE_LIST), kind=LABELS)
    parts = read_list(
        files, find_list(files, PARTITION_LIST), ("partition",), PARTITIONS, headed=False
    )
    rows = table.rows_of(parts.names)
    if (rows < 0).any():
        row = np.argmax(rows < 0)
        raise UserError(
            f"{table.path} has no row for {parts.names[row].decode()}, "
            f"which {parts.path}, line {parts.lines[row]}, names"
        )
    if spare := len(table.names) - len(rows):
        print(f"not used: {spare} rows of {table.path}, whose images {parts.path} does not name")
    labels = labels_of(table.path, table.columns, table.lines, table.values, zero_is_unknown)
    return table.columns, labels[rows], parts


def _image_folders(lists: Files) -> Iterator[Files]:
    """Yields the places where images may be; an archive is opened only if it is asked for."""
    places = (lists, lists.within("Img"))
    for place in places:
        yield from (place.within(IMAGES), place.within(IMAGES).within(IMAGES))
    for place in places:
        if f"{IMAGES}.zip" in place:
            path = place.path(f"{IMAGES}.zip")
            if place.archive:
                raise UserError(f"{path} is an archive inside an archive; unpack {place.root}")
            archive = open_files(path)
            inner = archive.within(IMAGES)
            yield from (inner, inner.within(IMAGES), archive)


def _require_rows(parts: Table, images: Files, names: np.ndarray) -> None:
    """Refuses images without a row, and copies in PNG of those that have one."""
    for row in np.flatnonzero(~np.isin(parts.names, names))[:1]:
        name = Path(parts.names[row].decode())
        if name.with_suffix(".png").name.encode() in names:
            received = f"{name.stem}.png; write .png for {name.suffix} into every list"
            refuse(parts.path, parts.lines[row], f"an image {images.path(name.name)}", received)
    extra = names[~np.isin(names, parts.names)]
    if len(extra):
        path = images.path(os.fsdecode(min(extra)))
        raise UserError(
            f"{parts.path}: expected a row for {path}. Received: none, and {len(extra)} images "
            "have none in all; add their rows, or move the images away"
        )


def _part(lists: Lists, part: str, images: Files, present: np.ndarray) -> Part:
    """Returns a part of the list; `present` are the names of all images that are there."""
    number, (attributes, labels, table) = SPLITS.index(part), lists
    rows = np.flatnonzero(table.values[:, 0] == number)
    names, labels = table.names[rows], labels[rows]

    def check() -> None:
        if not len(rows):
            none = f"{table.path} has no {part} images (partition {number})"
            raise UserError(f"{none}; add rows of such")
        missing = np.flatnonzero(~np.isin(names, present))
        if len(missing):
            name = names[missing[0]].decode()
            received = f"none, and {len(missing)} {part} images are missing in all; add them, or "
            received += "delete their rows"
            line = table.lines[rows[missing[0]]]
            refuse(table.path, line, f"an image {images.path(name)}", received)

    return Part(
        len(rows),
        lambda index: f"{IMAGES}/{names[index].decode()}",
        lambda: images.fingerprint(names, labels, attributes),
        images.reader(names),
        labels,
        check=check,
    )


def _spare(files: Files, images: Files) -> list[str]:
    """Returns the lists and the archive of images beside those that are read."""
    lists = [find_lists(files, stem)[1:] for stem in (ATTRIBUTE_LIST, PARTITION_LIST)]
    archives = [f"{IMAGES}.zip", f"Img/{IMAGES}.zip"] if images.archive is files.archive else []
    return [*lists[0], *lists[1], *(name for name in archives if name in files)]


def _through_tfds(config: DataConfig) -> Source:
    if config.zero_is_unknown:
        raise UserError(
            "--zero_is_unknown: CelebA through tensorflow-datasets knows all labels; leave it out"
        )
    return tfds.source(config)


def source(config: DataConfig) -> Source:
    """Finds CelebA with its official partitions.

    `config.data_dir` is a folder, or a zip file, which is read in place. It holds
    `list_attr_celeba` and `list_eval_partition` (`.txt` or `.csv`, also in `Anno/` and `Eval/`)
    and the images in `img_align_celeba/` or `img_align_celeba.zip` (also in `Img/`). Without it,
    or where it holds `celeb_a/` or `downloads/`, the data come through tensorflow-datasets.
    """
    if config.data_dir is None:
        return _through_tfds(config)
    data_dir = Path(config.data_dir)
    require_there(data_dir)
    files = list_files(data_dir)
    folders = _image_folders(files) if files else ()
    images = next(((f, names) for f in folders if len(names := f.image_names())), None)
    if images is None:
        if (data_dir / "celeb_a").is_dir() or (data_dir / "downloads").is_dir():
            return _through_tfds(config)
        raise UserError(
            f"--data_dir {data_dir} must hold {IMAGES}/ (or {IMAGES}.zip), {ATTRIBUTE_LIST}.txt "
            f"and {PARTITION_LIST}.txt (or both as .csv); leave the flag out to download through "
            "tensorflow-datasets"
        )
    lists = read_lists(files, config.zero_is_unknown)
    _require_rows(lists[2], *images)
    report_unused(images[0].path(""), set(images[0].names()) - set(images[1].tolist()))
    if spare := _spare(files, images[0]):
        print(f"not used in {files.path('')}: {', '.join(spare)}")
    return Source(lists[0], {name: _part(lists, name, *images) for name in SPLITS})
