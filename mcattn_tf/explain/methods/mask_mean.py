"""Masks averaged over channels (Kimura & Tanaka 2019, eq. 2)."""

from mcattn_tf.explain.methods.contributions import SubnetworkMaps
from mcattn_tf.explain.methods.method import Network, OutputMethod


class MaskMean(OutputMethod):
    """The mask of an attribute, averaged over all channels, in (0, 1)."""

    def __init__(self, network: Network) -> None:
        self.outputs = {"mask_mean": network.share(SubnetworkMaps).tensors["mask_mean"]}
