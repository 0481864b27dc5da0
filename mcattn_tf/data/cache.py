"""Images decoded and resized once, kept in files that are mapped into memory.

A part of a data set becomes a folder of shards, each two NumPy files (`.npy`), images and labels,
and a JSON file, written last, without which they do not count. Measured on two CPU cores at
128x104, random batches of 64: 65,000 images/s from mapped `.npy` files, 31,000 from ArrayRecord
without compression, 18,000 from TFRecord, and those not in random order.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import filelock
import keras
import numpy as np

from mcattn_tf.data.decoding import BATCH, BadImage, BadImages, decoded
from mcattn_tf.data.source import Part
from mcattn_tf.data.split import Split
from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.files import written_whole
from mcattn_tf.settings.data import DataConfig

VERSION = 1  # of the files' form and of the decoder: a change of either prepares images anew
SHARD_BYTES = 64 * 2**20
MOST_SHARDS = 256  # each keeps a file open, and 1,024 may be all that a process has


def default_cache_dir() -> Path:
    """Returns the user's cache folder for prepared images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mcattn_tf"


class _Contents(NamedTuple):
    """What a shard holds.

    Attributes:
        images: (n, H, W, 3), uint8, mapped into memory.
        labels: (n, K) or (n,), as the part has them.
        bad_images: that were left out.
    """

    images: np.ndarray
    labels: np.ndarray
    bad_images: tuple[BadImage, ...]


@dataclasses.dataclass(frozen=True)
class _Shard:
    """Some consecutive examples of a part, in three files.

    Attributes:
        path: of its files, without their endings.
        start: index of its first example in the part.
        stop: index after its last.
        image_size: height and width (H, W).
        fingerprint: of what its examples were made from.
    """

    path: Path
    start: int
    stop: int
    image_size: tuple[int, int]
    fingerprint: str

    def file(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")

    def read(self) -> _Contents | None:
        """Returns what the shard holds; None if it is not there or not to be trusted."""
        try:
            content = json.loads(self.file("json").read_text())
            bad = tuple(BadImage(*entry) for entry in content["bad_images"])
            images = np.load(self.file("images.npy"), mmap_mode="r")
            labels = np.load(self.file("labels.npy"))
            rows = self.stop - self.start - len(bad)
            whole = (
                content["fingerprint"] == self.fingerprint
                and images.shape == (rows, *self.image_size, 3)
                and images.dtype == np.uint8
                and len(labels) == rows
            )
        except FileNotFoundError:
            return None
        except OSError:
            raise
        except Exception:  # damage can make JSON and NumPy raise almost anything
            return None
        return _Contents(images, labels, bad) if whole else None

    def write(self, images: np.ndarray, labels: np.ndarray, bad: list[BadImage]) -> None:
        self.file("json").unlink(missing_ok=True)
        for ending, array in (("images.npy", images), ("labels.npy", labels)):
            with written_whole(self.file(ending)) as partial, partial.open("wb") as file:
                # np.save does not notice where the last bytes find no room.
                header = np.lib.format.header_data_from_array_1_0(array)
                np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(array))
        content = {
            "fingerprint": self.fingerprint,
            "bad_images": [dataclasses.astuple(image) for image in bad],
        }
        with written_whole(self.file("json")) as partial:
            partial.write_text(json.dumps(content) + "\n")


def _key(part: Part, title: str, attributes: tuple[str, ...], config: DataConfig) -> str:
    """Returns what tells one prepared part from another.

    A mended image changes the fingerprint of its shard alone, unless it is the first, which tells
    copies of one data set at different sizes apart.
    """
    names = "\n".join(map(part.name, range(part.count)))
    told_by = (VERSION, title, attributes, config.image_size, names, part.fingerprint(0, 1))
    return hashlib.sha256(json.dumps(told_by).encode()).hexdigest()[:12]


def _shards(
    part: Part, title: str, attributes: tuple[str, ...], config: DataConfig
) -> list[_Shard]:
    height, width = config.image_size
    name = f"{title}-{height}x{width}-{_key(part, title, attributes, config)}".replace(" ", "-")
    folder = Path(config.cache_dir or default_cache_dir()) / name
    size = max(1, SHARD_BYTES // (height * width * 3), math.ceil(part.count / MOST_SHARDS))
    starts = range(0, part.count, size)
    return [
        _Shard(
            folder / f"{number:05d}",
            start,
            min(start + size, part.count),
            config.image_size,
            part.fingerprint(start, min(start + size, part.count)),
        )
        for number, start in enumerate(starts)
    ]


def _require_room(folder: Path, shards: list[_Shard], config: DataConfig) -> None:
    height, width = config.image_size
    needed = sum(shard.stop - shard.start for shard in shards) * height * width * 3
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"--cache_dir {folder.parent} has {free / 1e9:.1f} GB of room; the prepared images "
            f"need {needed / 1e9:.1f} GB. Name another folder, or pass --no_cache"
        )


@contextlib.contextmanager
def _alone(folder: Path, title: str) -> Iterator[None]:
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"waiting for another process that prepares the {title} images in {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _runs(shards: list[_Shard]) -> list[list[_Shard]]:
    """Returns the shards in groups that follow one another."""
    runs: list[list[_Shard]] = []
    for shard in shards:
        if runs and runs[-1][-1].stop == shard.start:
            runs[-1].append(shard)
        else:
            runs.append([shard])
    return runs


def _write(part: Part, title: str, missing: list[_Shard], bad: BadImages) -> None:
    """Decodes and writes shards."""
    count = sum(shard.stop - shard.start for shard in missing)
    print(f"preparing {count} of {part.count} {title} images in {missing[0].path.parent}")
    progress = keras.utils.Progbar(count, verbose=1 if sys.stdout.isatty() else 0)
    for run in _runs(missing):
        examples = decoded(part, run[0].start, run[-1].stop, bad)
        example = None
        for shard in run:
            images = np.empty((shard.stop - shard.start, *shard.image_size, 3), np.uint8)
            labels: list[np.ndarray] = []
            index = shard.start
            while index < shard.stop:
                # One that lay behind bad images at the end of the last shard is still at hand.
                example = example or next(examples, None)
                index = shard.stop if example is None else example[0]
                if index < shard.stop:
                    images[len(labels)] = example[1]
                    labels.append(example[2])
                    index, example = index + 1, None
                    if len(labels) % BATCH == 0:
                        progress.add(BATCH)
            own = [image for image in bad.met if shard.start <= image.index < shard.stop]
            shard.write(images[: len(labels)], np.array(labels), own)
            progress.add(shard.stop - shard.start - len(labels) // BATCH * BATCH)


def _gather(
    arrays: list[np.ndarray], image_size: tuple[int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what reads images by their indices out of shards."""
    stops = np.cumsum([len(array) for array in arrays])
    starts = stops - [len(array) for array in arrays]
    arrays = [np.asarray(array) for array in arrays]  # indexing a memmap itself takes longer

    def images(indices: np.ndarray) -> np.ndarray:
        numbers = np.searchsorted(stops, indices, side="right")
        rows = (indices - starts[numbers]).tolist()
        gathered = np.empty((len(indices), *image_size, 3), np.uint8)
        for image, number, row in zip(gathered, numbers.tolist(), rows, strict=True):
            image[...] = arrays[number][row]
        return gathered

    return images


def _contents(part: Part, title: str, shards: list[_Shard], config: DataConfig) -> list[_Contents]:
    """Reads all shards, and makes those first that are not there."""
    contents = [shard.read() for shard in shards]
    if None not in contents:
        return contents
    folder = shards[0].path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, title):
        contents = [shard.read() for shard in shards]  # another process may have made them
        known = [image for found in contents if found for image in found.bad_images]
        bad = BadImages(part, title, config, known)
        missing = [shard for shard, found in zip(shards, contents, strict=True) if found is None]
        if missing:
            _require_room(folder, missing, config)
            _write(part, title, missing, bad)
        contents = [shard.read() for shard in shards]
        if None in contents:
            raise UserError(f"{folder} changed while it was written; start again")
        return contents


def prepare(
    part: Part, title: str, attributes: tuple[str, ...], config: DataConfig
) -> tuple[Split, np.ndarray]:
    """Returns a part decoded and resized: from its files the first time, then from the cache.

    An interrupted preparation goes on where it ended; shards made from files that have changed
    are made again. Only one process prepares a part; others wait for it.

    Args:
        part: the examples.
        title: of the part, such as `celeba train`.
        attributes: names of the K labels.
        config: `image_size`, `cache_dir` and `skip_bad_images` are used.

    Returns:
        The examples, mapped into memory, and their indices in the part: all but the bad images.

    Raises:
        UserError: if an image cannot be decoded (with `skip_bad_images`: more than 1 %), or the
            cache folder has no room or cannot be written. Finished shards stay.
    """
    shards = _shards(part, title, attributes, config)
    try:
        contents = _contents(part, title, shards, config)
    except OSError as error:
        raise UserError(
            "cannot keep prepared images in --cache_dir "
            f"{shards[0].path.parent.parent}: {reason_of(error)}. Name another folder, or pass "
            "--no_cache"
        ) from None
    part.release()
    bad = BadImages(part, title, config, [b for found in contents for b in found.bad_images])
    bad.report()
    kept = bad.kept
    split = Split(
        _gather([found.images for found in contents], config.image_size),
        np.concatenate([found.labels for found in contents if len(found.labels)]),
        len(attributes),
        config.image_size,
        np.arange(len(kept)),
        name=lambda index: part.name(int(kept[index])),
    )
    return split, kept
