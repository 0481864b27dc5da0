"""How much measuring explanations costs, in units of plain prediction.

python benchmarks/speed/explanations.py --json explanations.json

The network is the default one on drawn 64x64 faces with 16 attributes, not trained, because time
does not depend on weights. Each measurement stands beside plain prediction in the same run.
"""

from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from timing import fastest, report, row

from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands.environment import import_tensorflow_quietly

if TYPE_CHECKING:
    import keras

    from mcattn_tf.data import RegionSet

IMAGES = flags.DEFINE_integer("images", 1000, "that localisation is measured on")
PAIRS = flags.DEFINE_integer("pairs", 128, "of image and attribute that deletion is measured on")
REPEATS = flags.DEFINE_integer("repeats", 3, "the fastest of so many counts")
JSON = flags.DEFINE_string("json", None, "file for the rows")

BATCH = 128
METHODS = ("contributions", "centered_contributions", "mask_mean", "cam", "grad_cam")


def deletion_and_insertion(model: "keras.Model", regions: "RegionSet") -> dict:
    """Compares pictures a second with those of `predict` for the same output."""
    import keras

    from mcattn_tf.explain.truth.faithfulness import STEPS, FaithfulnessMeter

    count = PAIRS.value
    images = regions.read(range(count)).images
    random = np.random.default_rng(0)
    grid = tuple(model.get_layer("features").output.shape[1:3])
    maps = random.random((count, *grid), np.float32)
    attributes, signs = random.integers(0, 16, count), np.ones(count, int)
    meter = FaithfulnessMeter(model, "attributes", grid)
    pictures = count * (2 * STEPS + 1)
    answers = keras.Model(model.input, model.output["attributes"])
    plain_images = np.resize(images, (pictures, *images.shape[1:]))
    measured, plain = fastest(
        REPEATS.value,
        lambda: meter(images, attributes, signs, maps),
        lambda: answers.predict(plain_images, batch_size=BATCH, verbose=0),
    )
    return row(
        f"deletion and insertion, {count} pairs, {STEPS} steps",
        f"model.predict on as many pictures ({pictures})",
        measured,
        plain,
    )


def localisation(model: "keras.Model", regions: "RegionSet") -> dict:
    """Compares localisation by five methods with `predict` on the same images."""
    import keras

    from mcattn_tf.explain.truth.measurement import Measurement, Settings

    images = regions.take(IMAGES.value)
    every = list(range(len(regions.attributes)))
    subject = Measurement(model, regions.attributes, images, every, METHODS, Settings())
    answers = keras.Model(model.input, model.output["attributes"])
    plain_images = images.read(range(images.count)).images

    def localise() -> None:
        subject.adapt()
        subject.localisation()

    measured, plain = fastest(
        REPEATS.value, localise, lambda: answers.predict(plain_images, batch_size=BATCH, verbose=0)
    )
    return row(
        f"localisation, {images.count} images, {len(every)} attributes, {len(METHODS)} methods",
        "model.predict on the same images",
        measured,
        plain,
    )


def main(arguments: list[str]) -> None:
    """Prints a line a measurement and writes the rows."""
    import_tensorflow_quietly()
    from mcattn_tf import models
    from mcattn_tf.data.regions.region_set import drawn_regions
    from mcattn_tf.settings.config import make_config

    config = make_config()
    regions = drawn_regions(config.data)
    config = config.replace("found", attributes=regions.attributes)
    model = models.build(config)
    measurements = (deletion_and_insertion, localisation)
    rows = [measure(model, regions) for measure in measurements]
    report(rows, JSON.value)


if __name__ == "__main__":
    command_line.run_script(main)
