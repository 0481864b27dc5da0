"""Counts of images and of positive labels in each split."""

import numpy as np

from mcattn_tf.data.split import SPLITS, Data, Split
from mcattn_tf.tables import Column, lay_out, percent


def _positives(split: Split) -> np.ndarray:
    """Returns how many images have each of the K labels."""
    labels = split.labels[split.chosen]
    if labels.ndim == 1:
        return np.bincount(labels, minlength=split.label_count)
    return np.sum(labels, axis=0, dtype=np.int64)


def format_statistics(data: Data) -> str:
    """Returns a table with a row a label: its positive images in each split, and their share."""
    columns = []
    for name in SPLITS:
        split = data.split(name)
        counts = [*_positives(split).tolist(), split.count]
        columns.append(Column(name, "positives", [str(count) for count in counts]))
        columns.append(Column(name, "%", [percent(count / split.count) for count in counts]))
    return "\n".join(lay_out([*data.attributes, "images"], columns))
