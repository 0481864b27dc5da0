"""Regions of the user's own images: masks or boxes beside a folder of images."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mcattn_tf.data.images import resize_regions
from mcattn_tf.data.lists import csv_rows, refuse
from mcattn_tf.data.regions.region_set import RegionBatch, RegionSet, labelled_batch
from mcattn_tf.data.sets.folder import REGIONS
from mcattn_tf.data.split import Split
from mcattn_tf.errors import UserError, choose
from mcattn_tf.files import read_text
from mcattn_tf.settings.data import DataConfig

COLUMNS = ("file", "attribute", "top", "left", "bottom", "right")
Boxes = dict[tuple[str, str], list[list[int]]]  # {(file, attribute): boxes}


def load(config: DataConfig, split: Split, attributes: Sequence[str]) -> RegionSet | None:
    """Loads the images of a split with the regions in `config.data_dir`; None without any.

    `regions/NAME/FILE.png` is a mask of an attribute or class, of its image's size and 0 where it
    is not seen. FILE is the image's name without its ending, with or without its folders.
    `regions.csv` has boxes, with the columns `COLUMNS`: pixels of the file, bottom and right
    exclusive, several rows for several boxes. An image without a region is not scored.
    """
    root = Path(config.data_dir)
    folder, (placed, boxes) = root / REGIONS, read_boxes(config, attributes)
    if not placed:
        return None
    columns = [list(attributes).index(name) for name in placed]

    def read(indices: range) -> RegionBatch:
        images, labels = split.read(indices)
        regions = []
        for name in map(split.name_of, indices):
            with Image.open(root / name) as image:
                size = image.height, image.width
            planes = [_region(folder, name, x, size, boxes.get((name, x), ())) for x in placed]
            planes = np.stack(planes, axis=-1)
            regions.append(resize_regions(planes, config.image_size, config.resize))
        return labelled_batch(images, np.stack(regions), labels[:, columns])

    return RegionSet(f"regions of {root.name}", placed, ("labelled",), split.count, read)


def read_boxes(config: DataConfig, attributes: Sequence[str]) -> tuple[tuple[str, ...], Boxes]:
    """Returns the attributes that have regions in `config.data_dir`, and the boxes of its table.

    Raises:
        UserError: For an unknown attribute, or a table that is damaged or does not fit the images.
    """
    root = Path(config.data_dir)
    folder, table = root / REGIONS, root / f"{REGIONS}.csv"
    boxes = _read_boxes(table) if table.is_file() else {}
    masked = sorted(x.name for x in folder.iterdir() if x.is_dir()) if folder.is_dir() else []
    named = [*masked, *(attribute for _, attribute in boxes)]
    for name in named if config.attributes is None else ():  # else there may be others
        choose(f"{folder if name in masked else table}, attribute", name, attributes)
    for (name, attribute), sides in boxes.items():
        with contextlib.suppress(OSError), Image.open(root / name) as image:
            beyond = [x for x in sides if x[0] < 0 or x[1] < 0]
            beyond += [x for x in sides if x[2] > image.height or x[3] > image.width]
            if beyond:
                raise UserError(
                    f"{table}, {attribute} of {name}: a box must be within the pixels of its file, "
                    f"{image.height}x{image.width}. Received: {','.join(map(str, beyond[0]))}"
                )
    return tuple(name for name in attributes if name in named), boxes


def _region(
    folder: Path, name: str, attribute: str, size: tuple[int, int], boxes: Sequence[list[int]]
) -> np.ndarray:
    """Returns the region of an attribute of an image, bool (h, w)."""
    region, whole = np.zeros(size, bool), Path(name).with_suffix(".png")
    for top, left, bottom, right in boxes:
        region[top:bottom, left:right] = True
    paths = folder / attribute / whole, folder / attribute / whole.name
    path = next((path for path in paths if path.is_file()), None)
    return region if path is None else region | _read_mask(path, size)


def _read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            colors = image.convert("RGB") if image.mode in ("RGBA", "LA") else image
            mask = np.asarray(colors) > 0
    except (OSError, SyntaxError):  # the latter where a file is damaged in the middle
        raise UserError(f"cannot read {path}: it is not a PNG file") from None
    mask = mask.any(axis=-1) if mask.ndim == 3 else mask
    if mask.shape != size:
        raise UserError(
            f"{path} must be of its image's size, {size[0]}x{size[1]}. "
            f"Received: {mask.shape[0]}x{mask.shape[1]}"
        )
    return mask


def _read_boxes(path: Path) -> Boxes:
    """Returns the boxes of a table."""
    rows = csv_rows(path, read_text(path))
    line, header = next(rows, (1, []))
    if tuple(cell.strip().lower() for cell in header) != COLUMNS:
        refuse(path, line, f"the columns {','.join(COLUMNS)}", repr(",".join(header)))
    boxes: Boxes = {}
    for line, row in rows:
        try:
            file, attribute, *sides = row
            top, left, bottom, right = map(int, sides)
        except ValueError:
            top = bottom = left = right = 0
        if not (top < bottom and left < right):
            expected = "a file, an attribute, top below bottom and left below right"
            refuse(path, line, expected, repr(",".join(row)))
        boxes.setdefault((file.strip(), attribute.strip()), []).append([top, left, bottom, right])
    return boxes
