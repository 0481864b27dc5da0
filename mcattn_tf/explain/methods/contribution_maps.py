"""The contribution maps of GCM, which sum to its scores."""

import keras

from mcattn_tf.errors import UserError


def require_weight_maps(model: keras.Model) -> None:
    """Raises a UserError if a model has no class weight maps."""
    if "weight_maps" not in {layer.name for layer in model.layers}:
        raise UserError(
            f"model {model.name!r} has no contribution maps; --model gcm trains one that has"
        )


def build_map_explainer(model: keras.Model) -> keras.Model:
    """Builds a model that answers and explains, on the weights of a trained GCM.

    Source: GCM paper (IPSJ Transactions 10(2), 2017), eq. 1 to 4.

    Args:
        model: as `build_gcm` makes it.

    Returns:
        A model from images (B, H, W, D) in [0, 1] to a dict: `probabilities` and `scores`
        (B, N); `weight_maps` (B, H, W, N); `contribution_maps` (B, H, W, D, N), the weight maps
        times the image. A score is the mean of its class's contribution map.

    Raises:
        UserError: if the model has no weight maps.
    """
    require_weight_maps(model)
    weight_maps = model.get_layer("weight_maps").output
    contribution_maps = weight_maps[:, :, :, None, :] * model.input[..., None]
    maps = {"weight_maps": weight_maps, "contribution_maps": contribution_maps}
    return keras.Model(model.input, {**model.output, **maps})
