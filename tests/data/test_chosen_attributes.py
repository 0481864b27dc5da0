"""A data set of some of its attributes: their labels, in the order that is asked for."""

import dataclasses

import numpy as np
import pytest
from celeba_files import LABELS, NAMES, make_celeba

from mcattn_tf import data
from mcattn_tf.data.drawn_faces import ATTRIBUTES
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig
from mcattn_tf.settings.findings import Findings


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = make_celeba(tmp_path_factory.mktemp("celeba"))
    return DataConfig(dataset="celeba", data_dir=str(folder), image_size=(32, 28), no_cache=True)


def test_labels_are_those_of_the_names(config):
    names = NAMES[2], NAMES[0]
    chosen = dataclasses.replace(config, attributes=names)
    loaded = data.load(chosen)
    assert loaded.attributes == names and loaded.train.label_count == 2
    whole = data.load(config).train.read([2, 0])
    images, labels = loaded.train.read([2, 0])
    np.testing.assert_array_equal(labels, whole[1][:, [2, 0]])
    np.testing.assert_array_equal(images, whole[0])
    split = data.load_split(chosen, "test", Findings(names))
    np.testing.assert_array_equal(split.labels_of(np.arange(1)), LABELS[[1]][:, [2, 0]])
    with pytest.raises(UserError, match="are not those that this run was trained on"):
        data.load_split(chosen, "test", Findings(names[::-1]))


def test_drawn_faces_too():
    names = ("Smiling", "Bald")
    config = DataConfig(image_size=(32, 36), attributes=names)
    loaded = data.load(config)
    columns = [ATTRIBUTES.index(name) for name in names]
    whole = data.load(dataclasses.replace(config, attributes=None)).validation
    assert loaded.attributes == names
    labels = loaded.validation.labels_of(np.arange(9))
    np.testing.assert_array_equal(labels, whole.labels_of(np.arange(9))[:, columns])


def test_what_there_is_not_is_refused(config):
    with pytest.raises(UserError, match=f"`attributes` must be one of {NAMES[0]}"):
        data.load(dataclasses.replace(config, attributes=("Smirking",)))
    for names in ((), ("Bald", "Bald")):
        with pytest.raises(UserError, match="names without repeats"):
            dataclasses.replace(config, attributes=names)
