import numpy as np
import pytest
from conftest import NAMES, randomise_weights, tiny_config

from mcattn_tf import figures, models, visualization
from mcattn_tf.errors import UserError
from mcattn_tf.explain.contributions import build_explainer, channel_statistics

RANDOM = np.random.default_rng(0)


def drawn_maps(figure):
    """The last picture of each set of axes that has one, under the axes' title."""
    return {
        axes.get_title(): axes.images[-1].get_array()
        for axes in figure.axes
        if axes.images and axes.get_title()
    }


def test_contribution_maps_stand_under_their_names_at_the_images_size():
    image = RANDOM.random((12, 8, 3))
    contributions = RANDOM.normal(size=(6, 4, 3))
    probabilities = np.array([0.1, 0.85, 0.5])
    figure = figures.contributions_figure(image, contributions, probabilities, NAMES, "title")
    maps = drawn_maps(figure)
    assert list(maps) == ["image", "Smiling\np = 0.10", "Bald\np = 0.85", "Eyeglasses\np = 0.50"]
    expected = contributions[..., 1].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(maps["Bald\np = 0.85"], expected)
    low, high = figure.axes[1].images[-1].get_clim()
    assert low == -high  # zero has the neutral colour
    assert np.mean(np.abs(contributions) > high) < 0.02  # all but a few values are within


def test_mean_masks_have_a_cell_for_every_channel_in_order():
    mean_masks = RANDOM.random((3, 10))
    figure = figures.mean_masks_figure(mean_masks, NAMES, "title")
    cells = np.asarray(drawn_maps(figure)["Eyeglasses"]).ravel()
    np.testing.assert_array_equal(cells[:10], mean_masks[2])
    assert np.all(np.isnan(cells[10:]))
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {
        (0, mean_masks.max())
    }


def test_masks_are_those_of_the_most_important_channels(images):
    model = randomise_weights(models.build(tiny_config()))
    pictures = visualization.Pictures(images[:1], ["face"], [images])
    drawn = visualization.draw(model, NAMES, pictures, ["masks"], wanted=["Eyeglasses"], top=2)
    best = np.argsort(-channel_statistics(model, [images]).importance[2])[:2]
    masks = build_explainer(model, [2]).predict_on_batch(images[:1])["masks"][0, :, :, 0]
    maps = drawn_maps(drawn["masks_face"])
    for channel in best:
        cells = np.asarray(maps[f"channel {channel}"])[::2, ::2]
        np.testing.assert_allclose(cells, masks[..., channel], atol=1e-6)


@pytest.mark.parametrize("count", [2, 7])  # one attribute a row, and two
def test_every_attribute_has_its_masks_after_its_contributions(count):
    image, contributions = RANDOM.random((4, 6, 3)), RANDOM.normal(size=(2, 3, count))
    masks, names = RANDOM.random((2, 3, count, 2)), [f"A{index}" for index in range(count)]
    channels = [[10 * index, 10 * index + 1] for index in range(count)]
    figure = figures.masks_figure(
        image, contributions, masks, channels, RANDOM.random(count), names, "title"
    )
    drawn = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert len(drawn) == 3 * count
    for index in range(count):
        first, second, third = drawn[3 * index : 3 * index + 3]
        assert first.get_title().startswith(f"A{index}\n")
        assert third.get_title() == f"channel {10 * index + 1}"
        assert second.images[-1].get_clim() == (0, 1)
        np.testing.assert_array_equal(
            second.images[-1].get_array()[::2, ::2], masks[:, :, index, 0]
        )


def test_reconstruction_errors_are_those_of_the_pictures():
    pictures, made = RANDOM.random((2, 12, 8, 3)), RANDOM.random((2, 12, 8, 3))
    figure = figures.reconstruction_figure(pictures, made, ["a", "b"], "title")
    titles = [axes.get_title() for axes in figure.axes]
    assert f"MSE {np.mean((pictures[1] - made[1]) ** 2):.4f}" == titles[3]


def test_what_a_baseline_cannot_draw_is_said(images):
    model = models.build(tiny_config(model={"name": "baseline"}))
    pictures = visualization.Pictures(images, ["face"] * 6, [images])
    with pytest.raises(UserError, match="has no masks"):
        visualization.draw(model, NAMES, pictures, ["masks"])
