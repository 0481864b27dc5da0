"""How much the analysis of the feature space costs, in units of a plain forward pass.

python benchmarks/speed/analysis.py --json analysis.json

The network is the default one with 40 attributes, not trained, because time does not depend on
weights. Both passes read the same images through the same pipeline, in the same batches, and begin
with a network whose graph has not been built.
"""

import resource
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from timing import fastest, report, row

from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands.environment import import_tensorflow_quietly

if TYPE_CHECKING:
    import keras

    from mcattn_tf.data import Split

IMAGES = flags.DEFINE_integer("images", 12_000, "that are analysed")
ATTRIBUTES = flags.DEFINE_integer("attributes", 40, "K")
IMAGE_SIZE = flags.DEFINE_list("image_size", "64,52", "height,width")
REPEATS = flags.DEFINE_integer("repeats", 2, "the fastest of so many passes")
JSON = flags.DEFINE_string("json", None, "file for the rows")

DIFFERENT = 256  # images that are there; they come again and again


def random_split(count: int, attributes: int, image_size: tuple[int, int]) -> "Split":
    """Returns random images of which few are in memory at a time, with random labels."""
    from mcattn_tf.data import Split

    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (DIFFERENT, *image_size, 3)).astype(np.uint8)
    labels = random.integers(0, 2, (count, attributes)).astype(np.uint8)
    indices = np.arange(count)
    return Split(lambda i: pixels[i % DIFFERENT], labels, attributes, image_size, indices)


def rows_of(model: "keras.Model", attributes: tuple[str, ...], image_size: tuple[int, int]) -> list:
    """Compares the analysis with the forward passes that give answers, and every output."""
    import keras

    from mcattn_tf.data.pipeline import evaluation_batches
    from mcattn_tf.explain.feature_space import correlation

    split = random_split(IMAGES.value, len(attributes), image_size)

    def batches(split: "Split") -> object:
        return evaluation_batches(split, correlation.BATCH_SIZE).as_numpy_iterator()

    def predict(outputs: object) -> None:
        plain = keras.Model(model.input, outputs)
        for images, _ in batches(split):
            plain.predict_on_batch(images)

    peaks = []

    def watched() -> object:
        """Yields every batch and notes the peak of memory after it."""
        for batch in batches(split):
            yield batch
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    # Within one pass: another would build a graph of its own.
    correlation.analyze(model, attributes, watched())
    grown = peaks[-1] - peaks[len(peaks) // 12]
    print(f"peak of memory after all images: {grown:+.1f} MB to that after a twelfth of them")
    analysed, answers, everything = fastest(
        REPEATS.value,
        lambda: correlation.analyze(model, attributes, batches(split)),
        lambda: predict(model.output["attributes"]),
        lambda: predict(model.output),
    )
    what = f"analysis, {split.count} images, {len(attributes)} attributes"
    rows = [
        row(what, "forward pass, attributes alone", analysed, answers),
        row(what, "forward pass, all outputs", analysed, everything),
    ]
    return [values | {"memory_grown_mb": grown} for values in rows]


def main(arguments: list[str]) -> None:
    """Prints a line a comparison and writes the rows."""
    import_tensorflow_quietly()
    from mcattn_tf import models
    from mcattn_tf.settings.config import make_config

    image_size = tuple(map(int, IMAGE_SIZE.value))
    attributes = tuple(f"attribute {index}" for index in range(ATTRIBUTES.value))
    settings = {"data": {"image_size": image_size}, "found": {"attributes": attributes}}
    model = models.build(make_config(settings))
    report(rows_of(model, attributes, image_size), JSON.value)


if __name__ == "__main__":
    command_line.run_script(main)
