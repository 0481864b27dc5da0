"""Local probabilities: what a network would answer if every cell were like this one."""

from collections.abc import Mapping

import keras
import numpy as np
from keras import KerasTensor

from mcattn_tf.explain.methods.cam import pooled_classifier
from mcattn_tf.explain.methods.contributions import Explained, SubnetworkMaps, is_linear
from mcattn_tf.explain.methods.method import Batch, Network, OutputMethod
from mcattn_tf.explain.methods.selection import heads_of
from mcattn_tf.settings.systems import system_of


def _has_linear_subnetworks(model: keras.Model) -> bool:
    return "subnetworks" in system_of(model).parts and is_linear(heads_of(model, "attributes"))


class LocalProbabilities(OutputMethod):
    """The probability of each cell, in (0, 1): the answer if every cell were like this one.

    It says where an attribute is seen; contributions say which cells decided. For sub-networks it
    is sigmoid(bias_k + e_k[p]), for a dense layer on averaged features, or on the features of every
    cell, the activation of that layer's value at a cell. The map of an absent attribute is the
    probability of absence.
    """

    threshold = 0.5

    def __init__(self, network: Network) -> None:
        model = network.model
        if _has_linear_subnetworks(model):
            self.output = "attributes"
            tensors = network.share(SubnetworkMaps).tensors
            self.outputs = {"local_probabilities": tensors["local_probabilities"]}
        else:
            self.output, dense = pooled_classifier(model)
            activation = model.get_layer(self.output).activation
            layer = keras.layers.Activation(activation, dtype="float32", name="local_probabilities")
            self.outputs = {layer.name: layer(dense(network.features))}

    @classmethod
    def explains(cls, model: keras.Model) -> bool:
        """Returns whether an output is linear in the features of each cell."""
        return _has_linear_subnetworks(model) or pooled_classifier(model) is not None

    @classmethod
    def served(cls, network: Network) -> Mapping[str, KerasTensor]:
        """Returns the local probabilities; of sub-networks from the masks of the answers."""
        if "subnetworks" not in system_of(network.model).parts:
            return super().served(network)
        if not _has_linear_subnetworks(network.model):
            return {}  # those of the multi-label classifier would stand beside other answers
        return {"local_probabilities": network.share(Explained).outputs["local_probabilities"]}

    def maps(self, batch: Batch) -> np.ndarray:
        """Returns the maps, (P, h, w)."""
        present = batch.pairs.signs[:, None, None] > 0
        probabilities = super().maps(batch)
        return np.where(present, probabilities, 1 - probabilities)
