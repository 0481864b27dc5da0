"""The page of channels by part, and the sheets, against the atlas that they show."""

import dataclasses

import numpy as np
import pytest
from conftest import NAMES, he_weights, tiny_config

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.atlas import Atlas
from mcattn_tf.figures import draw as drawing
from mcattn_tf.figures.channels import page_figure


def atlas_of(parts):
    """Channel 4 detects the first part best, then channel 0; channel 2 the second one."""
    overlaps = np.array([[0.5, 0.1], [0.1, 0.1], [0.1, 0.4], [0.1, 0.1], [0.6, 0.1]])
    random = np.random.default_rng(0)
    return Atlas(
        attributes=NAMES,
        parts=parts,
        weights="",
        images=6,
        source="regions",
        importance=np.array([[1, 0, 9, 0, 0], [0, 2, 0, 0, 2], [1, 1, 1, 1, 1.0]]),
        mean_contributions=np.array([[1, 0, -9, 0, 0], [0, 2, 0, 0, 2], [1, 1, 1, 1, 1.0]]),
        mean_maps=random.random((5, 6, 4)),
        thresholds=np.zeros(5),
        overlaps=overlaps[:, : len(parts)],
        chance=np.full((4, 5, len(parts)), 0.2),
        values=np.zeros((5, 9)),
        patches=random.integers(0, 256, (5, 9, 7, 5, 3)).astype(np.uint8),
    )


def texts_of(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_the_page_orders_channels_by_part():
    figure = page_figure(atlas_of(("eyes", "mouth")), "a title")
    assert figure.get_suptitle() == "a title"
    texts = texts_of(figure)
    assert texts == [
        *("eyes\n2 of 5 channels", "4, overlap 0.60", "0, overlap 0.50"),
        *("mouth\n1 of 5 channels", "2, overlap 0.40"),
        *("no part\n2 of 5 channels", "1", "3"),
    ]
    unseen = dataclasses.replace(atlas_of(("eyes", "mouth")), overlaps=np.full((5, 2), [0.3, 0.2]))
    figure = page_figure(unseen, "a title")
    assert figure.get_suptitle() == "a title\nNo channel detects mouth"
    assert texts_of(figure)[0] == "eyes\n5 of 5 channels" and len(texts_of(figure)) == 6
    assert texts_of(page_figure(atlas_of(()), "a title"))[:2] == ["most used\n5 of 5 channels", "2"]


def test_a_sheet_shows_patches_and_shares_with_their_sign():
    model = he_weights(models.build(tiny_config()))
    pictures = drawing.Pictures((), (), (), atlas=atlas_of(("eyes", "mouth")))
    figures = drawing.draw({"run": model}, NAMES, pictures, ["channels"])
    assert list(figures) == ["channels", *(f"channel_{x}" for x in (2, 1, 4, 0, 3))]
    sheet = figures["channel_2"]
    assert sheet.get_suptitle() == "Channel 2: mouth, overlap 0.40 (chance 0.20)"
    _, patches, bars = sheet.axes
    shown = patches.images[0].get_array()
    assert shown.shape == (3 * (7 + 2), 3 * (5 + 2), 3)
    np.testing.assert_array_equal(shown[10:17, 15:20], pictures.atlas.patches[2, 5])
    widths = {
        label.get_text(): bar.get_width()
        for label, bar in zip(bars.get_yticklabels(), bars.patches, strict=True)
    }
    assert widths == pytest.approx({"Smiling": 90.0, "Eyeglasses": 20.0, "Bald": 0.0})
    against, _, _ = bars.patches[::-1]
    assert against.get_facecolor()[:3] == pytest.approx((0x54 / 255, 0x27 / 255, 0x88 / 255))


def test_without_an_atlas_a_line_says_how_to_make_one():
    model = models.build(tiny_config(model={"name": "baseline"}))
    with pytest.raises(UserError, match=r"run evaluate\.py --analysis first"):
        drawing.draw({"run": model}, NAMES, drawing.Pictures((), (), ()), ["channels"])
    assert "channels" not in drawing.drawable({"run": model}, ["all"])
