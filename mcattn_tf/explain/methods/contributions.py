"""Exact contributions of MCAttn's sub-networks (Kimura & Tanaka 2019, eq. 2)."""

import functools
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods.method import Network, OutputMethod
from mcattn_tf.explain.methods.selection import heads_of
from mcattn_tf.layers.masks import Change
from mcattn_tf.settings.systems import system_of


class SubnetworkExplanation(keras.layers.Layer):
    """Explains sub-networks of a trained MCAttn by `AttributeMasks.explained`.

    With the linear head contributions and bias sum to the logit. With the `mlp` head w_kc is the
    slope of the linear piece that the image lies in, sum over hidden units u of
    W1_kcu W2_ku [unit u is active], so that the bias differs between images.
    """

    def __init__(
        self, model: keras.Model, attributes: Sequence[int], change: Change | None = None, **kwargs
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.attributes, self.change = list(attributes), change
        self.masked_pooling = model.get_layer("masked_pooling")
        self.heads = heads_of(model, "attributes")  # none where the pooling itself has the heads

    def call(
        self, features: KerasTensor, mask_weights: KerasTensor | None = None
    ) -> dict[str, KerasTensor]:
        """Returns the dict of `AttributeMasks.explained`, and `local_probabilities` if linear.

        The local probability of a position (B, h, w, k) is what the sub-network would answer if
        every position were like this one.
        """
        explained = self.masked_pooling.explained(
            features, self.attributes, self._slopes, mask_weights, self.change
        )
        if is_linear(self.heads):
            last = self.heads[-1].bias if self.heads else self.masked_pooling.head_bias
            logits = explained["evidence"] + ops.take(last, self.attributes)
            explained["local_probabilities"] = ops.sigmoid(logits)
        return explained

    def logits(self, explained: dict[str, KerasTensor]) -> KerasTensor:
        """Returns the logits (B, K) from the explanation of all K attributes."""
        if not self.heads:
            contributions = ops.sum(explained["contributions"], axis=(1, 2))
            return contributions + self.masked_pooling.head_bias
        return functools.reduce(lambda x, head: head(x), self.heads, explained["pooled"])

    def _slopes(self, pooled: KerasTensor, indices: KerasTensor) -> KerasTensor:
        *hidden, last = self.heads
        head = ops.take(last.kernel, indices, axis=0)
        if not hidden:
            return head[None]
        kernel = ops.take(hidden[0].kernel, indices, axis=0)  # (k, C, u)
        bias = ops.take(hidden[0].bias, indices, axis=0)
        active = ops.einsum("bkc,kcu->bku", pooled, kernel) + bias > 0
        return ops.einsum("bku,kcu,ku->bkc", ops.cast(active, "float32"), kernel, head)


def is_linear(heads: Sequence[keras.Layer]) -> bool:
    """Returns whether logits are linear in the masked features: one dense layer, or none."""
    return len(heads) <= 1


def build_explainer(model: keras.Model, attributes: Sequence[int]) -> keras.Model:
    """Builds a model that answers and explains, on the weights of a trained MCAttn.

    Args:
        model: network from `build_mcattn`.
        attributes: indices of the k attributes to explain.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict: `attributes` (B, K), probabilities;
        `masks` (B, h, w, k, C) in (0, 1); `contributions` (B, h, w, k), summed over channels;
        `evidence` (B, h, w, k), contributions without the shares of positions in the average;
        `local_probabilities` (B, h, w, k) of the linear head, what the sub-network would answer if
        every cell were like this one;
        `channel_contributions` (B, k, C), summed over positions; `mask_mean` (B, k, C).

    Raises:
        UserError: if the model has no sub-networks.
    """
    if "subnetworks" not in system_of(model).parts:
        raise UserError(f"model {model.name!r} has no attribute sub-networks to explain")
    explanation = SubnetworkExplanation(model, attributes, name="explanation")
    outputs = explanation(model.get_layer("features").output)
    probabilities = model.output["attributes"]
    if list(attributes) == list(range(probabilities.shape[-1])):
        # The answer is computed from the same masks.
        probabilities = model.get_layer("attributes")(explanation.logits(outputs))
    del outputs["pooled"]
    return keras.Model(model.input, {"attributes": probabilities, **outputs})


def top_channels(importance: np.ndarray, count: int) -> list[int]:
    """Returns the channels of highest importance (C,), the most important first."""
    return np.argsort(-importance, kind="stable")[:count].tolist()


class SubnetworkMaps(keras.layers.Layer):
    """Maps of all K attributes, computed in slices that limit the masks in memory.

    Output: dict of `contributions` (B, h, w, K), and `local_probabilities` if the head is linear;
    `mask_mean` (B, h, w, K), over channels, and `top_channel_masks` (B, h, w, K), weighted by
    `selection` (K, C), in (0, 1); `channel_contributions` (B, C, K). `tensors` holds those of the
    network.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(dtype="float32", name="subnetwork_maps")
        masked_pooling = network.model.get_layer("masked_pooling")
        count, step = masked_pooling.attribute_count, masked_pooling.explained_at_once
        channels = network.features.shape[-1]
        slices = (range(count)[start : start + step] for start in range(0, count, step))
        self.slices = [SubnetworkExplanation(network.model, x) for x in slices]
        self.selection = self.add_weight(
            shape=(count, channels), initializer="zeros", trainable=False, name="selection"
        )
        self.tensors = self(network.features)

    def call(self, features: KerasTensor) -> dict[str, KerasTensor]:
        """Returns the maps."""
        parts = []
        for explanation in self.slices:
            selection = ops.take(self.selection, explanation.attributes, axis=0)
            even = ops.full_like(selection, 1 / selection.shape[1])
            explained = explanation(features, ops.stack([even, selection]))
            averaged = explained["averaged_masks"]
            part = {
                "contributions": explained["contributions"],
                "mask_mean": averaged[..., 0],
                "top_channel_masks": averaged[..., 1],
                "channel_contributions": ops.swapaxes(explained["channel_contributions"], 1, 2),
            }
            if "local_probabilities" in explained:
                part["local_probabilities"] = explained["local_probabilities"]
            parts.append(part)
        return {name: ops.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


class Explained:
    """The explainer of all K attributes, which the served maps share."""

    def __init__(self, network: Network) -> None:
        count = network.model.output["attributes"].shape[-1]
        self.outputs = build_explainer(network.model, range(count)).output


class Contributions(OutputMethod):
    """Contributions to the logit, summed over channels; with the bias they sum to the logit."""

    def __init__(self, network: Network) -> None:
        self.outputs = {"contributions": network.share(SubnetworkMaps).tensors["contributions"]}

    @classmethod
    def served(cls, network: Network) -> Mapping[str, KerasTensor]:
        """Returns the contributions, and the answers from the same masks."""
        explained = network.share(Explained).outputs
        return {name: explained[name] for name in ("attributes", "contributions")}
