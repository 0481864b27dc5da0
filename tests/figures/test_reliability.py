import numpy as np
import pytest
from conftest import NAMES, he_weights, random_split, tiny_config

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation.ranking import measures_of
from mcattn_tf.figures import draw as drawing


@pytest.fixture(scope="module")
def answered():
    """A network, its images and labels, one of them not known, and what it answers."""
    model = he_weights(models.build(tiny_config(model={"dilations": ()})))
    images, labels = random_split(40, 3).read(np.arange(40))
    images, labels = images.astype(np.float32) / 255, labels.astype(np.float32)
    labels[0, 2] = -1
    return model, images, labels, model.predict_on_batch(images)


def pictures_of(images, read_all):
    return drawing.Pictures(images[:1], ["one"], [], read_all=read_all)


def test_points_are_shares_of_present_labels_and_errors_stand_above(answered):
    model, images, labels, outputs = answered
    batches = [(images[rows], labels[rows]) for rows in (slice(30), slice(30, 40))]
    pictures = pictures_of(images, lambda: iter(batches))
    figures = drawing.draw({"run": model}, NAMES, pictures, ["reliability"], ["Eyeglasses", "Bald"])
    axes = {
        axis.get_title().partition("\n")[0]: axis
        for axis in figures["reliability_Eyeglasses_Bald"].axes
    }
    for name, k in (("Eyeglasses", 2), ("Bald", 1)):
        known = labels[:, k] >= 0
        y, p = labels[known, k], outputs["attributes"][known, k]
        bins = np.minimum((10 * p).astype(int), 9)
        expected = [(p[bins == x].mean(), y[bins == x].mean()) for x in np.unique(bins)]
        points = axes[name].lines[-1].get_xydata()
        np.testing.assert_allclose(points, expected, rtol=1e-5)
        error = measures_of(y[:, None], p[:, None])["calibration_error"][0]
        assert axes[name].get_title().endswith(f"\n{error:.3f}")
    legend = next(axis.get_legend() for axis in axes.values() if axis.get_legend())
    labels_of_outputs = [text.get_text() for text in legend.get_texts()]
    for output, text in zip(("attributes", "multilabel"), labels_of_outputs, strict=True):
        errors = measures_of(labels[:, 1:], outputs[output][:, 1:])["calibration_error"]
        assert text == f"{output}, calibration error {errors.mean():.3f}"
    assert "40 images" in figures["reliability_Eyeglasses_Bald"].get_suptitle()


def test_images_without_labels_have_none(answered):
    model, images, *_ = answered
    with pytest.raises(UserError, match="reliability needs labels; leave out --images"):
        drawing.draw({"run": model}, NAMES, pictures_of(images, None), ["reliability"])
