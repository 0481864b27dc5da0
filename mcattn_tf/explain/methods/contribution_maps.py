"""Contribution maps of GCM (IPSJ Transactions 10(2), 2017), whose means are its scores."""

from collections.abc import Mapping

import keras
from keras import KerasTensor, ops

from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods.method import Network, OutputMethod
from mcattn_tf.settings.systems import system_of


def build_map_explainer(model: keras.Model) -> keras.Model:
    """Builds a model that answers and explains, on the weights of a trained GCM (eq. 1 to 4).

    Args:
        model: network from `build_gcm`.

    Returns:
        A model from images (B, H, W, D) in [0, 1] to a dict: `probabilities` and `scores`
        (B, N); `weight_maps` (B, H, W, N); `contribution_maps` (B, H, W, D, N), the product of
        weight maps and image. A score is the mean of its class's contribution map.

    Raises:
        UserError: if the model has no weight maps.
    """
    if "weight_maps" not in system_of(model).parts:
        raise UserError(
            f"model {model.name!r} has no contribution maps; --model gcm trains one that has"
        )
    weight_maps = model.get_layer("weight_maps").output
    product = weight_maps[:, :, :, None, :] * model.input[..., None]
    maps = {"weight_maps": weight_maps, "contribution_maps": product}
    return keras.Model(model.input, model.output | maps)


class ContributionMaps(OutputMethod):
    """Contribution maps, averaged over the image's colours."""

    def __init__(self, network: Network) -> None:
        weight_maps = network.model.get_layer("weight_maps").output
        gray = ops.mean(network.model.input, axis=-1, keepdims=True)
        self.outputs = {"contribution_maps": weight_maps * gray}

    @classmethod
    def served(cls, network: Network) -> Mapping[str, KerasTensor]:
        """Returns the maps of each colour, (B, H, W, D, N)."""
        return {"contribution_maps": build_map_explainer(network.model).output["contribution_maps"]}
