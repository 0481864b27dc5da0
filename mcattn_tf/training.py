"""Compile and fit, with a run directory that can be gone on with."""

import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from mcattn_tf import models, runs
from mcattn_tf.backbone_config import backbone_of
from mcattn_tf.config import Config
from mcattn_tf.data import Data
from mcattn_tf.data.pipeline import evaluation_batches, training_batches
from mcattn_tf.devices import gpus
from mcattn_tf.errors import UserError
from mcattn_tf.losses import losses_of
from mcattn_tf.metrics import mask_statistics, mask_warnings
from mcattn_tf.model_config import MODELS
from mcattn_tf.models.applications import load_imagenet
from mcattn_tf.schedules import optimizer_of
from mcattn_tf.writing import written_whole

MASK_IMAGES = 16


def device() -> str:
    """Returns what computes, for the log."""
    if names := gpus():
        return f"{len(names)} GPU: {', '.join(names)}"
    return "the CPU; no GPU was found (with TF_CPP_MIN_LOG_LEVEL=0 TensorFlow says why)"


def compile_model(model: keras.Model, config: Config, steps: int) -> None:
    """Compiles a network with its losses, their weights, the schedule and the accuracies.

    Args:
        model: with outputs named as in `losses_of`.
        config: weights of the losses, optimizer, learning rate and schedule.
        steps: of the whole training, for the schedule.
    """
    outputs = list(model.output)
    # Keras puts the output's name before the metric's only where there are several outputs.
    metric_name = "accuracy" if len(outputs) > 1 else "{}_accuracy"
    exclusive = models.is_exclusive(model)
    accuracy = keras.metrics.CategoricalAccuracy if exclusive else keras.metrics.BinaryAccuracy
    losses, weights = losses_of(outputs, config.loss, exclusive)
    # There "auto" would turn XLA on, with which a step takes 2 to 3 times as long.
    tensorflow_on_cpu = keras.backend.backend() == "tensorflow" and not gpus()
    model.compile(
        optimizer=optimizer_of(config.training, steps),
        loss=losses,
        loss_weights=weights,
        metrics={
            name: [accuracy(name=metric_name.format(name))] for name in models.label_outputs(model)
        },
        jit_compile=False if tensorflow_on_cpu else "auto",
    )


def targets(outputs: list[str], images, labels) -> dict:
    """Returns what each output is compared with.

    Args:
        outputs: names of the model's outputs.
        images: (B, H, W, 3), in [0, 1].
        labels: (B, K), 0 or 1.

    Returns:
        {output: target}: the labels, the images, or zeros (B,) for `mask_l1`. `scores` and
        `attention_map` have no loss, but Keras asks for a target of every output.
    """
    every = {
        **dict.fromkeys((*models.LABEL_OUTPUTS, "scores", "attention_map"), labels),
        "reconstruction": images,
        "mask_l1": ops.zeros_like(labels[:, 0]),
    }
    return {name: every[name] for name in outputs}


def make_variables(model: keras.Model) -> None:
    """Makes the variables that optimizer, losses and metrics keep.

    They would be made in the first step, which TensorFlow then traces twice: half its seconds.

    Args:
        model: compiled by `compile_model`, with an optimizer that may have state already.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    example = {name: ops.zeros((1, *x.shape[1:])) for name, x in model.output.items()}
    labels = example[models.label_outputs(model)[0]]
    goals = targets(list(example), ops.zeros((1, *model.input_shape[1:])), labels)
    model.compute_loss(y=goals, y_pred=example)
    model.compute_metrics(None, goals, example)
    model.reset_metrics()


def accuracy_name(model: keras.Model) -> str:
    """Returns the history key that the best epoch is chosen by."""
    return f"val_{models.label_outputs(model)[0]}_accuracy"


class _LogMaskStatistics(keras.callbacks.Callback):
    """Adds the masks' statistics on a few images to the logs, and warns of useless masks."""

    def __init__(self, images: np.ndarray, attributes: tuple[str, ...]) -> None:
        super().__init__()
        self._images = images
        self._attributes = attributes
        self._warnings: list[str] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        statistics = mask_statistics(self.model, [self._images])
        logs.update(statistics.result())
        self._warnings = mask_warnings(statistics.per_attribute(self._attributes))

    # Keras prints the epoch's line after all callbacks; the warnings are to stand below it.
    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._print_warnings()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._print_warnings()

    def _print_warnings(self) -> None:
        for warning in self._warnings:
            print(warning)
        self._warnings = []


class _SaveWeights(keras.callbacks.Callback):
    """Saves the best and the last network."""

    def __init__(self, directory: Path, monitor: str, best: float) -> None:
        super().__init__()
        self._directory = directory
        self._monitor = monitor
        self._best = best

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # The best first: an epoch whose last weights are there is not trained again.
        if logs[self._monitor] > self._best:
            self._best = logs[self._monitor]
            runs.save_model(self.model, self._directory / runs.BEST, epoch + 1)
        runs.save_model(self.model, self._directory / runs.LAST, epoch + 1)


class _StopOnNaN(keras.callbacks.Callback):
    """Ends a training whose loss is no longer a number."""

    def __init__(self, directory: Path, steps_per_epoch: int) -> None:
        super().__init__()
        self._directory = directory
        self._steps_per_epoch = steps_per_epoch
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        bad = [name for name, value in logs.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"{', '.join(bad)} became NaN or infinite in epoch {self._epoch + 1}, step "
                f"{batch + 1} of {self._steps_per_epoch}; what earlier epochs learnt is kept in "
                f"{self._directory}. Try a lower --learning_rate or --precision float32"
            )


def _read_history(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with path.open(newline="") as lines:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]


def _forget_history(path: Path, epochs: int) -> None:
    """Leaves the rows of the first `epochs` epochs: of those whose weights were saved."""
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        with written_whole(path) as partial:
            partial.write_text("".join(lines[: epochs + 1] if epochs else []))


def _of_labels(config: Config, data: Data) -> Config:
    """Returns the settings with what they take from the data set's labels."""
    config = config.replace("model", attributes=data.attributes)
    if "exclusive" not in MODELS[config.model.name]["model"]:
        return config
    if config.model.exclusive and not data.exclusive:
        raise UserError(
            f"`exclusive` (a softmax, as presets of classes have it) must be left out for "
            f"{config.data.dataset}, whose images may have several labels or none; take "
            f"--preset default --model {config.model.name}"
        )
    return config.replace(
        "model",
        exclusive=data.exclusive if config.model.exclusive is None else config.model.exclusive,
    )


def _check_counts(config: Config, data: Data) -> None:
    if data.train.count < config.training.batch_size:
        raise UserError(
            f"`batch_size` must be at most the number of training images, {data.train.count}. "
            f"Received: {config.training.batch_size}"
        )


def train(
    config: Config,
    data: Data,
    directory: Path,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Trains a network into a run directory.

    Args:
        config: the settings; its attribute names are taken from `data`, its receptive field
            from the network's layers.
        data: what to learn from.
        directory: of the run; made here, or there already for `resume`.
        resume: go on after the last finished epoch.
        callbacks: what else is done, after an epoch when its weights have been saved.

    Returns:
        `best_epoch` (counted from 1), `epochs`, `parameters` and `validation`, the row of the
        history at the best epoch.

    Raises:
        UserError: if the directory is in use, or the loss is no longer a number.
    """
    _check_counts(config, data)
    config = _of_labels(config, data)
    config = config.replace("data", held_out=data.held_out)
    training = config.training
    keras.utils.set_random_seed(training.seed)
    steps_per_epoch = data.train.count // training.batch_size
    if resume and (directory / runs.LAST).is_file():
        model, epochs_done = runs.load_to_train_on(directory)
    else:
        model = models.build(config)
        if config.model.weights:
            load_imagenet(model, backbone_of(config.model.backbone))
        compile_model(model, config, steps_per_epoch * training.epochs)
        epochs_done = 0
    seen = models.receptive_field(model).side
    decoded = any(layer.name == "weight_maps" for layer in model.layers)
    print(f"receptive field of a {'weight' if decoded else 'feature cell'}: {seen} pixels")
    config = config.replace("model", receptive_field=seen)
    if resume:
        _forget_history(directory / runs.HISTORY, epochs_done)
    else:
        runs.create(directory, config)
    history = _read_history(directory / runs.HISTORY)
    monitor = accuracy_name(model)
    if len(history) < training.epochs:
        best = max((row[monitor] for row in history), default=-math.inf)
        _fit(model, config, data, directory, len(history), best, callbacks)
    history = _read_history(directory / runs.HISTORY)
    best_row = max(history, key=lambda row: row[monitor])
    return {
        "best_epoch": int(best_row.pop("epoch")) + 1,
        "epochs": len(history),
        "parameters": model.count_params(),
        "validation": best_row,
    }


def _fit(
    model: keras.Model,
    config: Config,
    data: Data,
    directory: Path,
    first_epoch: int,
    best: float,
    others: Sequence[keras.callbacks.Callback],
) -> None:
    training, outputs = config.training, list(model.output)
    steps_per_epoch = data.train.count // training.batch_size
    validation = evaluation_batches(data.validation, training.batch_size)
    callbacks = [_StopOnNaN(directory, steps_per_epoch)]
    if "mask_l1" in outputs:
        few = evaluation_batches(data.validation, MASK_IMAGES).as_numpy_iterator()
        callbacks.append(_LogMaskStatistics(next(few)[0], config.model.attributes))
    callbacks += [
        keras.callbacks.CSVLogger(directory / runs.HISTORY, append=True),
        keras.callbacks.TensorBoard(directory / runs.TENSORBOARD, write_graph=False),
        _SaveWeights(directory, accuracy_name(model), best),
        *others,
    ]

    def with_targets(images, labels):
        return images, targets(outputs, images, labels)

    batches = training_batches(
        data.train,
        training.batch_size,
        range(first_epoch, training.epochs),
        training.seed,
        config.data,
    )
    make_variables(model)
    model.fit(
        batches.map(with_targets),
        validation_data=validation.map(with_targets),
        epochs=training.epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=steps_per_epoch,
        callbacks=callbacks,
        shuffle=False,  # the pipeline has done it
        verbose=1 if sys.stdout.isatty() else 2,
    )
