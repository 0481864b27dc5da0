"""Rankings of the channels of the features by how much a network uses them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

from mcattn_tf.errors import UserError, choose
from mcattn_tf.explain.methods.cam import pooled_classifier
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.layers.masked_pooling import attention
from mcattn_tf.models.pruning import writers
from mcattn_tf.progress import progress
from mcattn_tf.settings.systems import system_of


def shares_of(importance: np.ndarray) -> np.ndarray:
    """Returns shares (..., C), with sum 1, of importance (..., C); zeros where it has none."""
    total = importance.sum(axis=-1, keepdims=True)
    return importance / np.where(total > 0, total, 1)


@dataclasses.dataclass(frozen=True)
class ChannelUse:
    """Use of the C channels by the K attributes, as means over images.

    Attributes:
        importance: (K, C), absolute contributions to the logit, each summed over positions.
        masks: (C,), masks averaged over attributes and positions; None for a network without.
        activation: (C,), absolute features averaged over positions.
        norm: (C,), sum of the absolute weights of the filters that write the channel.
    """

    importance: np.ndarray
    masks: np.ndarray | None
    activation: np.ndarray
    norm: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Shares (K, C) of each attribute's importance, with sum 1; zeros where it has none."""
        return shares_of(self.importance)

    def of_attributes(self, places: list[int]) -> "ChannelUse":
        """Returns the use by some of the attributes."""
        return dataclasses.replace(self, importance=self.importance[places])


# {name: function from the use of channels and a random seed to what ranks them, (C,)}.
RANKINGS: Mapping[str, Callable[[ChannelUse, int], np.ndarray | None]] = {
    "contributions": lambda use, _: use.shares.max(axis=0),
    "summed": lambda use, _: use.importance.sum(axis=0),
    "masks": lambda use, _: use.masks,
    "activation": lambda use, _: use.activation,
    "norm": lambda use, _: use.norm,
    "random": lambda use, seed: np.random.default_rng(seed).random(len(use.norm)),
}


def rank_channels(use: ChannelUse, ranking: str, seed: int = 0) -> list[int]:
    """Returns the numbers of all C channels, the first to be kept first.

    Args:
        use: Use of the channels.
        ranking: Key of `RANKINGS`. contributions: the largest share that the channel has of any
            attribute's absolute contributions, so that an attribute with small logits keeps its
            channels too; summed: absolute contributions summed over attributes; masks: mean mask;
            activation: mean absolute feature (Hu et al. 2016 count zeros); norm: sum of the
            filters' absolute weights (Li et al. 2017); random.
        seed: Random seed of `random`.

    Raises:
        UserError: If there is no such ranking, or the network has no masks.
    """
    scores = RANKINGS[choose("by", ranking, RANKINGS)](use, seed)
    if scores is None:
        others = [name for name in RANKINGS if name != ranking]
        raise UserError(f"`by` must be one of {', '.join(others)}: this network has no {ranking}")
    return np.argsort(-scores, kind="stable").tolist()


def channel_use(
    model: keras.Model, batches: Iterable[np.ndarray], count: int | None = None
) -> ChannelUse:
    """Measures the use of channels in one pass and constant memory.

    The contributions are those of the sub-networks, or of the classifier of a network without: its
    weight times the feature, averaged over positions as its pooling does.

    Args:
        model: `mcattn` or `baseline`, in float32.
        batches: Images (B, H, W, 3) in [0, 1].
        count: Number of images, for the progress bar.
    """
    read, sums, images_seen = reader_of(model), {}, 0
    with progress(count, "channels") as bar:
        for images in batches:
            outputs = read(images)
            means = {
                "importance": np.abs(outputs["contributions"]),  # (B, K, C)
                "activation": np.abs(outputs["features"]).mean(axis=(1, 2), dtype=np.float64),
            }
            if "mask_mean" in outputs:
                means["masks"] = outputs["mask_mean"].mean(axis=1)
            for name, values in means.items():
                sums[name] = sums.get(name, 0) + values.sum(axis=0, dtype=np.float64)
            images_seen += len(images)
            bar.update(len(images))
    means = {name: values / images_seen for name, values in sums.items()}
    norm = sum(np.abs(x.get_weights()[0]).sum(axis=(0, 1, 2)) for x in writers(model))
    return ChannelUse(means["importance"], means.get("masks"), means["activation"], norm)


def reader_of(model: keras.Model) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns a function from images (B, H, W, 3) to what channels do on them.

    It returns `features` (B, h, w, C), `contributions` (B, K, C), summed over positions, and of
    sub-networks `mask_mean` (B, K, C).
    """
    outputs = {"features": model.get_layer("features").output}
    if "subnetworks" not in system_of(model).parts:
        network = keras.Model(model.input, outputs)

        def read(images: np.ndarray) -> dict[str, np.ndarray]:
            found = network.predict_on_batch(images)
            return found | {"contributions": _of_classifier(model, found["features"])}

        return read
    explained = build_explainer(model, range(model.output["attributes"].shape[-1])).output
    outputs["contributions"] = explained["channel_contributions"]
    outputs["mask_mean"] = explained["mask_mean"]
    return keras.Model(model.input, outputs).predict_on_batch


def _of_classifier(model: keras.Model, features: np.ndarray) -> np.ndarray:
    """Returns the contributions (B, K, C) of features (B, h, w, C), summed over positions."""
    _, dense = pooled_classifier(model)
    kernel = dense.get_weights()[0]  # (C, K)
    cells = features.reshape(len(features), -1, len(kernel))
    # Without sharpness all positions have the same share.
    sharpness = getattr(model.get_layer("multilabel_pooling"), "sharpness", 0.0)
    shares = keras.ops.convert_to_numpy(attention(cells @ kernel, sharpness, axis=1))  # (B, P, K)
    return np.einsum("bpk,bpc->bkc", shares, cells, optimize=True) * kernel.T
