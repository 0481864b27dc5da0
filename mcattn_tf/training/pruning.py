"""Runs of smaller networks: channels ranked on training images, and what is left of accuracy."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from mcattn_tf import models, runs
from mcattn_tf.data import Data
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.evaluation.intervals import answer
from mcattn_tf.evaluation.ranking import mean_of, measures_of
from mcattn_tf.explain.feature_space.channel_ranking import channel_use, rank_channels
from mcattn_tf.models.pruning import prune
from mcattn_tf.models.refitting import refit_biases, refit_layers
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.runs import checkpoints
from mcattn_tf.runs.checkpoints import Progress
from mcattn_tf.runs.record import recorded
from mcattn_tf.settings.config import Config
from mcattn_tf.training.compiling import compile_model, make_variables
from mcattn_tf.training.fit import device

RANKED_IMAGES, FITTED_IMAGES = 1024, 256  # first training images
BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Smaller:
    """A smaller network, in float32, before fine-tuning."""

    model: keras.Model
    config: Config
    channels: list[int]  # numbers of its channels in the whole network
    accuracy: float | None  # on the validation images


class Pruner:
    """Makes smaller networks of a trained one by a ranking of its channels.

    Args:
        whole: Trained `mcattn` or `baseline`, in float32.
        config: Its settings.
        data: Training images, to rank channels and to refit, and validation images, to measure.
        ranking: Key of `channel_ranking.RANKINGS`.
        attributes: Names of the attributes to keep; None for all.
        refitted: Whether to fit 1x1 layers and biases to those of the whole network.
    """

    def __init__(
        self,
        whole: keras.Model,
        config: Config,
        data: Data,
        ranking: str,
        attributes: Sequence[str] | None = None,
        refitted: bool = True,
    ) -> None:
        self.whole, self._config, self._data = whole, config, data
        self._attributes, self._refitted = attributes, refitted
        names = config.attributes if attributes is None else attributes
        self._places = [config.attributes.index(name) for name in names]
        images = min(RANKED_IMAGES, data.train.count)
        use = channel_use(whole, self._images(images), images).of_attributes(self._places)
        self.order = rank_channels(use, ranking, config.training.seed)
        self.accuracy = self._accuracy(whole, self._places)  # of the whole network

    def _images(self, count: int) -> Iterator[np.ndarray]:
        batches = evaluation_batches(self._data.train.take(count), BATCH_SIZE)
        return (images for images, _ in batches.as_numpy_iterator())

    def _accuracy(self, model: keras.Model, columns: Sequence[int]) -> float | None:
        """Returns the mean accuracy of the main output's `columns` on the validation images."""
        labels, answers = answer(model, self._data.validation, self._config.training.batch_size)
        probabilities = next(iter(answers.values()))[:, columns]
        return mean_of(measures_of(labels[:, self._places], probabilities)["accuracy"])

    def make(self, count: int) -> Smaller:
        """Returns the network of the first `count` channels of the ranking."""
        channels = sorted(self.order[:count])
        model, config = prune(self.whole, self._config, channels, self._attributes)
        if self._refitted:
            refit_layers(model, self.whole, channels, self._images(FITTED_IMAGES))
            refit_biases(model, self.whole, self._places, self._images(RANKED_IMAGES))
        return Smaller(model, config, channels, self._accuracy(model, range(len(self._places))))

    def make_smallest(self, loss: float) -> Smaller:
        """Returns the smallest network that loses at most `loss` of the accuracy, by bisection.

        It is the smallest where accuracy falls with the number of channels, as it does but for
        small steps.
        """
        found: dict[int, Smaller] = {}

        def holds(count: int) -> bool:
            found[count] = self.make(count)
            accuracy = found[count].accuracy
            print(f"{count} channels: validation accuracy {accuracy:.4f}")
            return accuracy >= self.accuracy - loss

        count = bisect(holds, len(self.order))
        return found.get(count) or self.make(count)


def bisect(holds: Callable[[int], bool], most: int) -> int:
    """Returns the smallest of 1 ... `most` that holds; `most` itself is not asked about."""
    below = 0
    while most - below > 1:
        middle = (below + most) // 2
        below, most = (below, middle) if holds(middle) else (middle, most)
    return most


def write_run(directory: Path, smaller: Smaller, config: Config) -> dict:
    """Writes a run directory with a network that has not been fine-tuned, for `fit.train`.

    Args:
        directory: Run directory, new.
        smaller: The network.
        config: Settings of the run.

    Returns:
        What `fit.train` returns, of no epoch.
    """
    runs.create(directory, config)
    model = models.build(config)
    model.set_weights(smaller.model.get_weights())
    optimizer = optimizer_of(config.training, steps=1)  # the schedule is not part of its state
    compile_model(model, config, optimizer)
    make_variables(model)
    with recorded(directory, device()):
        progress = checkpoints.with_state(Progress(), model)
        checkpoints.save(model, directory / runs.LAST, config, progress)
        checkpoints.copy(directory / runs.LAST, directory / runs.BEST)
    return {"best_epoch": 0, "epochs": 0, "parameters": model.count_params(), "seconds": 0.0}
