"""Numbers by which a page answers anew without some cells, or without a channel's mask."""

import base64
from typing import Any

import keras
import numpy as np

from mcattn_tf.explain.methods.contributions import build_explainer, is_linear
from mcattn_tf.explain.methods.selection import heads_of


def as_numbers(values: np.ndarray, size: int) -> dict[str, Any]:
    """Returns numbers as integers of `size` bytes in base64, and their `scale`, a factor."""
    scale = max(float(np.abs(values).max()), 1e-9) / (2 ** (8 * size - 1) - 1)
    integers = np.rint(values / scale).astype(f"<i{size}")
    return {"scale": scale, "data": base64.b64encode(integers.tobytes()).decode()}


class Changes:
    """Explains images of a network with sub-networks for a page that takes parts away.

    The logit of an attribute is the average of `local`, the logits that it would have if every cell
    were like one, by the shares softmax(sharpness * local). Without a cell the average is over the
    others. Without the mask of a channel c each cell loses w_kc M^k_c f_c of its logit.

    Args:
        model: network with sub-networks.
        indices: the k attributes on the page.
    """

    def __init__(self, model: keras.Model, indices: list[int]) -> None:
        explainer, features = build_explainer(model, indices), model.get_layer("features").output
        self._model = keras.Model(model.input, {**explainer.output, "features": features})
        pooling, heads = model.get_layer("masked_pooling"), heads_of(model, "attributes")
        self.known = is_linear(heads)
        self.sharpness = getattr(pooling, "sharpness", 0.0)
        weights = (heads[-1].kernel, heads[-1].bias) if heads else None
        if self.known:
            weights = weights or (pooling.head, pooling.head_bias)
            self._head, self._bias = (keras.ops.convert_to_numpy(x)[indices] for x in weights)

    def explain(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs of the explainer and `features` of one image (H, W, 3)."""
        return {name: x[0] for name, x in self._model.predict_on_batch(image[None]).items()}

    def numbers(self, explained: dict[str, np.ndarray], channels: list[list[int]]) -> dict:
        """Returns what the page needs for one image.

        Args:
            explained: outputs of `explain`.
            channels: numbers of n channels for each attribute.

        Returns:
            `local`, numbers (k, h, w) of 2 bytes, and `parts`, numbers (k, n, h, w) of one byte;
            empty where the head is not linear.
        """
        if not self.known:
            return {}
        features = explained["features"].astype(np.float32)
        parts = [
            self._head[k, own] * explained["masks"][:, :, k, own] * features[..., own]
            for k, own in enumerate(channels)
        ]
        local = np.moveaxis(explained["evidence"] + self._bias, -1, 0)
        return {
            "local": as_numbers(local, 2),
            "parts": as_numbers(np.moveaxis(np.stack(parts), -1, 1), 1),
        }
