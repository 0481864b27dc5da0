"""Images decoded each time they are read (`no_cache`)."""

import sys

import keras
import numpy as np
import tensorflow as tf

from mcattn_tf.config import DataConfig
from mcattn_tf.data.decoding import BATCH, BadImages, decoded, to_size
from mcattn_tf.data.source import Part
from mcattn_tf.data.split import Split
from mcattn_tf.errors import UserError


def _labels(part: Part, title: str) -> np.ndarray:
    if part.labels is not None:
        return part.labels
    print(f"reading the labels of {part.count} {title} images")
    labels = part.examples(0).map(lambda index, image, labels: labels).batch(BATCH)
    return np.concatenate(list(labels.as_numpy_iterator()))


def find_bad_images(part: Part, title: str, config: DataConfig) -> BadImages:
    """Decodes every image of a part and keeps none.

    Raises:
        UserError: for a bad image (with `skip_bad_images`: for more than 1 %).
    """
    print(f"looking for bad images among {part.count} {title} images")
    progress = keras.utils.Progbar(part.count, verbose=1 if sys.stdout.isatty() else 0)
    bad = BadImages(part, title, config)
    for index, _, _ in decoded(part, 0, part.count, bad):
        progress.update(index + 1)
    return bad


def read_without_cache(
    part: Part, title: str, attributes: tuple[str, ...], config: DataConfig
) -> tuple[Split, np.ndarray]:
    """Returns a part whose images are decoded whenever they are read.

    Args:
        part: the examples.
        title: of the part, such as `celeba train`.
        attributes: names of the K labels.
        config: `image_size` and `skip_bad_images` are used.

    Returns:
        The examples and their indices in the part: all but the bad images.

    Raises:
        UserError: if the files can be read from front to back alone, or with `skip_bad_images`
            more than 1 % of the images are bad.
    """
    if part.read is None:
        raise UserError(
            f"--no_cache needs files that can be read in any order, and those of {title} cannot; "
            "leave it out"
        )
    kept = np.arange(part.count)
    if config.skip_bad_images:
        bad = find_bad_images(part, title, config)
        bad.report()
        kept = np.setdiff1d(kept, [image.index for image in bad.met])

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])
    def decode(index: tf.Tensor) -> tf.Tensor:
        return to_size(part.read(index), config.image_size)

    def images(indices: np.ndarray) -> np.ndarray:
        return np.stack([decode(tf.constant(index)).numpy() for index in indices])

    split = Split(
        images,
        _labels(part, title),
        len(attributes),
        config.image_size,
        kept,
        decode,
        part.name,
        lambda: find_bad_images(part, title, config),
    )
    return split, kept
