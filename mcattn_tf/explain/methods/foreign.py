"""A network that was not built here, as the methods read it: features, scores, probabilities."""

import keras
from keras import KerasTensor, activations, layers

from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods.inlining import Inliner, copied

FEATURES, PROBABILITIES = "features", "probabilities"
# Layers and operations after which the values are the same scores, and those that end them.
SAME = (layers.Identity, layers.Dropout)
ENDS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
ACTIVATIONS = {activations.softmax: "softmax", activations.sigmoid: "sigmoid"}
WITHOUT_CELLS = (layers.InputLayer, layers.ZeroPadding2D)


def dressed(
    model: keras.Model,
    image_shape: tuple[int, int, int],
    layer: str | None = None,
    output: str | int | None = None,
) -> tuple[keras.Model, str, str]:
    """Takes a network apart; its weights stay shared, and it computes in float32.

    A last softmax or sigmoid is taken off the scores. Scores without one get a softmax, a single
    score a sigmoid.

    Args:
        model: functional, Sequential or subclassed network from one tensor of images.
        image_shape: (H, W, C) of the images.
        layer: name or path (`OUTER/INNER`) of the layer of features; None for the last one with
            positions.
        output: key or index of the output to explain; None for the first that is a score a class.

    Returns:
        The network without nested ones, from images to {`probabilities`: (B, K)}, whose layer
        `features` maps are read from; the path of that layer in the network as it was given; and
        what scores are explained, in words.

    Raises:
        UserError: for a network that cannot be read or has no such layer or output.
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
    return keras.Model(images, {PROBABILITIES: answers}, name=model.name), path, score


def _output_of(outputs: object, wanted: str | int | None, name: str) -> KerasTensor:
    """Returns the output to explain, (B, K)."""
    listed = [] if isinstance(outputs, dict) else keras.tree.flatten(outputs)
    known = dict(enumerate(listed)) or outputs
    scores = {key: x for key, x in known.items() if len(x.shape) == 2 and x.shape[1]}
    shapes = ", ".join(f"{key}: {tuple(x.shape)}" for key, x in known.items())
    if wanted is None and scores:
        return next(iter(scores.values()))
    if wanted not in scores:
        which = "no output" if wanted is None else f"no output {wanted!r}"
        raise UserError(f"model {name!r} has {which} of one score a class, (B, K), but {shapes}")
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


def _layer_of(
    inliner: Inliner, images: KerasTensor, scores: KerasTensor, wanted: str | None, name: str
) -> str:
    """Returns the path of the layer whose cells are explained."""
    below = keras.Function(images, scores).operations
    order = {id(operation): place for place, operation in enumerate(below)}
    paths = [path for path, x in inliner.layers.items() if id(x) in order and _has_cells(x)]
    paths.sort(key=lambda path: order[id(inliner.layers[path])])
    if not paths:
        raise UserError(
            f"model {name!r} has no layer with positions, (B, h, w, C) with h and w above 1, below "
            "its scores; maps need one, or larger images"
        )
    fits = [x for x in inliner.layers if wanted in (x, x.split("/")[-1])] if wanted else paths[-1:]
    if len(fits) > 1:
        raise UserError(f"`layer` {wanted!r} is several layers; name one of {', '.join(fits)}")
    if not fits or fits[0] not in paths:
        why = "must have positions and be used once, below the scores" if fits else "does not exist"
        listed = ", ".join(reversed(paths[-8:]))
        raise UserError(f"`layer` {wanted!r} {why}; the last ones that fit: {listed}")
    return fits[0]


def _has_cells(layer: keras.Layer) -> bool:
    """Returns whether a layer was called once, and makes a grid of several rows and columns."""
    if len(layer._inbound_nodes) != 1 or isinstance(layer, WITHOUT_CELLS):
        return False
    shape = getattr(layer.output, "shape", ())
    last = getattr(layer, "data_format", "channels_last") != "channels_first"
    return last and len(shape) == 4 and all(side is not None and side > 1 for side in shape[1:3])
