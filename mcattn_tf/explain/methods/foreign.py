"""A network that was not built here, as the methods read it: features, scores, probabilities."""

from typing import NamedTuple

import keras
from keras import KerasTensor, activations, layers

from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods.inlining import Inliner, copied

FEATURES, PROBABILITIES = "features", "probabilities"
# Layers and operations after which the values are the same scores, and those that end them.
SAME = (layers.Identity, layers.Dropout)
ENDS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
ACTIVATIONS = {activations.softmax: "softmax", activations.sigmoid: "sigmoid"}
LISTED = 8  # layers that an error names


class Dressed(NamedTuple):
    """A network without nested ones, from images to the dict {`probabilities`: (B, K)}.

    Attributes:
        model: the network; its layer `features` is the one that maps are read from, and the input
            of its last layer, `probabilities`, are the scores that are explained.
        layer: path of the layer of features in the network as it was given.
        score: what is explained, in words.
    """

    model: keras.Model
    layer: str
    score: str


def dressed(
    model: keras.Model,
    image_shape: tuple[int, int, int],
    layer: str | None = None,
    output: str | int | None = None,
) -> Dressed:
    """Takes a network apart; its weights stay shared, and it computes in float32.

    A last activation by softmax or sigmoid is taken off the scores. Scores without one are followed
    by a softmax, a single score by a sigmoid.

    Args:
        model: functional, Sequential or subclassed network from one tensor of images.
        image_shape: (H, W, C) of the images.
        layer: name or path (`OUTER/INNER`) of the layer of features; None for the last one with
            positions.
        output: key or index of the output to explain; None for the first that is a score a class.

    Raises:
        UserError: for a network whose layers cannot be read, that has no such layer or output, or
            none with positions.
    """
    count = len(keras.tree.flatten(model.inputs)) if isinstance(model, keras.Function) else 1
    if count != 1:
        raise UserError(f"model {model.name!r} must take images alone. Received: {count} inputs")
    images, inliner = keras.Input(image_shape, name="images"), Inliner((FEATURES, PROBABILITIES))
    given = _output_of(inliner.run(model, images), output, model.name)
    logits, activation, score = _scores(given)
    path = _layer_of(inliner, images, logits, layer, model.name)
    inliner.layers[path].__dict__["name"] = FEATURES
    if logits.shape[-1] == 1 and activation == "softmax":
        raise UserError(
            f"model {model.name!r} ends in a softmax of one score, which is always 1; end it in a "
            "sigmoid, or in two scores"
        )
    answers = layers.Activation(activation, dtype="float32", name=PROBABILITIES)(logits)
    return Dressed(keras.Model(images, {PROBABILITIES: answers}, name="dressed"), path, score)


def _is_score(x: KerasTensor) -> bool:
    return len(x.shape) == 2 and x.shape[1] is not None


def _output_of(outputs: object, wanted: str | int | None, name: str) -> KerasTensor:
    """Returns the output to explain, (B, K)."""
    listed = [] if isinstance(outputs, dict) else keras.tree.flatten(outputs)
    known = dict(enumerate(listed)) or outputs
    scores = {key: x for key, x in known.items() if _is_score(x)}
    shapes = ", ".join(f"{key}: {tuple(x.shape)}" for key, x in known.items())
    if wanted is None and scores:
        return next(iter(scores.values()))
    if wanted not in scores:
        which = "no output" if wanted is None else f"no output {wanted!r}"
        raise UserError(
            f"model {name!r} has {which} of one score a class, (B, K); give a model that has, or "
            f"name one by `output`. Its outputs: {shapes}"
        )
    return scores[wanted]


def _scores(x: KerasTensor) -> tuple[KerasTensor, str, str]:
    """Returns the scores below the last activation, that activation, and what they are."""
    operation = x._keras_history.operation
    while isinstance(operation, SAME) or (
        isinstance(operation, layers.Activation) and operation.activation is activations.linear
    ):
        x = operation.input
        operation = x._keras_history.operation
    name, activation = operation.name, ACTIVATIONS.get(getattr(operation, "activation", None))
    if isinstance(operation, layers.Activation) and activation:
        return operation.input, activation, f"the scores before the {activation} of {name!r}"
    if activation:
        twin = copied(operation, activation=activations.linear)
        return twin(operation.input), activation, f"the scores of {name!r} before its {activation}"
    kind = ENDS.get(type(operation).__name__)
    if kind and getattr(operation, "axis", -1) in (-1, 1):
        [below] = keras.tree.flatten(operation.input)
        return below, kind, f"the scores before the {kind} of {name!r}"
    activation = "softmax" if x.shape[-1] > 1 else "sigmoid"
    return x, activation, f"the output of {name!r}, taken for scores before a {activation}"


def has_positions(x: object) -> bool:
    """Returns whether a tensor is a grid (B, h, w, C) of more than one row and column."""
    shape = getattr(x, "shape", ())
    return len(shape) == 4 and all(side is not None and side > 1 for side in shape[1:3])


def _layer_of(
    inliner: Inliner, images: KerasTensor, scores: KerasTensor, wanted: str | None, name: str
) -> str:
    """Returns the path of the layer whose cells are explained."""
    below = keras.Function(images, scores).operations
    order = {id(operation): place for place, operation in enumerate(below)}
    usable = {
        path: layer
        for path, layer in inliner.layers.items()
        if id(layer) in order
        and len(layer._inbound_nodes) == 1
        and not isinstance(layer, layers.InputLayer | layers.ZeroPadding2D)
        and has_positions(layer.output)
        and getattr(layer, "data_format", "channels_last") != "channels_first"
    }
    paths = sorted(usable, key=lambda path: order[id(usable[path])])
    listed = ", ".join(reversed(paths[-LISTED:]))
    if not paths:
        raise UserError(
            f"model {name!r} has no layer with positions, (B, h, w, C) with h and w above 1, below "
            "its scores; maps need one, or larger images"
        )
    if wanted is None:
        return paths[-1]
    fits = [path for path in inliner.layers if wanted in (path, path.split("/")[-1])]
    if not fits:
        raise UserError(
            f"model {name!r} has no layer {wanted!r}; the last ones with positions: {listed}"
        )
    if len(fits) > 1:
        raise UserError(f"`layer` {wanted!r} is several layers; name one of {', '.join(fits)}")
    if fits[0] not in paths:
        raise UserError(
            f"`layer` {wanted!r} must have positions, (B, h, w, C), be used once and lie below the "
            f"scores; the last such ones: {listed}"
        )
    return fits[0]


def preprocesses(model: keras.Model) -> bool:
    """Returns whether the first layer of a dressed network rescales its images."""
    first = [node.operation for node in model.input._keras_history.operation._outbound_nodes]
    return any(isinstance(x, layers.Rescaling | layers.Normalization) for x in first)
