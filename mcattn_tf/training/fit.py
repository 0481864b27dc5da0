"""Compile and fit, with a run directory that can be gone on with."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
from keras import ops

from mcattn_tf import models, runs
from mcattn_tf.data import Data
from mcattn_tf.data.pipeline import evaluation_batches, training_batches
from mcattn_tf.devices import gpus, is_emulated
from mcattn_tf.errors import UserError
from mcattn_tf.losses import losses_of
from mcattn_tf.models.applications import load_imagenet
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.runs import checkpoints
from mcattn_tf.runs.checkpoints import Progress, load_weights, newest
from mcattn_tf.runs.record import recorded
from mcattn_tf.settings.backbones import backbone_of
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.systems import SYSTEMS
from mcattn_tf.training import distribution
from mcattn_tf.training.callbacks import (
    AverageWeights,
    EpochTensorBoard,
    LogMaskStatistics,
    SaveProgress,
    StopOnNaN,
    Validate,
    keep_best,
)
from mcattn_tf.training.distribution import Strategy
from mcattn_tf.training.faults import StopRequests, naming_faults, naming_write_errors

MASK_IMAGES = 16


def device() -> str:
    """Returns what computes, for the log."""
    if names := gpus():
        return f"{len(names)} GPU: {', '.join(names)}"
    return "the CPU; no GPU was found (with TF_CPP_MIN_LOG_LEVEL=0 TensorFlow says why)"


def compile_model(model: keras.Model, config: Config, steps: int, one_device: bool = True) -> None:
    """Compiles a network with its losses, their weights, the schedule and the accuracies.

    Args:
        model: with outputs named as in `losses_of`.
        config: weights of the losses, optimizer, learning rate and schedule.
        steps: of the whole training, for the schedule.
        one_device: whether batches are not divided among several; XLA and synchronised batch
            normalisation exclude each other.
    """
    outputs = list(model.output)
    # Keras puts the output's name before the metric's only where there are several outputs.
    metric_name = "accuracy" if len(outputs) > 1 else "{}_accuracy"
    exclusive = models.is_exclusive(model)
    accuracy = keras.metrics.CategoricalAccuracy if exclusive else keras.metrics.BinaryAccuracy
    smoothing = config.training.label_smoothing
    losses, weights = losses_of(outputs, config.loss, exclusive, smoothing)
    model.compile(
        optimizer=optimizer_of(config.training, steps),
        loss=losses,
        loss_weights=weights,
        metrics={
            name: [accuracy(name=metric_name.format(name))] for name in models.label_outputs(model)
        },
        jit_compile="auto" if one_device else False,
    )
    if not one_device:
        distribution.synchronise_batch_normalization(model)


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


def with_targets(outputs: list[str], images, labels) -> tuple:
    """Returns the images (B, H, W, 3) of a batch and what each output is compared with."""
    return images, targets(outputs, images, labels)


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
    with keras.StatelessScope():  # which makes variables and forgets what they would have counted
        model.compute_loss(y=goals, y_pred=example)
        model.compute_metrics(None, goals, example)


def accuracy_name(model: keras.Model) -> str:
    """Returns the history key that the best epoch is chosen by."""
    return f"val_{models.label_outputs(model)[0]}_accuracy"


def _of_labels(config: Config, data: Data) -> Config:
    """Returns the settings with what they take from the data set's labels."""
    config = config.replace("found", attributes=data.attributes, held_out=data.held_out)
    if "exclusive" not in SYSTEMS[config.model.system].model:
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


def _check_counts(config: Config, data: Data, devices: int) -> None:
    batch_size = config.training.batch_size
    if data.train.count < batch_size:
        raise UserError(
            f"`batch_size` must be at most the number of training images, {data.train.count}. "
            f"Received: {batch_size}"
        )
    if batch_size % devices:
        raise UserError(
            f"`batch_size`, of all devices together, must be divisible by their number, {devices}. "
            f"Received: {batch_size}"
        )


def train(
    config: Config,
    data: Data,
    directory: Path,
    resume: bool = False,
    *,
    checkpoint_minutes: float | None = None,
    strategy: Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Trains a network into a run directory.

    Args:
        config: the settings; its attribute names are taken from `data`, its receptive field
            from the network's layers.
        data: what to learn from.
        directory: of the run; made here, or there already for `resume`. Several workers share it.
        resume: go on after the last checkpoint.
        checkpoint_minutes: after how many a checkpoint is saved within an epoch too; None for
            never.
        strategy: as `distribution.choose_strategy` returns it; None for one device.
        callbacks: what else is done, after an epoch when it has been saved.

    Returns:
        `best_epoch` (counted from 1), `epochs`, `parameters`, `seconds` (of all sessions) and
        `validation`, the row of the history at the best epoch.

    Raises:
        UserError: if the directory is in use or cannot be written, its checkpoints are damaged or
            do not fit the settings, memory does not suffice, another worker has gone, or the loss
            is no longer a number.
        Stopped: after SIGTERM or Ctrl-C, when all is saved.
    """
    strategy = strategy or distribution.choose_strategy("none")
    if is_emulated(precision := config.training.precision):
        print(f"warning: this CPU emulates {precision}, many times slower than float32")
    _check_counts(config, data, strategy.num_replicas_in_sync)
    if config.model.name == "multitask_abn" and strategy.num_replicas_in_sync > 1:
        # Its statistics of each task's batch are not synchronised among devices.
        raise UserError("multitask_abn is trained on one device; take --strategy none")
    config = _of_labels(config, data)
    keras.utils.set_random_seed(config.training.seed)
    if config.training.deterministic:
        distribution.make_deterministic()
    workers, chief = distribution.of_several_workers(strategy), distribution.is_chief(strategy)
    found = None
    with contextlib.ExitStack() as held:
        if resume:
            if chief:
                held.enter_context(runs.alone_in(directory))
            found = newest([directory / name for name in (runs.LAST, runs.PREVIOUS, runs.BEST)])
        progress = found[1] if found else Progress()
        with naming_faults(directory, config, workers), strategy.scope():
            model = _made(config, data.train.count, found[0] if found else None, strategy)
        seen = models.receptive_field(model).side
        config = config.replace("found", receptive_field=seen)
        if chief:
            evidence = SYSTEMS[config.model.system].evidence
            cell = "weight" if evidence == "weight_maps" else "feature cell"
            print(f"receptive field of a {cell}: {seen} pixels")
            if not resume:
                runs.create(directory, config)
                held.enter_context(runs.alone_in(directory))
            elif found:
                _bring_to(directory, *found, accuracy_name(model))
            held.enter_context(recorded(directory, device()))
        held.enter_context(naming_faults(directory, config, workers))
        progress = _fit(
            model, config, data, directory, progress, checkpoint_minutes, strategy, callbacks
        )
    best_row = dict(progress.best(accuracy_name(model)))
    return {
        "best_epoch": int(best_row.pop("epoch")) + 1,
        "epochs": progress.epochs,
        "parameters": model.count_params(),
        "seconds": round(progress.seconds, 1),
        "validation": best_row,
    }


def _made(
    config: Config, image_count: int, checkpoint: Path | None, strategy: Strategy
) -> keras.Model:
    """Returns the network, compiled, as it begins or as a checkpoint has it."""
    model = models.build(config)
    if config.model.weights and not checkpoint:
        load_imagenet(model, backbone_of(config.model.backbone))
    steps = image_count // config.training.batch_size * config.training.epochs
    compile_model(model, config, steps, strategy.num_replicas_in_sync == 1)
    make_variables(model)
    if checkpoint:
        load_weights(model, checkpoint, config, to_train_on=True)
    return model


def _bring_to(directory: Path, path: Path, progress: Progress, monitor: str) -> None:
    """Brings a run directory to where a checkpoint in it is; a damaged one is put aside."""
    last = directory / runs.LAST
    with naming_write_errors(directory, lambda: f"{path.name} is kept"):
        if path != last:
            if last.is_file():
                last.replace(directory / runs.DAMAGED)
            checkpoints.copy(path, last)
        keep_best(directory, progress, monitor)
        runs.write_history(directory, progress.history)


def _fit(
    model: keras.Model,
    config: Config,
    data: Data,
    directory: Path,
    progress: Progress,
    checkpoint_minutes: float | None,
    strategy: Strategy,
    others: Sequence[keras.callbacks.Callback],
) -> Progress:
    training, outputs = config.training, list(model.output)
    steps_per_epoch = data.train.count // training.batch_size

    def batches_of(epochs: range, first_step: int, devices: range, device_count: int):
        batches = training_batches(
            data.train,
            training.batch_size,
            epochs,
            training.seed,
            config.data,
            first_step,
            devices,
            device_count,
        )
        return batches.map(functools.partial(with_targets, outputs))

    with StopRequests() as requests:
        save = SaveProgress(
            directory,
            config,
            strategy,
            progress,
            accuracy_name(model),
            steps_per_epoch,
            checkpoint_minutes,
            requests,
        )
        callbacks = [
            StopOnNaN(save.kept, progress.first_step, steps_per_epoch),
            *([AverageWeights(progress)] if training.ema else []),
            *_logging_callbacks(model, config, data, directory, strategy),
            save,
            *others,
        ]
        for epochs, first_step in _parts(progress, training.epochs):
            batches = functools.partial(batches_of, epochs, first_step)
            distribution.fit(
                strategy,
                model,
                distribution.divided(strategy, batches),
                epochs,
                training.epochs,
                steps_per_epoch - first_step,
                callbacks,
            )
        save.leave_if_asked()
    return save.progress


def _logging_callbacks(
    model: keras.Model, config: Config, data: Data, directory: Path, strategy: Strategy
) -> list[keras.callbacks.Callback]:
    """Returns what adds to the logs of an epoch, and then what shows them."""
    outputs = list(model.output)

    def validation(devices: range, device_count: int):
        batch_size = config.training.batch_size
        batches = evaluation_batches(data.validation, batch_size, devices, device_count)
        return batches.map(functools.partial(with_targets, outputs))

    callbacks = [Validate(strategy, distribution.divided(strategy, validation))]
    chief = distribution.is_chief(strategy)
    if "mask_l1" in outputs:
        few = evaluation_batches(data.validation, MASK_IMAGES).as_numpy_iterator()
        callbacks.append(LogMaskStatistics(next(few)[0], config.attributes, chief))
    if chief:
        log = directory / runs.TENSORBOARD
        callbacks.append(EpochTensorBoard(log, write_graph=False))
    return callbacks


def _parts(progress: Progress, epochs: int) -> Iterator[tuple[range, int]]:
    """Yields the rest of an epoch that was broken off, then the whole ones.

    Yields:
        Numbers of epochs, and how many steps of the first are done already.
    """
    first = progress.epochs
    if progress.steps:
        yield range(first, first + 1), progress.steps
        first += 1
    if first < epochs:
        yield range(first, epochs), 0
