"""What is done beside the steps of a training: validation, statistics, guards and checkpoints.

Their order matters: first what stops a training, then what adds to the logs, last what writes them.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np

from mcattn_tf import runs
from mcattn_tf.errors import Stopped, UserError
from mcattn_tf.metrics import mask_statistics, mask_warnings
from mcattn_tf.optimizers import averages_of
from mcattn_tf.runs import checkpoints
from mcattn_tf.settings.config import Config
from mcattn_tf.training import distribution
from mcattn_tf.training.faults import StopRequests, naming_write_errors

ANOTHER_TRY = "Start anew with another --out and a lower --learning_rate or --precision float32"


class StopOnNaN(keras.callbacks.Callback):
    """Ends a training whose loss is no longer a number.

    Args:
        kept: says what is saved, for the message.
        first_step: from the number of an epoch to how many of its steps were done before.
        steps_per_epoch: how many there are.
    """

    def __init__(
        self, kept: Callable[[], str], first_step: Callable[[int], int], steps_per_epoch: int
    ) -> None:
        super().__init__()
        self._kept = kept
        self._first_step = first_step
        self._steps_per_epoch = steps_per_epoch
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Takes note of the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises a UserError that names the terms of the loss that are not finite."""
        bad = [name for name, value in logs.items() if not math.isfinite(value)]
        if bad:
            # The sum goes bad with any of its terms, and says nothing then.
            terms = [name for name in bad if name != "loss"] or bad
            raise UserError(
                f"{', '.join(terms)} became NaN or infinite in epoch {self._epoch + 1}, step "
                f"{self._first_step(self._epoch) + batch + 1} of {self._steps_per_epoch}; "
                f"{self._kept()}. {ANOTHER_TRY}"
            )


class EpochTensorBoard(keras.callbacks.TensorBoard):
    """Writes the logs of epochs for TensorBoard.

    Keras' own asks for a scalar of each log at each step, too, which it then does not write: that
    costs time, and TensorFlow keeps about 0.4 kB for each.
    """

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Does nothing."""


class AverageWeights(keras.callbacks.Callback):
    """Lets the network have the averages of its weights between two epochs.

    So what is validated and saved after an epoch are the averages, and the optimizer keeps the
    weights in their place meanwhile: a checkpoint has both. Within an epoch, and in what is saved
    there, it is the other way round. Keras' own `SwapEMAWeights` is not used, as it cannot go on
    from a checkpoint.

    Args:
        progress: of the checkpoint that the network was loaded from.
    """

    def __init__(self, progress: checkpoints.Progress) -> None:
        super().__init__()
        self._averaged = progress.epochs > 0 and not progress.steps
        self._averages: list[np.ndarray] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Takes note of the averages of a network that was loaded with them."""
        if self._averaged and not self._averages:
            self._averages = _arrays(self.model.trainable_variables)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Gives network and optimizer back what is theirs."""
        if self._averaged:
            # Where `fit` has ended since, the weights are in both places: it takes what the
            # optimizer keeps for averages. So these are remembered here.
            averages = averages_of(self.model.optimizer)
            _assign(self.model.trainable_variables, _arrays(averages))
            _assign(averages, self._averages)
        self._averaged = False

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Exchanges weights and averages."""
        averages = averages_of(self.model.optimizer)
        weights, self._averages = _arrays(self.model.trainable_variables), _arrays(averages)
        _assign(self.model.trainable_variables, self._averages)
        _assign(averages, weights)
        self._averaged = True


def _arrays(variables: list[keras.Variable]) -> list[np.ndarray]:
    # Copies: what TensorFlow hands out on a CPU may be the variable's own memory.
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: list[keras.Variable], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class Validate(keras.callbacks.Callback):
    """Adds the losses and metrics on other examples to the logs of each epoch, as `val_NAME`.

    Args:
        strategy: of the training.
        batches: of inputs and targets, as `distribution.divided` returns them.
    """

    def __init__(self, strategy: distribution.Strategy, batches: Iterable) -> None:
        super().__init__()
        self._strategy = strategy
        self._batches = batches
        self._step: Callable | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Evaluates the network."""
        if self._step is None:
            self._step = distribution.evaluation_step(self._strategy, self.model)
        values = distribution.evaluate(self.model, self._step, self._batches)
        logs.update({f"val_{name}": value for name, value in values.items()})


class LogMaskStatistics(keras.callbacks.Callback):
    """Adds the masks' statistics on a few images to the logs, and warns of useless masks.

    Args:
        images: (B, H, W, 3), in [0, 1].
        attributes: names of the K attributes.
        warn: whether to print the warnings; of several workers one does.
    """

    def __init__(self, images: np.ndarray, attributes: tuple[str, ...], warn: bool) -> None:
        super().__init__()
        self._images = images
        self._warn = warn
        self._attributes = attributes
        self._warnings: list[str] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measures the masks."""
        statistics = mask_statistics(self.model, [self._images])
        logs.update(statistics.result())
        if self._warn:
            self._warnings = mask_warnings(statistics.per_attribute(self._attributes))

    # Keras prints the epoch's line after all callbacks; the warnings are to stand below it.
    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Prints the warnings of the epoch before."""
        self._print_warnings()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Prints the warnings of the last epoch."""
        self._print_warnings()

    def _print_warnings(self) -> None:
        for warning in self._warnings:
            print(warning)
        self._warnings = []


class SaveProgress(keras.callbacks.Callback):
    """Saves checkpoints and the best network, and leaves when it is asked to.

    All workers take part, as the metrics of all are asked for; the chief writes.

    Args:
        directory: of the run.
        config: its settings.
        strategy: of the training.
        progress: what was done before.
        monitor: the name in the logs that is highest for the best network.
        steps_per_epoch: how many there are.
        minutes: after how many a checkpoint is due within an epoch; None for never.
        requests: to stop.

    Attributes:
        progress: what is done and saved.
    """

    def __init__(
        self,
        directory: Path,
        config: Config,
        strategy: distribution.Strategy,
        progress: checkpoints.Progress,
        monitor: str,
        steps_per_epoch: int,
        minutes: float | None,
        requests: StopRequests,
    ) -> None:
        super().__init__()
        self.progress = progress
        self._directory = directory
        self._config = config
        self._strategy = strategy
        self._chief = distribution.is_chief(strategy)
        self._monitor = monitor
        self._steps_per_epoch = steps_per_epoch
        self._seconds_between = math.inf if minutes is None else 60 * minutes
        self._requests = requests
        self._first_step = 0
        self._begun = self._saved = time.monotonic()
        self._seconds_before = progress.seconds

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Lets the metrics count on where an epoch was broken off."""
        self._first_step = self.progress.first_step(epoch)
        if self._first_step:
            checkpoints.restore_metrics(self.model, self.progress)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves a checkpoint if one is due, and leaves if that is asked for."""
        steps = self._first_step + batch + 1
        if steps == self._steps_per_epoch:
            return  # the end of the epoch is saved
        due = time.monotonic() - self._saved >= self._seconds_between
        stop, due = distribution.agreed(self._strategy, self._stop_is_asked_for(), due)
        if stop or due:
            self._save(dataclasses.replace(self.progress, steps=steps))
        if stop:
            self._leave()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves the epoch, and the network as the best one if it is."""
        row = {"epoch": epoch, **{name: float(value) for name, value in logs.items()}}
        history = (*self.progress.history, row)
        self._save(dataclasses.replace(self.progress, epochs=epoch + 1, steps=0, history=history))
        if self._chief:
            with naming_write_errors(self._directory, self.kept):
                keep_best(self._directory, self.progress, self._monitor)
                runs.write_history(self._directory, history)
        if epoch + 1 < self._config.training.epochs:  # else other callbacks have their last turn
            self.leave_if_asked()

    def leave_if_asked(self) -> None:
        """Raises `Stopped` if a worker was asked to stop; to be called when all is saved."""
        (stop,) = distribution.agreed(self._strategy, self._stop_is_asked_for())
        if stop:
            self._leave()

    def _stop_is_asked_for(self) -> bool:
        return self._requests.signal_number is not None

    def _save(self, progress: checkpoints.Progress) -> None:
        seconds = self._seconds_before + time.monotonic() - self._begun
        progress = dataclasses.replace(progress, seconds=seconds)
        progress = checkpoints.with_state(progress, self.model)
        self._check_weights(progress)
        last = self._directory / runs.LAST
        if self._chief:
            with naming_write_errors(self._directory, self.kept):
                if last.is_file():
                    checkpoints.copy(last, self._directory / runs.PREVIOUS)
                checkpoints.save(self.model, last, self._config, progress)
        self.progress = progress
        self._saved = time.monotonic()

    def _check_weights(self, progress: checkpoints.Progress) -> None:
        """Raises a UserError rather than let a checkpoint of no use replace a good one."""
        for weight in self.model.weights:
            if not np.all(np.isfinite(keras.ops.convert_to_numpy(weight))):
                raise UserError(
                    f"the weight {weight.path} became NaN or infinite before step {progress.steps} "
                    f"of epoch {progress.epochs + 1}; {self.kept()}. {ANOTHER_TRY}"
                )

    def kept(self) -> str:
        """Returns what was saved last, in words."""
        if not (self.progress.epochs or self.progress.steps):
            return "there was no checkpoint before it"
        return f"the checkpoint before it ({self.progress.describe()}) is kept"

    def _leave(self) -> None:
        distribution.wait_for_all(self._strategy)
        raise Stopped(
            f"stopped after {self.progress.describe()}; go on by python train.py --resume --out "
            f"{self._directory}",
            self._requests.signal_number or 15,
        )


def keep_best(directory: Path, progress: checkpoints.Progress, monitor: str) -> None:
    """Copies the last checkpoint if it is that of the best epoch."""
    best = progress.best(monitor)
    if best and not progress.steps and best["epoch"] == progress.epochs - 1:
        checkpoints.copy(directory / runs.LAST, directory / runs.BEST)
