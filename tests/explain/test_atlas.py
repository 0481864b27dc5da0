"""Dissection of made-up channels by hand, and an atlas of a network against whole arrays."""

import dataclasses

import keras
import numpy as np
import pytest
from conftest import NAMES, randomise_weights, tiny_config

from mcattn_tf import models
from mcattn_tf.data.regions.region_set import RegionBatch, RegionSet
from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.atlas import (
    Atlas,
    Overlaps,
    Patches,
    atlas_made_before,
    make_atlas,
)
from mcattn_tf.explain.feature_space.atlas_tables import by_use, format_atlas, words_of
from mcattn_tf.explain.feature_space.correlation import analyze

SAME = ("Smiling", "Bald", "Eyeglasses")  # the first two are seen at the same place


def batch_of(images, regions):
    valid = np.ones(images.shape[:3], bool)
    return RegionBatch(images, regions, valid, {})


def test_overlaps_of_made_up_channels():
    """Two images of 4 x 8 pixels, 2 x 4 cells of 2 x 2 pixels, two places."""
    regions = np.zeros((2, 4, 8, 3), bool)
    regions[0, :2, :4, :2] = True  # two cells of the first image
    regions[1, 2:, 4:, :2] = True
    regions[0, 2:, 0, 2] = True  # half of a cell
    regions[1, 2:, 7, 2] = True
    features = np.zeros((2, 2, 4, 2), np.float32)
    features[0, 0, :2, 0] = features[1, 1, 2:, 0] = 1  # the first place
    features[0, 1, 0, 1] = features[1, 1, 3, 1] = 1  # cells of the second one
    batch = batch_of(np.zeros((2, 4, 8, 3), np.float32), regions)
    overlaps = Overlaps(features, batch, SAME)
    assert overlaps.parts == ("Smiling +1", "Eyeglasses")
    overlaps.thresholds = np.array([0.5, 0.5])
    overlaps.add(features, batch)
    own, others = overlaps.result()[:2]
    # Of 16 pixels each; half of two cells, 4 pixels of 8; channel 1 and place 1 share a cell.
    np.testing.assert_allclose(own, [[1.0, 2 / 18], [4 / 20, 0.5]], atol=1e-6)
    # The place of the other image: the channels have nothing there but a half of a cell.
    np.testing.assert_allclose(others, [[0, 0], [0, 0]], atol=1e-6)


def test_unknown_pixels_are_in_neither():
    regions = np.zeros((1, 2, 4, 1), bool)
    regions[0, :, :2] = True
    features = np.ones((1, 1, 2, 1), np.float32)
    batch = batch_of(np.zeros((1, 2, 4, 3), np.float32), regions)
    batch.valid[0, :, 2:] = False
    overlaps = Overlaps(features, batch, ("A",))
    overlaps.thresholds = np.array([0.5])
    overlaps.add(features, batch)
    assert overlaps.result()[0, 0, 0] == 1.0  # of 0.5 were all pixels known


def atlas_of(**fields):
    values = {
        "attributes": ("A", "B"),
        "parts": ("eyes", "mouth"),
        "weights": "",
        "images": 2,
        "source": "regions",
        "importance": np.array([[3.0, 1.0, 0.0], [0.2, 0.0, 0.2]]),
        "mean_contributions": np.array([[-3.0, 1.0, 0.0], [0.2, 0.0, 0.1]]),
        "mean_maps": np.zeros((3, 1, 1)),
        "thresholds": np.zeros(3),
        "overlaps": np.array([[0.5, 0.6], [0.1, 0.1], [0.1, 0.35]]),
        "chance": np.array([[[0.2, 0.3], [0.1, 0.3], [0.2, 0.2]]] * 2),
        "values": np.zeros((3, 9)),
        "patches": np.zeros((3, 9, 1, 1, 3), np.uint8),
    }
    return Atlas(**values | fields)


def test_a_part_is_detected_beyond_chance():
    assert atlas_of().detected().tolist() == [1, -1, 1]
    lower = atlas_of(overlaps=np.array([[0.5, 0.25], [0.1, 0.1], [0.1, 0.35]]))
    assert lower.detected().tolist() == [0, -1, 1]
    assert atlas_of(parts=()).detected().tolist() == [-1, -1, -1]


def test_the_table_names_part_and_attributes():
    atlas = atlas_of()
    assert by_use(atlas) == [0, 2, 1]
    assert words_of(atlas, 0) == "-A 75.0 %, +B 50.0 %"
    lines = format_atlas(atlas, None).splitlines()
    row = next(line for line in lines if line.startswith("0 "))
    assert row.split()[1:4] == ["mouth", "0.60", "0.30"]
    assert any(line.split()[:2] == ["mouth", "2"] for line in lines)
    assert next(line for line in lines if line.startswith("1 ")).split()[1:4] == ["-"] * 3


def regions_of(images, regions):
    def read(indices):
        rows = slice(indices.start, indices.stop)
        return batch_of(images[rows], regions[rows])

    return RegionSet("made-up regions", SAME, (), len(images), read)


@pytest.mark.parametrize("name", ["mcattn", "baseline"])
def test_an_atlas_is_what_whole_arrays_say(name, images, tmp_path, monkeypatch):
    monkeypatch.setattr("mcattn_tf.explain.feature_space.atlas.BATCH_SIZE", 4)
    random = np.random.default_rng(3)
    regions = random.random((6, 12, 8, 3)) < 0.4
    regions[..., 1] = regions[..., 0]
    model = randomise_weights(models.build(tiny_config(model={"name": name})))
    atlas = make_atlas(model, NAMES, regions_of(images, regions))
    features = np.asarray(keras.Model(model.input, model.get_layer("features").output)(images))
    np.testing.assert_allclose(atlas.mean_maps, features.mean(0).transpose(2, 0, 1), atol=1e-5)
    strong = (features > atlas.thresholds).repeat(2, axis=1).repeat(2, axis=2)
    for part, place in enumerate((0, 2)):
        for channel in range(5):
            marked, region = strong[..., channel], regions[..., place]
            overlap = (marked & region).sum() / (marked | region).sum()
            np.testing.assert_allclose(atlas.overlaps[channel, part], overlap, atol=1e-6)
    peaks = np.sort(features.max(axis=(1, 2)), axis=0)[::-1]
    np.testing.assert_allclose(atlas.values[:, :6], peaks.T, rtol=1e-5)
    field = models.receptive_field(model)
    image = features[..., 2].max(axis=(1, 2)).argmax()
    cell = np.unravel_index(features[image, ..., 2].argmax(), (6, 4))
    top, left, bottom, right = field.box(*cell)
    patch = np.round(255 * images[image, top:bottom, left:right])
    np.testing.assert_array_equal(atlas.patches[2, 0, : bottom - top, : right - left], patch)
    assert (atlas.patches[2, 0, bottom - top :] == 255).all()
    atlas.save(tmp_path / "atlas.npz")
    again = atlas_made_before(tmp_path / "atlas.npz", model)
    for field in dataclasses.fields(Atlas):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(atlas, field.name))
    if name == "mcattn":
        analysis = analyze(model, NAMES, [(images, None)])
        np.testing.assert_allclose(atlas.importance, analysis.importance, rtol=1e-4)
        assert " uses and " in format_atlas(atlas, analysis, full=False)
    other = randomise_weights(models.build(tiny_config(model={"name": name})), seed=1)
    assert atlas_made_before(tmp_path / "atlas.npz", other) is None
    (tmp_path / "atlas.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="damaged, of an older version or no atlas"):
        atlas_made_before(tmp_path / "atlas.npz", model)


def test_patches_are_of_different_images(images):
    model = models.build(tiny_config())
    patches = Patches(models.receptive_field(model), 1)
    features = np.random.default_rng(0).random((6, 6, 4, 1), np.float32)
    for rows in (slice(0, 2), slice(2, 6)):
        patches.add(features[rows], images[rows])
    assert (np.diff(patches.values[0, :6]) < 0).all() and np.isneginf(patches.values[0, 6:]).all()
