"""Faces with part masks: CelebAMask-HQ (Lee et al. 2020), aligned like CelebA."""

from pathlib import Path

import numpy as np
from PIL import Image

from mcattn_tf.data.images import read_images, resize_regions
from mcattn_tf.data.lists import csv_rows, refuse
from mcattn_tf.data.regions.attribute_parts import (
    ATTRIBUTE_PARTS,
    IGNORED,
    PART_LABELS,
    PARTS,
    attribute_regions,
)
from mcattn_tf.data.regions.region_set import RegionBatch, RegionSet
from mcattn_tf.data.sets import celeba
from mcattn_tf.errors import UserError
from mcattn_tf.files import read_text
from mcattn_tf.settings.data import DataConfig

PARTS_FILE = "parts.csv"
MATCH_FILE = "celeba_match.csv"
PROPORTIONS = 218 / 178  # height to width of CelebA's aligned images
SCALES = (0.25, 0.40)  # of the source picture in the aligned one; others are misfits


def _read_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Returns the rows of a table, each with its line number."""
    rows = csv_rows(path, read_text(path))
    line, header = next(rows, (1, []))
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(f"{path}, line {line}: expected a column {missing[0]!r}")
    table = []
    for line, row in rows:
        if len(row) != len(header):
            refuse(path, line, f"{len(header)} values, one for each column", str(len(row)))
        table.append((line, dict(zip(header, row, strict=True))))
    return table


def _read_faces(path: Path) -> list[dict[str, str | float]]:
    """Returns key, scale and part sizes of the faces that are well aligned."""
    faces, left = [], 0
    columns = ("scale", *PART_LABELS.values())
    for line, row in _read_rows(path, ("key", *columns)):
        face = {"key": row["key"]}
        for name in columns:
            try:
                face[name] = float(row[name])
            except ValueError:
                received = f"{row['key']!r} with {name} {row[name]!r}"
                refuse(path, line, "numbers for `scale` and the parts", received)
        if SCALES[0] <= face["scale"] <= SCALES[1]:
            faces.append(face)
        else:
            left += 1
    if left:
        print(
            f"not used: {left} faces of {path}, whose scale is not from {SCALES[0]} to {SCALES[1]}"
        )
    if not faces:
        raise UserError(f"{path} has no face with a scale from {SCALES[0]} to {SCALES[1]}")
    return faces


def _celeba_labels(
    directory: Path, config: DataConfig, keys: set[str]
) -> dict[str, dict[str, bool]]:
    """Returns {key: {attribute: present}} of those `keys` that are CelebA images not trained on."""
    path = directory / MATCH_FILE
    if config.data_dir is None or not path.is_file():
        return {}
    lists = celeba.list_files(Path(config.data_dir))
    if lists is None:
        return {}
    attributes, labels, parts = celeba.read_lists(lists, config.zero_is_unknown)
    rows = _read_rows(path, ("key", "celeba_file"))
    files = {row["key"]: row["celeba_file"] for _, row in rows if row["key"] in keys}
    trained_on = (0, 1) if config.train_on_validation else (0,)
    table_rows = parts.rows_of(np.array([file.encode() for file in files.values()], "S"))
    return {
        key: dict(zip(attributes, labels[row] > 0, strict=True))
        for key, row in zip(files, table_rows, strict=True)
        if row >= 0 and parts.values[row, 0] not in trained_on
    }


def load(directory: Path, config: DataConfig) -> RegionSet:
    """Loads faces with part masks.

    There are three groups of labels: `predicted` by the network; `part_labels`, the attributes
    that are a part (glasses, hat, earring, necklace); `labelled`, CelebA's labels of tied faces
    that the network was not trained on, where `config.data_dir` has them.

    Args:
        directory: Folder with `parts.csv`, a row a face (`key`, `scale` and the pixel count of
            each part), `images/KEY.jpg` and `masks/KEY.png`, values of `attribute_parts.PARTS` or
            255 where the part is unknown. `celeba_match.csv` (`key`, `celeba_file`) may tie faces
            to CelebA's files.
        config: Settings; `image_size`, `resize`, `data_dir` and `train_on_validation` are used.
    """
    parts_path = directory / PARTS_FILE
    if not parts_path.is_file():
        raise UserError(
            f"--part_masks {directory} has no {PARTS_FILE}; it must hold {PARTS_FILE}, "
            "images/KEY.jpg and masks/KEY.png"
        )
    faces = _read_faces(parts_path)
    attributes = tuple(ATTRIBUTE_PARTS)
    labels = _celeba_labels(directory, config, {face["key"] for face in faces})
    how = config.image_size, config.resize

    def read(indices: range) -> RegionBatch:
        batch = [faces[index] for index in indices]
        keys = [face["key"] for face in batch]
        images = read_images([str(_path(directory, "images", key, "jpg")) for key in keys], *how)
        layers = []
        for mask in (_read_mask(directory, key) for key in keys):
            layer = np.dstack([attribute_regions(mask, attributes), mask != IGNORED])
            layers.append(resize_regions(layer, *how))
        resized = np.stack(layers)
        shown = [{name: face[part] > 0 for name, part in PART_LABELS.items()} for face in batch]
        known = {"part_labels": shown, "labelled": [labels.get(key, {}) for key in keys]}
        present = {
            group: np.array([[row.get(name, False) for name in attributes] for row in rows], bool)
            for group, rows in known.items()
        }
        return RegionBatch(images, resized[..., :-1], resized[..., -1], present)

    groups = ("predicted", "part_labels", *(("labelled",) if labels else ()))
    source = f"part masks, {len(labels)} faces with CelebA's labels not trained on"
    return RegionSet(source, attributes, groups, len(faces), read)


def _path(directory: Path, folder: str, key: str, ending: str) -> Path:
    path = directory / folder / f"{key}.{ending}"
    if not path.is_file():
        raise UserError(f"{path} is missing, though {directory / PARTS_FILE} names {key}")
    return path


def _read_mask(directory: Path, key: str) -> np.ndarray:
    path, image_path = _path(directory, "masks", key, "png"), directory / "images" / f"{key}.jpg"
    try:
        with Image.open(path, formats=("PNG",)) as image:
            mask = np.asarray(image)  # palette indices, where the file has a palette
    except (OSError, SyntaxError):  # the latter where a file is damaged in the middle
        raise UserError(f"cannot read {path}: it is not a PNG file") from None
    with Image.open(image_path) as image:
        size = (image.height, image.width)
    if abs(size[0] / size[1] / PROPORTIONS - 1) > 0.15:
        raise UserError(
            f"{image_path} is not aligned like CelebA's images: expected the proportions of "
            f"218x178 pixels. Received: {size[0]}x{size[1]}"
        )
    if mask.shape != size:
        raise UserError(
            f"{path} must be of its image's size, {size[0]}x{size[1]} with one value a pixel. "
            f"Received: {'x'.join(map(str, mask.shape))}"
        )
    unknown = np.setdiff1d(mask, (*PARTS.values(), IGNORED))
    if len(unknown):
        raise UserError(
            f"{path} must hold values from 0 to {max(PARTS.values())}, or {IGNORED} where the "
            f"part is unknown. Received: {unknown[0]}"
        )
    return mask
