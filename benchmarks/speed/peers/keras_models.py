"""Ours and the textbook build, both Keras, stepped by the same code.

The first steps go through `train_on_batch`; those that are timed call the compiled train function
that it made, on a batch that already is where it is computed, and wait for the loss at the end of
all: neither build pays for the conversion of metrics. Both compute the same accuracies.
Inference is `predict_on_batch`, which brings the answer back as NumPy arrays.
"""

import time

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from mcattn_tf import models
from mcattn_tf.devices import gpus
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.models.parts.extractor import build_extractor
from mcattn_tf.models.parts.reconstructor import build_reconstructor
from mcattn_tf.models.parts.subnetworks import build_multilabel
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.settings.config import Config, make_config
from mcattn_tf.training import compiling
from peers.problem import (
    CONTEXT,
    CONTRAST,
    DILATIONS,
    LEARNING_RATE,
    MASK_L1_WEIGHT,
    MASK_STRIDE,
    MULTILABEL_WEIGHT,
    RANK,
    RECONSTRUCTION_WEIGHT,
    SELECTIVITY,
    STEM,
    THRESHOLD,
    VARIANCE_EPSILON,
    Problem,
)

# Of a training of under ten steps, the first has the full learning rate: without a warm-up the
# loss of the second step tells whether the gradients agree. Time depends on none of it.
SCHEDULED_STEPS = 9
OUTPUTS = {
    "train": ("attributes", "multilabel", "reconstruction", "mask_l1"),
    "predict": ("attributes", "multilabel"),
    "explain": ("attributes", "multilabel", "contributions"),
}


# Networks of ours with default settings, which no peer computes: {variant: name of the network}.
DEFAULTS = {"default": "mcattn", "plain": "baseline"}


def default_configuration(problem: Problem, network: str) -> Config:
    """Returns the default settings of a network of `mcattn_tf`."""
    return make_config(
        {
            "data": {"image_size": tuple(problem.image_size)},
            "found": {"attributes": tuple(f"attribute_{k}" for k in range(problem.attributes))},
            "model": {"name": network, "channels": problem.channels},
            "training": {"batch_size": problem.batch_size, "precision": problem.precision},
        }
    )


def configuration(problem: Problem) -> Config:
    """Returns the settings of `mcattn_tf` for the pinned network."""
    return make_config(
        {
            "data": {"image_size": tuple(problem.image_size)},
            "found": {"attributes": tuple(f"attribute_{k}" for k in range(problem.attributes))},
            "model": {
                "stem": tuple((filters, 3, stride) for filters, stride in STEM),
                "channels": problem.channels,
                "dilations": DILATIONS,
                "centered_context": False,
                "position_embedding": False,
                "pointwise_layers": 0,
                "pooling_sharpness": 0.0,
                "mask_rank": RANK if problem.masks == "factored" else None,
                "mask_stride": MASK_STRIDE,
                "mask_context": CONTEXT,
                "reconstructor": "transposed",
            },
            "loss": {
                "multilabel": MULTILABEL_WEIGHT,
                "reconstruction": RECONSTRUCTION_WEIGHT,
                "mask_l1": MASK_L1_WEIGHT,
            },
            "training": {
                "batch_size": problem.batch_size,
                "learning_rate": LEARNING_RATE,
                "precision": problem.precision,
            },
        }
    )


def with_outputs(model: keras.Model, problem: Problem) -> keras.Model:
    """Returns the network by `mcattn_tf` with the outputs that are asked for."""
    outputs = dict(model.output)
    if problem.mode == "train":
        return model
    if problem.mode == "explain":
        explainer = build_explainer(model, range(problem.attributes))
        outputs |= {name: explainer.output[name] for name in ("attributes", "contributions")}
    wanted = [name for name in OUTPUTS[problem.mode] if name in outputs]
    return keras.Model(model.input, {name: outputs[name] for name in wanted})


def load_ours(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Gives the network the common weights."""
    names = {layer.name for layer in model.layers}
    for name, value in weights.items():
        layer, kind = name.split("/")
        if layer == "attribute_logits" and layer not in names:  # heads are in the pooling layer
            layer, kind = "masked_pooling", {"kernel": "head", "bias": "head_bias"}[kind]
        if layer in names:
            getattr(model.get_layer(layer), kind).assign(value)


class Mixture(layers.Layer):
    """Masks of one attribute (B, h, w, C) from the shared ones (B, h, w, r)."""

    def __init__(self, channels: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.mixing = self.add_weight((RANK, channels), "normal", name="mixing")
        self.amplitude = self.add_weight((channels,), "zeros", name="amplitude")

    def call(self, shared: KerasTensor) -> KerasTensor:
        """Returns the masks."""
        shares = ops.softmax(SELECTIVITY * self.mixing, axis=0)
        return ops.matmul(shared, ops.sigmoid(self.amplitude) * shares)


def _shared_masks(features: KerasTensor) -> KerasTensor:
    """Returns the r shared masks (B, h, w, r)."""
    x = layers.AveragePooling2D(MASK_STRIDE)(features)
    x = layers.Conv2D(RANK, CONTEXT, padding="same", use_bias=False, name="shared")(x)
    x = layers.UpSampling2D(MASK_STRIDE, interpolation="bilinear", dtype="float32")(x)
    mean, variance = ops.moments(x, axes=(1, 2), keepdims=True)
    x = (x - mean) / ops.sqrt(variance + VARIANCE_EPSILON)
    return ops.sigmoid(CONTRAST * (x - THRESHOLD))


def _branches(features: KerasTensor, problem: Problem) -> dict[str, KerasTensor]:
    """One masked sub-network after another, as a textbook writes them."""
    logits, norms, maps = [], [], []
    factored = problem.masks == "factored"
    sources = _shared_masks(features) if factored else features
    for index in range(problem.attributes):
        name = f"mask_{index}"
        if factored:
            mask = Mixture(problem.channels, name=name)(sources)
        else:
            mask = layers.Conv2D(problem.channels, 1, activation="sigmoid", name=name)(sources)
        gated = (1.0 + mask) * features
        pooled = layers.GlobalAveragePooling2D()(gated)
        head = layers.Dense(1, dtype="float32", name=f"head_{index}")
        logits.append(head(pooled))
        norms.append(ops.sum(ops.cast(mask, "float32"), axis=(1, 2, 3)))
        if problem.mode == "explain":
            maps.append((head(gated) - head.bias) / problem.positions)
    outputs = {
        "attributes": layers.Activation("sigmoid", dtype="float32", name="attributes")(
            ops.concatenate(logits, axis=-1)
        ),
        "mask_l1": layers.Identity(dtype="float32", name="mask_l1")(sum(norms)),
    }
    return outputs | ({"contributions": ops.concatenate(maps, axis=-1)} if maps else {})


def build_textbook(problem: Problem) -> keras.Model:
    """Builds K branches of Conv2D, multiply, GlobalAveragePooling2D and Dense."""
    config = configuration(problem)
    keras.config.set_dtype_policy(problem.precision)
    images = keras.Input((*problem.image_size, 3))
    features = build_extractor(images, config.model)
    outputs = _branches(features, problem) | {
        "multilabel": build_multilabel(features, config),
        "reconstruction": build_reconstructor(features, config.model),
    }
    return keras.Model(images, {name: outputs[name] for name in OUTPUTS[problem.mode]})


def load_textbook(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Gives the branches their parts of the common weights, the rest what ours gets."""
    branches = ("masked_pooling", "attribute_logits")
    load_ours(model, {n: value for n, value in weights.items() if not n.startswith(branches)})
    if "masked_pooling/shared_kernel" in weights:
        model.get_layer("shared").kernel.assign(weights["masked_pooling/shared_kernel"])
    for index in range(len(weights["attribute_logits/bias"])):
        mask, head = model.get_layer(f"mask_{index}"), model.get_layer(f"head_{index}")
        if isinstance(mask, Mixture):
            mask.mixing.assign(weights["masked_pooling/mixing"][index])
            mask.amplitude.assign(weights["masked_pooling/amplitude"][index])
        else:
            mask.kernel.assign(weights["masked_pooling/kernel"][:, :, :, index])
            mask.bias.assign(weights["masked_pooling/bias"][index])
        head.kernel.assign(weights["attribute_logits/kernel"][index][:, None])
        head.bias.assign(weights["attribute_logits/bias"][index][None])


class Subject:
    """A Keras network that takes steps.

    Args:
        problem: what is computed.
        variant: `graph` or `xla`, of the textbook build; a key of `DEFAULTS`; any other is ours.
        images: (B, H, W, 3), in [0, 1].
        labels: (B, K), 0 or 1.
    """

    def __init__(
        self, problem: Problem, variant: str, images: np.ndarray, labels: np.ndarray
    ) -> None:
        self._problem, self._labels = problem, labels
        self._textbook, self._own = variant in ("graph", "xla"), variant in DEFAULTS
        config = (
            default_configuration(problem, DEFAULTS[variant])
            if self._own
            else configuration(problem)
        )
        if self._textbook:
            self._weighted = self._model = build_textbook(problem)
        else:
            self._weighted = models.build(config)
            self._model = with_outputs(self._weighted, problem)
        if problem.mode == "train":
            optimizer = optimizer_of(config.training, SCHEDULED_STEPS)
            compiling.compile_model(self._model, config, optimizer)
            if not self._textbook:
                compiling.make_variables(self._model)
            targets = compiling.targets(list(self._model.output), images, labels)
            self._batch = keras.tree.map_structure(ops.convert_to_tensor, (images, targets))
        else:
            self._batch = (ops.convert_to_tensor(images),)
        if self._textbook:
            self._model.jit_compile = variant == "xla"
        self._jax_state = None

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Gives the network the common weights; networks with default settings keep their own."""
        if self._own:
            return
        (load_textbook if self._textbook else load_ours)(self._weighted, weights)

    def check(self) -> float:
        """Takes a step and returns a number that the same networks agree on.

        It is the loss before the step; in inference the mean absolute error of the sub-networks,
        to which `explain` adds the mean over images and attributes of the summed sizes of the
        contributions.
        """
        if self._problem.mode == "train":
            return float(self._model.train_on_batch(*self._batch, return_dict=True)["loss"])
        outputs = self._model.predict_on_batch(*self._batch)
        answers = outputs.get("attributes", outputs["multilabel"])
        number = np.abs(answers - self._labels).mean()
        if self._problem.mode == "explain":
            number += np.abs(outputs["contributions"]).mean() * self._problem.positions
        return float(number)

    def run(self, steps: int) -> None:
        """Takes steps, once `check` was called, and waits for the last."""
        if self._problem.mode != "train":
            for _ in range(steps):
                self._model.predict_on_batch(*self._batch)
            return
        for _ in range(steps):
            logs = self._train_step((*self._batch, None))
        ops.convert_to_numpy(logs["loss"])

    def _train_step(self, batch: tuple) -> dict:
        model = self._model
        if keras.backend.backend() != "jax":
            return model.train_function([batch])
        if self._jax_state is None:
            variables = (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
                model.metrics_variables,
            )
            self._jax_state = tuple([v.value for v in group] for group in variables)
        logs, self._jax_state = model.train_function(self._jax_state, iter([batch]))
        return logs

    def device_memory_peak(self) -> int | None:
        """Returns the most bytes of a GPU that were in use; None without one."""
        if not gpus():
            return None
        if keras.backend.backend() == "jax":
            import jax

            return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
        if keras.backend.backend() == "torch":
            import torch

            return torch.cuda.max_memory_allocated()
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def matrix_product_speed(precision: str, seconds: float, side: int | None) -> float:
    """Returns floating-point operations a second of plain square matrix products."""
    side = side or (8192 if gpus() else 2048)
    numbers = np.random.default_rng(0).standard_normal((side, side), np.float32)
    matrix = ops.cast(numbers, "float32" if precision == "float32" else "bfloat16")
    float(ops.cast(ops.matmul(matrix, matrix)[0, 0], "float32"))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            product = ops.matmul(matrix, matrix)
        float(ops.cast(product[0, 0], "float32"))  # waits
        count += 4
    return 2 * side**3 * count / (time.perf_counter() - start)
