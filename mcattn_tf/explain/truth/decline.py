"""How much accuracy is lost when the class is chosen by the mean of its visual map."""

import sys
from collections.abc import Callable, Iterable

import keras
import numpy as np

from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import published
from mcattn_tf.explain.methods import gradients
from mcattn_tf.explain.methods.attribution import GRADIENT_PAIRS, Pairs, enlarged
from mcattn_tf.explain.methods.class_activation import ClassActivation, pooled_classifier
from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.explain.methods.selection import features_of, inlined
from mcattn_tf.explain.truth.faithfulness import decline, visual_map_means
from mcattn_tf.models import is_exclusive
from mcattn_tf.tables import Column, lay_out

WAYS = {
    "map": "map itself",
    "normalized": "normalized",
    "weighted_sum": "weighted sum",
    "product": "product",
}
BATCH_SIZE = 64
COLORED = ("cam", "grad_cam", "gcm")  # in the weighted sum


class _MappingMaps:
    """The weight maps of GCM for images, with the probabilities."""

    def __init__(self, model: keras.Model) -> None:
        outputs = build_map_explainer(model).output
        wanted = ("probabilities", "weight_maps")
        self._forward = keras.Model(model.input, {name: outputs[name] for name in wanted})

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        outputs = self._forward.predict_on_batch(images)
        return outputs["probabilities"], {"gcm": np.moveaxis(outputs["weight_maps"], -1, 1)}


class _ClassifierMaps:
    """The maps that guided methods, CAM and Grad-CAM make of a classifier of averages."""

    def __init__(self, model: keras.Model) -> None:
        output, dense = pooled_classifier(model)
        features = features_of(model)
        outputs = {
            "probabilities": model.output[output],
            "features": features,
            "cam": ClassActivation(dense, name="cam")(features),
        }
        self._forward = keras.Model(model.input, outputs)
        self._grad_cam = gradients.grad_cam(model, output)
        self._guided = gradients.guided_gradients(model, output)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        outputs = self._forward.predict_on_batch(images)
        count, classes = outputs["probabilities"].shape
        pairs = Pairs.product(count, range(classes))
        attributes, signs = pairs.attributes.astype(np.int32), pairs.signs.astype(np.float32)
        step, grad_cam, guided = max(1, GRADIENT_PAIRS // classes), [], []
        for start in range(0, count, step):
            few = images[start : start + step]
            chosen = slice(start * classes, (start + step) * classes)
            rows, signed = pairs.images[chosen], (attributes[chosen], signs[chosen])
            grad_cam.append(self._grad_cam(outputs["features"][rows], images[rows], *signed))
            of_each = (values.reshape(len(few), classes) for values in signed)
            guided.append(self._guided(few, *of_each).reshape(-1, *images.shape[1:]))
        grad_cam, guided = np.maximum(np.concatenate(grad_cam), 0), np.concatenate(guided)
        weights = enlarged(grad_cam, images.shape[1:3])
        maps = {
            "guided_backprop": guided,
            "guided_grad_cam": guided * weights[..., None],
            "cam": np.moveaxis(outputs["cam"], -1, 1).reshape(-1, *grad_cam.shape[1:]),
            "grad_cam": grad_cam,
        }
        maps = {
            name: values.reshape(count, classes, *values.shape[1:]) for name, values in maps.items()
        }
        return outputs["probabilities"], maps


Maps = Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]


def maps_of(model: keras.Model) -> Maps:
    """Prepares the maps of a network that table 8 has a row for.

    Args:
        model: GCM, or a network whose classes are a dense layer of averaged features, such as
            `cnn`; in float32.

    Returns:
        A function of images (B, H, W, 3) in [0, 1] to probabilities (B, N) and {method: weight
        maps of every class, (B, N, h, w) or (B, N, H, W, 3)}; GCM has the method `gcm`, others
        `guided_backprop`, `guided_grad_cam`, `cam` and `grad_cam`.

    Raises:
        UserError: if the network's labels do not exclude each other, or it is neither.
    """
    model = inlined(model)
    if not is_exclusive(model):
        raise UserError(
            f"the decline is measured by the class that an image belongs to, and the labels of "
            f"model {model.name!r} do not exclude each other; train one on classes, such as those "
            "of --dataset cifar10"
        )
    if "weight_maps" in {layer.name for layer in model.layers}:
        return _MappingMaps(model)
    if pooled_classifier(model) is None:
        raise UserError(
            f"model {model.name!r} has no CAM to compare: its classes are not one dense layer of "
            "features averaged over positions"
        )
    return _ClassifierMaps(model)


def measure_decline(
    maps_of_model: Maps, batches: Iterable[tuple[np.ndarray, np.ndarray]], count: int
) -> dict:
    """Compares the classes that a network answers with those that its visual maps name.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), section 4.7 and table 8.

    Args:
        maps_of_model: as `maps_of` makes it.
        batches: images (B, H, W, 3) in [0, 1] and labels (B, N), one of them 1.
        count: of all images, for the progress bar.

    Returns:
        {"images": their number, "accuracy": of the classifier, "methods": {method: {way:
        {"accuracy": where the class with the highest mean of its visual map is chosen, "decline":
        share of the classifier's accuracy that is lost}}}}.

    Raises:
        UserError: if the network answers no image right.
    """
    seen = right = 0
    hits: dict[str, dict[str, int]] = {}
    progress = keras.utils.Progbar(count, verbose=1 if sys.stdout.isatty() else 0)
    for images, labels in batches:
        classes = labels.argmax(axis=1)
        probabilities, maps = maps_of_model(images)
        right += int(np.sum(probabilities.argmax(axis=1) == classes))
        for method, values in maps.items():
            of_method = hits.setdefault(method, dict.fromkeys(WAYS, 0))
            for way, means in _means(method, values, images).items():
                of_method[way] += int(np.sum(means.argmax(axis=1) == classes))
        seen += len(images)
        progress.update(seen)

    if not right:
        raise UserError(
            f"the network answers none of {seen} images right: there is no accuracy to lose; train "
            "it longer"
        )

    def row(count: int) -> dict[str, float]:
        return {"accuracy": count / seen, "decline": decline(right / seen, count / seen)}

    methods = {name: {way: row(n) for way, n in ways.items()} for name, ways in hits.items()}
    return {"images": seen, "accuracy": right / seen, "methods": methods}


def _means(method: str, maps: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
    size, finer = images.shape[1:3], None
    if maps.shape[2:4] != size:
        flat = enlarged(maps.reshape(-1, *maps.shape[2:]), size, "bicubic")
        finer = flat.reshape(*maps.shape[:2], *size)
    return visual_map_means(maps, images, finer, method in COLORED)


def format_decline(results: dict[str, dict]) -> str:
    """Returns declines as text, in the form of table 8, each above the published figures.

    Args:
        results: {name of the run: as `measure_decline` returns it}.
    """
    names, classifier = [], []
    cells: dict[str, list[str]] = {way: [] for way in WAYS}
    for run, result in results.items():
        for method, ways in result["methods"].items():
            names += [f"{method}, {run}", "  published"]
            printed, table = published.DECLINE[method]
            classifier += [f"{100 * result['accuracy']:.2f}", f"{printed:.2f}"]
            for way, values in ways.items():
                measured = 100 * values["accuracy"], 100 * values["decline"]
                cells[way] += ["{:.2f} ({:.2f})".format(*pair) for pair in (measured, table[way])]
    columns = [Column("", "classifier", classifier)]
    columns += [Column("", heading, cells[way]) for way, heading in WAYS.items()]
    images = sorted({result["images"] for result in results.values()})
    note = (
        f"accuracy on {' and '.join(map(str, images))} images, in %, where the class is chosen by "
        "the mean of its visual map; in brackets the decline from the classifier's, in %. "
        "Published: on CIFAR-10, all 45,000 training images, 180 epochs"
    )
    return "\n".join([*lay_out(names, columns), note])
