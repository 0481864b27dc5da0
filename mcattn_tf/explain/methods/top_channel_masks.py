"""Masks averaged over the most important channels (Kimura & Tanaka 2019, fig. 3)."""

from collections.abc import Mapping

import numpy as np
from keras import ops

from mcattn_tf.explain.methods.contributions import SubnetworkMaps, top_channels
from mcattn_tf.explain.methods.method import Network, OutputMethod

TOP_CHANNELS = 3


class TopChannelMasks(OutputMethod):
    """The mask of an attribute, averaged over the 3 channels that contribute most, in (0, 1).

    The importance of a channel is the mean of |contribution| over the images of `adapt`.
    """

    def __init__(self, network: Network) -> None:
        subnetworks = network.share(SubnetworkMaps)
        self._selection, tensors = subnetworks.selection, subnetworks.tensors
        self.outputs = {"top_channel_masks": tensors["top_channel_masks"]}
        self.means = {"importance": ops.abs(tensors["channel_contributions"])}

    def adapt(self, means: Mapping[str, np.ndarray]) -> None:
        """Sets the importance of each channel, (C, K)."""
        importance = means["importance"].T
        selection = np.zeros(importance.shape, np.float32)
        for weights, row in zip(selection, importance, strict=True):
            channels = top_channels(row, TOP_CHANNELS)
            weights[channels] = 1 / len(channels)
        self._selection.assign(selection)
