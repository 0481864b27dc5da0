import io

import numpy as np
import pytest
from conftest import (
    NAMES,
    he_weights,
    random_split,
    split_of_arrays,
    tiny_config,
    tiny_config_of,
)
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from mcattn_tf import models
from mcattn_tf.evaluation.ranking import measures_of
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.settings.backbones import BACKBONES, BASIC, Backbone
from mcattn_tf.training import pictures as summaries


def written(config, tmp_path, every, epochs, split=None):
    """The network, its validation images, and {tag: (steps, values of the last)}."""
    model = he_weights(models.build(config), 3)
    split = split or random_split(9, 1)
    callback = summaries.LogPictures(tmp_path, split, NAMES, every, epochs)
    callback.set_model(model)
    for epoch in range(epochs):
        callback.on_epoch_end(epoch, {})
    events = EventAccumulator(str(tmp_path / "pictures"), {"tensors": 0})
    events.Reload()
    tags = {
        tag: ([event.step for event in events.Tensors(tag)], events.Tensors(tag)[-1].tensor_proto)
        for tag in events.Tags()["tensors"]
    }
    return model, split.read(np.arange(9)), tags


def pictures_of(tensor):
    return [np.asarray(Image.open(io.BytesIO(data))) for data in tensor.string_val[2:]]


def test_pictures_and_curves_every_few_epochs_and_at_last(tmp_path, monkeypatch):
    write, figures = summaries._write, {}

    def keep(tag, figure):
        figures[tag] = figure
        write(tag, figure)

    monkeypatch.setattr(summaries, "_write", keep)
    config = tiny_config(model={"mask_rank": None})  # whose mean masks differ from the beginning
    model, (images, labels), tags = written(config, tmp_path, every=2, epochs=3)
    curves = {
        f"{output}/{name}/pr_curves" for output in ("attributes", "multilabel") for name in NAMES
    }
    areas = {
        f"{area}/{output}/{name}": measures_of(labels, values)[area][index]
        for output, values in model.predict_on_batch(images.astype(np.float32) / 255).items()
        if output in ("attributes", "multilabel")
        for area in ("roc_auc", "average_precision")
        for index, name in enumerate(NAMES)
    }
    assert set(tags) == curves | {"contributions", "mean_masks"} | set(areas)
    for tag, value in areas.items():
        assert float(make_ndarray(tags[tag][1])) == pytest.approx(value, rel=1e-5)
    assert all(steps == [1, 2] for steps, _ in tags.values())
    images = images.astype(np.float32) / 255
    explained = build_explainer(model, range(3)).predict_on_batch(images[:4])
    axes = [axes for axes in figures["contributions"].axes if axes.images][:16]
    for row in range(4):
        best = np.argsort(-explained["attributes"][row])
        for k, axis in zip(best, axes[4 * row + 1 : 4 * row + 4], strict=True):
            assert axis.get_title().startswith(f"{NAMES[k]}\np = ")
            cells = np.asarray(axis.images[-1].get_array())[::2, ::2]
            contributions = explained["contributions"][row, ..., k]
            np.testing.assert_allclose(cells, contributions, atol=1e-5)
    (picture,) = pictures_of(tags["contributions"][1])
    np.testing.assert_array_equal(picture, figures["contributions"].canvas.buffer_rgba())
    heat = figures["mean_masks"].axes[0].images[0].get_array()
    masks = explained["mask_mean"].mean(axis=0)
    np.testing.assert_allclose(np.sort(heat, axis=None), np.sort(masks, axis=None), atol=1e-5)

    present = labels[:, 1] > 0.5
    answered = model.predict_on_batch(images)["attributes"][:, 1] >= 0.3
    curve = make_ndarray(tags["attributes/Bald/pr_curves"][1])
    right, wrong, _, _, _, recall = curve[:, 30]  # at 0.30
    assert (right, wrong) == (np.sum(answered & present), np.sum(answered & ~present))
    assert recall == pytest.approx(np.mean(answered[present]))


def test_curves_leave_unknown_labels_out(tmp_path):
    labels = np.array([[1, 1, -1], [-1, 0, -1], [0, 1, -1], [-1, -1, -1], [1, 0, -1]] * 2, np.int8)[
        :9
    ]
    split = split_of_arrays(random_split(9, 1).images(np.arange(9)), labels)
    _, _, tags = written(tiny_config(), tmp_path, every=1, epochs=1, split=split)
    for index, name in enumerate(NAMES):  # at the threshold 0 every image is answered by yes
        right, wrong = make_ndarray(tags[f"attributes/{name}/pr_curves"][1])[:2, 0]
        of_label = labels[:, index]
        assert (right, wrong) == (np.sum(of_label == 1), np.sum(of_label == 0))


@pytest.mark.parametrize(
    ("name", "settings", "method", "outputs"),
    [
        ("gcm", {}, "contribution_maps", ["probabilities"]),
        ("multitask_abn", {"backbone": "tiny"}, "attention_map", ["perception", "attention"]),
    ],
)
def test_a_network_without_masks_has_its_own_maps(
    name, settings, method, outputs, tmp_path, monkeypatch
):
    monkeypatch.setitem(BACKBONES, "tiny", Backbone((4, 6, 8), (1, 1, 1), BASIC, stem=4))
    _, _, tags = written(tiny_config_of(name, **settings), tmp_path, every=5, epochs=1)
    named = {f"{output}/{name}" for output in outputs for name in NAMES}
    areas = {f"{area}/{x}" for area in ("roc_auc", "average_precision") for x in named}
    assert set(tags) == {method} | {f"{x}/pr_curves" for x in named} | areas
    assert len(pictures_of(tags[method][1])) == 1
