"""Explanations of any Keras network in one call."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from mcattn_tf.errors import UserError, choose
from mcattn_tf.explain.methods import Attributor, Pairs, applicable, has_negative_values
from mcattn_tf.explain.methods.foreign import dressed
from mcattn_tf.models import label_outputs, receptive_field
from mcattn_tf.settings.systems import FOREIGN, system_of

Targets = int | str | Sequence | np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Explanations:
    """Maps of n images, k targets each, by one or several methods.

    Attributes:
        maps: {method: (n, k, h, w)}, float32; h x w are the cells of the features, or pixels.
            `explanations["grad_cam"]` is `explanations.maps["grad_cam"]`.
        targets: (n, k), indices of the explained classes.
        names: names of all K classes; their numbers where none are known.
        probabilities: (n, k), in [0, 1], of the targets by the network's answer.
        images: (n, H, W, C), as they were given.
        layer: layer whose cells the maps are read from.
        score: what is explained, in words.
        signed: methods whose maps may have negative values, evidence against a class.
        boxes: (h, w, 4), the pixels that each cell sees: top, left, bottom and right, the last two
            exclusive; None where a layer is of a kind whose receptive field is not known.
    """

    maps: dict[str, np.ndarray]
    targets: np.ndarray
    names: tuple[str, ...]
    probabilities: np.ndarray
    images: np.ndarray
    layer: str
    score: str
    signed: frozenset[str]
    boxes: np.ndarray | None

    def __getitem__(self, method: str) -> np.ndarray:
        """Returns the maps of a method, (n, k, h, w)."""
        return self.maps[choose("method", method, self.maps)]

    def __repr__(self) -> str:
        """Returns the methods with the shapes of their maps, and what they explain."""
        maps = ", ".join(f"{name} {values.shape}" for name, values in self.maps.items())
        return f"Explanations({maps}; {self.score}, on the cells of {self.layer!r})"


class Subject(NamedTuple):
    """A network that the methods can explain, and its images, float32."""

    model: keras.Model
    images: np.ndarray
    names: tuple[str, ...]
    layer: str
    score: str


def explain(
    model: keras.Model,
    images: np.ndarray,
    targets: Targets = None,
    methods: str | Sequence[str] | None = None,
    layer: str | None = None,
    *,
    output: str | int | None = None,
    names: Sequence[str] | None = None,
    batch_size: int = 16,
) -> Explanations:
    """Explains the answers of a Keras network to images.

    Scores are explained, before a last softmax or sigmoid; `score` of the result says which.

    Args:
        model: functional, Sequential or subclassed network from images to K scores.
        images: (n, H, W, C), or one image (H, W, C), as the network takes them.
        targets: classes to explain, by index or by name: one, or a sequence, for every image; rows
            of k targets, (n, k), for each image its own. None: each image's most probable class.
        methods: names out of `METHODS`, such as "grad_cam"; None: the first that the network has.
        layer: name, or path `OUTER/INNER`, of the layer of cells; None: the last with positions.
        output: key or index of the output to explain; None: the first with a score for each class.
        names: names of the K classes; networks of this package know theirs.
        batch_size: images at a time.

    Raises:
        UserError: for images, a target, a layer, an output or a method that does not fit.
    """
    subject = subject_of(model, images, layer, output, names)
    wanted = (methods,) if isinstance(methods, str) else methods
    attributor = Attributor(subject.model, wanted or applicable(subject.model)[:1])
    starts = range(0, len(subject.images), batch_size)
    batches = [subject.images[start : start + batch_size] for start in starts]
    attributor.adapt(batches)
    answers, chosen, maps = [], [], {name: [] for name in attributor.methods}
    for start, batch in zip(starts, batches, strict=True):
        outputs = attributor.forward(batch)
        own = targets_of(targets, outputs["probabilities"], subject, start)
        rows = np.repeat(np.arange(len(batch)), own.shape[1])
        pairs = Pairs(rows, own.ravel(), np.ones(own.size, int))
        cells = attributor.maps(batch, outputs, pairs, whole_pixels=False)
        for name, values in cells.items():
            maps[name].append(values.reshape(*own.shape, *values.shape[1:]).astype(np.float32))
        answers.append(np.take_along_axis(outputs["probabilities"], own, axis=1))
        chosen.append(own)
    return Explanations(
        maps={name: np.concatenate(values) for name, values in maps.items()},
        targets=np.concatenate(chosen),
        names=subject.names,
        probabilities=np.concatenate(answers),
        images=_with_axis(images),
        layer=subject.layer,
        score=subject.score,
        signed=frozenset(x for x in maps if has_negative_values(subject.model, x)),
        boxes=_boxes(subject.model),
    )


def subject_of(
    model: keras.Model,
    images: np.ndarray,
    layer: str | None = None,
    output: str | int | None = None,
    names: Sequence[str] | None = None,
) -> Subject:
    """Returns a network as the methods take it, with checked images; see `explain`."""
    pictures = _with_axis(images).astype(np.float32)
    if not np.isfinite(pictures).all():
        raise UserError("`images` must be finite numbers. Received: NaN or infinity")
    if not model.built:
        model(pictures[:1])
    _require_size(model, pictures.shape)
    row = system_of(model) if isinstance(model, keras.Function) else FOREIGN
    if row is FOREIGN or layer is not None or output is not None:
        whole, layer, score = dressed(model, pictures.shape[1:], layer, output)
    else:
        whole, layer = model, row.evidence
        score = f"the scores before the probabilities {label_outputs(model)[0]!r}"
    scaling = keras.layers.Rescaling | keras.layers.Normalization
    if pictures.max() > 1.5 and not any(isinstance(x, scaling) for x in whole.layers):
        warnings.warn(
            f"images have values up to {pictures.max():g} and are given to the network as they "
            "are; scale them as in its training, often to [0, 1] by images / 255",
            stacklevel=3,
        )
    count = whole.output[label_outputs(whole)[0]].shape[-1]
    names = names or getattr(model, "attribute_names", None) or [str(x) for x in range(count)]
    if len(names) != count or len({*names}) != count:
        raise UserError(f"`names` must be {count} different ones. Received: {len(names)}")
    return Subject(whole, pictures, tuple(names), layer, score)


def targets_of(targets: Targets, answers: np.ndarray, subject: Subject, start: int) -> np.ndarray:
    """Returns the targets (B, k) of images from `start` on, from probabilities (B, K)."""
    if targets is None:
        return answers.argmax(axis=1)[:, None]
    given = np.asarray(targets)
    if given.ndim == 2 and len(given) != len(subject.images):
        raise UserError(
            f"`targets` must be for every image, or have a row for each of the "
            f"{len(subject.images)} images. Received: {len(given)} rows"
        )
    if given.ndim > 2 or not given.size or given.dtype.kind not in "iuU":
        raise UserError(
            "`targets` must be whole numbers or names: one, a sequence, or a row an image. "
            f"Received: {given.dtype}, {given.shape}"
        )
    if given.dtype.kind == "U":
        known = [choose("targets", str(name), subject.names) for name in given.flat]
        given = np.reshape([subject.names.index(name) for name in known], given.shape)
    wrong = given[(given < 0) | (given >= answers.shape[1])]
    if len(wrong):
        raise UserError(
            f"`targets` must be from 0 to {answers.shape[1] - 1}, the classes of the network. "
            f"Received: {wrong[0]}"
        )
    rows = given[start:] if given.ndim == 2 else given.reshape(1, -1)
    return np.broadcast_to(rows[: len(answers)], (len(answers), rows.shape[1])).astype(int)


def _with_axis(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or not len(images):
        raise UserError(f"`images` must be (n, H, W, C) or (H, W, C). Received: {images.shape}")
    return images


def _require_size(model: keras.Model, shape: tuple[int, ...]) -> None:
    """Raises a UserError unless a network takes images (n, H, W, C)."""
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    expected = inputs[0].shape if inputs else shape
    sides = zip(expected[1:], shape[1:], strict=False)
    if len(expected) != 4 or any(side not in (None, own) for side, own in sides):
        sides = ", ".join("any" if x is None else str(x) for x in expected[1:])
        mend = "resize them, for instance by keras.ops.image.resize"
        if shape[1] == expected[-1] != shape[3]:
            mend = "their channels stand first: give numpy.moveaxis(images, -3, -1)"
        elif shape[3] == 1 != expected[-1]:
            mend = f"they are gray: give numpy.repeat(images, {expected[-1]}, axis=-1)"
        raise UserError(
            f"model {model.name!r} takes images of (n, {sides}). Received: {shape}; {mend}"
        )


def _boxes(model: keras.Model) -> np.ndarray | None:
    """Returns the pixels that each cell sees, (h, w, 4), where they are known."""
    try:
        field = receptive_field(model)
    except ValueError:
        return None
    boxes = [field.box(*cell) for cell in np.ndindex(*field.cells)]
    return np.reshape(boxes, (*field.cells, 4))
