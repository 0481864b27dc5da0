"""Multi-task ABN by `mcattn_tf`, and the same network with a plain loop over the tasks."""

import keras
import numpy as np
from keras import layers, ops

from mcattn_tf import models
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.settings.config import Config, make_config
from mcattn_tf.training import compiling
from peers import keras_models
from peers.abn_problem import LEARNING_RATE, Problem
from peers.keras_models import matrix_product_speed  # noqa: F401 - of every module of peers

SCHEDULED_STEPS = 10**9  # the rate stays what it is


def configuration(problem: Problem) -> Config:
    """Returns the settings of `mcattn_tf` for the network."""
    return make_config(
        {
            "data": {"image_size": tuple(problem.image_size)},
            "found": {"attributes": tuple(f"attribute_{t}" for t in range(problem.attributes))},
            "model": {
                "name": "multitask_abn",
                "backbone": problem.backbone,
                "attention_mechanism": "product",
                "map_activation": "linear",
            },
            "training": {
                "batch_size": problem.batch_size,
                "optimizer": "sgd",
                "learning_rate": LEARNING_RATE,
                "schedule": "step",
                "precision": problem.precision,
            },
        }
    )


def looped(folded: keras.Model) -> keras.Model:
    """Returns the network with a loop where `mcattn_tf` has all tasks in one batch."""
    features, maps = (folded.get_layer(name).output for name in ("features", "attention_map"))
    branch = folded.get_layer("folded_tasks").branch
    scores = []
    for task in range(maps.shape[-1]):
        attended = layers.Multiply()([features, maps[..., task : task + 1]])
        pooled = layers.GlobalAveragePooling2D(dtype="float32")(branch(attended))
        scores.append(layers.Dense(1, dtype="float32", name=f"score_{task}")(pooled))
    perception = layers.Activation("sigmoid", dtype="float32", name="perception")(
        layers.Concatenate(dtype="float32")(scores)
    )
    return keras.Model(folded.input, {**folded.output, "perception": perception})


class Subject(keras_models.Subject):
    """A Keras network that takes steps.

    Args:
        problem: what is computed.
        variant: `looped`, or any other for `mcattn_tf`.
        images: (B, H, W, 3), in [0, 1].
        labels: (B, T), 0 or 1.
    """

    def __init__(
        self, problem: Problem, variant: str, images: np.ndarray, labels: np.ndarray
    ) -> None:
        self._problem, self._variant, self._jax_state = problem, variant, None
        config = configuration(problem)
        self._built = models.build(config)
        self._model = looped(self._built) if variant == "looped" else self._built
        if problem.mode == "train":
            compiling.compile_model(
                self._model, config, optimizer_of(config.training, SCHEDULED_STEPS)
            )
            compiling.make_variables(self._model)
            targets = compiling.targets(list(self._model.output), images, labels)
            self._batch = keras.tree.map_structure(ops.convert_to_tensor, (images, targets))
        else:
            self._batch = (ops.convert_to_tensor(images),)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Sets the weights."""
        every = [*self._built.layers, *self._built.get_layer("folded_tasks").branch.layers]
        named = {layer.name: layer for layer in every}
        for name, value in weights.items():
            if isinstance(named[name], layers.BatchNormalization):
                named[name].gamma.assign(value)
            elif name != "perception_scores":
                named[name].kernel.assign(value)
            elif self._variant != "looped":
                named[name].kernel.assign(value[:, :, None])
            else:
                for task, row in enumerate(value):
                    self._model.get_layer(f"score_{task}").kernel.assign(row[:, None])

    def check(self) -> float:
        """Takes a step and returns a number that the same networks agree on.

        It is the loss before the step; in inference the mean answer.
        """
        if self._problem.mode == "train":
            return float(self._model.train_on_batch(*self._batch, return_dict=True)["loss"])
        outputs = self._model.predict_on_batch(*self._batch)
        return float(outputs["perception"].mean() + outputs["attention"].mean())
