"""What GCM costs beside the CNN of its size, and attribution in batches beside a loop.

python benchmarks/speed/gcm.py --json gcm.json

The networks are those of the preset gcm-cifar10, not trained, because time does not depend on
weights.
"""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from timing import fastest, report, row

from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands.environment import import_tensorflow_quietly

if TYPE_CHECKING:
    import keras

BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "images of a forward pass")
IMAGES = flags.DEFINE_integer("images", 64, "that are explained, each for every class")
CLASSES = flags.DEFINE_integer("classes", 10, "of the networks")
REPEATS = flags.DEFINE_integer("repeats", 5, "the fastest of so many counts")
JSON = flags.DEFINE_string("json", None, "file for the rows")

METHODS = {
    "cnn": ("cam", "grad_cam", "guided_backprop", "guided_grad_cam"),
    "gcm": ("contribution_maps",),
}
PASSES = 10  # by turns, for each count of the others


def forward(models: dict[str, "keras.Model"], images: np.ndarray) -> dict:
    """Compares the forward passes of the two networks."""
    passes = (functools.partial(models[name].predict_on_batch, images) for name in ("gcm", "cnn"))
    seconds = fastest(PASSES * REPEATS.value, *passes)
    return row(f"forward pass of gcm, {len(images)} images", "of cnn", *seconds)


def attribution(models: dict[str, "keras.Model"], images: np.ndarray) -> Iterator[dict]:
    """Compares all maps at once with one image and class after another, method by method."""
    from mcattn_tf.explain.methods import Attributor, Pairs

    every = Pairs.product(len(images), range(CLASSES.value))
    for name, methods in METHODS.items():
        for method in methods:
            attributor = Attributor(models[name], [method])

            def at_once(attributor: Attributor = attributor) -> None:
                attributor.maps(images, attributor.forward(images), every)

            def in_a_loop(attributor: Attributor = attributor) -> None:
                for index, target in zip(every.images, every.attributes, strict=True):
                    image = images[index : index + 1]
                    pair = Pairs.product(1, [target])
                    attributor.maps(image, attributor.forward(image), pair)

            seconds = fastest(REPEATS.value, at_once, in_a_loop)
            what = f"{method} of {name}, {len(images)} images, {CLASSES.value} classes"
            yield row(what, "a loop over images and classes", *seconds)


def main(arguments: list[str]) -> None:
    """Prints a line a comparison and writes the rows."""
    import_tensorflow_quietly()
    from mcattn_tf import models
    from mcattn_tf.settings.config import make_config
    from mcattn_tf.settings.presets import PRESETS

    classes = tuple(str(number) for number in range(CLASSES.value))
    config = make_config(PRESETS["gcm-cifar10"], {"found": {"attributes": classes}})
    built = {name: models.build(config.replace("model", name=name)) for name in ("gcm", "cnn")}
    random = np.random.default_rng(0)
    shape = (*config.data.image_size, 3)
    rows = [forward(built, random.random((BATCH_SIZE.value, *shape), np.float32))]
    rows += attribution(built, random.random((IMAGES.value, *shape), np.float32))
    report(rows, JSON.value)


if __name__ == "__main__":
    command_line.run_script(main)
