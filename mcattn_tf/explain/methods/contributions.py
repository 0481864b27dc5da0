"""Masks and exact contributions of MCAttn's sub-networks."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.errors import UserError
from mcattn_tf.layers import MaskedPooling, attention


class SubnetworkExplanation(keras.layers.Layer):
    """Takes the sub-networks of a trained MCAttn apart (Kimura & Tanaka 2019, eq. 2).

    With the linear head, logit_k = bias_k + sum over positions p and channels c of

        contribution_k[p, c] = a_k[p] w_kc (1 + M^k_pc) f_pc,

    where a_k[p] is the share of the position in the average: 1 / (h w), or that of the softmax
    pooling (`layers.MaskedSoftmaxPooling`). With the `mlp` head w_kc is the slope of the linear
    piece that the image lies in, sum over hidden units u of W1_kcu W2_ku [unit u is active]; the
    contributions then sum to the logit but for a bias that differs from image to image, so only
    the linear head's are exact.

    Args:
        model: as `build_mcattn` makes it.
        attributes: indices of the k attributes wanted.

    Input: features (B, h, w, C).
    Output: dict of float32 tensors: `masks` (B, h, w, k, C) in (0, 1); `contributions`
    (B, h, w, k), summed over channels; `channel_contributions` (B, k, C), summed over positions;
    `mask_mean` (B, k, C), mean over positions; `pooled` (B, k, C), what the head sees.
    """

    def __init__(self, model: keras.Model, attributes: Sequence[int], **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.attributes = list(attributes)
        self.masked_pooling = model.get_layer("masked_pooling")
        self.averages = isinstance(self.masked_pooling, MaskedPooling)
        names = {layer.name for layer in model.layers}
        self.head = model.get_layer("attribute_logits") if self.averages else None
        self.hidden = model.get_layer("hidden") if "hidden" in names else None

    def call(self, features: KerasTensor) -> dict[str, KerasTensor]:
        """Returns masks and contributions."""
        _, height, width, channels = features.shape
        features = ops.cast(features, "float32")
        # One attribute at a time, in arrays that a CPU's cache holds.
        masks = list(self.masked_pooling.each_mask(features, self.attributes))
        indices = ops.convert_to_tensor(self.attributes, dtype="int32")
        cells = ops.reshape(features, (-1, height * width, channels))
        gated = [ops.reshape(mask * features, (-1, height * width, channels)) for mask in masks]
        explain = self._of_averages if self.averages else self._of_softmax_pooling
        contributions, pooled, weights = explain(cells, gated, indices)
        return {
            "masks": ops.stack(masks, axis=3),
            "contributions": ops.reshape(contributions, (-1, height, width, len(self.attributes))),
            "channel_contributions": pooled * weights,
            "mask_mean": ops.concatenate([_averaged(mask) for mask in masks], axis=1),
            "pooled": pooled,
        }

    def logits(self, explained: dict[str, KerasTensor]) -> KerasTensor:
        """Returns the logits (B, K) that an explanation of all K attributes is of."""
        if not self.averages:
            contributions = ops.sum(explained["contributions"], axis=(1, 2))
            return contributions + self.masked_pooling.head_bias
        pooled = explained["pooled"]
        return self.head(pooled if self.hidden is None else self.hidden(pooled))

    def _of_averages(
        self, cells: KerasTensor, gated: list[KerasTensor], indices: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        """Returns contributions (B, P, k), `pooled` and the weights w (1 or B, k, C)."""
        positions = cells.shape[1]
        average = ops.mean(cells, axis=1)
        pooled = ops.stack([average + ops.mean(x, axis=1) for x in gated], axis=1)
        weights = self._weights(pooled, indices)
        evidence = ops.matmul(cells, ops.transpose(weights, (0, 2, 1))) + ops.stack(
            [_weighted(x, weights[:, index]) for index, x in enumerate(gated)], axis=2
        )
        return evidence / positions, pooled, weights

    def _of_softmax_pooling(
        self, cells: KerasTensor, gated: list[KerasTensor], indices: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        weights = ops.take(self.masked_pooling.head, indices, axis=0)[None]  # (1, k, C)
        unmasked = ops.matmul(cells, ops.transpose(weights, (0, 2, 1)))  # (B, P, k)
        contributions, attentions, masked = [], [], []
        for index, x in enumerate(gated):
            evidence = unmasked[:, :, index] + _weighted(x, weights[:, index])
            attentions.append(attention(evidence, self.masked_pooling.sharpness))
            contributions.append(evidence * attentions[-1])
            masked.append(ops.matmul(attentions[-1][:, None], x))
        # The features behind no mask are averaged for all attributes at once.
        pooled = ops.matmul(ops.stack(attentions, axis=1), cells) + ops.concatenate(masked, axis=1)
        return ops.stack(contributions, axis=2), pooled, weights

    def _weights(self, pooled: KerasTensor, indices: KerasTensor) -> KerasTensor:
        head = ops.take(self.head.kernel, indices, axis=0)
        if self.hidden is None:
            return head[None]
        kernel = ops.take(self.hidden.kernel, indices, axis=0)  # (k, C, u)
        bias = ops.take(self.hidden.bias, indices, axis=0)
        active = ops.einsum("bkc,kcu->bku", pooled, kernel) + bias > 0
        return ops.einsum("bku,kcu,ku->bkc", ops.cast(active, "float32"), kernel, head)


def _averaged(mask: KerasTensor) -> KerasTensor:
    """Returns the mean over positions, (B, 1, C), by a product, faster than `ops.mean`."""
    _, height, width, channels = mask.shape
    positions = height * width
    average = ops.full((1, positions), 1 / positions)
    return ops.matmul(average, ops.reshape(mask, (-1, positions, channels)))


def _weighted(gated: KerasTensor, weights: KerasTensor) -> KerasTensor:
    """Returns sum_c w_c M_pc f_pc, (B, P), of w (1 or B, C)."""
    if weights.shape[0] == 1:
        product = ops.matmul(ops.reshape(gated, (-1, gated.shape[2])), weights[0][:, None])
    else:
        product = ops.matmul(gated, ops.expand_dims(weights, 2))
    return ops.reshape(product, (-1, gated.shape[1]))


def require_subnetworks(model: keras.Model) -> None:
    """Raises a `UserError` for a model without sub-networks."""
    if "attributes" not in model.output:
        raise UserError(f"model {model.name!r} has no attribute sub-networks to explain")


def build_explainer(model: keras.Model, attributes: Sequence[int]) -> keras.Model:
    """Builds a model that answers and explains, on the weights of a trained MCAttn.

    Args:
        model: as `build_mcattn` makes it.
        attributes: indices of the k attributes wanted.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict: `attributes` (B, K), probabilities,
        and the outputs of `SubnetworkExplanation` for the k attributes.

    Raises:
        UserError: if the model has no sub-networks.
    """
    require_subnetworks(model)
    features = model.get_layer("features").output
    explanation = SubnetworkExplanation(model, attributes, name="explanation")
    outputs = explanation(features)
    probabilities = model.output["attributes"]
    if list(attributes) == list(range(probabilities.shape[-1])):
        # The masks that the explanation makes serve the answer too.
        logits = explanation.logits(outputs)
        probabilities = model.get_layer("attributes")(logits)
    del outputs["pooled"]
    return keras.Model(model.input, {"attributes": probabilities, **outputs})


def top_channels(importance: np.ndarray, count: int) -> list[int]:
    """Returns the channels of highest importance (C,), the first first."""
    return np.argsort(-importance, kind="stable")[:count].tolist()
