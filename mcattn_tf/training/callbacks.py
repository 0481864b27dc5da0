"""Callbacks of a training: validation, statistics, guards and checkpoints.

Their order matters: first those that stop a training, then those that add to the logs, last those
that write the logs.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np

from mcattn_tf import runs
from mcattn_tf.data import Data
from mcattn_tf.errors import Stopped, UserError
from mcattn_tf.evaluation.ranking import mean_of, measures_of
from mcattn_tf.metrics import ClassCounts, mask_statistics, mask_warnings
from mcattn_tf.models import is_exclusive, label_outputs
from mcattn_tf.optimizers import averages_of
from mcattn_tf.progress import tracked
from mcattn_tf.runs import checkpoints
from mcattn_tf.runs.checkpoints import Progress, assign
from mcattn_tf.settings.config import Config
from mcattn_tf.tables import paragraph
from mcattn_tf.training import distribution
from mcattn_tf.training.faults import StopRequests, naming_write_errors

RESTART = "Start again with another --out and a lower --learning_rate or --precision float32"


@dataclasses.dataclass(frozen=True)
class Session:
    """One call of `train`."""

    directory: Path
    config: Config
    data: Data
    strategy: distribution.Strategy

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return distribution.is_chief(self.strategy)


class StopOnNaN(keras.callbacks.Callback):
    """Ends a training whose loss is no longer a number."""

    def __init__(self, save: "SaveProgress") -> None:
        super().__init__()
        self._save = save

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises a UserError that names the terms of the loss that are not finite."""
        if bad := [name for name, value in logs.items() if not math.isfinite(value)]:
            # The sum becomes NaN with any of its terms, so it is named only if they are finite.
            terms, save = [name for name in bad if name != "loss"] or bad, self._save
            raise UserError(
                f"{', '.join(terms)} became NaN or infinite in epoch {save.epoch + 1}, step "
                f"{save.first_step + batch + 1} of {save.steps_per_epoch}; {save.kept()}. {RESTART}"
            )


class EpochTensorBoard(keras.callbacks.TensorBoard):
    """Writes the logs of epochs for TensorBoard.

    Keras' own callback also converts each log to a scalar at each step without writing it. This
    costs time, and TensorFlow keeps about 0.4 kB for each.
    """

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Does nothing."""


class AverageWeights(keras.callbacks.Callback):
    """Gives the network the moving averages of its weights between two epochs.

    After an epoch the averages are validated and saved as the network, and the optimizer holds
    the weights in their place, so a checkpoint has both. Within an epoch, and in checkpoints saved
    there, both are in their usual places. Keras' own `SwapEMAWeights` cannot continue from a
    checkpoint. `progress` is that of the checkpoint that the network was loaded from.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._averaged = progress.epochs > 0 and not progress.steps
        self._averages: list[np.ndarray] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Remembers the averages of a network that was loaded with them."""
        if self._averaged and not self._averages:
            self._averages = _arrays(self.model.trainable_variables)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Puts weights and averages back in their usual places."""
        if self._averaged:
            # The end of `fit` overwrites the averages in the network by what the optimizer holds
            # for averages, the weights. So the averages are remembered here.
            averages = averages_of(self.model.optimizer)
            assign(self.model.trainable_variables, _arrays(averages))
            assign(averages, self._averages)
        self._averaged = False

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Exchanges weights and averages."""
        averages = averages_of(self.model.optimizer)
        weights, self._averages = _arrays(self.model.trainable_variables), _arrays(averages)
        assign(self.model.trainable_variables, self._averages)
        assign(averages, weights)
        self._averaged = True


def _arrays(variables: list[keras.Variable]) -> list[np.ndarray]:
    # Copies, because TensorFlow may return the variable's own memory on a CPU.
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


class Validate(keras.callbacks.Callback):
    """Adds the losses and metrics on batches of `distribution.divided` to the logs, as `val_NAME`.

    Every example counts once. `keras.Model.evaluate` weights a smaller last batch like the others
    in each output's loss. It adds the means over attributes of the `MEASURES` that are defined; of
    classes it adds the mean recall alone, as `balanced_accuracy`.
    """

    MEASURES = ("balanced_accuracy", "roc_auc", "average_precision")

    def __init__(self, session: Session, batches: Iterable) -> None:
        super().__init__()
        self._strategy, self._batches, self._chief = session.strategy, batches, session.chief
        count, size = session.data.validation.count, session.config.training.batch_size
        self._batch_count = math.ceil(count / size)
        self._step: Callable | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Evaluates the network."""
        outputs = label_outputs(self.model)
        if not self._step:
            self._step = distribution.evaluation_step(self._strategy, self.model, outputs)
        self.model.reset_metrics()
        shown = tracked(self._batches, self._batch_count, "validation", "batch")
        answers = [self._step(batch) for batch in (shown if self._chief else self._batches)]
        values = distribution.results(self.model)
        for name in outputs:
            parts = zip(*(answer[name] for answer in answers), strict=True)
            labels, probabilities = map(np.concatenate, parts)
            if is_exclusive(self.model):
                counts = ClassCounts(labels.shape[1])
                counts.update(labels, probabilities)
                measures = {"balanced_accuracy": counts.result()["recall"]}
            else:
                measures = measures_of(labels, probabilities)
            means = {key: mean_of(measures[key]) for key in self.MEASURES if key in measures}
            values |= {f"{name}_{key}": mean for key, mean in means.items() if mean is not None}
        logs.update({f"val_{name}": value for name, value in values.items()})


class LogMaskStatistics(keras.callbacks.Callback):
    """Adds the statistics of the masks of some images to the logs, and warns of useless masks.

    The first warnings stand below the line of their epoch, those of the end below the last one.
    """

    def __init__(self, images: np.ndarray, attributes: tuple[str, ...], warn: bool) -> None:
        super().__init__()
        self._images, self._attributes, self._warn = images, attributes, warn
        self._warnings: list[str] = []
        self._printed: list[str] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Computes the statistics."""
        statistics = mask_statistics(self.model, [self._images])
        logs.update(statistics.result())
        if self._warn:
            self._warnings = mask_warnings(statistics.per_attribute(self._attributes))

    # The line of an epoch is printed after all callbacks.
    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Prints the warnings of the previous epoch if there were none before."""
        if not self._printed:
            self.on_train_end()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Prints the warnings of the last epoch unless they stand there already."""
        if self._warnings != self._printed:
            for warning in self._warnings:
                print(paragraph(warning))
            self._printed = self._warnings


class SaveProgress(keras.callbacks.Callback):
    """Saves checkpoints and the best network, and stops on request.

    All workers take part, because the metrics of all are needed; the chief writes. `monitor` is the
    history key that is highest for the best network. There are `minutes` between checkpoints within
    an epoch; None for none.
    """

    def __init__(
        self,
        session: Session,
        progress: Progress,
        monitor: str,
        minutes: float | None,
        requests: StopRequests,
    ) -> None:
        super().__init__()
        self.progress = progress
        self._session, self._directory = session, session.directory
        self._monitor, self._requests = monitor, requests
        self.measure = session.config.training.monitor.replace("_", " ")  # as it is printed
        self._seconds_between = math.inf if minutes is None else 60 * minutes
        self.epoch = self.first_step = 0  # the current epoch, and its steps of an earlier session
        self.steps_per_epoch = session.data.train.count // session.config.training.batch_size
        self._saved = time.monotonic()
        self._begun = self._saved - progress.seconds  # as if in one session

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Restores the metrics of an interrupted epoch."""
        self.epoch = epoch
        self.first_step = self.progress.steps if epoch == self.progress.epochs else 0
        # Checkpoints of earlier versions have fewer metrics; these count what is left of the epoch.
        if self.first_step and len(self.progress.metrics) == len(self.model.metrics_variables):
            assign(self.model.metrics_variables, self.progress.metrics)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves a checkpoint if one is due, and stops if that is requested."""
        steps = self.first_step + batch + 1
        if steps == self.steps_per_epoch:
            return  # `on_epoch_end` saves
        due = time.monotonic() - self._saved >= self._seconds_between
        stop, due = distribution.agreed(self._session.strategy, self._stop_is_asked_for(), due)
        if stop or due:
            self._save(dataclasses.replace(self.progress, steps=steps))
        if stop:
            self._leave()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves the epoch, and the network as the best one if it is."""
        row = {"epoch": epoch, **{name: float(value) for name, value in logs.items()}}
        history = (*self.progress.history, row)
        self._save(dataclasses.replace(self.progress, epochs=epoch + 1, steps=0, history=history))
        if self._session.chief:
            with naming_write_errors(self._directory, self.kept):
                keep_best(self._directory, self.progress, self._monitor)
        self.model.stop_training |= self.ended_early()

    def is_best(self, epoch: int) -> bool:
        """Returns whether a saved epoch is the best so far."""
        best = self.progress.best(self._monitor)
        return best is not None and best["epoch"] == epoch

    def ended_early(self) -> bool:
        """Returns whether `patience` epochs without a new best one end it before its last."""
        training = self._session.config.training
        waited = 0 < training.patience <= self.progress.since_best(self._monitor)
        return waited and self.progress.epochs < training.epochs

    def leave_if_asked(self) -> None:
        """Raises `Stopped` if any worker was asked to stop; call it when everything is saved."""
        (stop,) = distribution.agreed(self._session.strategy, self._stop_is_asked_for())
        if stop:
            self._leave()

    def kept(self) -> str:
        """Describes the last checkpoint, for messages."""
        if not (self.progress.epochs or self.progress.steps):
            return "there was no checkpoint before it"
        return f"the checkpoint before it ({self.progress.describe()}) is kept"

    def _stop_is_asked_for(self) -> bool:
        return self._requests.signal_number is not None

    def _save(self, progress: Progress) -> None:
        progress = dataclasses.replace(progress, seconds=time.monotonic() - self._begun)
        progress = checkpoints.with_state(progress, self.model)
        for weight in self.model.weights:  # a useless checkpoint must not replace a good one
            if not np.all(np.isfinite(keras.ops.convert_to_numpy(weight))):
                raise UserError(
                    f"the weight {weight.path} became NaN or infinite before step {progress.steps} "
                    f"of epoch {progress.epochs + 1}; {self.kept()}. {RESTART}"
                )
        last = self._directory / runs.LAST
        if self._session.chief:
            with naming_write_errors(self._directory, self.kept):
                if last.is_file():
                    checkpoints.copy(last, self._directory / runs.PREVIOUS)
                checkpoints.save(self.model, last, self._session.config, progress)
        self.progress = progress
        self._saved = time.monotonic()

    def _leave(self) -> None:
        distribution.wait_for_all(self._session.strategy)
        raise Stopped(
            f"stopped after {self.progress.describe()}; continue with python train.py --resume "
            f"--out {self._directory}",
            self._requests.signal_number or 15,
        )


def keep_best(directory: Path, progress: Progress, monitor: str) -> None:
    """Copies the last checkpoint to `best.keras` if its epoch is the best; writes the history."""
    best = progress.best(monitor)
    if best and not progress.steps and best["epoch"] == progress.epochs - 1:
        checkpoints.copy(directory / runs.LAST, directory / runs.BEST)
    runs.write_history(directory, progress.history)
