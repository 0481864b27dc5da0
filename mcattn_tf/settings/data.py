"""Settings of the data of a run."""

import dataclasses
from typing import Any

from mcattn_tf.errors import choose
from mcattn_tf.settings.checks import (
    require,
    require_defaults,
    require_not_negative,
    require_positive,
)

# What a data set's settings are where none are given.
DATASETS: dict[str, dict[str, Any]] = {
    "faces": {"image_size": (64, 64)},
    "celeba": {"image_size": (128, 104)},
    "folder": {"image_size": (128, 128)},
    "cifar10": {"image_size": (32, 32)},
    "cifar100": {"image_size": (32, 32)},
    "svhn_cropped": {"image_size": (32, 32), "flip": False},  # a mirrored digit is no digit
    "imagenet2012": {"image_size": (224, 224)},
}
PLACES = ("data_dir", "cache_dir", "no_cache")  # of `data`: they change no image
OF_FILES = (*PLACES, "skip_bad_images", "hold_out", "hold_out_seed", "train_on_validation")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images are read, and how.

    Attributes:
        dataset: a key of `DATASETS`.
        data_dir: folder or zip with the data set's files; None for what needs none.
        image_size: height and width in pixels of the network's input.
        cache_dir: folder for decoded images; None for the user's own cache folder.
        no_cache: decode images each time they are read.
        skip_bad_images: leave out images that cannot be decoded, up to 1 % of a part.
        hold_out: share of the images that is held out for validation where the data set has no
            validation part, and as many for the test where it has no test part.
        hold_out_seed: of which images these are, and of the order of a folder's images.
        train_examples: how many training images are used; None for all (`faces`: 8,000).
        train_on_validation: train on the training and validation parts together, as
            Kimura & Tanaka 2019 did on CelebA (182,637 images); validation figures then are of
            seen images.
        flip: mirror half of the training images left to right.
        pad_and_crop: shift training images by up to so many pixels each way, black where nothing
            is known (He et al. 2016 padded CIFAR's by 4).
        color_jitter: change brightness, contrast and saturation of training images, each by a
            factor drawn from 1 - `color_jitter` to 1 + `color_jitter`.
    """

    dataset: str = "faces"
    data_dir: str | None = None
    image_size: tuple[int, int] = (64, 64)
    cache_dir: str | None = None
    no_cache: bool = False
    skip_bad_images: bool = False
    hold_out: float = 0.1
    hold_out_seed: int = 0
    train_examples: int | None = None
    train_on_validation: bool = False
    flip: bool = True
    pad_and_crop: int = 0
    color_jitter: float = 0.0

    def __post_init__(self) -> None:
        choose("dataset", self.dataset, DATASETS)
        require(
            len(self.image_size) == 2 and min(self.image_size) > 0,
            "image_size",
            "two positive numbers, height and width",
            self.image_size,
        )
        if self.train_examples is not None:
            require_positive(self, "train_examples")
        require(0 < self.hold_out < 0.5, "hold_out", "above 0 and below 0.5", self.hold_out)
        require_not_negative(self, "hold_out_seed")
        require(
            0 <= self.pad_and_crop < min(self.image_size),
            "pad_and_crop",
            "from 0 to less than the image's sides",
            self.pad_and_crop,
        )
        require(
            0 <= self.color_jitter < 1, "color_jitter", "from 0 to less than 1", self.color_jitter
        )
        if self.dataset == "faces":
            # Drawn, not read: what would change nothing is refused rather than ignored.
            names = {field.name for field in dataclasses.fields(self)}
            require_defaults(self, tuple(names - set(OF_FILES)), "faces")
