"""Data sets, one a file, behind one call."""

from pathlib import Path

from mcattn_tf.config import DataConfig
from mcattn_tf.data import celeba, faces, landmarks, part_masks
from mcattn_tf.data.pipeline import Data, Split
from mcattn_tf.data.regions import RegionSet, drawn_regions, without_regions
from mcattn_tf.errors import UserError, choose

__all__ = ["Data", "RegionSet", "load", "load_regions"]

LOADERS = {"faces": faces.load, "celeba": celeba.load}


def load(config: DataConfig) -> Data:
    """Loads the data set that `config.dataset` names.

    Args:
        config: the settings.

    Returns:
        Its three parts and the names of its attributes; images come at `config.image_size`.

    Raises:
        UserError: if the files are not there or cannot be read.
    """
    data = LOADERS[config.dataset](config)
    return Data(data.train.take(config.train_examples), data.validation, data.test, data.attributes)


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
    choose("split", name, faces.SEEDS)
    if masks is not None:
        if name != "test":
            raise UserError(f"--part_masks is not divided into splits; leave out --split {name}")
        return part_masks.load(Path(masks), config)
    if config.dataset == "faces":
        return drawn_regions(config, name)
    split = split or load(config).split(name)
    return landmarks.load(config, name, split) or without_regions(split)
