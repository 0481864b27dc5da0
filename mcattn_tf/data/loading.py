"""Data sets loaded by name: their parts, and the splits held out of the training part."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from mcattn_tf.data.cache import prepare, read_without_cache
from mcattn_tf.data.regions import folder_regions, landmarks, part_masks
from mcattn_tf.data.regions.region_set import RegionSet, drawn_regions, without_regions
from mcattn_tf.data.sets import arrays, celeba, faces, folder, tfds
from mcattn_tf.data.split import SPLITS, Data, Source, Split, join
from mcattn_tf.errors import UserError, choose
from mcattn_tf.settings.data import DataConfig
from mcattn_tf.settings.findings import Findings

SOURCES = {
    "celeba": celeba.source,
    "folder": folder.source,
    "cifar10": arrays.source,
    "cifar100": arrays.source,
    "svhn_cropped": arrays.source,
    "imagenet2012": tfds.source,
}


def load(config: DataConfig, known: Findings | None = None) -> Data:
    """Loads the data set that `config.dataset` names.

    Images are decoded and resized into `config.cache_dir` the first time, unless
    `config.no_cache` is set.

    Args:
        config: Settings of the data.
        known: Findings of the run that the data must fit; None for a new run.

    Returns:
        The three splits and the names of the attributes; images have `config.image_size`. Of
        `config.eval_examples` validation and test have the first ones alone.

    Raises:
        UserError: If files are not there or cannot be read, the attributes are others, or the
            cache cannot be written.
    """
    if config.dataset == "faces":
        splits = [load_split(config, name) for name in SPLITS]
        whole = Data(*splits, config.attributes or faces.ATTRIBUTES)
    else:
        parts = _Parts(config, known or Findings())
        splits = [parts.split(name) for name in SPLITS]
        whole = Data(*splits, parts.attributes, parts.source.exclusive, parts.held_out)
    if config.dataset == "folder":
        folder_regions.read_boxes(config, whole.attributes)  # damage is found before a training
    if (most := config.eval_examples) is None:
        return whole
    few = {name: whole.split(name).take(most) for name in ("validation", "test")}
    return dataclasses.replace(whole, **few)


def load_split(config: DataConfig, name: str, known: Findings | None = None) -> Split:
    """Loads the whole split `name` as `load` does, and no more of the data than it needs."""
    choose("split", name, SPLITS)
    if config.dataset == "faces":
        return _of_attributes(faces.load(config).split(name), faces.ATTRIBUTES, config)
    return _Parts(config, known or Findings()).split(name)


def _of_attributes(split: Split, names: tuple[str, ...], config: DataConfig) -> Split:
    """Returns a split with the labels of `config.attributes` alone, out of those of `names`."""
    if config.attributes is None:
        return split
    columns = [names.index(choose("attributes", name, names)) for name in config.attributes]
    return dataclasses.replace(split, labels=split.labels[:, columns], label_count=len(columns))


def load_regions(
    config: DataConfig,
    name: str,
    masks: str | None = None,
    split: Split | None = None,
    attributes: Sequence[str] = (),
) -> RegionSet:
    """Loads images with the regions where their attributes are seen, as far as these are known.

    Args:
        config: Settings of the data.
        name: `train`, `validation` or `test`.
        masks: Folder with faces and their part masks, used in place of the data set's images.
        split: Images of that name, where they are loaded already.
        attributes: Names of their labels; `folder` needs them.

    Returns:
        The drawn regions of `faces`; CelebA's landmark boxes where the landmark file is there; the
        regions beside the images of `folder`; otherwise images without regions.
    """
    choose("split", name, SPLITS)
    if masks is not None:
        if name != "test":
            raise UserError(f"--part_masks is not divided into splits; leave out --split {name}")
        return part_masks.load(Path(masks), config)
    if config.dataset == "faces":
        return drawn_regions(config, name)
    split = split or load_split(config, name)
    boxes = None
    if config.dataset == "celeba":
        boxes = landmarks.load(config, name, split)
    elif config.dataset == "folder":
        boxes = folder_regions.load(config, split, attributes)
    return boxes or without_regions(split)


class _Parts:
    """The parts of a data set, each read when it is first asked for, and its splits."""

    def __init__(self, config: DataConfig, known: Findings) -> None:
        self.source = SOURCES[config.dataset](config)
        if self.source.exclusive:
            self.source = _with_classes(self.source, known.attributes)
        if self.source.exclusive and config.attributes:
            raise UserError("`attributes` must be left out where each image has one of the classes")
        self.attributes = config.attributes or self.source.attributes
        if known.attributes not in ((), self.attributes):
            raise UserError(
                "the data set's attributes are not those that this run was trained on: expected "
                f"{', '.join(known.attributes)}. Received: {', '.join(self.attributes)}"
            )
        self._config, self._known = config, known
        self._part = functools.cache(self._read)
        self._sides = functools.cache(self._hold_out)
        self.held_out: str | None = None

    def split(self, name: str) -> Split:
        """Returns the split called `name`."""
        held_out_before = (self._known.held_out or ":").split(":")[0].split(",")
        if name in held_out_before and name in self.source.parts:
            if "train" in self.source.parts:
                self._refuse()
            print(
                f"warning: the {self._config.dataset} data have no training images: that this run "
                f"was not trained on their {name} images cannot be checked"
            )
        split = self._in_order_of_files(name)
        split = _of_attributes(split, self.source.attributes, self._config)
        if self._config.dataset == "folder":
            # Files lie class by class: the first images would all be of one class.
            random = np.random.default_rng(self._config.hold_out_seed)
            split = split.select(random.permutation(split.count))
        return split.take(self._config.train_examples) if name == "train" else split

    def _in_order_of_files(self, name: str) -> Split:
        parts = self.source.parts
        if "train" not in parts or (name != "train" and name in parts):
            return self._part(name)[0]
        joined = name == "train" and self._config.train_on_validation
        sides = self._sides()
        indices = sides[name]
        if joined and "validation" in sides:
            indices = np.sort(np.concatenate([indices, sides["validation"]]))
        split = self._part("train")[0].select(indices)
        if joined and "validation" in parts:
            return join(split, self._in_order_of_files("validation"))
        return split

    def _read(self, name: str) -> tuple[Split, np.ndarray]:
        """Returns the examples of a part, and their indices in it."""
        part, dataset = self.source.parts.get(name), self._config.dataset
        if part:
            part.check()
        if not part or not part.count:
            place = f" in {self._config.data_dir}" if self._config.data_dir else ""
            mend = "add some, or name another folder by --data_dir"
            raise UserError(f"the {dataset} data{place} have no {name} images; {mend}")
        read = read_without_cache if self._config.no_cache else prepare
        return read(part, f"{dataset} {name}", self.source.attributes, self._config)

    def _hold_out(self) -> dict[str, np.ndarray]:
        """Returns {split: indices in the training split}, for what the files do not tell apart."""
        # Bad images take part in the draw, so that one more changes no other's side (where labels
        # are known without reading the images).
        missing = [name for name in ("test", "validation") if name not in self.source.parts]
        if missing and self._known != Findings() and not self._known.held_out:
            raise UserError(
                f"the {self._config.dataset} data have no {missing[0]} images, and this run held "
                "none out; add some, or name another folder by --data_dir"
            )
        part, (split, kept) = self.source.parts["train"], self._part("train")
        labels = part.labels
        if labels is None:  # known only of the examples that were read
            labels = np.zeros((part.count, *split.labels.shape[1:]), split.labels.dtype)
            labels[kept] = split.labels[split.chosen]
        rest, sides = np.arange(part.count), {}
        for name in missing:
            share = self._config.hold_out * part.count / len(rest)
            groups = None if part.groups is None else part.groups[rest]
            taken = hold_out(labels[rest], share, self._config.hold_out_seed, groups)
            sides[name], rest = rest[taken], rest[~taken]
            whole = "" if part.groups is None else ", in whole groups"
            print(f"held out for {name}: {taken.sum()} of {part.count} images{whole}")
        names = {name: [part.name(index) for index in sides[name]] for name in sides}
        digest = hashlib.sha256(json.dumps([names, part.count]).encode()).hexdigest()
        self.held_out = f"{','.join(sides)}:{digest}"
        if self._known.held_out not in (None, self.held_out):
            self._refuse()
        sides = {"train": rest} | sides
        for name, indices in sides.items():
            sides[name] = np.flatnonzero(np.isin(kept, indices))
            if not len(sides[name]):
                raise UserError(f"all images held out for {name} are bad; raise --hold_out")
        return sides

    def _refuse(self) -> NoReturn:
        raise UserError(
            f"the held-out {self._config.dataset} images are not those that this run was trained "
            "on: the run would be evaluated on images that it has seen. Restore the images, "
            "labels and groups, use the version of mcattn_tf that trained it, or train anew"
        )


def _with_classes(source: Source, classes: tuple[str, ...]) -> Source:
    """Returns a source whose classes are some of `classes` with the numbers that they have there.

    A run is evaluated on images of a few of its classes. Other sources are returned as they are.
    """
    if not set(source.attributes) < set(classes):
        return source
    numbers = np.array([classes.index(name) for name in source.attributes], np.int64)
    parts = {
        name: dataclasses.replace(part, labels=numbers[part.labels])
        for name, part in source.parts.items()
    }
    return dataclasses.replace(source, attributes=classes, parts=parts)


def hold_out(
    labels: np.ndarray, share: float, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Returns which images to hold out, (N,), bool, with labels distributed as those of all.

    Labels are (N, K) or (N,) as in `Part`. Images, or groups, are sorted by their labels, the
    rarest label first, in a random order where these are equal. Along that order the share is
    taken at even distances, within the size of the largest group. Each class keeps an image that
    is not held out, and each attribute one with and one without it, unless nothing would be held
    out then.
    """
    random = np.random.default_rng(seed)
    count = len(labels)
    held = share * count
    if held < 1 - 1e-9:  # 29 * (1 / 29) may be a little below 1
        raise UserError(f"`hold_out` must be at least one image of {count}. Received: {held:.2g}")
    _, group, sizes = np.unique(
        np.arange(count) if groups is None else groups, return_inverse=True, return_counts=True
    )
    order = random.permutation(len(sizes))
    order = order[np.lexsort(_sort_keys(labels, group, len(sizes))[:, order])]
    columns = np.atleast_2d(labels.T)  # one of classes, or K
    alone = np.zeros(len(sizes), bool)  # holds all that there is of a label
    for column in columns:
        alone[_alone(column, group)] = True
    taken = np.zeros(len(sizes), bool)
    start, seen, held = random.random(), 0, 0
    for number, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        seen += size
        if start * size + share * seen >= held + size:
            taken[number] = not alone[number]
            held += size
    if not taken.any():
        taken[np.argmin(np.where(alone, count + 1, sizes))] = True
    for column in columns:  # a label that is held out whole gets its first group back
        for value in np.setdiff1d(column, column[~taken[group]]):
            if value >= 0 and taken.sum() > 1:
                taken[group[np.argmax(column == value)]] = False
    if taken.all() or not taken.any():
        together = "" if groups is None else f" in {len(sizes)} groups"
        raise UserError(
            f"`hold_out` must leave some images on both sides, of {count}{together}. "
            f"Received: {share * count:.1f} to hold out"
        )
    return taken[group]


def _alone(column: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Returns the groups that alone have a class, or a label's presence or absence."""
    values, groups = column[column >= 0].astype(np.int64), group[column >= 0]
    first = np.full(values.max(initial=0) + 1, len(group))
    last = np.full_like(first, -1)
    np.minimum.at(first, values, groups)
    np.maximum.at(last, values, groups)
    return first[first == last]


def _sort_keys(labels: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    """Returns sort keys (n, groups): labels that any member has, or the rarest class of a group."""
    if labels.ndim == 1:
        _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        rarest_first = np.argsort(sizes, kind="stable")
        ranks = np.full(count, len(sizes))
        np.minimum.at(ranks, group, np.argsort(rarest_first)[classes])
        return rarest_first[ranks][None]
    keys = np.zeros((labels.shape[1], count), bool)
    for key, column in zip(keys, labels.T, strict=True):
        key[group[column > 0]] = True
    rarer = np.minimum((labels == 1).sum(axis=0), (labels == 0).sum(axis=0))
    rarest_first = np.argsort(rarer, kind="stable")
    # Each label rises and falls in turn, so that neighbours have all labels but one alike.
    return np.logical_xor.accumulate(keys[rarest_first])[::-1]
