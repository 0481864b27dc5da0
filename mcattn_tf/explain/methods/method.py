"""The protocol of a method, and what methods share: the network, pairs and their maps."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Self, TypeVar

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.explain.methods.selection import features_of
from mcattn_tf.models import label_outputs

GRADIENT_PAIRS = 64  # pairs whose gradients are computed together
NOTHING = MappingProxyType({})
Part = TypeVar("Part")


class Pairs(NamedTuple):
    """P pairs of an image and an attribute to explain.

    Attributes:
        images: (P,), rows of a batch of images.
        attributes: (P,), indices of attributes.
        signs: (P,), 1 to explain the presence of the attribute, -1 to explain its absence.
    """

    images: np.ndarray
    attributes: np.ndarray
    signs: np.ndarray

    def take(self, selection: slice | np.ndarray) -> "Pairs":
        """Returns some of the pairs, by a slice, a mask or indices (of one dimension)."""
        return Pairs(*(values[selection] for values in self))

    @classmethod
    def product(cls, images: int, attributes: Sequence[int]) -> "Pairs":
        """Returns all pairs of `images` images and these attributes, image by image."""
        rows = np.repeat(np.arange(images), len(attributes))
        return cls(rows, np.tile(attributes, images), np.ones(len(rows), int))


class Network:
    """A network and the parts that its methods share.

    Args:
        model: a network with a convolution, without models inside of it.
        seed: seed of the random maps.

    Attributes:
        model: the network.
        output: name of its first probabilities.
        features: grid of features, (B, h, w, C).
        grid: its height and width (h, w).
        random: generator of the random maps.
    """

    def __init__(self, model: keras.Model, seed: int = 0) -> None:
        self.model = model
        self.output = label_outputs(model)[0]
        self.features = features_of(model)
        self.grid = tuple(self.features.shape[1:3])
        self.random = np.random.default_rng(seed)
        self._parts: dict[type, object] = {}

    def share(self, kind: type[Part]) -> Part:
        """Returns the one instance of a class, made of this network when first asked for."""
        if kind not in self._parts:
            self._parts[kind] = kind(self)
        return self._parts[kind]


class Batch:
    """Images, what the shared forward pass gave for them, and the pairs to explain.

    Args:
        images: (B, H, W, 3), in [0, 1].
        outputs: {name: (B, ...)}.
        pairs: P pairs.
    """

    def __init__(self, images: np.ndarray, outputs: Mapping[str, np.ndarray], pairs: Pairs) -> None:
        self.images, self.outputs, self.pairs = images, outputs, pairs
        self.size = images.shape[1:3]
        self._values: dict[Callable, np.ndarray] = {}

    def once(self, compute: Callable[[Self], np.ndarray]) -> np.ndarray:
        """Returns what a function makes of this batch, computed once however often it is asked."""
        if compute not in self._values:
            self._values[compute] = compute(self)
        return self._values[compute]

    def columns(self, name: str) -> np.ndarray:
        """Returns the map of each pair, (P, h, w), from an output (B, h, w, K) or (B, h, w, 1)."""
        values = self.outputs[name]
        columns = self.pairs.attributes if values.shape[-1] > 1 else 0
        return values[self.pairs.images, :, :, columns]


class Method:
    """A way to explain a network; a row of `METHODS` names the subclass.

    Args:
        network: what is explained.

    Attributes:
        output: the probabilities that the method explains; None for those that its row names.
        outputs: {name: tensor}, what `maps` needs of the shared forward pass.
        means: {name: tensor}, what `adapt` needs as a mean over images.
    """

    output: str | None = None
    outputs: Mapping[str, KerasTensor] = NOTHING
    means: Mapping[str, KerasTensor] = NOTHING

    def __init__(self, network: Network) -> None:
        """Does nothing: some methods need no part of the network."""

    @classmethod
    def explains(cls, model: keras.Model) -> bool:
        """Tells whether the method can explain a model that has the parts in its row."""
        return True

    @classmethod
    def may_be_negative(cls, model: keras.Model) -> bool:
        """Tells whether maps without a sign have negative values, too."""
        return False

    @classmethod
    def served(cls, model: keras.Model) -> Mapping[str, KerasTensor]:
        """Returns the outputs that the endpoint `explain` serves."""
        return cls(Network(model)).outputs

    def adapt(self, means: Mapping[str, np.ndarray]) -> None:
        """Takes the means over images of the tensors in `means`, float64."""

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps of a batch's pairs, (P, h, w) or (P, H, W).

        Maps of a method that its row calls signed explain presence, whatever the pair's sign.
        """
        raise NotImplementedError

    def visual_maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps as table 8 of the GCM paper averages them, also (P, H, W, 3)."""
        return batch.once(self.maps)


class OutputMethod(Method):
    """A method whose maps are the columns of one output, the only one of `outputs`."""

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, h, w)."""
        [name] = self.outputs
        return batch.columns(name)


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
