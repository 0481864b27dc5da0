"""Correlation of the masks' channels and of the attributes over a data set.

Source: Kimura & Tanaka 2019, fig. 1 and 4, tables 1 and 2.
"""

import dataclasses
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.moments import Moments, moments_of
from mcattn_tf.explain.methods.contributions import (
    build_explainer,
    require_subnetworks,
    top_channels,
)
from mcattn_tf.files import written_whole
from mcattn_tf.progress import progress
from mcattn_tf.runs.checkpoints import weights_of

# {key of the file and of `Analysis.correlations`: description}.
ATTRIBUTE_CORRELATIONS = {
    "contributions": "contributions summed over channels, over images",
    "channel_contributions": "contributions of each channel, over images and channels",
    "masks": "mean masks of each channel, over images and channels",
    "labels": "labels, over images",
}
# Related attributes use different channels: compared channel by channel, the known structure of the
# drawn faces is not found (docs/mcattn.md).
DEFAULT_CORRELATION = "contributions"
BATCH_SIZE = 64
USED, UNUSED = 0.5, 0.9  # shares of an attribute's importance
MEANS = ("mean_masks", "mean_contributions", "importance")  # fields of `Analysis`


class BatchSummary(keras.layers.Layer):
    """Sums up the masks and contributions of a batch.

    Input: masks (B, K, C), averaged over positions, and contributions (B, K, C), summed over them.
    Output: dict without a batch axis, float64 where the backend has it: `mean_masks`,
    `mean_contributions` and `importance` (K, C), and `moments` of all but the labels.
    """

    def call(self, masks: KerasTensor, contributions: KerasTensor) -> dict:
        """Returns the summary."""
        _, count, channels = masks.shape
        masks, contributions = (ops.cast(x, "float64") for x in (masks, contributions))
        masks_by_channel, contributions_by_channel = (
            ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, count)) for x in (masks, contributions)
        )
        return {
            "mean_masks": ops.mean(masks, axis=0),
            "mean_contributions": ops.mean(contributions, axis=0),
            "importance": ops.mean(ops.abs(contributions), axis=0),
            "moments": {
                "channels": moments_of(ops.reshape(masks, (-1, channels))),
                "contributions": moments_of(ops.sum(contributions, axis=2)),
                "channel_contributions": moments_of(contributions_by_channel),
                "masks": moments_of(masks_by_channel),
            },
        }


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Masks and contributions of a network over N images of a data set, in float64.

    Masks are averaged over positions, contributions are summed over them.

    Attributes:
        attributes: names of the K attributes.
        weights: digest of the network's weights, from `checkpoints.weights_of`.
        images: N.
        mean_masks: (K, C), mean over images of the masks, in (0, 1) (fig. 1).
        mean_contributions: (K, C), mean over images of the signed contributions to the logit.
        importance: (K, C), mean over images of the contributions' absolute values.
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
        share = other.images / images
        means = {}
        for name in MEANS:
            mine, theirs = getattr(self, name), getattr(other, name)
            means[name] = mine + share * (theirs - mine)
        common = [name for name in self.moments if name in other.moments]
        moments = {name: self.moments[name].merged(other.moments[name]) for name in common}
        return Analysis(self.attributes, self.weights, images, **means, moments=moments)

    def channel_correlation(self) -> np.ndarray:
        """Returns the correlation of the masks' channels, (C, C) (fig. 4 and table 1)."""
        return self.moments["channels"].correlation()

    def correlations(self) -> dict[str, np.ndarray]:
        """Returns {key of `ATTRIBUTE_CORRELATIONS`: correlation of attributes (K, K)} (table 2).

        `contributions`, the `DEFAULT_CORRELATION`, compares the logits without their biases with
        the linear head; `channel_contributions` and `masks` compare channel by channel.
        """
        known = [name for name in ATTRIBUTE_CORRELATIONS if name in self.moments]
        return {name: self.moments[name].correlation() for name in known}

    def top_channels(self, attribute: int, count: int) -> list[int]:
        """Returns the most important channels of an attribute, the first first."""
        return top_channels(self.importance[attribute], count)

    def most_used_channels(self, count: int) -> list[int]:
        """Returns the channels that carry most of the importance, on average over attributes."""
        return top_channels(_shares(self.importance).mean(axis=0), count)

    def channels_apart(self, attribute: int, other: int) -> list[int]:
        """Returns the channels that one attribute uses and another does not, best first.

        They are among the fewest that carry half of the attribute's importance, and not among the
        fewest that carry nine tenths of the other's.
        """
        used = _carrying(self.importance[attribute], USED)
        unused = set(_carrying(self.importance[other], UNUSED))
        return [channel for channel in used if channel not in unused]

    def save(self, path: Path) -> None:
        """Writes the analysis as an `.npz` file, whole or not at all.

        Beside the fields it holds `channel_correlation` (C, C), `attribute_correlation_NAME` (K, K)
        and, for `load`, `NAME_count`, `NAME_mean` and `NAME_comoments` of each of `moments`.
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
        """Returns the analysis that `save` wrote; raises a UserError for anything else."""
        try:
            with np.load(path) as file:
                arrays = dict(file)
            moments = {}
            for name in ("channels", *ATTRIBUTE_CORRELATIONS):
                if name != "labels" or "labels_count" in arrays:
                    mean, comoments = arrays[f"{name}_mean"], arrays[f"{name}_comoments"]
                    moments[name] = Moments(int(arrays[f"{name}_count"]), mean, comoments)
            attributes = tuple(arrays["attributes"].tolist())
            own = attributes, str(arrays["weights"]), int(arrays["images"])
            return cls(*own, *(arrays[name] for name in MEANS), moments)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            raise UserError(
                f"cannot read {path}: it is not there, damaged, of an older version or no "
                "analysis; evaluate.py --analysis makes one"
            ) from None


def _shares(importance: np.ndarray) -> np.ndarray:
    """Returns importance (K, C) as shares of each attribute's sum; zeros where that is zero."""
    total = importance.sum(axis=-1, keepdims=True)
    return importance / np.where(total > 0, total, 1)


def _carrying(importance: np.ndarray, share: float) -> list[int]:
    """Returns the fewest channels that carry a share of an attribute's importance (C,)."""
    order = top_channels(importance, len(importance))
    carried = np.cumsum(_shares(importance)[order])
    return order[: int(np.sum(carried < share)) + 1]


def made_before(path: Path, model: keras.Model) -> Analysis | None:
    """Returns the analysis in a file; None if there is none, or it is of other weights.

    Raises:
        UserError: if there is a file that is no analysis.
    """
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
    """Analyses a network over images in one pass, in memory that does not grow with their number.

    Args:
        model: network as `build_mcattn` makes it.
        attributes: names of the K attributes.
        batches: images (B, H, W, 3) in [0, 1] and labels (B, K), 0 or 1, or None where unknown.
        count: number of all images, for the progress bar.

    Raises:
        UserError: if the model has no sub-networks or there is no image.
    """
    require_subnetworks(model)
    explained = build_explainer(model, range(len(attributes))).output
    summary = BatchSummary(dtype="float32", autocast=False, name="summary")(
        explained["mask_mean"], explained["channel_contributions"]
    )
    summarizer = keras.Model(model.input, summary)
    weights, analysis = weights_of(model), None
    with progress(count, "analysis") as bar:
        for images, labels in batches:
            means = summarizer.predict_on_batch(images)
            rows = {"channels": len(attributes), "contributions": 1}  # of an image; C of the others
            channels = means["mean_masks"].shape[1]
            moments = {
                name: Moments(len(images) * rows.get(name, channels), **values)
                for name, values in means.pop("moments").items()
            }
            if labels is not None:
                moments["labels"] = Moments.of(labels)
            batch = Analysis(tuple(attributes), weights, len(images), **means, moments=moments)
            analysis = batch if analysis is None else analysis.merged(batch)
            bar.update(len(images))
    if analysis is None:
        raise UserError("an analysis needs at least one image")
    return analysis
