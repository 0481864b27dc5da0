"""Optimizers and learning rate schedules."""

import keras
from keras import KerasTensor, ops
from keras.optimizers.schedules import CosineDecay, LearningRateSchedule, PiecewiseConstantDecay

from mcattn_tf.layers.fusion import move_with_momentum
from mcattn_tf.settings.config import TrainingConfig

MOMENTUM = 0.9  # of SGD (GCM paper, table 4)


@keras.saving.register_keras_serializable(package="mcattn_tf")
class OneCycle(LearningRateSchedule):
    """A linear rise and a linear fall (Smith & Topin 2018), with constant momentum.

    Args:
        peak: Highest learning rate.
        steps: S, steps of the whole training.

    Input: number of the step, from 0 to S.
    Output: from a 25th of the peak at step 0 to the peak at 3 S / 10, then to 0 at S.
    """

    START = 1 / 25
    RISE = 0.3

    def __init__(self, peak: float, steps: int) -> None:
        super().__init__()
        self.peak = peak
        self.steps = steps

    def __call__(self, step: int) -> KerasTensor:
        """Returns the learning rate of a step."""
        done = ops.cast(step, "float32") / self.steps
        rising = self.START + (1 - self.START) * done / self.RISE
        falling = (1 - done) / (1 - self.RISE)
        return self.peak * ops.maximum(ops.minimum(rising, falling), 0.0)

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the schedule."""
        return {"peak": self.peak, "steps": self.steps}


def _cosine(config: TrainingConfig, steps: int) -> LearningRateSchedule:
    peak, warmup_steps = config.learning_rate, steps // 10
    return CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else peak,
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
        decay_steps=max(1, steps - warmup_steps),
    )


def _step(config: TrainingConfig, steps: int) -> LearningRateSchedule | float:
    if not config.milestones:
        return config.learning_rate
    # Keras keeps a value up to and including its boundary.
    boundaries = [round(steps * share) - 1 for share in config.milestones]
    values = [config.learning_rate / 10**number for number in range(len(boundaries) + 1)]
    return PiecewiseConstantDecay(boundaries, values)


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MomentumSGD(keras.optimizers.SGD):
    """Keras' SGD with momentum, in less memory on TensorFlow.

    There Keras multiplies all momenta before any gradient is ready, and keeps the products, a copy
    of all weights, through the whole backward pass.
    """

    def update_step(
        self, gradient: KerasTensor, variable: keras.Variable, learning_rate: KerasTensor
    ) -> None:
        """Updates a weight and its momentum."""
        if keras.backend.backend() != "tensorflow":
            super().update_step(gradient, variable, learning_rate)
            return
        move_with_momentum(
            variable,
            self.momentums[self._get_variable_index(variable)].value,
            ops.cast(gradient, variable.dtype),
            ops.cast(learning_rate, variable.dtype),
            self.momentum,
        )


def _sgd(
    schedule: LearningRateSchedule | float, config: TrainingConfig, averaging: dict
) -> keras.optimizers.Optimizer:
    # Keras applies the decay outside the momentum, which would have summed it 1 / (1 - m) times.
    decay = config.weight_decay / (1 - MOMENTUM)
    return MomentumSGD(schedule, momentum=MOMENTUM, weight_decay=decay or None, **averaging)


SCHEDULES = {
    "cosine": _cosine,
    "step": _step,
    "one_cycle": lambda config, steps: OneCycle(config.learning_rate, steps),
}
OPTIMIZERS = {
    "adam": lambda schedule, _, averaging: keras.optimizers.Adam(schedule, **averaging),
    "sgd": _sgd,
}


def optimizer_of(config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    """Returns an optimizer with its schedule, for the steps of the whole training."""
    schedule = SCHEDULES[config.schedule](config, steps)
    averaging = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    optimizer = OPTIMIZERS[config.optimizer](schedule, config, averaging)
    if config.precision == "mixed_float16":
        # Keras would wrap it by itself, but not again for a loaded network.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def averages_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns an optimizer's moving averages of the trainable weights; empty without `ema`."""
    return [variable for variable in optimizer.variables if variable.name.endswith("_average")]
