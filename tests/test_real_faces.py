"""Checks on CelebA's own files; MCATTN_CELEBA_DIR names the folder that has them."""

import os
from pathlib import Path

import numpy as np
import pytest

from mcattn_tf import data, published
from mcattn_tf.config import DataConfig
from mcattn_tf.data.pipeline import evaluation_batches

FOLDER = os.environ.get("MCATTN_CELEBA_DIR")
pytestmark = pytest.mark.skipif(not FOLDER, reason="MCATTN_CELEBA_DIR is not set")


def test_partitions_and_labels_are_those_of_the_files():
    loaded = data.load(DataConfig(dataset="celeba", data_dir=FOLDER, image_size=(64, 52)))
    assert loaded.attributes == tuple(published.ACCURACY)
    partition = np.loadtxt(Path(FOLDER) / "list_eval_partition.txt", dtype=str)
    table = np.loadtxt(Path(FOLDER) / "list_attr_celeba.txt", dtype=str, skiprows=2)
    rows = {row[0]: row[1:] == "1" for row in table}
    for part, split in enumerate((loaded.train, loaded.validation, loaded.test)):
        names = partition[partition[:, 1] == str(part), 0]
        assert split.count == len(names)
        images, labels = next(evaluation_batches(split, 32).as_numpy_iterator())
        np.testing.assert_array_equal(labels, [rows[name] for name in names[:32]])
        assert images.shape == (32, 64, 52, 3) and 0.1 < images.mean() < 0.9
        assert images.std(axis=(1, 2, 3)).min() > 0.05  # no picture is empty
