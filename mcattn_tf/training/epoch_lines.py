"""Progress of a training: a bar within an epoch, and a line after it."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras

from mcattn_tf.progress import Bar, progress
from mcattn_tf.tables import paragraph, percent
from mcattn_tf.training.callbacks import SaveProgress

ABOUT = (
    "accuracy and balanced accuracy (mean of those on present and on absent, or over classes) are "
    "of the validation images, in %; *: best validation {} so far"
)
ABOUT_MASKS = "masks alive: entries that are not near zero, in %"
WIDE = "loss {:.4g}, accuracy {:.1%}, {:.0f} images/s"
NARROW = "loss {:.3g}, acc. {:.1%}, {:.0f}/s"


class _Column(NamedTuple):
    heading: str
    width: int
    text: Callable[[Mapping[str, float]], str]


def _columns(epochs: int, answer: str, with_masks: bool) -> list[_Column]:
    """Returns the columns of an epoch's line; `answer` is the output that answers."""
    digits = len(str(epochs))

    def share(name: str) -> Callable[[Mapping[str, float]], str]:
        return lambda row: percent(row.get(name))

    return [
        _Column("epoch", max(5, 2 * digits + 1), lambda row: f"{row['epoch'] + 1:.0f}/{epochs}"),
        _Column("loss", 9, lambda row: f"{row['loss']:.5g}"),
        _Column("accuracy", 8, share(f"val_{answer}_accuracy")),
        _Column("balanced", 8, share(f"val_{answer}_balanced_accuracy")),
        *([_Column("masks alive", 11, lambda row: percent(1 - row["mask_dead"]))] * with_masks),
        _Column("learning rate", 13, lambda row: f"{row['rate']:.3g}"),
        _Column("seconds", 7, lambda row: f"{row['seconds']:.0f}"),
    ]


class ShowProgress(keras.callbacks.Callback):
    """Shows a bar within an epoch and prints a line after it, with a star at the best so far.

    It stands behind the callbacks that add to the logs and behind `save`, which knows the best
    epoch. `answer` is the output whose accuracy is shown.
    """

    def __init__(
        self, save: SaveProgress, epochs: int, batch_size: int, answer: str, with_masks: bool
    ) -> None:
        super().__init__()
        self._save, self._epochs, self._batch_size, self._answer = save, epochs, batch_size, answer
        self._columns = _columns(epochs, answer, with_masks)
        about = ABOUT.format(save.measure)
        self._about = f"{about}; {ABOUT_MASKS}" if with_masks else about
        self._bar: Bar | None = None
        self._has_headings = False
        self._rate, self._begun = 0.0, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Opens the bar."""
        self._begun, done = time.monotonic(), self._save.first_step
        label = f"epoch {epoch + 1}/{self._epochs}"
        self._bar = progress(self._save.steps_per_epoch, label, "step", done)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Remembers the learning rate of the last step; behind it a schedule is at the next one."""
        if self._save.first_step + batch + 1 == self._save.steps_per_epoch:
            self._rate = float(self.model.optimizer.learning_rate)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Moves the bar on, and closes it at the last step, before the validation shows its own."""
        if not self._bar.disable:
            line = NARROW if self._bar.is_narrow else WIDE
            accuracy, images = logs[f"{self._answer}_accuracy"], self._bar.speed * self._batch_size
            self._bar.set_postfix_str(line.format(logs["loss"], accuracy, images), refresh=False)
        self._bar.update()
        if self._save.first_step + batch + 1 == self._save.steps_per_epoch:
            self.close()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Prints the line of the epoch, the first time below the headings."""
        row = {**logs, "epoch": epoch, "rate": self._rate}
        row["seconds"] = time.monotonic() - self._begun
        if not self._has_headings:
            print(paragraph(self._about))
            print("  ".join(column.heading.rjust(column.width) for column in self._columns))
            self._has_headings = True
        cells = [column.text(row).rjust(column.width) for column in self._columns]
        best = self._save.is_best(epoch)
        print("  ".join([*cells, "*"] if best else cells), flush=True)

    def close(self) -> None:
        """Closes the bar, whatever ended the epoch."""
        if self._bar is not None:
            self._bar.close()
