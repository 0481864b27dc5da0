import keras
import numpy as np
import pytest
from conftest import FULL_MASKS, MLP, randomise_weights, tiny_config
from processes import start

from mcattn_tf import models, runs
from mcattn_tf.errors import UserError
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.presets import PRESETS


def logits(probabilities):
    probabilities = probabilities.astype(np.float64)
    return np.log(probabilities / (1 - probabilities))


def test_outputs_have_their_names_shapes_and_ranges(images):
    model = randomise_weights(models.build(tiny_config()))
    outputs = model.predict_on_batch(images)
    shapes = {name: values.shape for name, values in outputs.items()}
    assert shapes == {
        "attributes": (6, 3),
        "multilabel": (6, 3),
        "reconstruction": (6, 12, 8, 3),
        "mask_l1": (6,),
    }
    for name in ("attributes", "multilabel", "reconstruction"):
        assert np.all((outputs[name] >= 0) & (outputs[name] <= 1))
    assert model.get_layer("features").output.shape == (None, 6, 4, 5)


def test_mask_l1_is_the_sum_of_the_masks_that_are_explained(images):
    model = randomise_weights(models.build(tiny_config()))
    masks = build_explainer(model, range(3)).predict_on_batch(images)["masks"]
    expected = masks.sum(axis=(1, 2, 3, 4), dtype=np.float64)
    np.testing.assert_allclose(model.predict_on_batch(images)["mask_l1"], expected, rtol=1e-5)


def head_bias(model):
    names = [layer.name for layer in model.layers]
    if "attribute_logits" in names:
        return model.get_layer("attribute_logits").get_weights()[1]
    return keras.ops.convert_to_numpy(model.get_layer("masked_pooling").head_bias)


@pytest.mark.parametrize(
    "settings",
    [{}, {"pooling_sharpness": 0.0}, *FULL_MASKS],
)
@pytest.mark.parametrize("chosen", [[0, 1, 2], [2, 0]])
def test_contributions_and_bias_sum_to_the_logit(images, chosen, settings):
    model = models.build(tiny_config(model=settings))
    bias = head_bias(randomise_weights(model))[chosen]
    outputs = build_explainer(model, chosen).predict_on_batch(images)
    answers = model.predict_on_batch(images)["attributes"]
    np.testing.assert_allclose(outputs["attributes"], answers, atol=1e-6)
    before_sigmoid = keras.Model(model.input, model.get_layer("attributes").input)
    expected = before_sigmoid.predict_on_batch(images)[:, chosen]
    over_positions = outputs["contributions"].sum(axis=(1, 2)) + bias
    over_channels = outputs["channel_contributions"].sum(axis=-1) + bias
    np.testing.assert_allclose(over_positions, expected, atol=1e-5)
    np.testing.assert_allclose(over_channels, expected, atol=1e-5)


def test_contributions_of_an_mlp_head_are_its_local_slope_times_the_features(images):
    model = randomise_weights(models.build(tiny_config(model=MLP)))
    outputs = build_explainer(model, [1]).predict_on_batch(images)
    for explained in (outputs, build_explainer(model, range(3)).predict_on_batch(images)):
        answers = model.predict_on_batch(images)["attributes"]
        np.testing.assert_allclose(explained["attributes"], answers, atol=1e-6)
    # The head is linear in the pooled features of attribute 1 near each image: a small step
    # towards zero must change the logit by as much of the contributions' sum.
    hidden, head = model.get_layer("hidden"), model.get_layer("attribute_logits")
    pooling = keras.Model(model.input, hidden.input)
    pooled = pooling.predict_on_batch(images)
    step = 1e-3
    change = head(hidden(pooled)) - head(hidden(pooled * (1 - step)))
    slope = keras.ops.convert_to_numpy(change)[:, 1] / step
    np.testing.assert_allclose(outputs["contributions"].sum(axis=(1, 2, 3)), slope, atol=0.02)


def test_contributions_of_a_network_trained_in_mixed_precision_are_exact(images, tmp_path):
    config = tiny_config(training={"precision": "mixed_bfloat16"})
    runs.create(tmp_path, config)
    randomise_weights(models.build(config)).save(tmp_path / runs.BEST)
    model = runs.load_model(tmp_path)
    bias = head_bias(model)
    outputs = build_explainer(model, range(3)).predict_on_batch(images)
    summed = outputs["contributions"].sum(axis=(1, 2)) + bias
    answers = model.predict_on_batch(images)["attributes"]
    np.testing.assert_allclose(summed, logits(answers), atol=1e-5)


def test_heads_are_float32_in_mixed_precision(images):
    half = tiny_config(training={"precision": "mixed_bfloat16"}, model={"mask_rank": None})
    model = randomise_weights(models.build(half))
    pooling = model.get_layer("masked_pooling")
    for weight in pooling.mask_weights:  # masks of exactly a half, without rounding
        weight.assign(0 * weight)
    features = keras.Model(model.input, model.get_layer("features").output)(images)
    x = 1.5 * np.asarray(keras.ops.cast(features, "float32"))
    evidence = x @ keras.ops.convert_to_numpy(pooling.head).T  # (B, h, w, K)
    shares = np.exp(pooling.sharpness * evidence)
    expected = np.sum(shares * evidence, axis=(1, 2)) / shares.sum(axis=(1, 2)) + head_bias(model)
    before_sigmoid = keras.Model(model.input, model.get_layer("attributes").input)
    np.testing.assert_allclose(before_sigmoid.predict_on_batch(images), expected, atol=1e-4)


def test_masks_start_as_glorots_and_heads_four_times_larger():
    twenty = {"attributes": tuple("abcdefghijklmnopqrst")}
    wide = {"channels": 60, "pooling_sharpness": 0.0, "mask_rank": None}
    model = models.build(tiny_config(model=wide, found=twenty))
    masks = model.get_layer("masked_pooling").get_weights()[0]
    assert masks.std() == pytest.approx((2 / (60 + 60)) ** 0.5, rel=0.02)
    for name in ("attribute_logits", "multilabel_logits"):
        head = model.get_layer(name).get_weights()[0]  # 20 x 60
        assert head.std() == pytest.approx(4 * (2 / (20 + 60)) ** 0.5, rel=0.1), name
    full = tiny_config(model={"channels": 60, "mask_rank": None}, found=twenty)
    pooling = models.build(full).get_layer("masked_pooling")
    masks, _, head, bias = pooling.get_weights()
    assert masks.std() == pytest.approx((2 / (60 + 60)) ** 0.5, rel=0.02)
    assert head.std() == pytest.approx((2 / (20 + 60)) ** 0.5, rel=0.1)
    np.testing.assert_array_equal(bias, np.full(20, -4.0))


def test_masks_of_one_attribute_change_that_attribute_alone(images):
    model = randomise_weights(models.build(tiny_config(model={"mask_rank": None})))
    before = model.predict_on_batch(images)
    layer = model.get_layer("masked_pooling")
    kernel, bias, *heads = layer.get_weights()
    kernel[..., 1, :], bias[1] = 0, 0
    layer.set_weights([kernel, bias, *heads])
    after = model.predict_on_batch(images)
    np.testing.assert_array_equal(after["attributes"][:, [0, 2]], before["attributes"][:, [0, 2]])
    assert np.all(np.abs(after["attributes"][:, 1] - before["attributes"][:, 1]) > 1e-6)
    np.testing.assert_array_equal(after["multilabel"], before["multilabel"])


def test_baseline_is_the_same_extractor_with_the_multi_label_head_alone(images):
    full = randomise_weights(models.build(tiny_config()))
    baseline = models.build(tiny_config(model={"name": "baseline"}))
    for layer in baseline.layers:
        layer.set_weights(full.get_layer(layer.name).get_weights())
    outputs = baseline.predict_on_batch(images)
    assert list(outputs) == ["multilabel"]
    expected = full.predict_on_batch(images)["multilabel"]
    np.testing.assert_allclose(outputs["multilabel"], expected, atol=1e-6)


def test_paper_preset_is_the_papers_configuration():
    config = make_config(PRESETS["paper"], {"data": {"dataset": "celeba"}})
    assert (config.model.channels, config.model.head) == (128, "linear")
    assert config.model.dilations == (1, 1, 2, 4, 8, 16, 1)
    assert config.model.stem == ((32, 3, 1), (64, 3, 2), (128, 3, 2))
    assert (config.model.pooling_sharpness, config.model.pointwise_layers) == (0, 0)
    assert not config.model.position_embedding
    assert config.data.image_size == (128, 104)
    weights = config.loss
    assert (weights.attributes, weights.multilabel) == (1, 1)
    assert (weights.reconstruction, weights.mask_l1) == (4, 1e-5)


def answer(folder):
    for precision in ("float32", "mixed_bfloat16"):
        model = runs.load_model(folder / precision)
        outputs = model.predict_on_batch(np.load(folder / "images.npy"))
        np.savez(folder / f"{precision}.npz", **outputs)


def test_a_model_loaded_in_another_process_gives_the_same_outputs(images, tmp_path):
    expected = {}
    for precision in ("float32", "mixed_bfloat16"):
        config = tiny_config(training={"precision": precision})
        model = randomise_weights(models.build(config))
        runs.create(tmp_path / precision, config)
        model.save(tmp_path / precision / runs.BEST)
        expected[precision] = models.in_float32(model, config).predict_on_batch(images)
    np.save(tmp_path / "images.npy", images)
    process = start(answer, tmp_path)  # one that has built no network before
    process.join(240)
    assert process.exitcode == 0
    for precision, outputs in expected.items():
        loaded = np.load(tmp_path / f"{precision}.npz")
        assert sorted(loaded) == sorted(outputs)
        for name, values in outputs.items():
            np.testing.assert_allclose(loaded[name], values, rtol=1e-6, atol=1e-6)


def test_a_model_without_attribute_names_is_refused():
    with pytest.raises(UserError, match="`attributes` must name at least one"):
        models.build(tiny_config(found={"attributes": ()}))


@pytest.mark.parametrize(
    ("setting", "value", "usual"),
    [("image_data_format", "channels_first", "channels_last"), ("floatx", "float16", "float32")],
)
def test_other_defaults_of_keras_are_refused(setting, value, usual):
    change = getattr(keras.config, f"set_{setting}")
    change(value)
    try:
        with pytest.raises(UserError, match=rf"must be channels_last and float32; .* {value}"):
            models.build(tiny_config())
    finally:
        change(usual)
