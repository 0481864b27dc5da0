import numpy as np
import pytest
from conftest import NAMES, randomise_weights, tiny_config
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.explain.feature_space.correlation import analyze
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.figures import draw as drawing
from mcattn_tf.figures.contributions import Explanation, contributions_figure
from mcattn_tf.figures.correlation import (
    attribute_correlation_figure,
    channel_correlation_figure,
    cluster,
    limit_of_correlations,
)
from mcattn_tf.figures.masks import masks_figure, shared_masks_figure
from mcattn_tf.figures.mean_masks import clustered_mean_masks_figure, mean_masks_figure
from mcattn_tf.figures.panels import (
    MASK_OVERLAY_COLORS,
    MISTAKE,
    balanced,
    headings_of,
    limit_of,
    maps_figure,
    readable,
)
from mcattn_tf.figures.reconstruction import reconstruction_figure

RANDOM = np.random.default_rng(0)
BOXES = [(index, 0, index + 2, 3) for index in range(7)]


def explained_of(image, contributions, masks, probabilities, names=NAMES):
    numbers = [f"p = {p:.2f}" for p in probabilities]
    headings = headings_of(names[: len(numbers)], numbers, np.array(probabilities) > 0.5)
    boxes = BOXES[: len(numbers)]
    return Explanation("face", image, contributions, masks, boxes, probabilities, headings)


def drawn_maps(figure):
    """The last picture of each set of axes that has one, under what stands above or below it."""
    return {
        named(axes): axes.images[-1].get_array()
        for axes in figure.axes
        if axes.images and named(axes)
    }


def named(axes):
    return axes.get_title() or " ".join(text.get_text() for text in axes.texts)


def test_contribution_maps_stand_under_their_names_at_the_images_size():
    image = RANDOM.random((12, 8, 3))
    contributions = RANDOM.normal(size=(6, 4, 3))
    explanation = explained_of(image, contributions, None, [0.1, 0.85, 0.5])
    figure = contributions_figure(explanation)
    maps = drawn_maps(figure)
    assert list(maps) == ["image", "Smiling\np = 0.10", "Bald\np = 0.85", "Eyeglasses\np = 0.50"]
    expected = contributions[..., 1].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(maps["Bald\np = 0.85"], expected)
    low, high = figure.axes[1].images[-1].get_clim()
    assert low == -high  # zero has the neutral colour
    assert np.mean(np.abs(contributions) > high) < 0.02  # all but a few values are within


def dashed_boxes(figure):
    """(left, top, right, bottom) of the box on each map, under the map's title."""
    return {
        axes.get_title(): tuple(axes.patches[0].get_bbox().extents)
        for axes in figure.axes
        if axes.patches and axes.images
    }


def test_the_box_runs_along_the_outer_edges_of_its_pixels():
    image, contributions = RANDOM.random((12, 8, 3)), RANDOM.normal(size=(6, 4, 2))
    boxes = [(2, 1, 9, 6), (0, 0, 12, 8)]  # rows 2 to 8 and columns 1 to 5; the whole image
    explanation = explained_of(image, contributions, None, [0.1, 0.9])._replace(boxes=boxes)
    figure = contributions_figure(explanation)
    # Pixel i is drawn from i - 0.5 to i + 0.5.
    assert dashed_boxes(figure) == {
        "Smiling\np = 0.10": (0.5, 1.5, 5.5, 8.5),
        "Bald\np = 0.90": (-0.5, -0.5, 7.5, 11.5),
    }
    left, right, bottom, top = figure.axes[2].images[0].get_extent()
    assert (left, top, right, bottom) == (-0.5, -0.5, 7.5, 11.5)


@pytest.fixture(scope="module")
def network():
    """A network, its images, their explanation, its analysis, and figures of two of the images."""
    model = randomise_weights(models.build(tiny_config(model={"dilations": ()})))
    images = np.random.default_rng(1).random((6, 12, 8, 3), dtype=np.float32)
    explained = build_explainer(model, range(3)).predict_on_batch(images)
    analysis = analyze(model, NAMES, [(images, None)])
    pictures = drawing.Pictures(images[:2], ["a", "b"], [(images, None)])
    what, wanted = ["contributions", "masks"], ["Eyeglasses", "Bald"]
    drawn = drawing.draw({"run": model}, NAMES, pictures, what, wanted, top=2)
    return model, images, explained, analysis, drawn


@pytest.mark.parametrize("what", ["contributions", "masks"])
def test_the_box_is_what_the_cell_with_the_strongest_contribution_sees(what, network):
    _, _, explained, _, drawn = network
    contributions = explained["contributions"][:2][..., [2, 1]]
    for name, maps in zip(("a", "b"), contributions, strict=True):
        boxes = list(dashed_boxes(drawn[f"{what}_{name}_Eyeglasses_Bald"]).values())
        assert len(boxes) == 2
        for index, box in enumerate(boxes):
            [[row, column]] = np.argwhere(
                np.abs(maps[..., index]) == np.abs(maps[..., index]).max()
            )
            # 5 pixels of 12 rows and 8 columns, from one before the 2 pixels of the cell's own.
            top, left = max(2 * row - 1, 0), max(2 * column - 1, 0)
            bottom, right = min(2 * row + 4, 12), min(2 * column + 4, 8)
            assert box == (left - 0.5, top - 0.5, right - 0.5, bottom - 0.5)


def test_labels_of_the_narrowest_figure_are_whole():
    image, maps = RANDOM.random((8, 8, 3)), RANDOM.normal(size=(4, 4, 1))
    explanation = explained_of(image, maps, RANDOM.random((4, 4, 1, 2)), [0.5])
    figure = masks_figure(explanation, [[0, 1]])
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        label = axes.xaxis.label.get_window_extent()
        assert label.x0 >= 0 and label.x1 <= figure.bbox.width, axes.get_xlabel()


def test_mean_masks_have_a_cell_for_every_channel_in_order():
    mean_masks = RANDOM.random((3, 10))
    figure = mean_masks_figure(mean_masks, NAMES, "title")
    cells = np.asarray(drawn_maps(figure)["Eyeglasses"]).ravel()
    np.testing.assert_array_equal(cells[:10], mean_masks[2])
    assert np.all(np.isnan(cells[10:]))
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {
        (0, mean_masks.max())
    }


def test_an_order_moves_the_mean_masks_and_names_their_cells():
    mean_masks, order = RANDOM.random((2, 5)), [3, 1, 4, 0, 2]
    figure = mean_masks_figure(mean_masks, NAMES[:2], "title", order)
    maps = drawn_maps(figure)
    np.testing.assert_array_equal(np.asarray(maps["Bald"]).ravel()[:5], mean_masks[1][order])
    names, *_ = figure.axes
    assert [int(text.get_text()) for text in names.texts] == order


def test_sorted_mean_masks_fall_from_cell_to_cell(network):
    model, _, _, analysis, _ = network
    pictures = drawing.Pictures((), (), (), analysis)  # of the analysis alone
    drawn = drawing.draw({"run": model}, NAMES, pictures, ["mean_masks"], order="sorted")
    maps = drawn_maps(drawn["mean_masks"])
    means = np.mean([np.asarray(maps[name]).ravel()[:5] for name in NAMES], axis=0)
    assert np.all(np.diff(means) < 0)
    np.testing.assert_allclose(np.sort(means), np.sort(analysis.mean_masks.mean(axis=0)))


def test_clustered_correlations_have_like_ones_side_by_side():
    blocks = np.kron(np.eye(2), np.full((3, 3), 0.9)) + 0.1 * np.eye(6)
    mixed = [0, 3, 1, 4, 2, 5]  # channels 0, 2, 4 and 1, 3, 5 belong together
    correlation = blocks[np.ix_(mixed, mixed)]
    order, _ = cluster(correlation)
    assert {frozenset(order[:3] % 2), frozenset(order[3:] % 2)} == {frozenset({0}), frozenset({1})}
    figure = channel_correlation_figure(correlation, "title")
    raw, clustered = (axes.images[0] for axes in figure.axes if axes.images)
    np.testing.assert_array_equal(raw.get_array(), correlation)
    np.testing.assert_array_equal(clustered.get_array(), correlation[np.ix_(order, order)])
    assert raw.get_clim() == (-0.9, 0.9)
    FigureCanvasAgg(figure).draw()
    sides = [axes.get_window_extent().bounds for axes in figure.axes if axes.images]
    np.testing.assert_allclose(sides[0][1:], sides[1][1:])  # as high, wide and tall
    figure = attribute_correlation_figure(
        {"a": correlation, "b": -correlation}, "a", list("stuvwx"), "title"
    )
    names = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert names == ["stuvwx"[index] for index in order]
    np.testing.assert_array_equal(drawn_maps(figure)["b"], -correlation[np.ix_(order, order)])


def test_colours_of_correlations_end_at_the_strongest_of_two_different_things():
    weak = np.array([[1, -0.004, 0.12], [-0.004, 1, np.nan], [0.12, np.nan, 1]])
    strong = np.array([[1, -0.31, 0], [-0.31, 1, 0], [0, 0, 1]])
    limits = [limit_of_correlations(x) for x in ([weak], [weak, strong])]
    assert limits == pytest.approx([0.2, 0.4])
    assert limit_of_correlations([np.eye(2)]) == 0.1
    figure = attribute_correlation_figure(
        {"weak": weak, "strong": strong}, "strong", NAMES, "title"
    )
    pictures = [axes for axes in figure.axes if axes.images]
    assert [axes.images[0].get_clim() for axes in pictures] == [(-0.4, 0.4)] * 2
    assert sorted(text.get_text() for text in pictures[0].texts) == [".00", ".00", ".12", ".12"]
    assert "colours end at ±0.4" in figure.axes[-1].get_xlabel()


def test_maps_have_the_same_last_colour_by_cells_and_by_pixels():
    maps = RANDOM.permutation(np.linspace(-1999, 1999, 2000)).reshape(40, 50)
    sizes = np.sort(np.abs(maps), axis=None)
    assert limit_of(maps) == sizes[-3]  # two of 2,000 are stronger
    assert limit_of(maps.repeat(4, axis=0).repeat(3, axis=1)) == limit_of(maps)
    assert limit_of(np.zeros((2, 3))) > 0


def test_masks_of_many_images_have_their_channel_below():
    images, masks = RANDOM.random((2, 4, 6, 3)), RANDOM.random((2, 2, 3, 3, 1))
    explanations = [
        Explanation(name, image, None, own, None, None, None)
        for name, image, own in zip("ab", images, masks, strict=True)
    ]
    figure = shared_masks_figure(explanations, [[7], [8], [9]], NAMES)
    (axes,) = (axes for axes in figure.axes if len(axes.images) > 1)
    assert len(axes.images) == 2 + 2 * 3
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["a", "b", "Smiling", "7", "7", "Bald", "8", "8", "Eyeglasses", "9", "9"]
    colors = MASK_OVERLAY_COLORS(masks[1, 1, 2, 2, 0])
    expected = colors[3] * np.array(colors[:3]) + (1 - colors[3]) * (
        0.4 + 0.6 * images[1, 3, 5].mean()
    )
    np.testing.assert_allclose(axes.images[-1].get_array()[3, 5], expected, atol=1e-6)


def test_masks_are_those_of_the_most_important_channels(network):
    _, _, explained, analysis, drawn = network
    best = np.argsort(-analysis.importance[2])[:2]
    for channel, axes in zip(best, drawn["masks_a_Eyeglasses_Bald"].axes[1:3], strict=True):
        assert named(axes) == f"channel {channel}"
        cells = np.asarray(axes.images[-1].get_array())[::2, ::2]
        np.testing.assert_allclose(cells, explained["masks"][0, :, :, 2, channel], atol=1e-6)


@pytest.mark.parametrize("count", [2, 7])  # one attribute a row, and two
def test_every_attribute_has_its_masks_after_its_contributions(count):
    image, contributions = RANDOM.random((4, 6, 3)), RANDOM.normal(size=(2, 3, count))
    masks, names = RANDOM.random((2, 3, count, 2)), [f"A{index}" for index in range(count)]
    channels = [[10 * index, 10 * index + 1] for index in range(count)]
    explanation = explained_of(image, contributions, masks, RANDOM.random(count), names)
    figure = masks_figure(explanation, channels)
    drawn = [axes for axes in figure.axes if axes.images and named(axes)]
    assert len(drawn) == 3 * count
    for index in range(count):
        first, second, third = drawn[3 * index : 3 * index + 3]
        assert first.get_title().startswith(f"A{index}\n")
        assert named(third) == f"channel {10 * index + 1}"
        assert second.images[-1].get_clim() == (0, 1)
        np.testing.assert_array_equal(
            second.images[-1].get_array()[::2, ::2], masks[:, :, index, 0]
        )


def test_reconstruction_errors_are_those_of_the_pictures():
    pictures, made = RANDOM.random((2, 12, 8, 3)), RANDOM.random((2, 12, 8, 3))
    figure = reconstruction_figure(pictures, made, ["a", "b"], "title")
    titles = [axes.get_title() for axes in figure.axes]
    assert f"MSE {np.mean((pictures[1] - made[1]) ** 2):.4f}" == titles[3]


def test_of_one_image_all_is_drawn_that_needs_no_second(network, monkeypatch):
    model, images, *_ = network
    compare = drawing.FIGURES["compare"]._replace(in_all=False)  # it takes seconds
    monkeypatch.setitem(drawing.FIGURES, "compare", compare)
    analysis = analyze(model, NAMES, [(images[:1], None)])
    pictures = drawing.Pictures(images[:1], ["face"], (), analysis)
    drawn = drawing.draw({"run": model}, NAMES, pictures, ["all"])
    needed = {"contributions_face", "masks_face", "mean_masks", "channel_correlation"}
    others = {"reconstruction", "local_probabilities_face", "mean_masks_clustered"}
    assert set(drawn) == needed | others
    with pytest.raises(UserError, match="attribute_correlation needs at least 2 images"):
        drawing.draw({"run": model}, NAMES, pictures, ["attribute_correlation"])


def test_headings_say_whether_an_answer_is_right():
    labels, answers = [1, 1, 0, 0, -1], [True, False, True, False, True]
    headings = headings_of(list("abcde"), ["p"] * 5, answers, labels)
    texts = ["a\np, present", "b\np, missed", "c\np, false", "d\np", "e\np"]
    assert [x.text for x in headings] == texts
    assert [x.bold for x in headings] == answers
    assert [x.mistake for x in headings] == [False, True, True, False, False]
    figure = maps_figure(np.zeros((2, 2, 3)), np.ones((5, 1, 1)), headings, "", "")
    colors = {axes.get_title()[:1]: axes.title.get_color() for axes in figure.axes if axes.images}
    assert colors == dict(zip("iabcde", ["black"] * 2 + [MISTAKE] * 2 + ["black"] * 2, strict=True))


def test_a_map_without_places_says_so():
    maps = np.array([[[0, 0]], [[2, 2]], [[2, 2.1]]])
    figure = maps_figure(np.zeros((2, 4, 3)), maps, headings_of("abc", "123", [True] * 3), "", "")
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes[1:4]]
    assert texts == [["zero\neverywhere"], ["constant"], []]


@pytest.mark.parametrize(
    ("count", "expected"), [(7, (2, 4)), (41, (6, 7)), (6, (1, 6)), (9, (2, 5))]
)
def test_no_picture_is_alone_in_the_last_row(count, expected):
    rows, columns = balanced(count, 8 if count > 18 else 6)
    assert (rows, columns) == expected and count - (rows - 1) * columns > 1


def test_long_names_stay_within_their_picture():
    names = [
        "Number_of_attributes_that_is_far_too_long_to_read",
        "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
    ]
    headings = headings_of(names, ["p = 0.50, missed"] * 2, [False] * 2)
    figure = maps_figure(RANDOM.random((8, 8, 3)), RANDOM.random((2, 4, 4)), headings, "", "title")
    FigureCanvasAgg(figure).draw()
    first, second, third = (axes.title.get_window_extent() for axes in figure.axes[:3])
    assert first.x1 < second.x0 and second.x1 < third.x0 and third.x1 <= figure.bbox.width
    assert readable(names[0]) == "Number of att…long to read"


def test_masks_of_many_attributes_are_those_of_the_most_probable():
    names = [f"A{index}" for index in range(10)]
    model = randomise_weights(models.build(tiny_config(found={"attributes": tuple(names)})))
    images = np.random.default_rng(1).random((2, 12, 8, 3), dtype=np.float32)
    analysis = analyze(model, names, [(images, None)])
    pictures = drawing.Pictures(images, ["a", "b"], (), analysis)
    drawn = drawing.draw({"run": model}, names, pictures, ["masks"], top=1)
    probabilities = model.predict_on_batch(images)["attributes"]
    for name, row in zip("ab", probabilities, strict=True):
        shown = [x.get_title().split("\n")[0] for x in drawn[f"masks_{name}"].axes if x.get_title()]
        assert shown == [names[k] for k in np.argsort(-row)[:8]]
    texts = {text.get_text() for text in drawn["masks"].axes[0].texts}
    assert texts >= {names[k] for k in np.argsort(-probabilities.mean(axis=0))[:8]}
    assert not texts & {names[k] for k in np.argsort(-probabilities.mean(axis=0))[8:]}


def test_mean_masks_by_channels_are_clustered_both_ways():
    groups = np.array([[0.9, 0.1, 0.8, 0.2], [0.2, 0.7, 0.1, 0.9], [0.8, 0.2, 0.9, 0.1]])
    figure = clustered_mean_masks_figure(groups, NAMES, "title")
    axes = figure.axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [int(label.get_text()) for label in axes.get_xticklabels()]
    assert "Bald" in (rows[0], rows[-1])  # the others use the same channels
    assert {frozenset(columns[:2]), frozenset(columns[2:])} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }
    expected = groups[np.ix_([NAMES.index(name) for name in rows], columns)]
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)


def test_clusters_of_a_correlation_have_frames():
    blocks = np.kron(np.eye(2), np.full((3, 3), 0.9)) + 0.1 * np.eye(6)
    figure = channel_correlation_figure(blocks, "title")
    clustered = figure.axes[1]
    frames = {tuple(patch.get_bbox().extents) for patch in clustered.patches}
    assert frames == {(-0.5, -0.5, 2.5, 2.5), (2.5, 2.5, 5.5, 5.5)}
