"""Whether a map names what the network's answer rests on: take it away and ask again."""

from typing import NamedTuple

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.errors import choose
from mcattn_tf.explain.methods.selection import build_selected_probabilities
from mcattn_tf.explain.truth.localisation import block_means

STEPS = 16
EPSILON = 1e-7
MAP_SHARE, IMAGE_SHARE = 0.7, 0.2  # of the weighted sum


def _jet_means() -> np.ndarray:
    """Returns the mean of red, green and blue of each of the 256 jet colours."""
    distances = np.abs(4 * np.linspace(0, 1, 256)[:, None] - [3, 2, 1])
    return np.clip(1.5 - distances, 0, 1).mean(axis=1)


JET_MEANS = _jet_means()


class Faithfulness(NamedTuple):
    """Scores of P maps; every field is an array (P,).

    The score of a pair is the probability p of the answer that is explained: of the attribute, or
    of its absence.

    Attributes:
        deletion_auc: area under the score as cells are taken away, the highest first (Petsiuk et
            al. 2018); the lower, the better.
        insertion_auc: area under the score as cells are put back into the baseline, the highest
            first; the higher, the better.
        average_drop: max(0, p - q) / p, where q is the score of the image blended with the
            baseline, the image's weight at a cell being the map's positive part over its highest
            value (Chattopadhay et al. 2018, who blend with black); the lower, the better. A map
            that is the same everywhere has 0, so it says nothing alone.
        average_increase: 1 where q > p, else 0; the higher, the better.
        average_gain: max(0, q - p) / (1 - p) (Zhang et al. 2023); the higher, the better.
    """

    deletion_auc: np.ndarray
    insertion_auc: np.ndarray
    average_drop: np.ndarray
    average_increase: np.ndarray
    average_gain: np.ndarray


def _gaussian(size: int, width: float) -> np.ndarray:
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    weights = np.exp(-(distance**2) / (2 * width**2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _blurred(images: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:3]
    deviation = min(height, width) / 8
    rows = np.tensordot(_gaussian(height, deviation), images, (1, 1))  # (H, B, W, 3)
    columns = np.tensordot(_gaussian(width, deviation), rows, (1, 2))  # (W, H, B, 3)
    return columns.transpose(2, 1, 0, 3)


# What stands where something was taken away: the picture blurred so far that no part of a face is
# left (standard deviation an eighth of its shorter side), its mean colour, or black.
BASELINES = {
    "blur": _blurred,
    "mean": lambda images: np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape),
    "zero": np.zeros_like,
}


def removal_order(maps: np.ndarray, grid: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Ranks the cells of the feature grid by the height of a map.

    Args:
        maps: (P, h', w'), on the grid or finer; a finer map's values are averaged over each cell,
            so that all methods take away the same pieces.
        grid: height and width (h, w).
        seed: of the order among equal cells.

    Returns:
        (P, h, w), integers: 0 for the highest cell, h w - 1 for the lowest.
    """
    cells = block_means(maps, grid).reshape(len(maps), -1)
    shuffled = np.random.default_rng(seed).permuted(
        np.broadcast_to(np.arange(cells.shape[1]), cells.shape), axis=1
    )
    falling = np.argsort(-np.take_along_axis(cells, shuffled, axis=1), axis=1, kind="stable")
    order = np.take_along_axis(shuffled, falling, axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    return ranks.reshape(-1, *grid)


def _removed(cells: int, steps: int) -> np.ndarray:
    """Returns how many cells are gone after 0, 1, ... `steps` steps."""
    return np.rint(np.linspace(0, cells, steps + 1)).astype(np.float32)


class CellRemoval(keras.layers.Layer):
    """Makes all pictures of a deletion and an insertion, on the device.

    Args:
        steps: S, in how many equal steps the cells are taken away.

    Input: images (B, H, W, 3); baselines (B, H, W, 3); ranks (B, h, w), the cell of rank 0 goes
    first; weights (B, h, w), in [0, 1].
    Output: (B (2 S + 1), H, W, 3): for each image S + 1 of the deletion from the whole picture to
    the baseline, S - 1 of the insertion between the two, and the picture blended by the weights.
    """

    def __init__(self, steps: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.steps = steps

    def call(
        self, images: KerasTensor, baselines: KerasTensor, ranks: KerasTensor, weights: KerasTensor
    ) -> KerasTensor:
        """Returns the pictures."""
        _, height, width, _ = images.shape
        rows, columns = ranks.shape[1:]
        removed = _removed(rows * columns, self.steps)
        ranks = ranks[:, None]
        deletion = ranks >= removed[:, None, None]
        insertion = ranks < removed[1:-1, None, None]
        kept = ops.cast(ops.concatenate([deletion, insertion], axis=1), "float32")
        kept = ops.concatenate([kept, weights[:, None]], axis=1)  # (B, 2 S + 1, h, w)
        kept = ops.repeat(ops.repeat(kept, height // rows, axis=2), width // columns, axis=3)
        pictures = baselines[:, None] + kept[..., None] * (images - baselines)[:, None]
        return ops.reshape(pictures, (-1, height, width, 3))


class FaithfulnessMeter:
    """Measures maps of one output of one model.

    Args:
        model: a network with a layer `features`.
        output: whose probabilities the maps explain.
        grid: height and width (h, w) of the feature grid.
        baseline: `blur`, `mean` or `zero`.
        steps: in how many equal steps the cells are taken away.
        batch_size: pictures that the model is asked about at a time, about.

    Raises:
        UserError: for an unknown baseline.
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
        answers = build_selected_probabilities(model, output)([features, pictures, attributes])
        self._answers = keras.Model(inputs, answers)

    def __call__(
        self, images: np.ndarray, attributes: np.ndarray, signs: np.ndarray, maps: np.ndarray
    ) -> Faithfulness:
        """Measures P maps.

        Args:
            images: (P, H, W, 3), in [0, 1].
            attributes: (P,), indices.
            signs: (P,), 1 if the presence of the attribute is explained, -1 if its absence.
            maps: (P, h', w'), on the feature grid or finer; the higher, the more a place speaks
                for what the sign asks for.

        Returns:
            The scores of each map.
        """
        ranks = removal_order(maps, self._grid)
        weights = _weights(maps, self._grid)
        scores = []
        for start in range(0, len(images), self._pairs_at_once):
            # The last repeats itself up to the full number: another shape would be traced anew.
            chosen = np.minimum(np.arange(start, start + self._pairs_at_once), len(images) - 1)
            answers = self._answers.predict_on_batch(
                {
                    "images": images[chosen],
                    "baselines": self._baseline(images[chosen]),
                    "ranks": ranks[chosen],
                    "weights": weights[chosen],
                    "attributes": attributes[chosen],
                }
            ).reshape(-1, 2 * self._steps + 1)
            scores.append(np.where(signs[chosen][:, None] > 0, answers, 1 - answers))
        fractions = _removed(self._grid[0] * self._grid[1], self._steps) / np.prod(self._grid)
        return _summary(np.concatenate(scores)[: len(images)].astype(np.float64), fractions)


def _weights(maps: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Returns the positive part of each map over its highest cell, (P, h, w) in [0, 1]."""
    cells = block_means(np.maximum(maps, 0), grid)
    highest = cells.max(axis=(1, 2), keepdims=True)
    return (cells / np.where(highest > 0, highest, 1)).astype(np.float32)


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


def visual_map_means(
    maps: np.ndarray, images: np.ndarray, enlarged: np.ndarray | None, colored: bool
) -> dict[str, np.ndarray]:
    """Averages the visual maps that are made of weight maps in four ways.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), section 4.7, whose weighted sum is that of
    section 4.6 and of the demo of CAM's authors: the map, normalised, in 256 jet colours, plus the
    image. Guided methods' maps are pictures already and are added as they are.

    Args:
        maps: weight maps of every class, (B, N, h, w), or (B, N, H, W, D) with a weight a colour.
        images: (B, H, W, D), in [0, 1].
        enlarged: the maps at the images' size; None if they have it already.
        colored: whether the weighted sum is of colours.

    Returns:
        {way: (B, N)} for `map`, the map as it is; `normalized`, to [0, 1] from its lowest to its
        highest value, 0 where all are equal; `weighted_sum`, 0.7 of it and 0.2 of the image;
        `product`, the map times the image.
    """
    fine = maps if enlarged is None else enlarged
    within = tuple(range(2, maps.ndim))
    means = {"map": maps.mean(axis=within), "normalized": _normalized(maps).mean(axis=within)}
    shown = means["map"]
    if colored:
        shown = JET_MEANS[np.rint(255 * _normalized(fine)).astype(int)].mean(axis=within)
    image_means = images.mean(axis=(1, 2, 3))[:, None]
    means["weighted_sum"] = MAP_SHARE * shown + IMAGE_SHARE * image_means
    weights = fine if fine.ndim == 5 else fine[..., None]
    means["product"] = (weights * images[:, None]).mean(axis=(2, 3, 4))
    return means


def _normalized(maps: np.ndarray) -> np.ndarray:
    within = tuple(range(2, maps.ndim))
    low, high = maps.min(axis=within, keepdims=True), maps.max(axis=within, keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def decline(accuracy: float, accuracy_of_maps: float) -> float:
    """Returns which share of its accuracy a classifier loses when its visual maps decide.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), eq. 13.
    """
    return (accuracy - accuracy_of_maps) / accuracy
