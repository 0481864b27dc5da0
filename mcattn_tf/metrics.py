"""Metrics accumulated over a data set, batch by batch."""

import math
from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.tables import listed

# Mask entries in memory, 16 MB: 8 drawn faces, or one image of CelebA.
ENTRIES_AT_ONCE = 2**22
# Masks are dead above this share of entries below `MaskStatistics.DEAD_BELOW`.
DEAD_SHARE = 0.95
# Masks are constant below this standard deviation over positions. On drawn faces untrained networks
# have 0.09 (`default`) and 0.009 (`paper`), trained ones 0.01 to 0.08.
CONSTANT_BELOW = 0.002


def confusions(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the cases of `confusion_measures`, bool (4, B, K), none where a label is unknown.

    Labels (B, K) are 1 present, 0 absent and -1 unknown; answers are bool (B, K).
    """
    present, absent = labels == 1, labels == 0
    cases = (present & predicted, absent & ~predicted, absent & predicted, present & ~predicted)
    return np.stack(cases)


def confusion_measures(
    true_positives: np.ndarray,
    true_negatives: np.ndarray,
    false_positives: np.ndarray,
    false_negatives: np.ndarray,
) -> dict[str, np.ndarray]:
    """Returns the measures of answers, from counts of their cases in any shape.

    Returns:
        {name: array of that shape}, all in [0, 1], NaN where no label is known: `accuracy`;
        `balanced_accuracy`, the mean of the accuracies on present and absent (NaN unless the data
        have both); `f1` (NaN where nothing is present or predicted); `positives`, the share of
        present labels; `majority_accuracy`, the accuracy of always answering the more common label.
    """
    positives, negatives = true_positives + false_negatives, true_negatives + false_positives
    count = positives + negatives
    with np.errstate(invalid="ignore"):
        share = positives / count
        return {
            "accuracy": (true_positives + true_negatives) / count,
            "balanced_accuracy": (true_positives / positives + true_negatives / negatives) / 2,
            "f1": 2 * true_positives / (2 * true_positives + false_positives + false_negatives),
            "positives": share,
            "majority_accuracy": np.maximum(share, 1 - share),
        }


@keras.saving.register_keras_serializable(package="mcattn_tf")
class KnownAccuracy(keras.metrics.Mean):
    """Share of right answers at 0.5 among the labels (B, K) that are known, so not below 0."""

    def update_state(
        self, y_true: KerasTensor, y_pred: KerasTensor, sample_weight: KerasTensor | None = None
    ) -> KerasTensor:
        """Adds a batch; `sample_weight` is not used."""
        right = ops.equal(y_true > 0.5, y_pred > 0.5)
        return super().update_state(right, sample_weight=y_true >= 0)


class ClassCounts:
    """Counts the confusions of N classes that exclude each other."""

    def __init__(self, class_count: int) -> None:
        self._counts = np.zeros((class_count, class_count), np.int64)

    def update(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds one-hot labels (B, N) and probabilities (B, N); the first of equal ones counts."""
        np.add.at(self._counts, (labels.argmax(axis=1), probabilities.argmax(axis=1)), 1)

    def result(self) -> dict[str, np.ndarray]:
        """Returns the measures of each class.

        Returns:
            {name: (N,)}, all in [0, 1]: `recall` (NaN for a class without images), `precision` (NaN
            for a class that is never answered), `f1`, and `positives`, the class's share of images.
        """
        right = self._counts.diagonal()
        images, answers = self._counts.sum(axis=1), self._counts.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return {
                "recall": right / images,
                "precision": right / answers,
                "f1": 2 * right / (images + answers),
                "positives": images / images.sum(),
            }

    def accuracy(self) -> dict[str, float]:
        """Returns top-1 `accuracy`, and `majority_accuracy`, that of the most common class."""
        total = self._counts.sum()
        return {
            "accuracy": float(self._counts.trace() / total),
            "majority_accuracy": float(self._counts.sum(axis=1).max() / total),
        }


class MaskStatistics:
    """Level, spread and sparseness of the masks of K attributes, in constant memory.

    The Gini index is computed from a histogram. A bin holds the float32 numbers that share exponent
    and the first 7 bits of the mantissa, so that bins of small entries are narrow. The bin's sum is
    kept, so only the inequality within a bin is lost. The index is at most `GINI_ERROR` below that
    of the sorted entries.
    """

    DEAD_BELOW = 0.05
    GINI_ERROR = 2**-9  # if all entries are at the two ends of one bin
    _BINS = (0x3F800000 >> 16) + 1  # the last is that of 1.0

    def __init__(self, attribute_count: int) -> None:
        self._images = 0
        self._entries = 0  # of one attribute
        self._sum = np.zeros(attribute_count)
        self._sum_of_squares = np.zeros(attribute_count)
        self._dead = np.zeros(attribute_count, np.int64)
        # Sums of each image's mean standard deviation.
        self._over_positions = np.zeros(attribute_count)
        self._over_channels = np.zeros(attribute_count)
        self._over_attributes = 0.0
        self._bin_counts = np.zeros((attribute_count, self._BINS), np.int64)
        self._bin_sums = np.zeros((attribute_count, self._BINS))

    def update(self, masks: np.ndarray) -> None:
        """Adds the masks (B, h, w, K, C), in [0, 1], of some images."""
        for image in np.asarray(masks, np.float32):
            self._add_image(image)

    def _add_image(self, masks: np.ndarray) -> None:
        height, width, attribute_count, channels = masks.shape
        sums = np.zeros((height * width, channels))  # over attributes
        sums_of_squares = np.zeros_like(sums)
        # Attribute by attribute: temporary arrays fit into a CPU's cache.
        for attribute in range(attribute_count):
            values = masks[:, :, attribute].reshape(-1, channels)
            # The bits of non-negative floats, read as integers, have the order of the floats.
            bins = np.minimum(values.view(np.uint32) >> 16, self._BINS - 1).ravel()
            self._bin_counts[attribute] += np.bincount(bins, minlength=self._BINS)
            self._bin_sums[attribute] += np.bincount(bins, values.ravel(), self._BINS)
            self._dead[attribute] += np.count_nonzero(values < self.DEAD_BELOW)
            values = values.astype(np.float64)
            squares = np.square(values)
            sums += values
            sums_of_squares += squares
            self._sum[attribute] += values.sum()
            self._sum_of_squares[attribute] += squares.sum()
            for axis, total in enumerate((self._over_positions, self._over_channels)):
                moments = values.sum(axis=axis), squares.sum(axis=axis)
                total[attribute] += _deviation(*moments, values.shape[axis]).mean()
        self._over_attributes += _deviation(sums, sums_of_squares, attribute_count).mean()
        self._images += 1
        self._entries += height * width * channels

    def result(self) -> dict[str, float]:
        """Returns the measures of all masks.

        Returns:
            `mask_mean` and `mask_std` of all entries; the standard deviations `mask_std_positions`
            over positions, `mask_std_channels` over channels and `mask_std_attributes` over
            attributes, from 0 to 0.5, each a mean over images and the other axes; `mask_dead`, the
            share of entries below 0.05; `mask_gini`, the Gini index (Hurley & Rickard 2009) in
            [0, 1], 0 if all entries are equal.
        """
        total = self._entries * len(self._sum)
        return {
            "mask_mean": float(self._sum.sum() / total),
            "mask_std": float(_deviation(self._sum.sum(), self._sum_of_squares.sum(), total)),
            "mask_std_positions": float(self._over_positions.mean() / self._images),
            "mask_std_channels": float(self._over_channels.mean() / self._images),
            "mask_std_attributes": float(self._over_attributes / self._images),
            "mask_dead": float(self._dead.sum() / total),
            "mask_gini": float(_gini(self._bin_counts.sum(axis=0), self._bin_sums.sum(axis=0))),
        }

    def per_attribute(self, attributes: Sequence[str]) -> dict[str, dict[str, float]]:
        """Returns {name: {measure: value}} of K attributes, without `mask_std_attributes`."""
        measures = {
            "mask_mean": self._sum / self._entries,
            "mask_std": _deviation(self._sum, self._sum_of_squares, self._entries),
            "mask_std_positions": self._over_positions / self._images,
            "mask_std_channels": self._over_channels / self._images,
            "mask_dead": self._dead / self._entries,
            "mask_gini": _gini(self._bin_counts, self._bin_sums),
        }
        return {
            attribute: {name: float(values[index]) for name, values in measures.items()}
            for index, attribute in enumerate(attributes)
        }


def _deviation(total: np.ndarray, total_of_squares: np.ndarray, count: int) -> np.ndarray:
    return np.sqrt(np.maximum(total_of_squares / count - np.square(total / count), 0.0))


def _gini(counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Returns Gini indices from counts and sums of ascending bins, (..., n).

    For ascending entries x with sum X it is 1 - 2 sum_i x_i (N - i + 1/2) / (X N) (Hurley & Rickard
    2009); here all entries of a bin have the bin's mean rank.
    """
    number, total = counts.sum(axis=-1), sums.sum(axis=-1)
    ranks_from_top = number[..., None] - counts.cumsum(axis=-1) + counts / 2
    with np.errstate(invalid="ignore"):
        index = 1 - 2 * np.sum(sums * ranks_from_top, axis=-1) / (total * number)
    return np.where(total == 0, 0.0, index)  # all entries are zero, so equal


def mask_statistics(model: keras.Model, batches: Iterable[np.ndarray]) -> MaskStatistics:
    """Accumulates the statistics of a network's masks.

    Args:
        model: network from `build_mcattn`.
        batches: batches of images, (B, H, W, 3) in [0, 1].
    """
    layer = model.get_layer("masked_pooling")
    extractor = keras.Model(model.input, layer.input)
    attributes = range(layer.attribute_count)
    step = max(1, ENTRIES_AT_ONCE // (math.prod(layer.input.shape[1:]) * len(attributes)))
    statistics = MaskStatistics(len(attributes))
    for images in batches:
        for start in range(0, len(images), step):
            features = extractor(images[start : start + step], training=False)
            statistics.update(keras.ops.convert_to_numpy(layer.masks(features, attributes)))
    return statistics


def mask_warnings(per_attribute: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns warnings of dead and constant masks, a line each.

    Masks are dead if over 95 per cent of their entries are below 0.05. They are constant if not
    dead and their standard deviation over positions is below 0.002.

    Args:
        per_attribute: {name: {measure: value}}, result of `MaskStatistics.per_attribute`.
    """
    dead = {k: v["mask_dead"] for k, v in per_attribute.items() if v["mask_dead"] > DEAD_SHARE}
    spreads = {k: v["mask_std_positions"] for k, v in per_attribute.items() if k not in dead}
    constant = {name: spread for name, spread in spreads.items() if spread < CONSTANT_BELOW}
    warnings = []
    if dead:
        share = 100 * np.mean(list(dead.values()))
        warnings.append(
            f"warning: the masks of {listed(dead)} are dead: {share:.1f} % of their entries are "
            f"under {MaskStatistics.DEAD_BELOW}; lower the weight of their L1 norm, --loss_mask_l1"
        )
    if constant:
        spread = np.mean(list(constant.values()))
        warnings.append(
            f"warning: the masks of {listed(constant)} are constant: their standard deviation "
            f"over positions is {spread:.4f}, under {CONSTANT_BELOW}; they attend to no place"
        )
    return warnings
