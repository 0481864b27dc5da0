"""What is served: the answers of a network, and the maps that explain them."""

from collections.abc import Callable

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.explain.methods.class_activation import ClassActivation, pooled_classifier
from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.explain.methods.selection import features_of
from mcattn_tf.models import label_outputs
from mcattn_tf.settings.systems import system_of


def _contributions(model: keras.Model) -> dict[str, KerasTensor]:
    explained = build_explainer(model, range(model.output["attributes"].shape[-1])).output
    # The masks are made once, for the maps and for the answer.
    return {name: explained[name] for name in ("attributes", "contributions")}


def _contribution_maps(model: keras.Model) -> dict[str, KerasTensor]:
    return {"contribution_maps": build_map_explainer(model).output["contribution_maps"]}


def _weight_maps(model: keras.Model) -> dict[str, KerasTensor]:
    return {"weight_maps": model.get_layer("weight_maps").output}


def _class_activation(model: keras.Model) -> dict[str, KerasTensor]:
    _, dense = pooled_classifier(model)
    return {"cam": ClassActivation(dense, name="cam")(features_of(model))}


def _attention_map(model: keras.Model) -> dict[str, KerasTensor]:
    return {"attention_map": model.output["attention_map"]}


# Of each map that is served, from a network to the map, (B, h, w, ..., K) on its own grid, and to
# what it lets the answers reuse.
SERVED: dict[str, Callable[[keras.Model], dict[str, KerasTensor]]] = {
    "contributions": _contributions,
    "contribution_maps": _contribution_maps,
    "weight_maps": _weight_maps,
    "cam": _class_activation,
    "attention_map": _attention_map,
}


def _answers(model: keras.Model) -> dict[str, KerasTensor]:
    names = (*label_outputs(model), *(("scores",) if "scores" in model.output else ()))
    return {name: model.output[name] for name in names}


def build_answers(model: keras.Model) -> keras.Model:
    """Builds the part of a network that is served.

    Args:
        model: a trained network.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict of those of the network's outputs that
        are about the labels, (B, K).
    """
    return keras.Model(model.input, _answers(model), name="answers")


def build_explained_answers(model: keras.Model) -> keras.Model:
    """Builds a model that gives these answers together with the maps that explain them.

    Args:
        model: a trained network.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict: what `build_answers` gives, and the
        maps as large as the images: `contributions` (B, H, W, K) of MCAttn; `weight_maps`
        (B, H, W, K) and `contribution_maps` (B, H, W, 3, K) of GCM; `attention_map` of ABN,
        (B, H, W, 1), or (B, H, W, K) of its tasks; `cam` (B, H, W, K) of a plain network. Each
        pixel has the value of the feature cell that it lies in.
    """
    size = model.input.shape[1:3]

    def at_size(values: KerasTensor) -> KerasTensor:
        if len(values.shape) < 4 or values.shape[1:3] == size:
            return values
        for axis, pixels in enumerate(size, start=1):
            values = ops.take(values, np.arange(pixels) * values.shape[axis] // pixels, axis=axis)
        return values

    outputs = _answers(model)
    for name in system_of(model).served_maps:
        outputs |= SERVED[name](model)
    outputs = {name: at_size(values) for name, values in outputs.items()}
    return keras.Model(model.input, outputs, name="explained_answers")
