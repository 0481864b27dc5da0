"""Protocol of an explanation method, and what methods share: network, pairs and maps."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Self, TypeVar

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.explain.methods.selection import features_of
from mcattn_tf.models import label_outputs

GRADIENT_PAIRS = 64  # pairs in one gradient computation
Part = TypeVar("Part")


class Pairs(NamedTuple):
    """P pairs of an image and an attribute to explain; every field is an array (P,)."""

    images: np.ndarray  # rows of a batch of images
    attributes: np.ndarray  # indices of attributes
    signs: np.ndarray  # 1 to explain presence of the attribute, -1 to explain its absence

    def take(self, selection: slice | np.ndarray) -> "Pairs":
        """Returns the pairs in a slice, a mask or indices."""
        return Pairs(*(values[selection] for values in self))

    @classmethod
    def product(cls, images: int, attributes: Sequence[int]) -> "Pairs":
        """Returns all pairs of `images` images and these attributes, image by image."""
        rows = np.repeat(np.arange(images), len(attributes))
        return cls(rows, np.tile(attributes, images), np.ones(len(rows), int))


class Network:
    """A network without nested models, and the parts that its methods share."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.output = label_outputs(model)[0]
        self.features = features_of(model)  # (B, h, w, C)
        self.grid = tuple(self.features.shape[1:3])
        self.random = np.random.default_rng(0)  # of the random maps
        self._parts: dict[type, object] = {}

    def share(self, kind: type[Part]) -> Part:
        """Returns the instance of a class that all methods share."""
        if kind not in self._parts:
            self._parts[kind] = kind(self)
        return self._parts[kind]


class Batch:
    """Images (B, H, W, 3), outputs {name: (B, ...)} of the shared pass, and pairs to explain."""

    def __init__(self, images: np.ndarray, outputs: Mapping[str, np.ndarray], pairs: Pairs) -> None:
        self.images, self.outputs, self.pairs = images, outputs, pairs
        self.size = images.shape[1:3]
        self._values: dict[Callable, np.ndarray] = {}

    def once(self, compute: Callable[[Self], np.ndarray]) -> np.ndarray:
        """Returns the value of a function of this batch, computed at the first call only."""
        if compute not in self._values:
            self._values[compute] = compute(self)
        return self._values[compute]

    def columns(self, name: str) -> np.ndarray:
        """Returns the map of each pair, (P, h, w), from an output (B, h, w, K) or (B, h, w, 1)."""
        values = self.outputs[name]
        columns = self.pairs.attributes if values.shape[-1] > 1 else 0
        return values[self.pairs.images, :, :, columns]


class Method:
    """An explanation method; its row of `METHODS` names the subclass, which takes a `Network`.

    Attributes:
        output: name of the probabilities that the method explains; None for those of its row.
        threshold: value above which a cell is marked; None for the middle of a map's range.
        outputs: {name: tensor}, outputs of the shared forward pass that `maps` needs.
        means: {name: tensor}, tensors whose means over images `adapt` needs.
        needs_gradients: whether it works on Keras' TensorFlow backend alone.
    """

    output: str | None = None
    threshold: float | None = None
    outputs: Mapping[str, KerasTensor] = MappingProxyType({})
    means: Mapping[str, KerasTensor] = MappingProxyType({})
    needs_gradients: bool = False

    @classmethod
    def explains(cls, model: keras.Model) -> bool:
        """Returns whether the method can explain a model that has the parts in its row."""
        return True

    @classmethod
    def may_be_negative(cls, model: keras.Model) -> bool:
        """Returns whether maps of an unsigned method may be negative."""
        return False

    @classmethod
    def served(cls, network: Network) -> Mapping[str, KerasTensor]:
        """Returns the outputs that the endpoint `explain` serves."""
        return network.share(cls).outputs

    def adapt(self, means: Mapping[str, np.ndarray]) -> None:
        """Sets the means over images of the tensors in `means`, float64."""

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps of all pairs, (P, h, w) or (P, H, W); of presence for signed methods."""
        raise NotImplementedError

    def visual_maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps as table 8 of the GCM paper averages them, also (P, H, W, 3)."""
        return batch.once(self.maps)


class OutputMethod(Method):
    """A method with a single output; its maps are the columns of that."""

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, h, w)."""
        [name] = self.outputs
        return batch.columns(name)


def on_whole_pixels(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns maps (P, h, w), enlarged to pixels if (h, w) does not divide the size (H, W)."""
    whole = all(pixels % cells == 0 for pixels, cells in zip(size, maps.shape[1:], strict=True))
    return maps if whole else enlarged(maps, size)


def enlarged(maps: np.ndarray, size: tuple[int, int], method: str = "bilinear") -> np.ndarray:
    """Returns maps (P, h, w) at a larger size (P, H, W)."""
    return ops.convert_to_numpy(ops.image.resize(maps[..., None], size, method))[..., 0]
