"""The class weight maps of GCM (IPSJ Transactions 10(2), 2017, eq. 1)."""

from mcattn_tf.explain.methods.method import Network, OutputMethod


class WeightMaps(OutputMethod):
    """The weight of each pixel in the score of a class."""

    def __init__(self, network: Network) -> None:
        self.outputs = {"weight_maps": network.model.get_layer("weight_maps").output}
