"""Settings of the data of a run."""

import dataclasses
from typing import Any

from mcattn_tf.settings.fields import NOT_NEGATIVE, POSITIVE, SHARE, Rule, Section, require, setting

# Defaults of each data set.
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
OF_FILES = (
    *(*PLACES, "skip_bad_images", "zero_is_unknown"),
    *("hold_out", "hold_out_seed", "train_on_validation"),
)
RESIZE = ("crop", "squeeze")
LONGEST_SIDE = 8192  # pixels; beyond it is a slip of the keyboard
SIZE = Rule(
    f"two numbers from 1 to {LONGEST_SIDE}, height and width",
    lambda size: len(size) == 2 and min(size) > 0 and max(size) <= LONGEST_SIDE,
)


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Images that are read, and their augmentation."""

    dataset: str = setting("faces", "Data set", DATASETS)
    data_dir: str | None = setting(
        None, "Folder or zip file with the data set's files; not for `faces`, which is drawn"
    )
    image_size: tuple[int, int] = setting(
        (64, 64),
        "Height and width of the network's input in pixels; celeba has 128,104, folder 128,128, "
        "imagenet2012 224,224, cifar10, cifar100 and svhn_cropped 32,32",
        SIZE,
    )
    resize: str = setting(
        "crop",
        "Way to bring an image to image_size. crop: keep its proportions and cut off what is too "
        "long, evenly; squeeze: keep the whole image and change its proportions",
        RESIZE,
    )
    cache_dir: str | None = setting(
        None, "Folder for decoded images; by default the user's cache folder"
    )
    no_cache: bool = setting(False, "Decode images each time they are read")
    skip_bad_images: bool = setting(
        False, "Leave out images that cannot be decoded, up to 1 % of a part"
    )
    zero_is_unknown: bool = setting(
        False, "Read 0 as an unknown label; -1 then is an absent one, and 1 a present one"
    )
    hold_out: float = setting(
        0.1,
        "Share of the images held out for validation where the files have no validation part, and "
        "for the test where they have no test part",
        Rule("above 0 and below 0.5", lambda value: 0 < value < 0.5),
    )
    hold_out_seed: int = setting(
        0, "Random seed for the held-out images and the order of a folder", NOT_NEGATIVE
    )
    train_examples: int | None = setting(
        None, "Number of training images, the first ones; by default all (faces: 8,000)", POSITIVE
    )
    eval_examples: int | None = setting(
        None,
        "Number of validation images and of test images that a training measures, the first ones, "
        "for trials; by default all. evaluate.py measures all",
        POSITIVE,
    )
    train_on_validation: bool = setting(
        False,
        "Train on the validation images too, as Kimura & Tanaka 2019 did on CelebA (182,637 "
        "images); validation then measures images that the network has seen",
    )
    flip: bool = setting(True, "Mirror half of the training images; svhn_cropped has --noflip")
    pad_and_crop: int = setting(
        0,
        "Largest shift of training images in pixels, with black borders (He et al. 2016: 4 on "
        "CIFAR)",
    )
    color_jitter: float = setting(
        0.0,
        "Largest relative change of brightness, contrast and saturation of training images",
        SHARE,
    )
    attributes: tuple[str, ...] | None = setting(
        None,
        "Attributes to train on, of those that the data set has; by default all",
        Rule("names without repeats", lambda names: 0 < len(names) == len(set(names))),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.pad_and_crop < min(self.image_size),
            "pad_and_crop",
            "from 0 to less than the image's sides",
            self.pad_and_crop,
        )
        require(
            not self.zero_is_unknown or self.dataset in ("celeba", "folder"),
            "zero_is_unknown",
            f"left out for {self.dataset}, whose labels are classes or always known",
            self.zero_is_unknown,
        )
        if self.dataset == "faces":
            # Drawn, not read: what would change nothing is refused rather than ignored.
            names = {field.name for field in dataclasses.fields(self)}
            self.require_defaults(names - set(OF_FILES), "faces")
