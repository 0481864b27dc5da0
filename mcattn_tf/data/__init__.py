"""Data sets, one a file, behind one call."""

import functools
import hashlib
import json
from pathlib import Path
from typing import NoReturn

import numpy as np

from mcattn_tf.data.cache import prepare
from mcattn_tf.data.hold_out import hold_out
from mcattn_tf.data.regions import landmarks, part_masks
from mcattn_tf.data.regions.region_set import RegionSet, drawn_regions, without_regions
from mcattn_tf.data.sets import celeba, cifar, faces, folder, svhn, through_tfds
from mcattn_tf.data.source import Source
from mcattn_tf.data.split import SPLITS, Data, Split, join, naming_bad_images
from mcattn_tf.data.statistics import format_statistics
from mcattn_tf.data.unprepared import read_without_cache
from mcattn_tf.errors import UserError, choose
from mcattn_tf.settings.data import DataConfig
from mcattn_tf.settings.findings import Findings

__all__ = [
    "Data",
    "RegionSet",
    "Split",
    "format_statistics",
    "load",
    "load_regions",
    "load_split",
    "naming_bad_images",
]

SOURCES = {
    "celeba": celeba.source,
    "folder": folder.source,
    "cifar10": cifar.source,
    "cifar100": cifar.source,
    "svhn_cropped": svhn.source,
    "imagenet2012": through_tfds.source,
}


class _Parts:
    """The parts of a data set, each read when it is first asked for, and its splits."""

    def __init__(self, source: Source, config: DataConfig, known: Findings) -> None:
        self.source, self._config, self._known = source, config, known
        self._part = functools.cache(self._read)
        self._sides = functools.cache(self._hold_out)
        self.held_out: str | None = None

    def _read(self, name: str) -> tuple[Split, np.ndarray]:
        """Returns the examples of a part, and their indices in it."""
        if not self.source.parts[name].count:
            raise UserError(
                f"the {self._config.dataset} data have no {name} images; add some, or name another "
                "folder by --data_dir"
            )
        read = read_without_cache if self._config.no_cache else prepare
        title = f"{self._config.dataset} {name}"
        return read(self.source.parts[name], title, self.source.attributes, self._config)

    def _hold_out(self) -> dict[str, np.ndarray]:
        """Returns {split: indices in the training part}: what the files do not tell apart.

        Bad images take part in the draw, so that one more changes no other's side (where labels
        are known without reading the images).
        """
        part, (split, kept) = self.source.parts["train"], self._part("train")
        labels = part.labels
        if labels is None:  # known of those alone that were read
            labels = np.zeros((part.count, *split.labels.shape[1:]), split.labels.dtype)
            labels[kept] = split.labels[split.chosen]
        rest, held_out = np.arange(part.count), {}
        for name in ("test", "validation"):
            if name not in self.source.parts:
                chosen = hold_out(
                    labels[rest],
                    self._config.hold_out * part.count / len(rest),
                    self._config.hold_out_seed,
                    None if part.groups is None else part.groups[rest],
                )
                held_out[name], rest = rest[chosen], rest[~chosen]
                whole = "" if part.groups is None else ", in whole groups"
                print(f"held out for {name}: {chosen.sum()} of {part.count} images{whole}")
        self.held_out = self._digest(held_out)
        if self._known.held_out not in (None, self.held_out):
            self._refuse()
        sides = {"train": rest} | held_out
        found = {name: np.flatnonzero(np.isin(kept, indices)) for name, indices in sides.items()}
        for name, indices in found.items():
            if not len(indices):
                raise UserError(f"all images held out for {name} are bad; raise --hold_out")
        return found

    def _digest(self, held_out: dict[str, np.ndarray]) -> str:
        """Returns which splits were held out, and what tells their images from others."""
        name = self.source.parts["train"].name
        names = {split: [name(index) for index in held_out[split]] for split in held_out}
        digest = hashlib.sha256(json.dumps([names, self.source.parts["train"].count]).encode())
        return f"{','.join(held_out)}:{digest.hexdigest()}"

    def _refuse(self) -> NoReturn:
        raise UserError(
            f"the {self._config.dataset} images, their labels or groups are not those that this "
            "run was trained on: others would be held out, and it would be evaluated on images "
            "that it has seen. Put them back as they were, or train anew"
        )

    def split(self, name: str) -> Split:
        """Returns the split called `name`."""
        before = (self._known.held_out or ":").split(":")[0].split(",")
        if name in before and name in self.source.parts:
            self._refuse()
        split = self._in_order_of_files(name)
        if self._config.dataset == "folder":
            # Files lie class by class: the first images would all be of one class.
            random = np.random.default_rng(self._config.hold_out_seed)
            split = split.select(random.permutation(split.count))
        return split.take(self._config.train_examples) if name == "train" else split

    def _in_order_of_files(self, name: str) -> Split:
        joined = name == "train" and self._config.train_on_validation
        if name != "train" and name in self.source.parts:
            return self._part(name)[0]
        sides = self._sides()
        indices = sides[name]
        if joined and "validation" in sides:
            indices = np.sort(np.concatenate([indices, sides["validation"]]))
        split = self._part("train")[0].select(indices)
        if joined and "validation" in self.source.parts:
            return join(split, self._in_order_of_files("validation"))
        return split


def load(config: DataConfig, known: Findings | None = None) -> Data:
    """Loads the data set that `config.dataset` names.

    Its images are decoded and resized into `config.cache_dir` when they are first asked for,
    unless `config.no_cache` says otherwise.

    Args:
        config: the settings.
        known: findings of the run that the data must fit; None for a new run.

    Returns:
        Its three parts and the names of its attributes; images come at `config.image_size`.

    Raises:
        UserError: if the files are not there or cannot be read, the attributes are others, or the
            cache cannot be written.
    """
    if config.dataset == "faces":
        return faces.load(config)
    parts = _parts(config, known or Findings())
    splits = [parts.split(name) for name in SPLITS]
    source = parts.source
    return Data(*splits, source.attributes, source.exclusive, parts.held_out)


def load_split(config: DataConfig, name: str, known: Findings | None = None) -> Split:
    """Loads one part of a data set, and no more of it than that takes.

    Args:
        config: the settings.
        name: `train`, `validation` or `test`.
        known: findings of the run that the data must fit; None for a new run.

    Raises:
        UserError: as `load` does, or for another name or other attributes.
    """
    choose("split", name, SPLITS)
    if config.dataset == "faces":
        return faces.load(config).split(name)
    return _parts(config, known or Findings()).split(name)


def _parts(config: DataConfig, known: Findings) -> _Parts:
    source = SOURCES[config.dataset](config)
    if known.attributes not in ((), source.attributes):
        raise UserError(
            "the data set's attributes are not those that this run was trained on: expected "
            f"{', '.join(known.attributes)}. Received: {', '.join(source.attributes)}"
        )
    return _Parts(source, config, known)


def load_regions(
    config: DataConfig, name: str, masks: str | None = None, split: Split | None = None
) -> RegionSet:
    """Loads images whose attributes are seen at known places, as far as there are any.

    Args:
        config: the settings of the data set.
        name: of the split: `train`, `validation` or `test`.
        masks: folder with faces and their part masks, used in place of the data set's images.
        split: the images, where they are loaded already.

    Returns:
        The drawn regions of `faces`; CelebA's landmark boxes where the landmark file is there,
        else its images without regions.

    Raises:
        UserError: if the files are not there or cannot be read.
    """
    choose("split", name, SPLITS)
    if masks is not None:
        if name != "test":
            raise UserError(f"--part_masks is not divided into splits; leave out --split {name}")
        return part_masks.load(Path(masks), config)
    if config.dataset == "faces":
        return drawn_regions(config, name)
    split = split or load_split(config, name)
    boxes = landmarks.load(config, name, split) if config.dataset == "celeba" else None
    return boxes or without_regions(split)
