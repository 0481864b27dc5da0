"""How long an exported network takes to answer and to explain, beside the Keras model.

python benchmarks/speed/serving_latency.py --json serving_latency.json
python benchmarks/speed/serving_latency.py --kept 64    # beside the network that pruning makes

The SavedModel is loaded in Python and asked by its endpoints for images; a server adds the request
and its decoding. The networks are not trained, because time does not depend on weights.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from timing import in_turn, report, row

from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands.environment import import_tensorflow_quietly
from mcattn_tf.errors import UserError
from mcattn_tf.tables import Column, lay_out

if TYPE_CHECKING:
    from mcattn_tf.settings.config import Config

MODEL = flags.DEFINE_string("model", "mcattn", "network with its default settings")
ATTRIBUTES = flags.DEFINE_integer("attributes", 40, "how many it has")
IMAGE_SIZE = flags.DEFINE_list("image_size", ["128", "104"], "height,width in pixels")
BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "8", "64"], "images of a request")
IMAGES = flags.DEFINE_integer("images", 400, "each way is asked about, in so many batches as it is")
KEPT = flags.DEFINE_integer("kept", None, "channels of a pruned network to compare with", 1)
JSON = flags.DEFINE_string("json", None, "file for the rows")

LEAST = 10  # batches of each size


def ways(config: "Config", directory: Path) -> dict[str, Callable[[np.ndarray], object]]:
    """Returns what is compared: {name: from images (B, H, W, 3) to NumPy arrays}."""
    import keras
    import tensorflow as tf

    from mcattn_tf import models
    from mcattn_tf.commands.prune import operations
    from mcattn_tf.export.answers import build_answers, build_explained_answers
    from mcattn_tf.export.exporting import export

    def exported(settings: "Config", version: str) -> tuple[keras.Model, dict[str, Callable]]:
        network, place = models.build(settings), directory / version
        export(network, settings, place)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        print(
            f"{settings.model.channels} channels: {network.count_params():,} parameters, "
            f"{operations(network) / 1e6:.1f} million operations, {size / 1e6:.2f} MB"
        )
        return network, tf.saved_model.load(str(place)).signatures

    def served(signatures: dict[str, Callable], endpoint: str, images: np.ndarray) -> list:
        outputs = signatures[endpoint](images=tf.constant(images))
        return [values.numpy() for values in outputs.values()]

    def called(network: keras.Model, images: np.ndarray) -> list[np.ndarray]:
        outputs = network(images, training=False)
        return [values.numpy() for values in outputs.values()]

    model, signatures = exported(config, "1")
    compared = {
        "predict": functools.partial(served, signatures, "serving_default"),
        "explain": functools.partial(served, signatures, "explain"),
    }
    if KEPT.value:
        inner = {"channels": KEPT.value, "inner_channels": config.model.channels}
        _, smaller = exported(config.replace("model", **inner), "2")
        compared["predict, pruned"] = functools.partial(served, smaller, "serving_default")
        compared["explain, pruned"] = functools.partial(served, smaller, "explain")
        return compared
    answers = build_answers(model)
    return compared | {
        "predict, Keras predict_on_batch": answers.predict_on_batch,
        "predict, Keras call": functools.partial(called, answers),
        "explain, Keras predict_on_batch": build_explained_answers(model).predict_on_batch,
    }


def measure(
    compared: dict[str, Callable[[np.ndarray], object]], images: np.ndarray
) -> Iterator[dict]:
    """Yields a row for each comparison at one batch size, and prints the latencies of each way."""
    repeats = max(LEAST, -(-IMAGES.value // len(images)))
    calls = (functools.partial(way, images) for way in compared.values())
    seconds = dict(zip(compared, np.array(in_turn(repeats, *calls)), strict=True))
    median = {name: float(np.median(times)) for name, times in seconds.items()}
    high = {name: float(np.quantile(times, 0.99)) for name, times in seconds.items()}
    speed = {name: len(images) / float(np.mean(times)) for name, times in seconds.items()}
    columns = [
        Column("", "p50 ms", [f"{1000 * value:.1f}" for value in median.values()]),
        Column("", "p99 ms", [f"{1000 * value:.1f}" for value in high.values()]),
        Column("", "images/s", [f"{value:.1f}" for value in speed.values()]),
    ]
    print(f"batch {len(images)}, {repeats} times in turn")
    print("\n".join(lay_out(list(seconds), columns)))
    pairs = [(name, name.split(", ")[0]) for name in compared if ", " in name]
    for alternative, what in [*pairs, ("predict", "explain")]:
        yield {
            **row(f"{what}, batch {len(images)}", alternative, median[what], median[alternative]),
            "p99_seconds": high[what],
            "alternative_p99_seconds": high[alternative],
            "images_per_second": speed[what],
            "alternative_images_per_second": speed[alternative],
        }


def main(arguments: list[str]) -> None:
    """Prints latencies and ratios of medians, and writes the rows."""
    import_tensorflow_quietly()
    from mcattn_tf.settings.config import make_config

    try:
        image_size = tuple(int(side) for side in IMAGE_SIZE.value)
        batch_sizes = [int(size) for size in BATCH_SIZES.value]
    except ValueError:
        raise UserError("--image_size and --batch_sizes must be whole numbers") from None
    names = tuple(f"attribute {index}" for index in range(ATTRIBUTES.value))
    config = make_config(
        {
            "data": {"image_size": image_size},
            "model": {"name": MODEL.value},
            "found": {"attributes": names},
        }
    )
    random = np.random.default_rng(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        compared = ways(config, Path(folder))
        for size in batch_sizes:
            rows += measure(compared, random.random((size, *image_size, 3), np.float32))
    report(rows, JSON.value)


if __name__ == "__main__":
    command_line.run_script(main)
