"""Served networks: answers, and answers with the maps that explain them."""

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.explain.methods import METHODS
from mcattn_tf.explain.methods.method import Network
from mcattn_tf.models import label_outputs
from mcattn_tf.settings.systems import system_of


def build_answers(model: keras.Model, thresholds: np.ndarray | None = None) -> keras.Model:
    """Builds a model from images (B, H, W, 3) in [0, 1] to the outputs for labels, (B, K).

    With thresholds (K,) it also returns `present`, bool (B, K): where the first output is above.
    """
    names = (*label_outputs(model), "scores")
    answers = {name: model.output[name] for name in names if name in model.output}
    if thresholds is not None:
        answers["present"] = answers[names[0]] > thresholds
    return keras.Model(model.input, answers, name="answers")


def build_explained_answers(
    model: keras.Model, thresholds: np.ndarray | None = None
) -> keras.Model:
    """Builds a model that returns answers and the maps that explain them.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict: the outputs of `build_answers`, and
        maps of the images' size: `contributions` and `local_probabilities` (B, H, W, K) of MCAttn;
        `weight_maps` (B, H, W, K) and `contribution_maps` (B, H, W, 3, K) of GCM; `attention_map`
        of ABN, (B, H, W, 1), or (B, H, W, K) of its tasks; `cam` and `local_probabilities`
        (B, H, W, K) of a plain network. Each pixel has the value of its feature cell.
    """
    size = model.input.shape[1:3]

    def at_size(values: KerasTensor) -> KerasTensor:
        if len(values.shape) < 4 or values.shape[1:3] == size:
            return values
        for axis, pixels in enumerate(size, start=1):
            values = ops.take(values, np.arange(pixels) * values.shape[axis] // pixels, axis=axis)
        return values

    outputs, network = dict(build_answers(model, thresholds).output), Network(model)
    for name in system_of(model).served_maps:
        outputs |= METHODS[name].kind.served(network)
    outputs = {name: at_size(values) for name, values in outputs.items()}
    return keras.Model(model.input, outputs, name="explained_answers")
