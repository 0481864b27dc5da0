import keras
import numpy as np
import pytest
from conftest import NAMES, he_weights, tiny_config, tiny_config_of

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.figures import draw as drawing
from mcattn_tf.figures.compare import Maps, comparison_figure, most_distinctive
from mcattn_tf.figures.contribution_maps import contribution_maps_figure
from mcattn_tf.figures.panels import OWN_SCALE_LABEL, Heading, headings_of

RANDOM = np.random.default_rng(0)


def pictures(axes):
    """The last picture of each set of axes that has one, under the axes' title."""
    return {ax.get_title(): ax.images[-1] for ax in axes if ax.images and ax.get_title()}


def unwrapped(axes):
    return axes.get_xlabel().replace("\n", " ")


def test_contribution_maps_stand_under_class_and_score_on_one_signed_scale():
    image, maps = RANDOM.random((12, 8, 3)), RANDOM.normal(size=(12, 8, 3))
    scores, probabilities = np.array([-0.5, 2.25, 0.0]), np.array([0.1, 0.75, 0.15])
    numbers = [f"score {x:.2f}, p = {p:.2f}" for x, p in zip(scores, probabilities, strict=True)]
    headings = headings_of(NAMES, numbers, probabilities > 0.5)
    figure = contribution_maps_figure(image, maps, headings, "title")
    drawn = pictures(figure.axes)
    best = "Bald\nscore 2.25, p = 0.75"
    assert list(drawn) == [
        "image",
        "Smiling\nscore -0.50, p = 0.10",
        best,
        "Eyeglasses\nscore 0.00, p = 0.15",
    ]
    np.testing.assert_array_equal(drawn[best].get_array(), maps[..., 1])
    scales = {picture.get_clim() for name, picture in drawn.items() if name != "image"}
    [(low, high)] = scales
    assert low == -high and np.mean(np.abs(maps) > high) < 0.02
    bold = [ax.get_title() for ax in figure.axes if ax.title.get_fontweight() == "bold"]
    assert bold == [best]


def test_contribution_maps_of_a_network_are_means_over_colours(images):
    model = he_weights(models.build(tiny_config_of("gcm")))
    given = drawing.Pictures(images[:2], ["a", "b"], [])
    what, wanted = ["contribution_maps"], ["Eyeglasses", "Smiling"]
    drawn = drawing.draw({"run": model}, NAMES, given, what, wanted)
    names = [f"contribution_maps_{image}_Eyeglasses_Smiling" for image in "ab"]
    assert list(drawn) == names
    explained = build_map_explainer(model).predict_on_batch(images[:2])
    weights, score = explained["weight_maps"][1, ..., 2], explained["scores"][1, 2]
    shown = pictures(drawn[names[1]].axes)
    [name] = [name for name in shown if name.startswith("Eyeglasses")]
    assert f"score {score:.2f}" in name
    expected = weights * images[1].mean(axis=-1)
    np.testing.assert_allclose(shown[name].get_array(), expected, atol=1e-5)


def test_methods_of_two_networks_stand_side_by_side(images):
    gcm = he_weights(models.build(tiny_config_of("gcm", exclusive=True)))
    cnn = he_weights(models.build(tiny_config_of("cnn", exclusive=True)))
    given = drawing.Pictures(images[:2], ["a", "b"], [])
    drawn = drawing.draw({"one": gcm, "two": cnn}, NAMES, given, ["compare"])["compare"]
    outputs = gcm.predict_on_batch(images[:2])
    best, share = outputs["scores"].argmax(axis=1), outputs["probabilities"].max(axis=1)[0]
    row = [ax for ax in drawn.axes if ax.images]
    row = row[: len(row) // 2]
    titles = [ax.get_title() for ax in row]
    of_gcm = ["contribution maps", "weight maps", "grad cam", "guided backprop", "guided grad cam"]
    of_cnn = ["cam", "local probabilities", "grad cam", "guided backprop", "guided grad cam"]
    expected = [f"{name}\none" for name in of_gcm] + [f"{name}\ntwo" for name in of_cnn]
    assert titles == [f"{NAMES[best[0]]}\np = {share:.2f}", *expected]
    kernel = cnn.get_layer("scores").get_weights()[0][:, best[0]]
    features = keras.Model(cnn.input, cnn.get_layer("features").output).predict_on_batch(images)
    cam = features[0] @ kernel / (3 * 2)  # of 12x8 pixels
    shown = pictures(row)["cam\ntwo"].get_array()
    np.testing.assert_allclose(shown[::4, ::4], cam, atol=1e-5)


def test_maps_on_scales_of_their_own_have_one_bar_a_kind():
    images, signed, unsigned = RANDOM.random((1, 12, 8, 3)), -3 * np.eye(2), 5 * np.eye(2)
    maps = {
        "both signs": Maps(signed[None], True),
        "again": Maps(signed[None], True),
        "one sign": Maps(unsigned[None], False),
    }
    figure = comparison_figure(images, [Heading("Bald")], maps, "title")
    bars = {
        ax.get_xlabel(): ax.get_xlim() for ax in figure.axes if OWN_SCALE_LABEL in unwrapped(ax)
    }
    assert {name.split(":")[0]: limits for name, limits in bars.items()} == {
        "one sign": (0, 1),
        "both signs, again": (-1, 1),
    }
    scales = {name: picture.get_clim() for name, picture in pictures(figure.axes).items()}
    assert scales["both signs"] == scales["again"] == (-3, 3)
    assert scales["one sign"] == (0, 5)


def test_nonnegative_contributions_keep_the_images_colours(images):
    model = he_weights(models.build(tiny_config_of("gcm", nonnegative=True)))
    given = drawing.Pictures(images[:2], ["a", "b"], [])
    drawn = drawing.draw({"run": model}, NAMES, given, ["nonnegative"])["nonnegative"]
    explained = build_map_explainer(model).predict_on_batch(images[:2])
    best = explained["probabilities"].argmax(axis=1)
    shown = [ax for ax in drawn.axes if ax.get_title() == NAMES[best[1]]][-1].images[0].get_array()
    weights = explained["weight_maps"][1, ..., best[1]]
    expected = weights[..., None] * images[1]
    part = (shown > 0.01) & (shown < 0.99)
    assert part.mean() > 0.1
    ratios = expected[part] / shown[part]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "contribution_maps",
            "'baseline' has no contribution_maps to draw, but compare, reliability, channels and "
            "report; train.py --model gcm makes",
        ),
        ("nonnegative", "train.py --model gcm --nonnegative makes"),
        (
            "masks",
            "has no masks to draw, but compare, reliability, channels and report; train.py --model "
            "mcattn",
        ),
        ("attention", "train.py --model abn makes"),
        ("feature_space", "train.py --model abn makes"),
    ],
)
def test_what_a_network_has_not_is_said_with_how_to_get_it(what, message, images):
    model = models.build(tiny_config(model={"name": "baseline"}))
    given = drawing.Pictures(images, ["face"] * 6, [images])
    with pytest.raises(UserError) as raised:
        drawing.draw({"run": model}, NAMES, given, [what])
    assert message in str(raised.value)


def test_networks_of_other_labels_or_sizes_are_not_compared(images):
    gcm, other = (models.build(tiny_config_of("cnn", size)) for size in ((12, 8), (12, 12)))
    given = drawing.Pictures(images, ["face"] * 6, [images])
    with pytest.raises(UserError, match="b cannot be compared: its images or labels are not"):
        drawing.draw({"a": gcm, "b": other}, NAMES, given, ["compare"])


def test_attributes_that_are_compared_differ_and_are_rare():
    probabilities = np.array(
        [[0.9, 0.6, 0.1, 0.0], [0.95, 0.1, 0.7, 0.0], [0.95, 0.1, 0.8, 0.0], [0.99, 0.0, 0.0, 0.0]]
    )
    # Attribute 0 is everywhere; image 2 takes what image 1 has left.
    assert most_distinctive(probabilities, range(4)).attributes.tolist() == [1, 2, 0, 3]
    assert most_distinctive(probabilities, [0, 2]).attributes.tolist() == [0, 2, 2, 0]
    assert most_distinctive(probabilities[:1], range(4)).attributes.tolist() == [0]
