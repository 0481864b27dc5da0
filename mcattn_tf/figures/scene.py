"""Input of a figure: trained networks, images and the attributes to draw."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import numpy as np

from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.atlas import Atlas
from mcattn_tf.explain.feature_space.correlation import Analysis, analyze
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.figures.panels import Heading, answers_of, headings_of
from mcattn_tf.models import is_exclusive


class Undrawable(UserError):
    """The network or the images do not allow a figure; `all` leaves such a figure out."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Images to draw.

    Attributes:
        images: (B, H, W, 3), in [0, 1]; each is drawn.
        names: names of the B images.
        labels: (B, K), 1 present, 0 absent and -1 unknown; None where none is known.
        batches: images and labels, as `analyze` takes them, for figures over many images.
        analysis: analysis made before; `batches` are then not read for one.
        read_all: function that returns batches of all test images with labels; None where images
            were given.
        atlas: atlas of the first network's channels; None where none was made.
    """

    images: np.ndarray
    names: Sequence[str]
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]]
    analysis: Analysis | None = None
    labels: np.ndarray | None = None
    read_all: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]] | None = None
    atlas: Atlas | None = None


@dataclasses.dataclass(frozen=True)
class Scene:
    """Input of every figure."""

    models: Mapping[str, keras.Model]  # figures of one network draw the first
    attributes: Sequence[str]  # names of all K attributes or classes
    pictures: Pictures
    indices: Sequence[int]  # attributes to draw
    asked: bool  # whether these attributes were asked for, rather than all
    top: int  # channels of each attribute in `masks`
    order: str  # a key of `mean_masks.ORDERS`

    @property
    def model(self) -> keras.Model:
        """First network."""
        return next(iter(self.models.values()))

    @property
    def labels(self) -> list[str]:
        """Names of the attributes to draw."""
        return [self.attributes[index] for index in self.indices]

    def headings(
        self, image: int, probabilities: np.ndarray, numbers: Sequence[str] = ()
    ) -> list[Heading]:
        """Returns the heading of each attribute to draw, in one of the images.

        Args:
            image: index of the image.
            probabilities: (K,), of all attributes.
            numbers: text below each attribute's name, of all attributes; by default `p = `.
        """
        chosen, labels = list(self.indices), self.pictures.labels
        return headings_of(
            self.labels,
            np.array(numbers or [f"p = {p:.2f}" for p in probabilities])[chosen],
            answers_of(probabilities, is_exclusive(self.model))[chosen],
            None if labels is None else labels[image, chosen],
        )

    @functools.cached_property
    def analysis(self) -> Analysis:
        """Analysis of the first network over many images, made when first asked for."""
        given = self.pictures.analysis
        return given or analyze(self.model, self.attributes, self.pictures.batches)

    @functools.cached_property
    def explainer(self) -> keras.Model:
        """Explainer of the sub-networks of all K attributes, traced once for several figures."""
        return build_explainer(self.model, range(len(self.attributes)))
