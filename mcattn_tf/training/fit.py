"""Training of a network into a run directory, from the start or from a checkpoint."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from mcattn_tf import models, runs
from mcattn_tf.data import Data, Split
from mcattn_tf.data.pipeline import evaluation_batches, training_batches
from mcattn_tf.devices import gpus, is_emulated
from mcattn_tf.errors import UserError
from mcattn_tf.losses import positive_weights
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.runs import checkpoints
from mcattn_tf.runs.checkpoints import Progress, load_weights, newest
from mcattn_tf.runs.record import recorded
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.systems import SYSTEMS
from mcattn_tf.training import distribution, initial_weights
from mcattn_tf.training.callbacks import (
    AverageWeights,
    EpochTensorBoard,
    LogMaskStatistics,
    SaveProgress,
    Session,
    StopOnNaN,
    Validate,
    keep_best,
)
from mcattn_tf.training.compiling import compile_model, make_variables, monitor_name, with_targets
from mcattn_tf.training.distribution import Dataset, Strategy
from mcattn_tf.training.epoch_lines import ShowProgress
from mcattn_tf.training.faults import StopRequests, naming_faults, naming_write_errors

MASK_IMAGES = 16  # validation images for the masks' statistics


def device() -> str:
    """Returns the devices that compute, for the log."""
    if names := gpus():
        return f"{len(names)} GPU: {', '.join(names)}"
    return "the CPU; no GPU was found (with TF_CPP_MIN_LOG_LEVEL=0 TensorFlow says why)"


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
        config: Settings of the run. Its findings are filled in from the data and the network.
        data: Training and validation images with their labels.
        directory: Run directory: new, or an existing one for `resume`. Several workers share it.
        resume: Whether to continue from the last checkpoint.
        checkpoint_minutes: Minutes between checkpoints within an epoch; None for none.
        strategy: Strategy of `distribution.choose_strategy`; None for one device.
        callbacks: Further callbacks, called after an epoch has been saved.

    Returns:
        `best_epoch` (counted from 1), `epochs`, `parameters`, `seconds` (of all sessions) and
        `validation`, the row of the history at the best epoch.

    Raises:
        UserError: If the directory is in use or cannot be written, its checkpoints are damaged or
            do not fit the settings, memory does not suffice, another worker is lost, or the loss
            is no longer a number.
        Stopped: After SIGTERM or Ctrl-C, once everything is saved.
    """
    strategy = strategy or distribution.choose_strategy("none")
    _check(config, data, strategy.num_replicas_in_sync)
    config = _with_labels(config, data)
    keras.utils.set_random_seed(config.training.seed)
    if config.training.deterministic:
        distribution.make_deterministic()
    with contextlib.ExitStack() as stack:
        path, progress = None, Progress()
        if resume:
            if distribution.is_chief(strategy):
                stack.enter_context(runs.alone_in(directory))
            names = (runs.LAST, runs.PREVIOUS, runs.BEST)
            path, progress = newest([directory / name for name in names]) or (path, progress)
        workers = distribution.of_several_workers(strategy)
        with naming_faults(directory, config, workers), strategy.scope():
            model = _compiled_model(config, data.train.count, path, strategy)
        config = config.replace("found", receptive_field=models.receptive_field(model).side)
        session = Session(directory, config, data, strategy)
        if session.chief:
            stack.enter_context(_open_directory(session, resume, path, progress, model))
        stack.enter_context(naming_faults(directory, config, workers))
        progress = _fit(session, model, progress, checkpoint_minutes, callbacks)
    return _summary(model, config, progress)


def _check(config: Config, data: Data, devices: int) -> None:
    """Raises a UserError for settings that this machine or these data cannot satisfy."""
    precision, batch_size = config.training.precision, config.training.batch_size
    if is_emulated(precision):
        print(f"warning: this CPU emulates {precision}, many times slower than float32")
    if data.train.count < batch_size:
        raise UserError(
            f"`batch_size` must be at most the number of training images, {data.train.count}. "
            f"Received: {batch_size}"
        )
    monitor, labels = config.training.monitor, _labels(data.validation)
    if monitor != "accuracy" and not np.any((labels == 0).any(axis=0) & (labels == 1).any(axis=0)):
        raise UserError(
            f"`monitor` must be accuracy where no attribute is both present and absent among the "
            f"validation images. Received: {monitor}"
        )
    if batch_size % devices:
        raise UserError(
            f"`batch_size`, of all devices together, must be divisible by their number, {devices}. "
            f"Received: {batch_size}"
        )


def _with_labels(config: Config, data: Data) -> Config:
    """Returns the settings with those that follow from the data set's labels."""
    config = config.replace("found", attributes=data.attributes, held_out=data.held_out)
    exclusive, cap = config.model.exclusive, config.loss.positive_weight
    if cap is not None:
        weights = positive_weights(_labels(data.train), cap)
        config = config.replace("found", positive_weights=weights)
    if "exclusive" not in SYSTEMS[config.model.system].model:
        return config
    if exclusive and not data.exclusive:
        raise UserError(
            f"`exclusive` (a softmax, as presets of classes have it) must be left out for "
            f"{config.data.dataset}, whose images may have several labels or none; take "
            f"--preset default --model {config.model.name}"
        )
    exclusive = data.exclusive if exclusive is None else exclusive
    for name, value, default in (
        ("positive_weight", cap, None),
        ("monitor", config.training.monitor, "accuracy"),
    ):
        if exclusive and value != default:
            raise UserError(
                f"`{name}` must be left out for {config.data.dataset}, where each image has one "
                f"class: it is about attributes. Received: {value}"
            )
    return config.replace("model", exclusive=exclusive)


def _labels(split: Split) -> np.ndarray:
    """Returns all labels (N, K) of a split."""
    return split.labels_of(np.arange(split.count))


def _compiled_model(
    config: Config, image_count: int, checkpoint: Path | None, strategy: Strategy
) -> keras.Model:
    """Returns the compiled network, with initial weights or those of a checkpoint."""
    model = models.build(config)
    if not checkpoint:
        initial_weights.load(model, config)
    initial_weights.freeze(model, config)
    steps = image_count // config.training.batch_size * config.training.epochs
    optimizer = optimizer_of(config.training, steps)
    compile_model(model, config, optimizer, strategy.num_replicas_in_sync == 1)
    make_variables(model)
    if checkpoint:
        load_weights(model, checkpoint, config, to_train_on=True)
    return model


@contextlib.contextmanager
def _open_directory(
    session: Session, resume: bool, path: Path | None, progress: Progress, model: keras.Model
) -> Iterator[None]:
    """Creates the run directory or restores its last checkpoint, and keeps a record."""
    directory, config, last = session.directory, session.config, session.directory / runs.LAST
    is_map = SYSTEMS[config.model.system].evidence == "weight_maps"
    cell = "weight" if is_map else "feature cell"
    print(f"receptive field of a {cell}: {config.found.receptive_field} pixels")
    with contextlib.ExitStack() as stack:
        if not resume:
            runs.create(directory, config)
            stack.enter_context(runs.alone_in(directory))
        elif path:
            with naming_write_errors(directory, lambda: f"{path.name} is kept"):
                if path != last:
                    if last.is_file():
                        last.replace(directory / runs.DAMAGED)
                    checkpoints.copy(path, last)
                keep_best(directory, progress, monitor_name(model, config))
                runs.write_epochs(directory, config.training.epochs)
        stack.enter_context(recorded(directory, device()))
        yield


def _fit(
    session: Session,
    model: keras.Model,
    progress: Progress,
    checkpoint_minutes: float | None,
    others: Sequence[keras.callbacks.Callback],
) -> Progress:
    config, training, split = session.config, session.config.training, session.data.train
    size, seed = training.batch_size, training.seed

    def batches(epochs: range, done: int, devices: range, device_count: int) -> Dataset:
        return training_batches(split, size, epochs, seed, config.data, done, devices, device_count)

    with contextlib.ExitStack() as stack:
        requests = stack.enter_context(StopRequests())
        save = SaveProgress(
            session, progress, monitor_name(model, config), checkpoint_minutes, requests
        )
        callbacks = [*_callbacks(session, model, save, progress, stack), *others]
        for epochs, first_step in _parts(progress, training.epochs):
            if save.ended_early():  # also after a resumed epoch
                break
            distribution.fit(
                session.strategy,
                model,
                _divided(session, model, functools.partial(batches, epochs, first_step)),
                epochs,
                training.epochs,
                save.steps_per_epoch - first_step,
                callbacks,
            )
        if session.chief and save.ended_early():
            print(
                f"the training ends: no better epoch in the last {training.patience} (--patience)"
            )
        save.leave_if_asked()
    return save.progress


def _callbacks(
    session: Session,
    model: keras.Model,
    save: SaveProgress,
    progress: Progress,
    stack: contextlib.ExitStack,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of a training, in their order; the chief's lines end with `stack`."""
    training = session.config.training

    def leave_if_asked(epoch: int, _: dict) -> None:
        if epoch + 1 < training.epochs:  # else other callbacks still follow
            save.leave_if_asked()

    callbacks = [
        StopOnNaN(save),
        *([AverageWeights(progress)] if training.ema else []),
        *_logging_callbacks(session, model),
        save,
    ]
    if session.chief:
        answer, has_masks = models.label_outputs(model)[0], "mask_l1" in model.output
        lines = ShowProgress(save, training.epochs, training.batch_size, answer, has_masks)
        callbacks.append(stack.enter_context(contextlib.closing(lines)))
    return [*callbacks, keras.callbacks.LambdaCallback(on_epoch_end=leave_if_asked)]


def _divided(
    session: Session, model: keras.Model, batches: Callable[[range, int], Dataset]
) -> Iterable:
    """Returns batches of images and targets, divided among the devices."""
    add_targets = functools.partial(with_targets, list(model.output))
    return distribution.divided(
        session.strategy, lambda devices, count: batches(devices, count).map(add_targets)
    )


def _logging_callbacks(session: Session, model: keras.Model) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that add to an epoch's logs, then the one that writes them."""
    validation = session.data.validation
    batches = functools.partial(evaluation_batches, validation, session.config.training.batch_size)
    callbacks = [Validate(session, _divided(session, model, batches))]
    if "mask_l1" in model.output:
        images, _ = next(evaluation_batches(validation, MASK_IMAGES).as_numpy_iterator())
        callbacks.append(LogMaskStatistics(images, session.config.attributes, session.chief))
    if session.chief:
        callbacks.append(EpochTensorBoard(session.directory / runs.TENSORBOARD, write_graph=False))
    return callbacks


def _parts(progress: Progress, epochs: int) -> Iterator[tuple[range, int]]:
    """Yields numbers of epochs and the steps done in the first: an interrupted one comes alone."""
    first = progress.epochs
    if progress.steps:
        yield range(first, first + 1), progress.steps
        first += 1
    if first < epochs:
        yield range(first, epochs), 0


def _summary(model: keras.Model, config: Config, progress: Progress) -> dict:
    best_row = dict(progress.best(monitor_name(model, config)))
    return {
        "best_epoch": int(best_row.pop("epoch")) + 1,
        "epochs": progress.epochs,
        "parameters": model.count_params(),
        "seconds": round(progress.seconds, 1),
        "validation": best_row,
    }
