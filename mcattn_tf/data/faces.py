"""The embedded data set of drawn faces."""

import functools

import tensorflow as tf

from mcattn_tf.config import DataConfig
from mcattn_tf.data.drawn_faces import ATTRIBUTES, draw_faces
from mcattn_tf.data.pipeline import Data, Split

SEEDS = {"train": 0, "validation": 1, "test": 2}
EXAMPLES = {"train": 8000, "validation": 1000, "test": 2000}


def example_count(name: str, config: DataConfig) -> int:
    """Returns how many images the part `name` has."""
    return config.train_examples or EXAMPLES[name] if name == "train" else EXAMPLES[name]


def _split(name: str, config: DataConfig) -> Split:
    count = example_count(name, config)

    @functools.cache
    def drawn() -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = draw_faces(SEEDS[name], 0, count, config.image_size)
        with tf.init_scope():  # outside of the graph that first asks for them
            return tf.constant(images), tf.constant(labels)

    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = drawn()
        return images[index], labels[index]

    return Split(count, read)


def load(config: DataConfig) -> Data:
    """Draws the data set when it is first read: images of one part are drawn together.

    Args:
        config: `image_size` and `train_examples` are used; more training images than 8,000 are
            drawn where more are asked for.

    Returns:
        8,000 training, 1,000 validation and 2,000 test images of 16 attributes.
    """
    # Refuses a size that is too small before training starts.
    draw_faces(SEEDS["train"], 0, 0, config.image_size)
    return Data(*(_split(name, config) for name in SEEDS), attributes=ATTRIBUTES)
