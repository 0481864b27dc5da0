"""Boxes around the parts of a face, from CelebA's five landmarks."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcattn_tf.data.images import resize_regions
from mcattn_tf.data.lists import file_names, find_list, read_columns, read_list
from mcattn_tf.data.regions.region_set import RegionBatch, RegionSet, labelled_batch
from mcattn_tf.data.sets import celeba
from mcattn_tf.data.split import Split
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

LANDMARK_LIST = "list_landmarks_align_celeba"
POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
COORDINATES = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
ALIGNED_SIZE = (218, 178)  # height and width in pixels that the landmarks are given in


class Box(NamedTuple):
    """A box on an upright face; lengths are in distances between the eyes.

    It begins and ends at a distance below a landmark (`eyes`, `nose` or `mouth`). `outer` is half
    of its width around the middle of the face, `inner` of a middle piece that is left out.
    """

    top: tuple[str, float]
    bottom: tuple[str, float]
    outer: float
    inner: float = 0.0


BOXES: dict[str, Box] = {
    "hair": Box(("eyes", -2.8), ("eyes", -0.6), 1.5),
    "brows": Box(("eyes", -0.6), ("eyes", -0.15), 0.95),
    "eyes": Box(("eyes", -0.3), ("eyes", 0.3), 0.95),
    "under_eyes": Box(("eyes", 0.15), ("eyes", 0.6), 0.95),
    "nose": Box(("eyes", 0.1), ("nose", 0.25), 0.4),
    "cheeks": Box(("eyes", 0.3), ("mouth", 0.0), 1.1, 0.3),
    "mustache_area": Box(("nose", 0.15), ("mouth", 0.0), 0.55),
    "mouth": Box(("mouth", -0.3), ("mouth", 0.35), 0.65),
    "lower_face": Box(("nose", 0.15), ("mouth", 0.9), 0.9),
    "chin": Box(("mouth", 0.35), ("mouth", 1.1), 0.7),
    "ears": Box(("eyes", 0.0), ("mouth", 0.4), 1.6, 0.9),
    "neck": Box(("mouth", 0.65), ("mouth", 1.9), 1.1),
}

# The box of each attribute.
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "hair": (
        *("Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"),
        *("Receding_Hairline", "Straight_Hair", "Wavy_Hair", "Wearing_Hat"),
    ),
    "brows": ("Arched_Eyebrows", "Bushy_Eyebrows"),
    "eyes": ("Eyeglasses", "Narrow_Eyes"),
    "under_eyes": ("Bags_Under_Eyes",),
    "nose": ("Big_Nose", "Pointy_Nose"),
    "cheeks": ("High_Cheekbones", "Rosy_Cheeks"),
    "mustache_area": ("Mustache",),
    "mouth": ("Big_Lips", "Mouth_Slightly_Open", "Smiling", "Wearing_Lipstick"),
    "lower_face": ("5_o_Clock_Shadow", "Goatee", "No_Beard"),
    "chin": ("Double_Chin",),
    "ears": ("Sideburns", "Wearing_Earrings"),
    "neck": ("Wearing_Necklace", "Wearing_Necktie"),
}
ATTRIBUTE_BOXES: dict[str, str] = dict(
    sorted((attribute, box) for box, attributes in _ATTRIBUTES.items() for attribute in attributes)
)


def box_region(landmarks: np.ndarray, box: Box) -> np.ndarray:
    """Returns where the centres of an aligned image's pixels lie in a box, bool (218, 178).

    `landmarks` (10,) are `COORDINATES` in pixels.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks.reshape(5, 2).astype(float)
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    anchors = {"eyes": eyes[1], "nose": nose[1], "mouth": mouth[1]}
    unit = float(np.hypot(*(right_eye - left_eye)))
    rows = np.arange(ALIGNED_SIZE[0])[:, None] + 0.5
    aside = np.abs(np.arange(ALIGNED_SIZE[1])[None, :] + 0.5 - (eyes[0] + mouth[0]) / 2)
    top, bottom = (anchors[name] + below * unit for name, below in (box.top, box.bottom))
    return (
        (rows >= top) & (rows < bottom) & (aside >= box.inner * unit) & (aside < box.outer * unit)
    )


def load(config: DataConfig, name: str, split: Split) -> RegionSet | None:
    """Loads CelebA's images of the split `name` with the boxes of their attributes.

    None if `list_landmarks_align_celeba.txt` (or `.csv`) is not there, or no attribute of the
    lists has a box.
    """
    files = celeba.list_files(Path(config.data_dir)) if config.data_dir else None
    landmark_list = files and find_list(files, LANDMARK_LIST)
    if not landmark_list or not split.name_of(0).startswith(celeba.IMAGES):
        return None  # or the images came through tensorflow-datasets, which drops their names
    labelled = read_columns(files, find_list(files, celeba.ATTRIBUTE_LIST))
    labelled = config.attributes or labelled
    attributes = tuple(attribute for attribute in ATTRIBUTE_BOXES if attribute in labelled)
    if not attributes:
        return None
    columns = [labelled.index(attribute) for attribute in attributes]
    table = read_list(files, landmark_list, COORDINATES)
    names = file_names(split)
    rows = table.rows_of(names)
    if (rows < 0).any():
        missing = names[np.argmax(rows < 0)].decode()
        raise UserError(f"{table.path} has no row for {missing}, which is one of the {name} images")

    def read(indices: range) -> RegionBatch:
        images, labels = split.read(indices)
        regions = []
        for points in table.values[rows[list(indices)]]:
            boxes = [box_region(points, BOXES[ATTRIBUTE_BOXES[name]]) for name in attributes]
            boxes = np.stack(boxes, axis=-1)
            regions.append(resize_regions(boxes, config.image_size, config.resize))
        return labelled_batch(images, np.stack(regions), labels[:, columns])

    return RegionSet("landmark boxes", attributes, ("labelled",), split.count, read)
