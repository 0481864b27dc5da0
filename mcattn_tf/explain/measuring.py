"""How far explanations of any Keras network can be trusted, in one call."""

from collections.abc import Sequence

import keras
import numpy as np

from mcattn_tf.data.regions.region_set import RegionBatch, RegionSet
from mcattn_tf.errors import UserError
from mcattn_tf.explain.explaining import Subject, Targets, subject_of, targets_of
from mcattn_tf.explain.methods import YARDSTICKS, applicable
from mcattn_tf.explain.truth import measurement, summary
from mcattn_tf.models import is_exclusive, label_outputs

GROUP = "targets"  # of the labels that localisation is measured for


class Measures(dict):
    """Result of `measure`: {method: {metric: value}}, and settings; prints as tables."""

    def __str__(self) -> str:
        """Returns the tables of `evaluate.py --explanations`."""
        return summary.format_tables(self)

    __repr__ = __str__


def measure(
    model: keras.Model,
    images: np.ndarray,
    regions: np.ndarray | None = None,
    targets: Targets = None,
    methods: str | Sequence[str] | None = None,
    layer: str | None = None,
    *,
    output: str | int | None = None,
    names: Sequence[str] | None = None,
    baseline: str = "blur",
    draws: int = 1,
    batch_size: int = 16,
) -> Measures:
    """Measures how far the explanations of a Keras network can be trusted.

    Deletion, insertion, drop, increase and gain tell whether the marked cells move the answer;
    sanity, whether maps change when the weights become random; pointing game, energy, coverage and
    average precision, whether maps lie on the regions. `random` and `center`, a Gaussian, are
    measured beside: a map that is no better tells nothing.

    Args:
        model: network, as of `explain`.
        images: (n, H, W, C), as the network takes them.
        regions: where the targets are seen: masks, bool (n, H, W) for all targets of an image, or
            (n, H, W, K) for each class; or boxes (n, 4) or (n, K, 4) of top, left, bottom and
            right in pixels, the last two exclusive.
        targets: as of `explain`, or labels, bool (n, K). None: the most probable class, or, where
            labels do not exclude each other, all labels that the network calls present.
        methods: names out of `METHODS`; None: the default one and Grad-CAM.
        layer: as of `explain`, and so `output` and `names`.
        output: see `layer`.
        names: see `layer`.
        baseline: replacement of removed cells: `blur`, `mean` or `zero`.
        draws: draws of random weights in the sanity check, whose cost is in proportion to the
            number of layers; 0 leaves it out.
        batch_size: images at a time.

    Raises:
        UserError: for images, regions, targets, a layer, an output or a method that does not fit.
    """
    if not isinstance(draws, int) or draws < 0:
        raise UserError(f"`draws` must be a whole number, zero or more. Received: {draws}")
    subject = subject_of(model, images, layer, output, names)
    asked = _asked(targets, subject, batch_size)
    columns = np.flatnonzero(asked.any(axis=0))
    possible = applicable(subject.model)
    own = [*possible[:1], *({"grad_cam"} & {*possible})] if methods is None else methods
    own = [own] if isinstance(own, str) else own
    settings = measurement.Settings(baseline=baseline, draws=draws, batch_size=batch_size)
    result = measurement.measure(
        subject.model,
        subject.names,
        _region_set(subject, regions, asked, columns),
        settings,
        [subject.names[column] for column in columns],
        tuple(dict.fromkeys((*own, *YARDSTICKS))),
        asked,
    )
    return Measures(result)


def _asked(targets: Targets, subject: Subject, batch_size: int) -> np.ndarray:
    """Returns which pairs of image and class are measured, bool (n, K)."""
    count, classes, given = len(subject.images), len(subject.names), np.asarray(targets)
    if given.dtype == bool:
        if given.shape != (count, classes) or not given.any():
            raise UserError(
                f"`targets` of type bool must be ({count}, {classes}), an image a row and a class "
                f"a column, and some of them true. Received: {given.shape}"
            )
        return given
    if given.shape == (count, classes) and classes > 2 and set(given.flat) <= {0, 1}:
        raise UserError(
            "`targets` look like labels; give them as booleans: labels.astype(bool). Whole numbers "
            f"are indices of classes. Received: {given.shape} of 0 and 1"
        )
    name = label_outputs(subject.model)[0]
    answers = keras.Model(subject.model.input, subject.model.output[name])
    probabilities = answers.predict(subject.images, batch_size=batch_size, verbose=0)
    if targets is None and not is_exclusive(subject.model):
        if (probabilities > 0.5).any():
            return probabilities > 0.5
        raise UserError("the network calls no label present in these images; name `targets`")
    asked = np.zeros((count, classes), bool)
    np.put_along_axis(asked, targets_of(targets, probabilities, subject, 0), True, axis=1)
    return asked


def _region_set(
    subject: Subject, regions: np.ndarray | None, asked: np.ndarray, columns: np.ndarray
) -> RegionSet:
    """Returns the images with the regions of some classes."""
    size, count = subject.images.shape[1:3], len(subject.images)
    given = None if regions is None else np.asarray(regions)
    forms = {
        (count, *size): lambda x: x[..., None],
        (count, *size, asked.shape[1]): lambda x: x[..., columns],
        (count, 4): lambda x: boxes_to_masks(x[:, None], size),
        (count, asked.shape[1], 4): lambda x: boxes_to_masks(x[:, columns], size),
    }
    if given is not None and given.shape not in forms:
        raise UserError(
            f"`regions` must have one of the shapes {', '.join(map(str, forms))}. "
            f"Received: {given.shape}"
        )
    if given is not None and given.shape[-1] == 4 and given.ndim < 4:
        _require_pixels(given.reshape(-1, 4), size)

    def read(indices: range) -> RegionBatch:
        rows = slice(indices.start, indices.stop)
        images, place, present = subject.images[rows], np.zeros((0, *size, 0), bool), {}
        if given is not None:
            place, present = forms[given.shape](given[rows]), {GROUP: asked[rows][:, columns]}
            place = np.broadcast_to(place.astype(bool), (*images.shape[:3], len(columns)))
        return RegionBatch(images, place, np.ones(images.shape[:3], bool), present)

    if given is None:
        return RegionSet("no regions", (), (), count, read)
    placed = tuple(subject.names[column] for column in columns)
    return RegionSet("given regions", placed, (GROUP,), count, read)


def _require_pixels(boxes: np.ndarray, size: tuple[int, int]) -> None:
    """Raises a UserError for boxes (n, 4) of which one, not all zeros, is without a pixel."""
    held = boxes_to_masks(boxes[:, None], size).any(axis=(1, 2, 3)) | (boxes == 0).all(axis=1)
    if not held.all():
        place = int(np.argmin(held))
        raise UserError(
            "`regions` as boxes must be top, left, bottom and right in pixels, the last two "
            f"exclusive, in images of {size[0]}x{size[1]}. Received: box {place}, "
            f"{', '.join(f'{x:g}' for x in boxes[place])}, which holds no pixel"
        )


def boxes_to_masks(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns boxes (B, k, 4) as masks (B, H, W, k); see `measure`."""
    top, left, bottom, right = np.moveaxis(boxes, -1, 0)[:, :, None, None]
    rows, columns = np.arange(size[0])[:, None, None], np.arange(size[1])[:, None]
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
