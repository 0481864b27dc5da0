"""The attention maps of ABN (Fukui et al. 2019, eq. 1, 2 and 4)."""

import keras

from mcattn_tf.explain.methods.method import Network, OutputMethod


class AttentionMap(OutputMethod):
    """The attention map of a network: one for all classes, or one for each attribute."""

    def __init__(self, network: Network) -> None:
        self.outputs = {"attention_map": network.model.output["attention_map"]}

    @classmethod
    def may_be_negative(cls, model: keras.Model) -> bool:
        """Returns whether the maps are linear."""
        return model.get_layer("attention_map").activation is keras.activations.linear
