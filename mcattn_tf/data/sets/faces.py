"""The embedded data set of drawn faces."""

import functools
import threading

import numpy as np

from mcattn_tf.data.drawn_faces import ATTRIBUTES, draw_faces, draw_labels
from mcattn_tf.data.split import Data, Split
from mcattn_tf.settings.data import DataConfig

SEEDS = {"train": 0, "validation": 1, "test": 2}
EXAMPLES = {"train": 8000, "validation": 1000, "test": 2000}


def example_count(name: str, config: DataConfig) -> int:
    """Returns the number of images of the split `name`."""
    return config.train_examples or EXAMPLES[name] if name == "train" else EXAMPLES[name]


def _split(name: str, config: DataConfig) -> Split:
    count = example_count(name, config)
    drawing = threading.Lock()  # many threads ask for the first batches at once

    @functools.cache
    def drawn() -> np.ndarray:
        return draw_faces(SEEDS[name], 0, count, config.image_size)[0]

    def images(indices: np.ndarray) -> np.ndarray:
        with drawing:
            return drawn()[indices]

    return Split(
        images,
        draw_labels(SEEDS[name], 0, count),
        len(ATTRIBUTES),
        config.image_size,
        np.arange(count),
        name=lambda index: f"drawn face {index} to {name}",
    )


def load(config: DataConfig) -> Data:
    """Returns the drawn faces, of 16 attributes; a split is drawn when its first image is read."""
    # Refuses a size that is too small before training starts.
    draw_faces(SEEDS["train"], 0, 0, config.image_size)
    return Data(*(_split(name, config) for name in SEEDS), attributes=ATTRIBUTES)
