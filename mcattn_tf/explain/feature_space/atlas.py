"""Atlas of channels: what each speaks for, where it is strong, and which part it detects.

Parts are found by network dissection (Bau et al. 2017, section 2.3): a channel's strongest cells
are compared with the known regions of parts, over all images together.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from mcattn_tf.data.regions.region_set import RegionBatch, RegionSet
from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.channel_ranking import reader_of, shares_of
from mcattn_tf.explain.truth.localisation import block_means
from mcattn_tf.files import arrays_of, written_whole
from mcattn_tf.models import receptive_field
from mcattn_tf.models.receptive_field import ReceptiveField
from mcattn_tf.progress import progress
from mcattn_tf.runs.checkpoints import weights_of

STRONG = 0.95  # quantile of a channel's cells that its threshold is
SHUFFLES = 4  # images whose regions each image is compared with for chance
CHANCE = 0.99  # quantile of chance that a channel exceeds to detect a part
PATCHES = 9
IMAGES = 1000
BATCH_SIZE = 64  # the first batch sets the thresholds


@dataclasses.dataclass(frozen=True)
class Atlas:
    """What C channels do over N images, for K attributes and R parts.

    Attributes:
        attributes: Names of the K attributes.
        parts: Names of the R parts, each an attribute that is seen there, and the number of others
            that are; none where no region is known.
        weights: Digest of the network's weights.
        images: N.
        source: Origin of the regions.
        importance: (K, C), mean absolute contribution to the logit.
        mean_contributions: (K, C), mean contribution with its sign.
        mean_maps: (C, h, w), mean features.
        thresholds: (C,), 95th percentile of the channel's cells in the first batch.
        overlaps: (C, R), in [0, 1], intersection over union of the pixels above the threshold with
            those of the part, over all images.
        chance: (S, C, R), the same with regions of S other images.
        values: (C, 9), highest features, one of an image, the highest first.
        patches: (C, 9, a, b, 3), uint8, what these cells see of their images; white outside.
    """

    attributes: tuple[str, ...]
    parts: tuple[str, ...]
    weights: str
    images: int
    source: str
    importance: np.ndarray
    mean_contributions: np.ndarray
    mean_maps: np.ndarray
    thresholds: np.ndarray
    overlaps: np.ndarray
    chance: np.ndarray
    values: np.ndarray
    patches: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Shares (K, C) of each attribute's importance, with sum 1; zeros where it has none."""
        return shares_of(self.importance)

    def detected(self) -> np.ndarray:
        """Returns the part that each channel detects, (C,): an index, -1 for none.

        It is the part with the highest overlap of those that exceed the 99th percentile of chance,
        over all channels and shuffles.
        """
        if not self.parts:
            return np.full(len(self.thresholds), -1)
        limits = np.quantile(self.chance, CHANCE, axis=(0, 1))  # (R,)
        beyond = np.where(self.overlaps > limits, self.overlaps, -1)
        return np.where(beyond.max(axis=1) >= 0, beyond.argmax(axis=1), -1)

    def save(self, path: Path) -> None:
        """Writes the atlas as an `.npz` file, each field an array."""
        arrays = {x.name: np.asarray(getattr(self, x.name)) for x in dataclasses.fields(self)}
        with written_whole(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Atlas":
        """Returns the atlas in a file from `save`; raises a UserError for any other file."""
        with arrays_of(path, "atlas") as arrays:
            fields = {x.name: arrays[x.name] for x in dataclasses.fields(cls)}
            names = {x: tuple(map(str, fields[x].tolist())) for x in ("attributes", "parts")}
            words = {x: str(fields[x]) for x in ("weights", "source")}
            return cls(**fields | names | words | {"images": int(fields["images"])})


def atlas_made_before(path: Path, model: keras.Model) -> Atlas | None:
    """Returns the atlas in a file; None if the file is missing or of other weights."""
    if not path.exists():
        return None
    atlas = Atlas.load(path)
    return atlas if atlas.weights == weights_of(model) else None


def make_atlas(model: keras.Model, attributes: Sequence[str], regions: RegionSet) -> Atlas:
    """Makes the atlas of a network in one pass and constant memory.

    Args:
        model: `mcattn` or `baseline`, in float32.
        attributes: Names of the K attributes.
        regions: Images, with the regions of parts as far as they are known. Attributes that are
            seen at the same place have one part.
    """
    read, patches, overlaps, sums = reader_of(model), None, None, {}
    with progress(regions.count, "atlas") as bar:
        for batch in regions.batches(BATCH_SIZE):
            outputs = read(batch.images)
            features = outputs["features"]
            if overlaps is None:
                overlaps = Overlaps(features, batch, regions.attributes)
                patches = Patches(receptive_field(model), features.shape[-1])
            added = {
                "importance": np.abs(outputs["contributions"]),
                "mean_contributions": outputs["contributions"],
                "mean_maps": np.moveaxis(features, -1, 1),
            }
            for name, values in added.items():
                sums[name] = sums.get(name, 0) + values.sum(axis=0, dtype=np.float64)
            overlaps.add(features, batch)
            patches.add(features, batch.images)
            bar.update(len(batch.images))
    if overlaps is None:
        raise UserError("an atlas needs at least one image")
    means = {name: values / regions.count for name, values in sums.items()}
    measured = overlaps.result()
    return Atlas(
        attributes=tuple(attributes),
        parts=overlaps.parts,
        weights=weights_of(model),
        images=regions.count,
        source=regions.source,
        **means,
        thresholds=overlaps.thresholds,
        overlaps=measured[0],
        chance=measured[1:],
        values=patches.values,
        patches=patches.pixels,
    )


class Overlaps:
    """Counts of pixels above the channels' thresholds and of pixels of parts, over images.

    A cell stands for its block of pixels. The first images set the thresholds.
    """

    def __init__(
        self, features: np.ndarray, batch: RegionBatch, attributes: tuple[str, ...]
    ) -> None:
        """Takes thresholds from features (B, h, w, C), and parts from regions that differ."""
        self.thresholds = np.quantile(features, STRONG, axis=(0, 1, 2), method="inverted_cdf")
        places: dict[bytes, list[int]] = {}
        for place in range(len(attributes)):
            places.setdefault(batch.regions[..., place].tobytes(), []).append(place)
        self._columns = [same[0] for same in places.values()]
        self.parts = tuple(
            attributes[same[0]] + (f" +{len(same) - 1}" if len(same) > 1 else "")
            for same in places.values()
        )
        sizes = 1 + SHUFFLES, features.shape[-1], len(self._columns)
        self._both, self._either = np.zeros(sizes), np.zeros(sizes)

    def add(self, features: np.ndarray, batch: RegionBatch) -> None:
        """Counts features (B, h, w, C) above the thresholds beside the regions of a batch."""
        grid, channels = features.shape[1:3], features.shape[-1]
        strong = (features > self.thresholds).reshape(-1, channels).astype(np.float32)
        regions = batch.regions[..., self._columns] & batch.valid[..., None]
        parts = self._cells(regions, grid)  # (B, h, w, R), shares of cells
        valid = self._cells(batch.valid[..., None], grid)
        for shift in range(min(1 + SHUFFLES, len(features))):  # a roll by all is the own image
            # What is not known of the other image is not compared.
            part, known = (np.roll(x, shift, axis=0) for x in (parts, valid))
            part, known = part.reshape(len(strong), -1), known.reshape(-1, 1)
            both = strong.T @ part
            self._both[shift] += both
            self._either[shift] += strong.T @ known + part.sum(axis=0) - both

    def result(self) -> np.ndarray:
        """Returns the overlaps, (1 + S, C, R): of the images' own regions, then of others'."""
        return self._both / np.maximum(self._either, 1e-9)

    @staticmethod
    def _cells(pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """Returns the shares of cells (B, h, w, n) that pixels (B, H, W, n), bool, fill."""
        planes = np.moveaxis(pixels, -1, 1).reshape(-1, *pixels.shape[1:3])
        shares = block_means(planes.astype(np.float32), grid)
        return np.moveaxis(shares.reshape(len(pixels), -1, *grid), 1, -1)


class Patches:
    """The nine most activating patches of each channel, each of another image."""

    def __init__(self, field: ReceptiveField, channels: int) -> None:
        self._field = field
        size = np.minimum((field.last - field.first).max(axis=0) + 1, field.image_size)
        self.values = np.full((channels, PATCHES), -np.inf)
        self.pixels = np.full((channels, PATCHES, *size, 3), 255, np.uint8)

    def add(self, features: np.ndarray, images: np.ndarray) -> None:
        """Takes the strongest cells of features (B, h, w, C) into account."""
        count, _, width, channels = features.shape
        cells = features.reshape(count, -1, channels)
        places, peaks = cells.argmax(axis=1), cells.max(axis=1)  # (B, C)
        together = np.concatenate([self.values, peaks.T], axis=1)
        order = np.argsort(-together, axis=1, kind="stable")[:, :PATCHES]
        before = self.pixels.copy()
        for channel, rank in np.ndindex(*order.shape):
            source = order[channel, rank]
            if source < PATCHES:
                self.pixels[channel, rank] = before[channel, source]
            else:
                image = source - PATCHES
                cell = divmod(int(places[image, channel]), width)
                self.pixels[channel, rank] = self._cut(images[image], cell)
        self.values = np.take_along_axis(together, order, axis=1)

    def _cut(self, image: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
        """Returns what a cell sees of an image, uint8, in the left upper corner of white."""
        top, left, bottom, right = self._field.box(*cell)
        patch = np.full(self.pixels.shape[2:], 255, np.uint8)
        patch[: bottom - top, : right - left] = np.round(255 * image[top:bottom, left:right])
        return patch
