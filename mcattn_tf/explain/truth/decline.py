"""Accuracy that is lost when the mean of its visual map decides the class."""

import collections
from collections.abc import Callable, Iterable

import keras
import numpy as np

from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods import Attributor, Pairs
from mcattn_tf.explain.methods.cam import pooled_classifier
from mcattn_tf.explain.methods.inlining import inlined
from mcattn_tf.explain.methods.method import enlarged
from mcattn_tf.explain.truth.localisation import scaled
from mcattn_tf.models import is_exclusive
from mcattn_tf.progress import progress
from mcattn_tf.settings.systems import system_of

WAYS = {
    "map": "map itself",
    "normalized": "normalized",
    "weighted_sum": "weighted sum",
    "product": "product",
}
# {row of table 8: method}, for GCM and for the networks that it is compared with.
GCM = {"gcm": "weight_maps"}
CLASSIFIER = {x: x for x in ("guided_backprop", "guided_grad_cam", "cam", "grad_cam")}
COLORED = ("cam", "grad_cam", "gcm")  # rows with colours in the weighted sum
BATCH_SIZE = 64
MAP_SHARE, IMAGE_SHARE = 0.7, 0.2  # in the weighted sum
# Mean of red, green and blue of each of the 256 jet colours.
JET_MEANS = np.clip(1.5 - np.abs(np.linspace(0, 4, 256)[:, None] - [3, 2, 1]), 0, 1).mean(axis=1)
Maps = Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]


def maps_of(model: keras.Model) -> Maps:
    """Prepares the maps of a network for the rows of table 8.

    Args:
        model: GCM, or a network whose classes are a dense layer of averaged features, such as
            `cnn`; in float32.

    Returns:
        A function of images (B, H, W, 3) in [0, 1] to probabilities (B, N) and {row of table 8:
        maps of all classes, (B, N, h, w) or (B, N, H, W, 3)}.

    Raises:
        UserError: if the network's labels do not exclude each other, or it is neither.
    """
    model = inlined(model)
    if not is_exclusive(model):
        raise UserError(
            f"the decline compares classes, and the labels of model {model.name!r} do not exclude "
            "each other; train one on classes, such as those of --dataset cifar10"
        )
    rows = GCM if "weight_maps" in system_of(model).parts else CLASSIFIER
    if rows is CLASSIFIER and pooled_classifier(model) is None:
        raise UserError(
            f"model {model.name!r} has no CAM to compare: its classes are not a dense layer of "
            "averaged features"
        )
    attributor = Attributor(model, list(rows.values()))

    def maps(images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        outputs = attributor.forward(images)
        shape = outputs["probabilities"].shape
        pairs = Pairs.product(shape[0], range(shape[1]))
        maps = attributor.visual_maps(images, outputs, pairs)
        named = ((row, maps[method]) for row, method in rows.items())
        return outputs["probabilities"], {k: v.reshape(*shape, *v.shape[1:]) for k, v in named}

    return maps


def measure_decline(
    maps_of_model: Maps, batches: Iterable[tuple[np.ndarray, np.ndarray]], count: int
) -> dict:
    """Compares the accuracy of a network with that of its visual maps.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), section 4.7 and table 8.

    Args:
        maps_of_model: function from `maps_of`.
        batches: images (B, H, W, 3) in [0, 1] and one-hot labels (B, N).
        count: number of images, for the progress bar.

    Returns:
        {"images": their number, "accuracy": accuracy of the classifier, "methods": {row: {way:
        {"accuracy": accuracy of the class with the highest mean of its visual map, "decline":
        share of the classifier's accuracy that is lost}}}}.

    Raises:
        UserError: if the network answers no image right.
    """
    seen = right = 0
    hits = collections.defaultdict(collections.Counter)  # {row: {way: images}}
    with progress(count, "decline") as bar:
        for images, labels in batches:
            classes = labels.argmax(axis=1)
            probabilities, maps = maps_of_model(images)
            right += int(np.sum(probabilities.argmax(axis=1) == classes))
            for row, values in maps.items():
                for way, means in visual_map_means(values, images, row in COLORED).items():
                    hits[row][way] += int(np.sum(means.argmax(axis=1) == classes))
            seen += len(images)
            bar.update(len(images))
    if not right:
        raise UserError(
            f"the network answers none of {seen} images right, so no accuracy can decline; train "
            "it longer"
        )

    def result(count: int) -> dict[str, float]:
        return {"accuracy": count / seen, "decline": decline(right / seen, count / seen)}

    methods = {row: {way: result(n) for way, n in ways.items()} for row, ways in hits.items()}
    return {"images": seen, "accuracy": right / seen, "methods": methods}


def visual_map_means(maps: np.ndarray, images: np.ndarray, colored: bool) -> dict[str, np.ndarray]:
    """Averages visual maps in the four ways of table 8.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), section 4.7. The weighted sum is that of
    section 4.6 and of the demo of CAM's authors: the normalised map in 256 jet colours plus the
    image. Maps of guided methods are pictures already and are added unchanged.

    Maps are (B, N, h, w), or (B, N, H, W, D) with a weight for each colour of the images
    (B, H, W, D), in [0, 1]. Coarse maps are enlarged to the images by bicubic interpolation.

    Returns:
        {way: (B, N)} for `map`, unchanged; `normalized`, scaled to [0, 1]; `weighted_sum`, 0.7 of
        that, in colours if `colored`, and 0.2 of the image; `product`, the map times the image.
    """
    fine, size, within = maps, images.shape[1:3], tuple(range(2, maps.ndim))
    if maps.shape[2:4] != size:
        flat = enlarged(maps.reshape(-1, *maps.shape[2:]), size, "bicubic")
        fine = flat.reshape(*maps.shape[:2], *size)
    means = {"map": maps.mean(axis=within), "normalized": scaled(maps, within).mean(axis=within)}
    shown = means["map"]
    if colored:
        shown = JET_MEANS[np.rint(255 * scaled(fine, within)).astype(int)].mean(axis=within)
    image_means = images.mean(axis=(1, 2, 3))[:, None]
    means["weighted_sum"] = MAP_SHARE * shown + IMAGE_SHARE * image_means
    weights = fine if fine.ndim == 5 else fine[..., None]
    means["product"] = (weights * images[:, None]).mean(axis=(2, 3, 4))
    return means


def decline(accuracy: float, accuracy_of_maps: float) -> float:
    """Returns the share of accuracy that is lost when visual maps decide (GCM paper, eq. 13)."""
    return (accuracy - accuracy_of_maps) / accuracy
