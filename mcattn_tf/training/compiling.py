"""Losses, targets and metrics of a network that is trained."""

from collections.abc import Mapping

import keras
from keras import KerasTensor, ops

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.losses import losses_of
from mcattn_tf.metrics import KnownAccuracy
from mcattn_tf.settings.config import Config, LossConfig


def compile_model(
    model: keras.Model,
    config: Config | None = None,
    optimizer: keras.optimizers.Optimizer | str = "adam",
    one_device: bool = True,
) -> None:
    """Compiles a network with its losses, loss weights and accuracies.

    Without settings `fit` takes the labels (B, K) alone, or a dict in which targets may be left
    out: those of other outputs of labels are the same labels, the reconstruction's are the images.

    Args:
        model: Network with outputs named as in `losses_of`.
        config: Weights of the losses, those of present labels among its findings; None for the
            default ones.
        optimizer: Optimizer with its schedule, as `optimizer_of` makes it, or the name of one.
        one_device: Whether one device computes whole batches. With several devices, XLA is off,
            because it excludes synchronised batch normalisation.
    """
    outputs, labels = list(model.output), models.label_outputs(model)
    # Keras prefixes a metric with its output only where there are several outputs.
    prefix = "" if len(outputs) > 1 else f"{labels[0]}_"
    exclusive = models.is_exclusive(model)
    accuracy = keras.metrics.CategoricalAccuracy if exclusive else KnownAccuracy
    of_labels = (config.training.label_smoothing, config.found.positive_weights) if config else ()
    loss = config.loss if config else LossConfig()
    losses, weights = losses_of(outputs, loss, exclusive, *of_labels)
    model.compile(
        optimizer=optimizer,
        loss=losses,
        loss_weights=weights,
        metrics={name: [accuracy(name=f"{prefix}accuracy")] for name in labels},
        jit_compile="auto" if one_device else False,
    )
    for layer in () if one_device else model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True  # statistics of the whole batch, not of a device's share
    if config is None:
        _complete_targets(model)


def _complete_targets(model: keras.Model) -> None:
    """Lets a compiled model train on some of its targets, by `targets`."""
    kind, outputs = type(model), list(model.output)

    def completed(x: KerasTensor, y: KerasTensor | Mapping) -> dict:
        given = y if isinstance(y, Mapping) else dict.fromkeys(models.label_outputs(model), y)
        labels = [given[name] for name in models.label_outputs(model) if name in given]
        if not labels or not set(given) <= set(outputs):
            raise UserError(
                f"targets must be labels, or a dict with {models.label_outputs(model)[0]!r} and "
                f"some of {', '.join(outputs)}. Received: {', '.join(given)}"
            )
        whole = targets(outputs, x, labels[0]) | dict(given)
        return {name: ops.cast(values, "float32") for name, values in whole.items()}

    def compute_loss(x=None, y=None, *rest, **named) -> KerasTensor:
        return kind.compute_loss(model, x, completed(x, y), *rest, **named)

    def compute_metrics(x, y, *rest, **named) -> dict:
        return kind.compute_metrics(model, x, completed(x, y), *rest, **named)

    model.compute_loss, model.compute_metrics = compute_loss, compute_metrics


def targets(outputs: list[str], images: KerasTensor, labels: KerasTensor) -> dict:
    """Returns {output: target}: the labels (B, K), the images (B, H, W, 3), or zeros (B,).

    `scores` and `attention_map` have no loss, but Keras asks for a target of every output.
    """
    known = {
        **dict.fromkeys((*models.LABEL_OUTPUTS, "scores", "attention_map"), labels),
        "reconstruction": images,
        "mask_l1": ops.zeros_like(labels[:, 0]),
    }
    return {name: known[name] for name in outputs}


def with_targets(outputs: list[str], images: KerasTensor, labels: KerasTensor) -> tuple:
    """Returns the images (B, H, W, 3) of a batch and the target of each output."""
    return images, targets(outputs, images, labels)


def make_variables(model: keras.Model) -> None:
    """Creates the variables of optimizer, losses and metrics.

    Keras would create them in the first step, which TensorFlow would then trace twice. Tracing is
    half of that step's time. The optimizer of the compiled network may have state already.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    outputs = {name: ops.zeros((1, *x.shape[1:])) for name, x in model.output.items()}
    labels = outputs[models.label_outputs(model)[0]]
    goals = targets(list(outputs), ops.zeros((1, *model.input_shape[1:])), labels)
    with keras.StatelessScope():  # creates variables, but forgets the update of their values
        model.compute_loss(y=goals, y_pred=outputs)
        model.compute_metrics(None, goals, outputs)


def monitor_name(model: keras.Model, config: Config) -> str:
    """Returns the history key that selects the best epoch."""
    return f"val_{models.label_outputs(model)[0]}_{config.training.monitor}"
