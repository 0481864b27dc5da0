"""Images with the regions where their attributes are seen, to measure explanations on."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from mcattn_tf.data.drawn_faces import ATTRIBUTES, draw_faces, draw_regions
from mcattn_tf.data.drawn_faces.parts import REGIONS
from mcattn_tf.data.sets import faces
from mcattn_tf.data.split import Split
from mcattn_tf.settings.data import DataConfig


@dataclasses.dataclass(frozen=True)
class RegionBatch:
    """Some images with the regions of their attributes.

    Attributes:
        images: (B, H, W, 3), float32 in [0, 1].
        regions: (B, H, W, k), bool; empty where an attribute's place is not seen.
        valid: (B, H, W), bool, pixels where regions are known.
        present: {group: (B, k)}, bool, attributes that are known to be there.
    """

    images: np.ndarray
    regions: np.ndarray
    valid: np.ndarray
    present: dict[str, np.ndarray]


def labelled_batch(images: np.ndarray, regions: np.ndarray, labels: np.ndarray) -> RegionBatch:
    """Returns images (B, H, W, 3), uint8, and labels (B, k) as a batch with all pixels known."""
    valid = np.ones(images.shape[:3], bool)
    return RegionBatch(images.astype(np.float32) / 255.0, regions, valid, {"labelled": labels > 0})


class Redrawing(NamedTuple):
    """Images that can be drawn with something changed.

    Attributes:
        parts: Names of the attributes that are seen at one place, for each of R places; the first
            stands for its place.
        draw: Function from a range of indices, attributes to switch (bool (B, k), or None), and
            whether to take other backgrounds, to images (B, H, W, 3), float32 in [0, 1]. Outside
            of the regions of switched attributes nothing changes, and no face with its background.
    """

    parts: tuple[tuple[str, ...], ...]
    draw: Callable[[range, np.ndarray | None, bool], np.ndarray]


@dataclasses.dataclass(frozen=True)
class RegionSet:
    """A data set of images with regions.

    Attributes:
        source: Origin of the regions, for tables.
        attributes: Names of the k attributes that have a region.
        groups: Keys of `RegionBatch.present`, each a group of labels reported apart, the main one
            first; the labels of a group `predicted` are the network's answers.
        count: Number of images.
        read: Function from a range of indices to a batch.
        redrawing: The images with something changed; None where that cannot be had.
    """

    source: str
    attributes: tuple[str, ...]
    groups: tuple[str, ...]
    count: int
    read: Callable[[range], RegionBatch]
    redrawing: Redrawing | None = None

    def take(self, count: int) -> "RegionSet":
        """Returns the first `count` images; all where there are fewer."""
        return dataclasses.replace(self, count=min(count, self.count))

    def batches(self, batch_size: int) -> Iterator[RegionBatch]:
        """Yields every image once, in order, `batch_size` at a time."""
        for start in range(0, self.count, batch_size):
            yield self.read(range(start, min(start + batch_size, self.count)))


def drawn_regions(config: DataConfig, name: str = "test") -> RegionSet:
    """Returns the drawn faces of the split `name` with all their regions."""

    def place(indices: range) -> tuple:
        return faces.SEEDS[name], indices.start, len(indices), config.image_size

    def read(indices: range) -> RegionBatch:
        images, labels = draw_faces(*place(indices))
        return labelled_batch(images, draw_regions(*place(indices)), labels)

    def redraw(indices: range, switched: np.ndarray | None, elsewhere: bool) -> np.ndarray:
        background = indices.start + 1 if elsewhere else None  # each the next one's
        return draw_faces(*place(indices), switched, background)[0].astype(np.float32) / 255.0

    count, parts = faces.example_count(name, config), tuple(names for names, _ in REGIONS)
    redrawing = Redrawing(parts, redraw)
    return RegionSet("drawn regions", ATTRIBUTES, ("labelled",), count, read, redrawing)


def without_regions(split: Split) -> RegionSet:
    """Returns the images of a split, with no region of any attribute known."""

    def read(indices: range) -> RegionBatch:
        images, labels = split.read(indices)
        batch = labelled_batch(images, np.zeros((*images.shape[:3], 0), bool), labels)
        return dataclasses.replace(batch, present={})

    return RegionSet("no regions", (), (), split.count, read)
