"""What a widely dilated convolution costs beside Keras' own.

python benchmarks/speed/dilated_convolution.py --json dilated_convolution.json

The grids are those of `--preset paper` for 64x52 and 128x104 pixels. Forward and both gradients, of
the features and of the kernel, in float32; and a whole training step of the preset, 64x52.
"""

import functools
import unittest.mock
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from timing import fastest, report, row

from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands.environment import import_tensorflow_quietly
from mcattn_tf.optimizers import optimizer_of

if TYPE_CHECKING:
    import keras

CHANNELS = flags.DEFINE_integer("channels", 128, "of the features and of what is made of them")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "grids of a step")
ATTRIBUTES = flags.DEFINE_integer("attributes", 40, "of the whole network")
REPEATS = flags.DEFINE_integer("repeats", 10, "the fastest of so many steps")
JSON = flags.DEFINE_string("json", None, "file for the rows")

GRIDS = ((16, 13), (32, 26))
DILATIONS = (2, 4, 8, 16)
IMAGE_SIZE = 64, 52


def step(layer: "keras.Layer", features: np.ndarray) -> Callable[[], object]:
    """Returns what computes the outputs of a layer and the gradients of their mean square."""
    import tensorflow as tf

    layer.build(features.shape)

    @tf.function
    def gradients(features: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(features)
            value = tf.reduce_mean(layer(features) ** 2)
        return tape.gradient(value, [features, layer.kernel.value])

    return functools.partial(gradients, tf.constant(features))


def compare(grid: tuple[int, int], dilation: int) -> dict:
    """Compares the two layers on one grid."""
    from keras import layers

    from mcattn_tf.layers.convolutions import DilatedConv2D

    shape = (BATCH_SIZE.value, *grid, CHANNELS.value)
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    settings = {"dilation_rate": dilation, "padding": "same", "use_bias": False}
    steps = (
        step(kind(CHANNELS.value, 3, **settings), features)
        for kind in (DilatedConv2D, layers.Conv2D)
    )
    what = f"DilatedConv2D, {grid[0]}x{grid[1]} cells, dilation {dilation}"
    return row(what, "Conv2D", *fastest(REPEATS.value, *steps))


def compare_networks() -> dict:
    """Compares training steps of the whole network, with and without the layer."""
    from keras import layers

    from mcattn_tf import models
    from mcattn_tf.layers.convolutions import DilatedConv2D
    from mcattn_tf.models.parts import extractor
    from mcattn_tf.settings.config import make_config
    from mcattn_tf.settings.presets import PRESETS
    from mcattn_tf.training import compiling

    names = tuple(str(number) for number in range(ATTRIBUTES.value))
    sizes = {"data": {"image_size": IMAGE_SIZE}, "found": {"attributes": names}}
    config = make_config(PRESETS["paper"], sizes, {"model": {"channels": CHANNELS.value}})
    random = np.random.default_rng(0)
    images = random.random((BATCH_SIZE.value, *IMAGE_SIZE, 3), np.float32)
    labels = random.integers(0, 2, (BATCH_SIZE.value, len(names))).astype(np.float32)
    steps = []
    for kind in (DilatedConv2D, layers.Conv2D):
        with unittest.mock.patch.object(extractor, "DilatedConv2D", kind):
            model = models.build(config)
        compiling.compile_model(model, config, optimizer_of(config.training, 100))
        batch = compiling.with_targets(model.output_names, images, labels)
        steps.append(functools.partial(model.train_on_batch, *batch))
    what = f"training step of paper, {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}"
    return row(what, "with Conv2D", *fastest(REPEATS.value, *steps))


def main(arguments: list[str]) -> None:
    """Prints a line a comparison and writes the rows."""
    import_tensorflow_quietly()
    rows = [compare(grid, dilation) for grid in GRIDS for dilation in DILATIONS]
    report([*rows, compare_networks()], JSON.value)


if __name__ == "__main__":
    command_line.run_script(main)
