"""The embedded data set of drawn faces."""

import functools

import tensorflow as tf

from mcattn_tf.config import DataConfig
from mcattn_tf.data.drawn_faces import ATTRIBUTES, draw_faces
from mcattn_tf.data.pipeline import Data, Split

TRAIN_EXAMPLES, VALIDATION_EXAMPLES, TEST_EXAMPLES = 8000, 1000, 2000
TRAIN_SEED, VALIDATION_SEED, TEST_SEED = 0, 1, 2


def _split(seed: int, count: int, image_size: tuple[int, int]) -> Split:
    @functools.cache
    def drawn() -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = draw_faces(seed, 0, count, image_size)
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
    size = config.image_size
    draw_faces(TRAIN_SEED, 0, 0, size)  # refuses a size that is too small before training starts
    return Data(
        train=_split(TRAIN_SEED, config.train_examples or TRAIN_EXAMPLES, size),
        validation=_split(VALIDATION_SEED, VALIDATION_EXAMPLES, size),
        test=_split(TEST_SEED, TEST_EXAMPLES, size),
        attributes=ATTRIBUTES,
    )
