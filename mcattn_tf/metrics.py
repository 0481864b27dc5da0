"""Numbers that are accumulated over a data set, batch by batch."""

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

# Masks that are held at once, 16 MB: of 8 drawn faces, or of one image of CelebA.
ENTRIES_AT_ONCE = 2**22
# Masks are dead above this share of entries below `MaskStatistics.DEAD_BELOW`.
DEAD_SHARE = 0.95
# Masks are constant below this standard deviation over positions. Of untrained networks on drawn
# faces the `default` preset has 0.09 and `paper` 0.009; trained ones had 0.01 to 0.08.
CONSTANT_BELOW = 0.002


class ConfusionCounts:
    """Counts right and wrong answers per attribute at threshold 0.5.

    Args:
        attribute_count: K.
    """

    def __init__(self, attribute_count: int) -> None:
        self.true_positives = np.zeros(attribute_count, np.int64)
        self.true_negatives = np.zeros(attribute_count, np.int64)
        self.false_positives = np.zeros(attribute_count, np.int64)
        self.false_negatives = np.zeros(attribute_count, np.int64)

    def update(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds a batch.

        Args:
            labels: (B, K), 0 or 1.
            probabilities: (B, K), in [0, 1]; above 0.5 counts as present.
        """
        present, predicted = labels > 0.5, probabilities > 0.5
        self.true_positives += np.sum(present & predicted, axis=0)
        self.true_negatives += np.sum(~present & ~predicted, axis=0)
        self.false_positives += np.sum(~present & predicted, axis=0)
        self.false_negatives += np.sum(present & ~predicted, axis=0)

    def result(self) -> dict[str, np.ndarray]:
        """Returns the measures of each attribute.

        Returns:
            {name: (K,)}, all in [0, 1]: `accuracy`; `balanced_accuracy`, the mean of the accuracy
            on present and on absent (NaN where the data have only one of them); `f1` (NaN where
            nothing is present or predicted); `positives`, the share of present labels;
            `majority_accuracy`, of always answering the more common label.
        """
        return confusion_measures(
            self.true_positives, self.true_negatives, self.false_positives, self.false_negatives
        )


def confusion_measures(
    true_positives: np.ndarray,
    true_negatives: np.ndarray,
    false_positives: np.ndarray,
    false_negatives: np.ndarray,
) -> dict[str, np.ndarray]:
    """Returns the measures of `ConfusionCounts.result` of counts of any shape."""
    positives = true_positives + false_negatives
    negatives = true_negatives + false_positives
    count = positives + negatives
    with np.errstate(invalid="ignore"):
        share = positives / count
        sensitivity = true_positives / positives
        specificity = true_negatives / negatives
        return {
            "accuracy": (true_positives + true_negatives) / count,
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "f1": 2 * true_positives / (2 * true_positives + false_positives + false_negatives),
            "positives": share,
            "majority_accuracy": np.maximum(share, 1 - share),
        }


class ClassCounts:
    """Counts which class is answered for which, where an image has exactly one.

    Args:
        class_count: N.
    """

    def __init__(self, class_count: int) -> None:
        self._counts = np.zeros((class_count, class_count), np.int64)

    def update(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds a batch.

        Args:
            labels: (B, N), 1 for the class of the image, else 0.
            probabilities: (B, N); the class of the highest is the answer, of equal ones the first.
        """
        np.add.at(self._counts, (labels.argmax(axis=1), probabilities.argmax(axis=1)), 1)

    def result(self) -> dict[str, np.ndarray]:
        """Returns the measures of each class.

        Returns:
            {name: (N,)}, all in [0, 1]: `recall`, the share of a class's images that are answered
            right (NaN where the data have none), `precision`, the share of right ones among the
            answers (NaN where it is never answered), `f1`, and `positives`, the share of the
            images that are of the class.
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
        """Returns `accuracy`, top-1, and `majority_accuracy`, of always the commonest class."""
        total = self._counts.sum()
        return {
            "accuracy": float(self._counts.trace() / total),
            "majority_accuracy": float(self._counts.sum(axis=1).max() / total),
        }


class MaskStatistics:
    """Level, spread and sparseness of masks, accumulated in memory that does not grow.

    The Gini index is from a histogram. A bin holds the float32 numbers that share exponent and
    the first 7 bits of the mantissa, so that it is narrow where masks are small, and its sum is
    kept; what is lost is the inequality inside of a bin. The index is at most `GINI_ERROR` below
    that of the sorted entries, and far nearer where they lie in many bins.

    Args:
        attribute_count: K.
    """

    DEAD_BELOW = 0.05
    GINI_ERROR = 2**-9  # reached if all entries lie at the two ends of one bin
    _BINS = (0x3F800000 >> 16) + 1  # the last is that of 1.0

    def __init__(self, attribute_count: int) -> None:
        self._images = 0
        self._entries = 0  # of one attribute
        self._sum = np.zeros(attribute_count)
        self._sum_of_squares = np.zeros(attribute_count)
        self._dead = np.zeros(attribute_count, np.int64)
        # Of each image the mean standard deviation is added.
        self._over_positions = np.zeros(attribute_count)
        self._over_channels = np.zeros(attribute_count)
        self._over_attributes = 0.0
        self._bin_counts = np.zeros((attribute_count, self._BINS), np.int64)
        self._bin_sums = np.zeros((attribute_count, self._BINS))

    def update(self, masks: np.ndarray) -> None:
        """Adds the masks of some images.

        Args:
            masks: (B, h, w, K, C), in [0, 1].
        """
        for image in np.asarray(masks, np.float32):
            self._add_image(image)

    def _add_image(self, masks: np.ndarray) -> None:
        height, width, attribute_count, channels = masks.shape
        sums = np.zeros((height * width, channels))  # over attributes
        sums_of_squares = np.zeros_like(sums)
        # Attribute by attribute, so that what is made in between stays in a CPU's cache.
        for attribute in range(attribute_count):
            values = masks[:, :, attribute].reshape(-1, channels)
            self._add_to_bins(attribute, values)
            self._dead[attribute] += np.count_nonzero(values < self.DEAD_BELOW)
            values = values.astype(np.float64)
            squares = np.square(values)
            sums += values
            sums_of_squares += squares
            self._sum[attribute] += values.sum()
            self._sum_of_squares[attribute] += squares.sum()
            for axis, total in enumerate((self._over_positions, self._over_channels)):
                deviations = _deviation(
                    values.sum(axis=axis), squares.sum(axis=axis), values.shape[axis]
                )
                total[attribute] += deviations.mean()
        self._over_attributes += _deviation(sums, sums_of_squares, attribute_count).mean()
        self._images += 1
        self._entries += height * width * channels

    def _add_to_bins(self, attribute: int, values: np.ndarray) -> None:
        # The bits of floats that are not negative, read as integers, are in the floats' order.
        bins = np.minimum(values.view(np.uint32) >> 16, self._BINS - 1).ravel()
        self._bin_counts[attribute] += np.bincount(bins, minlength=self._BINS)
        self._bin_sums[attribute] += np.bincount(bins, values.ravel(), self._BINS)

    def result(self) -> dict[str, float]:
        """Returns the numbers over all masks.

        Returns:
            `mask_mean` and `mask_std` of all entries; the standard deviations
            `mask_std_positions` over an image's positions (mean over images, attributes and
            channels), `mask_std_channels` over channels (mean over images, attributes and
            positions) and `mask_std_attributes` over attributes (mean over images, positions and
            channels), all from 0 to 0.5; `mask_dead`, the share of entries below 0.05;
            `mask_gini`, their Gini index (Hurley & Rickard 2009), 0 where all entries are equal,
            towards 1 where few carry all.
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
        """Returns the numbers of each attribute's masks.

        Args:
            attributes: names of the K attributes.

        Returns:
            {name: {measure: value}}, the measures as in `result` but `mask_std_attributes`.
        """
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
    """Returns Gini indices of entries in ascending bins, from the bins' (..., n) counts and sums.

    With the entries x of a total X in ascending order it is 1 - 2 sum_i x_i (N - i + 1/2) / (X N)
    (Hurley & Rickard 2009); here every entry of a bin has the bin's mean rank.
    """
    number, total = counts.sum(axis=-1), sums.sum(axis=-1)
    ranks_from_top = number[..., None] - counts.cumsum(axis=-1) + counts / 2
    with np.errstate(invalid="ignore"):
        index = 1 - 2 * np.sum(sums * ranks_from_top, axis=-1) / (total * number)
    return np.where(total == 0, 0.0, index)  # all zero is all equal


def mask_statistics(model: keras.Model, batches: Iterable[np.ndarray]) -> MaskStatistics:
    """Accumulates the statistics of a network's masks.

    Args:
        model: with a layer `masked_pooling`, as `build_mcattn` makes it.
        batches: images (B, H, W, 3) in [0, 1].

    Returns:
        The statistics over all images.
    """
    layer = model.get_layer("masked_pooling")
    extractor = keras.Model(model.input, layer.input)
    every = range(layer.attribute_count)
    _, height, width, channels = layer.input.shape
    step = max(1, ENTRIES_AT_ONCE // (height * width * len(every) * channels))
    statistics = MaskStatistics(len(every))
    for images in batches:
        for start in range(0, len(images), step):
            features = extractor(images[start : start + step], training=False)
            statistics.update(keras.ops.convert_to_numpy(layer.masks(features, every)))
    return statistics


def mask_warnings(per_attribute: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns in words which attributes' masks are of no use.

    Dead masks are those of which more than 95 per cent of the entries are below 0.05; constant
    ones, if not dead, those whose standard deviation over positions is below 0.002.

    Args:
        per_attribute: {name: {measure: value}}, as `MaskStatistics.per_attribute` returns it.

    Returns:
        Warnings, a line each; none where all is well.
    """
    dead = [name for name, mask in per_attribute.items() if mask["mask_dead"] > DEAD_SHARE]
    constant = [
        name
        for name, mask in per_attribute.items()
        if name not in dead and mask["mask_std_positions"] < CONSTANT_BELOW
    ]

    def average(names: list[str], measure: str) -> float:
        return float(np.mean([per_attribute[name][measure] for name in names]))

    warnings = []
    if dead:
        share = 100 * average(dead, "mask_dead")
        warnings.append(
            f"warning: the masks of {_listed(dead)} are dead: {share:.1f} per cent of their "
            f"entries are under {MaskStatistics.DEAD_BELOW}, so (1 + M) * f is hardly more than "
            "f; lower the weight of their L1 norm, `mask_l1` of `loss` in the config"
        )
    if constant:
        spread = average(constant, "mask_std_positions")
        warnings.append(
            f"warning: the masks of {_listed(constant)} are constant: their standard deviation "
            f"over positions is {spread:.4f}, under {CONSTANT_BELOW}, so they weigh channels but "
            "attend to no place"
        )
    return warnings


def _listed(names: list[str]) -> str:
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more"]
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
