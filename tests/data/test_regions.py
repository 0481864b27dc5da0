"""Regions of drawn faces, and what is common to regions of all kinds."""

import numpy as np
import pytest

from mcattn_tf import data
from mcattn_tf.data import drawn_faces
from mcattn_tf.data.images import resize_regions
from mcattn_tf.data.regions.region_set import drawn_regions, without_regions
from mcattn_tf.data.sets import faces
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

DRAWN = DataConfig(image_size=(32, 36), train_examples=12)


@pytest.mark.parametrize("name", ["train", "validation"])
def test_drawn_regions_are_those_of_the_split(name):
    loaded, split = data.load_regions(DRAWN, name), data.load(DRAWN).split(name)
    assert loaded.count == split.count == {"train": 12, "validation": 1000}[name]
    assert loaded.attributes == drawn_faces.ATTRIBUTES
    batch = loaded.read(range(5, 8))
    images, labels = split.read([5, 6, 7])
    np.testing.assert_allclose(batch.images, images / 255.0, atol=1e-6)
    np.testing.assert_array_equal(batch.present["labelled"], labels == 1)
    expected = drawn_faces.draw_regions(faces.SEEDS[name], 5, 3, (32, 36))
    np.testing.assert_array_equal(batch.regions, expected)
    assert batch.valid.all()


def test_drawn_faces_are_drawn_anew():
    loaded = drawn_regions(DRAWN, "test")
    rows, place = range(4, 7), (faces.SEEDS["test"], 4, 3, (32, 36))
    parts, draw = loaded.take(5).redrawing
    assert len(parts) == 12 and sorted(sum(parts, ())) == sorted(drawn_faces.ATTRIBUTES)
    regions = loaded.read(rows).regions
    for names in parts:  # one place each
        for name in names:
            columns = [drawn_faces.ATTRIBUTES.index(x) for x in (names[0], name)]
            np.testing.assert_array_equal(regions[..., columns[0]], regions[..., columns[1]])
    np.testing.assert_array_equal(draw(rows, None, False), loaded.read(rows).images)
    switched = np.random.default_rng(0).random((3, 16)) < 0.5
    changed = drawn_faces.draw_faces(*place, switched)[0]
    np.testing.assert_array_equal(np.rint(255 * draw(rows, switched, False)), changed)
    moved = drawn_faces.draw_faces(*place, background=5)[0]
    np.testing.assert_array_equal(np.rint(255 * draw(rows, None, True)), moved)
    assert without_regions(data.load(DRAWN).train).redrawing is None


def test_batches_hold_every_image_once():
    loaded = drawn_regions(DRAWN).take(7)
    batches = list(loaded.batches(3))
    assert [len(batch.images) for batch in batches] == [3, 3, 1]
    images, labels = drawn_faces.draw_faces(faces.SEEDS["test"], 0, 7, (32, 36))
    np.testing.assert_array_equal(
        np.concatenate([np.rint(batch.images * 255) for batch in batches]), images
    )
    np.testing.assert_array_equal(
        np.concatenate([batch.present["labelled"] for batch in batches]), labels == 1
    )
    assert loaded.take(9).count == 7 and drawn_regions(DRAWN).take(5000).count == 2000


def test_without_regions_gives_the_images_of_the_split_in_order():
    split = data.load(DRAWN).train
    batch = without_regions(split).read(range(2, 5))
    images, _ = drawn_faces.draw_faces(faces.SEEDS["train"], 2, 3, (32, 36))
    np.testing.assert_allclose(batch.images, images / 255.0, atol=1e-6)
    assert batch.regions.shape == (3, 32, 36, 0)


def test_splits_that_do_not_exist_are_refused():
    with pytest.raises(UserError, match="`split` must be one of train, validation, test"):
        data.load_regions(DRAWN, "all")


def test_a_region_that_no_sample_meets_keeps_the_pixels_that_it_touches():
    regions = np.zeros((40, 60, 2), bool)
    regions[21, 31, 0] = True  # one pixel; a sample is taken every 5 pixels, from row 2, column 2
    regions[20:25, 30:36, 1] = True  # 5x6 pixels: a row of cells, and one column of the next
    small, large = np.moveaxis(resize_regions(regions, (8, 12)), -1, 0)
    assert np.argwhere(small).tolist() == [[4, 6]]
    assert np.argwhere(large).tolist() == [[4, 6]]  # the touched column holds no sample
