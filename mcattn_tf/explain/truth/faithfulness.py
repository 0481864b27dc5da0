"""Faithfulness of maps: how the answer changes when the highest cells are removed."""

from typing import NamedTuple

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.errors import choose
from mcattn_tf.explain.methods.selection import build_selected
from mcattn_tf.explain.truth.localisation import block_means

STEPS = 16
EPSILON = 1e-7


class Faithfulness(NamedTuple):
    """Scores of P maps; every field is an array (P,).

    The score p of a pair is the probability of the attribute, or of its absence. q is that of the
    image blended with the baseline, the image's weight at a cell being the map's positive part over
    its highest value (Chattopadhay et al. 2018, who blend with black).

    Attributes:
        deletion_auc: area under the score as cells are removed, the highest first (Petsiuk et al.
            2018); lower is better.
        insertion_auc: area under the score as cells are inserted into the baseline, the highest
            first; higher is better.
        average_drop: max(0, p - q) / p; lower is better, but a constant map has 0.
        average_increase: 1 if q > p, else 0; higher is better.
        average_gain: max(0, q - p) / (1 - p) (Zhang et al. 2023); higher is better.
    """

    deletion_auc: np.ndarray
    insertion_auc: np.ndarray
    average_drop: np.ndarray
    average_increase: np.ndarray
    average_gain: np.ndarray


def _blurred(images: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:3]

    def gaussian(size: int) -> np.ndarray:
        distance = np.subtract.outer(np.arange(size), np.arange(size))
        weights = np.exp(-(distance**2) / (2 * (min(height, width) / 8) ** 2))
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    rows = np.tensordot(gaussian(height), images, (1, 1))  # (H, B, W, 3)
    return np.tensordot(gaussian(width), rows, (1, 2)).transpose(2, 1, 0, 3)


# Replacements of removed cells: the image blurred until no part of a face is left (standard
# deviation an eighth of its shorter side), its mean colour, or black.
BASELINES = {
    "blur": _blurred,
    "mean": lambda images: np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape),
    "zero": np.zeros_like,
}


def removal_order(maps: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Ranks the cells of a grid (h, w) by maps (P, h', w'): 0 for the highest cell, h w - 1 last.

    A finer map is averaged over each cell, so that all methods remove the same pieces. Equal cells
    have random order.
    """
    cells = block_means(maps, grid).reshape(len(maps), -1)
    shuffled = np.random.default_rng(0).permuted(
        np.broadcast_to(np.arange(cells.shape[1]), cells.shape), axis=1
    )
    falling = np.argsort(-np.take_along_axis(cells, shuffled, axis=1), axis=1, kind="stable")
    order = np.take_along_axis(shuffled, falling, axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    return ranks.reshape(-1, *grid)


def _removed(cells: int, steps: int) -> np.ndarray:
    """Returns the number of cells that are removed after 0, 1, ... `steps` steps."""
    return np.rint(np.linspace(0, cells, steps + 1)).astype(np.float32)


class CellRemoval(keras.layers.Layer):
    """Makes all pictures of a deletion and an insertion in S equal steps, on the device.

    Input: images (B, H, W, 3); baselines (B, H, W, 3); ranks (B, h, w), rank 0 is removed first;
    weights (B, h, w), in [0, 1].
    Output: (B (2 S + 1), H, W, 3): for each image S + 1 pictures of the deletion from image to
    baseline, S - 1 of the insertion between the two, and the image blended by the weights.
    """

    def __init__(self, steps: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.steps = steps

    def call(
        self, images: KerasTensor, baselines: KerasTensor, ranks: KerasTensor, weights: KerasTensor
    ) -> KerasTensor:
        """Returns the pictures."""
        height, width, colors = images.shape[1:]
        rows, columns = ranks.shape[1:]
        removed = _removed(rows * columns, self.steps)
        ranks = ranks[:, None]
        deletion = ranks >= removed[:, None, None]
        insertion = ranks < removed[1:-1, None, None]
        kept = ops.cast(ops.concatenate([deletion, insertion], axis=1), "float32")
        kept = ops.concatenate([kept, weights[:, None]], axis=1)  # (B, 2 S + 1, h, w)
        kept = ops.repeat(ops.repeat(kept, height // rows, axis=2), width // columns, axis=3)
        pictures = baselines[:, None] + kept[..., None] * (images - baselines)[:, None]
        return ops.reshape(pictures, (-1, height, width, colors))


class FaithfulnessMeter:
    """Measures maps of one output of a network with a layer `features`.

    Args:
        model: the network.
        output: name of the probabilities that the maps explain.
        grid: height and width (h, w) of the feature grid.
        baseline: `blur`, `mean` or `zero`.
        steps: number of equal steps in which cells are removed.
        batch_size: upper limit of pictures in one forward pass, at least those of one map.
    """

    def __init__(
        self,
        model: keras.Model,
        output: str,
        grid: tuple[int, int],
        baseline: str = "blur",
        steps: int = STEPS,
        batch_size: int = 128,
    ) -> None:
        self._baseline = BASELINES[choose("baseline", baseline, BASELINES)]
        self._grid, self._steps = grid, steps
        self._pairs_at_once = max(1, batch_size // (2 * steps + 1))
        image_shape = model.input.shape[1:]
        shapes = {"images": image_shape, "baselines": image_shape, "ranks": grid, "weights": grid}
        inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
        pictures = CellRemoval(steps, dtype="float32")(**inputs)
        features = keras.Model(model.input, model.get_layer("features").output)(pictures)
        inputs["attributes"] = keras.Input((), dtype="int32", name="attributes")
        attributes = ops.repeat(inputs["attributes"], 2 * steps + 1)
        answers = build_selected(model, output, probabilities=True)(
            [features, pictures, attributes]
        )
        self._answers = keras.Model(inputs, answers)

    def __call__(
        self, images: np.ndarray, attributes: np.ndarray, signs: np.ndarray, maps: np.ndarray
    ) -> Faithfulness:
        """Measures maps (P, h', w') of images (P, H, W, 3), attributes (P,) and signs (P,)."""
        cells = block_means(np.maximum(maps, 0), self._grid)
        highest = cells.max(axis=(1, 2), keepdims=True)
        weights = (cells / np.where(highest > 0, highest, 1)).astype(np.float32)
        ranks, scores = removal_order(maps, self._grid), []
        inputs = {"images": images, "ranks": ranks, "weights": weights, "attributes": attributes}
        for start in range(0, len(images), self._pairs_at_once):
            # The last pair fills up the batch: another shape would be traced again.
            members = np.minimum(np.arange(start, start + self._pairs_at_once), len(images) - 1)
            batch = {name: values[members] for name, values in inputs.items()}
            batch["baselines"] = self._baseline(batch["images"])
            answers = self._answers.predict_on_batch(batch).reshape(-1, 2 * self._steps + 1)
            scores.append(np.where(signs[members][:, None] > 0, answers, 1 - answers))
        fractions = _removed(self._grid[0] * self._grid[1], self._steps) / np.prod(self._grid)
        return _summary(np.concatenate(scores)[: len(images)].astype(np.float64), fractions)


def _summary(scores: np.ndarray, fractions: np.ndarray) -> Faithfulness:
    """Turns the scores (P, 2 S + 1) of `CellRemoval`'s pictures into measures."""
    deletion, between = scores[:, : len(fractions)], scores[:, len(fractions) : -1]
    insertion = np.concatenate([deletion[:, -1:], between, deletion[:, :1]], axis=1)
    whole, weighted = scores[:, 0], scores[:, -1]
    return Faithfulness(
        deletion_auc=np.trapezoid(deletion, fractions, axis=1),
        insertion_auc=np.trapezoid(insertion, fractions, axis=1),
        average_drop=np.maximum(whole - weighted, 0) / np.maximum(whole, EPSILON),
        average_increase=(weighted > whole).astype(np.float64),
        average_gain=np.maximum(weighted - whole, 0) / np.maximum(1 - whole, EPSILON),
    )
