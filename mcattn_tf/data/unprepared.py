"""Images decoded each time they are read (`no_cache`)."""

import dataclasses
import sys

import keras
import numpy as np
import tensorflow as tf

from mcattn_tf.data.decoding import BATCH, BadImages, decoded, to_size
from mcattn_tf.data.source import Part
from mcattn_tf.data.split import Split
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig


def _labels(part: Part, title: str, bad: BadImages) -> np.ndarray:
    """Returns the labels of all examples; those of a record that cannot be read are 0."""
    if part.labels is not None:
        return part.labels
    print(f"reading the labels of {part.count} {title} images")
    examples = part.examples(0).map(lambda index, image, labels: (index, labels)).ignore_errors()
    found = list(examples.batch(BATCH).as_numpy_iterator())
    read = [index for indices, _ in found for index in indices.tolist()]
    for index in np.setdiff1d(np.arange(part.count), read).tolist():
        bad.add(index)
    rows = np.concatenate([labels for _, labels in found])
    labels = np.zeros((part.count, *rows.shape[1:]), rows.dtype)
    labels[read] = rows
    return labels


def _find_bad_images(part: Part, title: str, bad: BadImages) -> None:
    """Decodes every image of a part and keeps none; tells `bad` of those that are."""
    print(f"looking for bad images among {part.count} {title} images")
    progress = keras.utils.Progbar(part.count, verbose=1 if sys.stdout.isatty() else 0)
    for index, _, _ in decoded(part, 0, part.count, bad):
        progress.update(index + 1)


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
    bad = BadImages(part, title, config)
    if config.skip_bad_images:
        _find_bad_images(part, title, bad)
    labels = _labels(part, title, bad)
    bad.report()
    kept = bad.kept

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])
    def decode(index: tf.Tensor) -> tf.Tensor:
        return to_size(part.read(index), config.image_size)

    def images(indices: np.ndarray) -> np.ndarray:
        read = np.empty((len(indices), *config.image_size, 3), np.uint8)
        with tf.device("cpu:0"):  # where `tf.data` decodes too
            for image, index in zip(read, indices, strict=True):
                image[...] = decode(tf.constant(index)).numpy()
        return read

    def refuse_bad_images() -> None:
        strict = dataclasses.replace(config, skip_bad_images=False)
        left_out = [image.index for image in bad.met]
        _find_bad_images(part, title, BadImages(part, title, strict, left_out=left_out))

    split = Split(
        images,
        labels,
        len(attributes),
        config.image_size,
        kept,
        decode,
        part.name,
        refuse_bad_images,
    )
    return split, kept
