"""Maps of the attributes of a network with sub-networks."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.explain.methods.contributions import SubnetworkExplanation

SLICE_CHANNELS = 512  # of masks that are there at a time: 4 attributes of 128 channels


class SubnetworkMaps(keras.layers.Layer):
    """Maps of all K attributes, made in slices so that their masks are never there together.

    Args:
        model: as `build_mcattn` makes it.

    Input: features (B, h, w, C).
    Output: dict of float32 tensors (B, h, w, K): `contributions`, signed; `mask_mean`, over
    channels, and `top_channel_masks`, over each attribute's channels in `selection`, in (0, 1).
    """

    def __init__(self, model: keras.Model, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        count = model.get_layer("masked_pooling").attribute_count
        channels = model.get_layer("features").output.shape[-1]
        step = max(1, SLICE_CHANNELS // channels)
        self.slices = [
            SubnetworkExplanation(model, range(start, min(start + step, count)))
            for start in range(0, count, step)
        ]
        self.selection = self.add_weight(
            shape=(count, channels), initializer="zeros", trainable=False, name="selection"
        )

    def select(self, top_channels: Sequence[Sequence[int]]) -> None:
        """Chooses the channels of each attribute that `top_channel_masks` averages."""
        selection = np.zeros(self.selection.shape, np.float32)
        for row, channels in zip(selection, top_channels, strict=True):
            row[list(channels)] = 1 / len(channels)
        self.selection.assign(selection)

    def call(self, features: KerasTensor) -> dict[str, KerasTensor]:
        """Returns the maps."""
        maps = {"contributions": [], "mask_mean": [], "top_channel_masks": []}
        for explanation in self.slices:
            explained = explanation(features)
            masks = explained["masks"]
            selection = ops.take(self.selection, explanation.attributes, axis=0)
            maps["contributions"].append(explained["contributions"])
            maps["mask_mean"].append(ops.mean(masks, axis=-1))
            maps["top_channel_masks"].append(ops.einsum("bhwkc,kc->bhwk", masks, selection))
        return {name: ops.concatenate(slices, axis=-1) for name, slices in maps.items()}
