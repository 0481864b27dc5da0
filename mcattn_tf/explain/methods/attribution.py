"""Maps of every method for chosen pairs of image and attribute."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.errors import UserError, choose
from mcattn_tf.explain.methods import gradients
from mcattn_tf.explain.methods.class_activation import ClassActivation, pooled_classifier
from mcattn_tf.explain.methods.contributions import build_explainer, top_channels
from mcattn_tf.explain.methods.selection import features_of, inlined
from mcattn_tf.explain.methods.subnetwork_maps import SubnetworkMaps
from mcattn_tf.explain.truth.localisation import center_map
from mcattn_tf.models import label_outputs

TOP_CHANNELS = 3
GRADIENT_PAIRS = 64  # that a gradient is taken of at a time


class Pairs(NamedTuple):
    """What is to be explained: P pairs of an image and one of its attributes.

    Attributes:
        images: (P,), rows of a batch of images.
        attributes: (P,), indices of attributes.
        signs: (P,), 1 for the evidence that the attribute is there, -1 that it is not.
    """

    images: np.ndarray
    attributes: np.ndarray
    signs: np.ndarray

    def take(self, chosen: slice | np.ndarray) -> "Pairs":
        """Returns some of the pairs, chosen by a slice, a mask or indices (of one dimension)."""
        return Pairs(*(values[chosen] for values in self))

    @classmethod
    def product(cls, images: int, attributes: Sequence[int]) -> "Pairs":
        """Returns every one of some attributes of each of so many images, image by image."""
        rows = np.repeat(np.arange(images), len(attributes))
        return cls(rows, np.tile(attributes, images), np.ones(len(rows), int))


class Method(NamedTuple):
    """A way to explain.

    Attributes:
        output: the probabilities it explains; None for the model's first ones, and for CAM for
            those that are made of averaged features.
        layer: that a model must have for it; None for a convolution.
        signed: negative values speak against the attribute, so that the map of its absence is the
            same with the other sign. Guided methods have a map of their own for each.
    """

    output: str | None
    layer: str | None
    signed: bool


# The first that a model has is what is drawn by default.
METHODS: dict[str, Method] = {
    "contributions": Method("attributes", "masked_pooling", True),
    "centered_contributions": Method("attributes", "masked_pooling", True),
    "mask_mean": Method("attributes", "masked_pooling", False),
    "top_channel_masks": Method("attributes", "masked_pooling", False),
    "contribution_maps": Method("probabilities", "weight_maps", True),
    "weight_maps": Method("probabilities", "weight_maps", True),
    "attention_map": Method("perception", "attention_map", False),
    "cam": Method(None, None, True),
    "grad_cam": Method(None, None, True),
    "guided_backprop": Method(None, None, False),
    "guided_grad_cam": Method(None, None, False),
    "random": Method(None, None, False),
    "center": Method(None, None, False),
}
# Of those that need the gradient at the features, and at the image.
GRADIENTS = {
    "grad_cam": {"grad_cam", "guided_grad_cam"},
    "guided": {"guided_backprop", "guided_grad_cam"},
}


def methods_of(model: keras.Model) -> tuple[str, ...]:
    """Returns the names of the methods that explain a model, the default one first."""
    model = inlined(model)
    names = {None, *(layer.name for layer in model.layers)}
    found = [name for name, method in METHODS.items() if method.layer in names]
    return tuple(name for name in found if name != "cam" or pooled_classifier(model))


def has_negative_values(model: keras.Model, method: str) -> bool:
    """Tells whether maps may be negative, and are drawn in two colours.

    Beside the signed ones those are the attention maps of a network with `map_activation` linear,
    where it turns features round: that speaks neither for nor against an attribute.

    Args:
        model: the network that is explained.
        method: a key of `METHODS`.
    """
    if method != "attention_map":
        return METHODS[method].signed
    return model.get_layer("attention_map").activation is keras.activations.linear


def _mean_over_colors(weight_maps: KerasTensor, images: KerasTensor) -> KerasTensor:
    """Returns GCM's contribution maps, averaged over colours, (B, H, W, N)."""
    return weight_maps * ops.mean(images, axis=-1, keepdims=True)


class Attributor:
    """Explains one model by several methods, with one pass for what they share.

    Args:
        model: a network with a convolution.
        methods: names out of `methods_of(model)`; None for all of them.
        seed: of the random maps.

    Attributes:
        methods: names of the methods.
        model: the network, without models inside of it.
        grid: height and width (h, w) of the feature grid.
        output: name of the model's first probabilities, by which attributes are present or absent.

    Raises:
        UserError: for a method that does not explain this model, a model without a convolution,
            or guided backpropagation where it is not possible.
    """

    def __init__(
        self, model: keras.Model, methods: Sequence[str] | None = None, seed: int = 0
    ) -> None:
        self.model = model = inlined(model)
        possible = methods_of(model)
        self.methods = tuple(
            choose("methods", name, possible) for name in (possible if methods is None else methods)
        )
        self._random = np.random.default_rng(seed)
        features = features_of(model)
        self.grid = tuple(features.shape[1:3])
        self._subnetworks = None
        self.output = label_outputs(model)[0]
        self._classifier = pooled_classifier(model)
        outputs = {"probabilities": model.output[self.output]}
        # What nobody asked for is not computed.
        wanted = {name.removeprefix("centered_") for name in self.methods}
        if any(METHODS[name].layer == "masked_pooling" for name in self.methods):
            self._subnetworks = SubnetworkMaps(model, name="subnetwork_maps")
            maps = self._subnetworks(features)
            outputs |= {name: values for name, values in maps.items() if name in wanted}
        if "weight_maps" in wanted:
            outputs["weight_maps"] = model.get_layer("weight_maps").output
        if "attention_map" in wanted:
            outputs["attention_map"] = model.output["attention_map"]
        if "contribution_maps" in wanted:
            weight_maps = model.get_layer("weight_maps").output
            outputs["contribution_maps"] = _mean_over_colors(weight_maps, model.input)
        if GRADIENTS["grad_cam"] & wanted:
            outputs["features"] = features
        if "cam" in self.methods:
            outputs["cam"] = ClassActivation(self._classifier[1], name="cam")(features)
        self._forward = keras.Model(model.input, outputs)
        self._reference = None
        if {"centered_contributions", "top_channel_masks"} & set(self.methods):
            channels = build_explainer(model, range(maps["contributions"].shape[-1]))
            self._reference = keras.Model(
                model.input,
                {
                    "contributions": maps["contributions"],
                    "channel_contributions": channels(model.input)["channel_contributions"],
                },
            )
        self._mean_contributions = np.float32(0)
        self._gradients: dict[str, Callable] = {}
        if GRADIENTS["grad_cam"] & wanted:
            self._gradients["grad_cam"] = gradients.grad_cam(model, self.output)
        if GRADIENTS["guided"] & wanted:
            self._gradients["guided"] = gradients.guided_gradients(model, self.output)

    def output_of(self, method: str) -> str:
        """Returns the name of the model's output that a method explains."""
        return self._classifier[0] if method == "cam" else METHODS[method].output or self.output

    def adapt(self, batches: Iterable[np.ndarray]) -> None:
        """Takes what some methods need from images: mean contributions and top channels.

        Args:
            batches: of images, (B, H, W, 3) in [0, 1].
        """
        if self._reference is None:
            return
        importance, contributions, seen = 0.0, 0.0, 0
        for images in batches:
            outputs = self._reference.predict_on_batch(images)
            channels = np.abs(outputs["channel_contributions"])
            importance = importance + channels.sum(axis=0, dtype=np.float64)
            contributions = contributions + outputs["contributions"].sum(axis=0, dtype=np.float64)
            seen += len(images)
        self._subnetworks.select([top_channels(row, TOP_CHANNELS) for row in importance])
        self._mean_contributions = (contributions / seen).astype(np.float32)

    def forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the network once.

        Args:
            images: (B, H, W, 3), in [0, 1].

        Returns:
            What `maps` needs; among it `probabilities` (B, K), the model's first output.
        """
        return self._forward.predict_on_batch(images)

    def maps(
        self, images: np.ndarray, outputs: dict[str, np.ndarray], pairs: Pairs
    ) -> dict[str, np.ndarray]:
        """Explains pairs of images and attributes.

        Args:
            images: (B, H, W, 3), in [0, 1].
            outputs: as `forward` returns them for these images.
            pairs: P of them.

        Returns:
            {method: maps}, (P, h, w) on the feature grid, (P, H, W) in pixels or anything between
            of which h divides H and w divides W. The higher, the more a place speaks for what the
            pair's sign asks for; maps that have no sign are the same for both.
        """
        outputs = dict(outputs)
        if "contributions" in outputs:
            centered = outputs["contributions"] - self._mean_contributions
            outputs["centered_contributions"] = centered
        maps = {}
        for name in self.methods:
            if name in outputs:
                # ABN has one map for all classes, or one for each.
                columns = pairs.attributes if outputs[name].shape[-1] > 1 else 0
                values = outputs[name][pairs.images, :, :, columns]
                signs = pairs.signs[:, None, None] if METHODS[name].signed else 1
                maps[name] = values * np.asarray(signs, np.float32)
        if self._gradients:
            maps |= self._gradient_maps(images, outputs.get("features"), pairs)
        if "random" in self.methods:
            maps["random"] = self._random.random((len(pairs.images), *self.grid), np.float32)
        if "center" in self.methods:
            center = center_map(self.grid).astype(np.float32)
            maps["center"] = np.broadcast_to(center, (len(pairs.images), *self.grid))
        for name, values in maps.items():
            if not np.all(np.isfinite(values)):
                raise UserError(
                    f"the map of {name} is not a number somewhere; is the network sound?"
                )
        return {name: on_whole_pixels(maps[name], images.shape[1:3]) for name in self.methods}

    def _gradient_maps(
        self, images: np.ndarray, features: np.ndarray | None, pairs: Pairs
    ) -> dict[str, np.ndarray]:
        signed = pairs.attributes.astype(np.int32), pairs.signs.astype(np.float32)
        maps = {}
        if "grad_cam" in self._gradients:
            maps["grad_cam"] = self._grad_cam(images, features, pairs.images, signed)
        if "guided" in self._gradients:
            maps["guided_backprop"] = self._guided_backprop(images, pairs.images, signed)
        if len(maps) == 2:
            positive = enlarged(np.maximum(maps["grad_cam"], 0), images.shape[1:3])
            maps["guided_grad_cam"] = positive * maps["guided_backprop"]
        return {name: values for name, values in maps.items() if name in self.methods}

    def _grad_cam(
        self,
        images: np.ndarray,
        features: np.ndarray,
        rows: np.ndarray,
        signed: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray:
        maps = []
        for start in range(0, len(rows), GRADIENT_PAIRS):
            chosen = slice(start, start + GRADIENT_PAIRS)
            # Of a network in mixed precision they are in another.
            inputs = features[rows[chosen]].astype(np.float32), images[rows[chosen]]
            arguments = (*inputs, *(values[chosen] for values in signed))
            maps.append(self._gradients["grad_cam"](*arguments))
        return np.concatenate(maps)

    def _guided_backprop(
        self, images: np.ndarray, rows: np.ndarray, signed: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        maps = np.empty((len(rows), *images.shape[1:3]), np.float32)
        for chosen in _rectangles(rows):
            arguments = images[rows[chosen[:, 0]]], *(values[chosen] for values in signed)
            maps[chosen] = np.abs(self._gradients["guided"](*arguments)).sum(axis=-1)
        return maps


def _rectangles(images: np.ndarray) -> Iterator[np.ndarray]:
    """Groups pairs by image, images with as many pairs together.

    Args:
        images: (P,), the image of each pair.

    Yields:
        Indices of pairs, (B, T): T of each of B images, no more than `GRADIENT_PAIRS` together.
    """
    order = np.argsort(images, kind="stable")
    _, starts, counts = np.unique(images[order], return_index=True, return_counts=True)
    for count in np.unique(counts):
        rectangle = order[starts[counts == count][:, None] + np.arange(count)]
        step = max(1, GRADIENT_PAIRS // count)
        for row in range(0, len(rectangle), step):
            for column in range(0, count, GRADIENT_PAIRS):
                yield rectangle[row : row + step, column : column + GRADIENT_PAIRS]


def on_whole_pixels(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns maps (P, h, w) as they are, or in pixels where a cell is no whole number of them."""
    whole = all(pixels % cells == 0 for pixels, cells in zip(size, maps.shape[1:], strict=True))
    return maps if whole else enlarged(maps, size)


def enlarged(
    maps: np.ndarray, size: tuple[int, int], interpolation: str = "bilinear"
) -> np.ndarray:
    """Returns maps (P, h, w) at a larger size (P, H, W)."""
    resized = ops.image.resize(maps[..., None], size, interpolation)
    return ops.convert_to_numpy(resized)[..., 0]
