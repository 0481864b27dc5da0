"""Correlation of mask channels and of attributes over a data set.

Source: Kimura & Tanaka 2019, fig. 1 and 4, tables 1 and 2.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np

from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.channel_ranking import shares_of
from mcattn_tf.explain.methods.contributions import build_explainer, top_channels
from mcattn_tf.files import arrays_of, written_whole
from mcattn_tf.progress import progress
from mcattn_tf.runs.checkpoints import weights_of

# {key of the file and of `Analysis.correlations`: description}.
ATTRIBUTE_CORRELATIONS = {
    "contributions": "contributions summed over channels, over images",
    "channel_contributions": "contributions of each channel, over images and channels",
    "masks": "mean masks of each channel, over images and channels",
    "labels": "labels, over images",
}
# Related attributes use different channels: the other measures do not find the known structure of
# drawn faces (docs/mcattn.md).
DEFAULT_CORRELATION = "contributions"
BATCH_SIZE = 64
USED, UNUSED = 0.5, 0.9  # shares of an attribute's importance
MEANS = ("mean_masks", "mean_contributions", "importance")  # fields of `Analysis`


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and co-moments of N vectors of D numbers each, accumulated batch by batch.

    Source: Chan et al. 1982 (updating formulae and a pairwise algorithm for computing sample
    variances), eq. 2.1, for co-moments: deviations are from each batch's own mean.
    """

    count: int  # N
    mean: np.ndarray  # (D,), float64
    comoments: np.ndarray  # (D, D), float64, sum over the vectors of (x - mean) (x - mean)^T

    @classmethod
    def of(cls, rows: np.ndarray) -> "Moments":
        """Returns the moments of the rows of an array (N, D)."""
        rows = np.asarray(rows, np.float64)
        mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        return cls(len(rows), mean, (rows - mean).T @ (rows - mean))

    def merged(self, other: "Moments") -> "Moments":
        """Returns the moments of the vectors of both."""
        count, shift = self.count + other.count, other.mean - self.mean
        share = other.count / max(count, 1)
        comoments = self.comoments + other.comoments + np.outer(shift, shift) * (self.count * share)
        return Moments(count, self.mean + shift * share, comoments)

    def correlation(self) -> np.ndarray:
        """Returns Pearson's correlation, (D, D); NaN where float32 resolves no variation."""
        deviation = np.sqrt(np.diag(self.comoments) / self.count)
        varies = deviation > np.finfo(np.float32).eps * np.abs(self.mean)
        deviation = np.where(varies, deviation, np.nan)
        correlation = self.comoments / self.count / np.outer(deviation, deviation)
        return np.clip(correlation, -1, 1)


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Masks and contributions of a network over N images of a data set, in float64.

    Masks are averaged over positions, contributions are summed over them.

    Attributes:
        attributes: names of the K attributes.
        weights: digest of the network's weights, from `checkpoints.weights_of`.
        images: N.
        mean_masks: (K, C), mean of the masks over images, in (0, 1) (fig. 1).
        mean_contributions: (K, C), mean of the signed contributions to the logit.
        importance: (K, C), mean of the contributions' absolute values.
        moments: {name: moments}, `channels` for the masks of C channels over all pairs of image and
            attribute, and the keys of `ATTRIBUTE_CORRELATIONS`, `labels` only where known.
    """

    attributes: tuple[str, ...]
    weights: str
    images: int
    mean_masks: np.ndarray
    mean_contributions: np.ndarray
    importance: np.ndarray
    moments: dict[str, Moments]

    def merged(self, other: "Analysis") -> "Analysis":
        """Returns the analysis of the images of both; raises a UserError for other networks."""
        if (self.attributes, self.weights) != (other.attributes, other.weights):
            raise UserError("analyses can be merged only if they are of one network")
        images = self.images + other.images
        pairs = [(getattr(self, name), getattr(other, name)) for name in MEANS]
        means = (mine + other.images / images * (theirs - mine) for mine, theirs in pairs)
        common = [name for name in self.moments if name in other.moments]
        moments = {name: self.moments[name].merged(other.moments[name]) for name in common}
        return Analysis(self.attributes, self.weights, images, *means, moments)

    def channel_correlation(self) -> np.ndarray:
        """Returns the correlation of the masks' channels, (C, C) (fig. 4 and table 1)."""
        return self.moments["channels"].correlation()

    def correlations(self) -> dict[str, np.ndarray]:
        """Returns {key of `ATTRIBUTE_CORRELATIONS`: correlation of attributes (K, K)} (table 2)."""
        known = {x: self.moments[x] for x in ATTRIBUTE_CORRELATIONS if x in self.moments}
        return {name: moments.correlation() for name, moments in known.items() if moments.count}

    def top_channels(self, attribute: int, count: int) -> list[int]:
        """Returns the most important channels of an attribute, in descending order."""
        return top_channels(self.importance[attribute], count)

    def most_used_channels(self, count: int) -> list[int]:
        """Returns the channels with the largest share of importance, averaged over attributes."""
        return top_channels(shares_of(self.importance).mean(axis=0), count)

    def channels_apart(self, attribute: int, other: int) -> list[int]:
        """Returns the channels that one attribute uses and another does not, in descending order.

        They are among the fewest with half of its importance, but not with 90 % of the other's.
        """
        used = _carrying(self.importance[attribute], USED)
        unused = set(_carrying(self.importance[other], UNUSED))
        return [channel for channel in used if channel not in unused]

    def save(self, path: Path) -> None:
        """Writes the analysis as an `.npz` file.

        Besides the fields it holds `channel_correlation` (C, C), `attribute_correlation_NAME`
        (K, K) and, for `load`, `NAME_count`, `NAME_mean` and `NAME_comoments` of each of `moments`.
        """
        fields = ("attributes", "weights", "images", *MEANS)
        arrays = {name: np.asarray(getattr(self, name)) for name in fields}
        arrays["channel_correlation"] = self.channel_correlation()
        arrays |= {f"attribute_correlation_{k}": v for k, v in self.correlations().items()}
        for name, moments in self.moments.items():
            arrays |= {f"{name}_{k}": v for k, v in dataclasses.asdict(moments).items()}
        with written_whole(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Analysis":
        """Returns the analysis in a file from `save`; raises a UserError for any other file."""
        with arrays_of(path, "analysis") as arrays:
            names = ["channels", *ATTRIBUTE_CORRELATIONS]
            names = [x for x in names if x != "labels" or "labels_count" in arrays]
            fields = [field.name for field in dataclasses.fields(Moments)]
            moments = {x: Moments(*(arrays[f"{x}_{field}"] for field in fields)) for x in names}
            attributes = tuple(arrays["attributes"].tolist())
            own = attributes, str(arrays["weights"]), int(arrays["images"])
            return cls(*own, *(arrays[name] for name in MEANS), moments)


def _carrying(importance: np.ndarray, share: float) -> list[int]:
    """Returns the fewest channels with a share of an attribute's importance (C,)."""
    order = top_channels(importance, len(importance))
    carried = np.cumsum(shares_of(importance)[order])
    return order[: int(np.sum(carried < share)) + 1]


def made_before(path: Path, model: keras.Model) -> Analysis | None:
    """Returns the analysis in a file; None if the file is missing or of other weights."""
    if not path.exists():
        return None
    analysis = Analysis.load(path)
    return analysis if analysis.weights == weights_of(model) else None


def analyze(
    model: keras.Model,
    attributes: Sequence[str],
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
    count: int | None = None,
) -> Analysis:
    """Analyses a network over images in one pass and constant memory.

    Args:
        model: network from `build_mcattn`.
        attributes: names of the K attributes.
        batches: images (B, H, W, 3) in [0, 1] and labels (B, K), 1 present, 0 absent, -1
            unknown; or None where none is known. Labels correlate over images that know all.
        count: number of images, for the progress bar.

    Raises:
        UserError: if the model has no sub-networks or there is no image.
    """
    explained = build_explainer(model, range(len(attributes))).output
    outputs = [explained[name] for name in ("mask_mean", "channel_contributions")]
    summarizer = keras.Model(model.input, outputs)
    weights, analysis = weights_of(model), None
    with progress(count, "analysis") as bar:
        for images, labels in batches:
            masks, contributions = map(np.float64, summarizer.predict_on_batch(images))  # (B, K, C)
            means = (x.mean(axis=0) for x in (masks, contributions, np.abs(contributions)))
            rows = {
                "channels": masks.reshape(-1, masks.shape[2]),
                "contributions": contributions.sum(axis=2),
                "channel_contributions": contributions.swapaxes(1, 2).reshape(-1, len(attributes)),
                "masks": masks.swapaxes(1, 2).reshape(-1, len(attributes)),
            }
            if labels is not None:
                rows["labels"] = labels[np.all(labels >= 0, axis=1)]
            moments = {name: Moments.of(values) for name, values in rows.items()}
            batch = Analysis(tuple(attributes), weights, len(images), *means, moments)
            analysis = batch if analysis is None else analysis.merged(batch)
            bar.update(len(images))
    if analysis is None:
        raise UserError("an analysis needs at least one image")
    return analysis
