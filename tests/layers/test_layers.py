import keras
import numpy as np
import pytest
from conftest import randomise_weights

from mcattn_tf.layers import (
    MaskedPooling,
    MaskedSoftmaxPooling,
    MaskL1,
    PositionEmbedding,
    SoftmaxPooling,
    masked_sums,
)

B, H, W, C, K = 2, 4, 3, 5, 7


def masks_by_loops(features, kernel, bias):
    """sigmoid(conv(f)) for every attribute, position and channel, one at a time."""
    masks = np.zeros((B, H, W, K, C))
    for k in range(K):
        for row in range(H):
            for column in range(W):
                logits = features[:, row, column] @ kernel[0, 0, :, k] + bias[k]
                masks[:, row, column, k] = 1 / (1 + np.exp(-logits))
    return masks


def masked_pooling(dtype="float32", channel_masks=True):
    inputs = keras.Input((H, W, C))
    layer = MaskedPooling(K, channel_masks, dtype=dtype, name="masked_pooling")
    outputs = layer(inputs)
    return randomise_weights(keras.Model(inputs, outputs))


@pytest.fixture
def features():
    return np.random.default_rng(3).normal(size=(B, H, W, C)).astype(np.float32)


@pytest.mark.parametrize("gpus", [[], ["gpu:0"]])  # one attribute at a time, or all
@pytest.mark.parametrize("channel_masks", [True, False])
def test_masked_pooling_is_equation_2(features, gpus, channel_masks, monkeypatch):
    monkeypatch.setattr(masked_sums, "gpus", lambda: gpus)
    model = masked_pooling(channel_masks=channel_masks)
    kernel, bias = model.get_weights()
    assert bias.shape == ((K, C) if channel_masks else (K, 1))
    repeats = C // bias.shape[-1]
    masks = masks_by_loops(features, kernel.repeat(repeats, -1), bias.repeat(repeats, -1))
    outputs = model.predict_on_batch(features)
    expected = np.mean((1 + masks) * features[:, :, :, None], axis=(1, 2))
    np.testing.assert_allclose(outputs["pooled"], expected, atol=1e-5)
    np.testing.assert_allclose(outputs["mask_mean"], masks.mean(axis=(1, 2)), atol=1e-5)


def test_masks_are_those_of_the_attributes_asked_for_in_their_order(features):
    model = masked_pooling()
    kernel, bias = model.get_weights()
    masks = model.get_layer("masked_pooling").masks(features, [5, 0])
    expected = masks_by_loops(features, kernel, bias)[:, :, :, [5, 0]]
    np.testing.assert_allclose(masks, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_reductions_are_float32_in_mixed_precision(features, dtype):
    exact, mixed = masked_pooling(), masked_pooling(dtype)
    mixed.set_weights(exact.get_weights())
    for name, values in mixed.predict_on_batch(features).items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, exact.predict_on_batch(features)[name], atol=0.03)


def test_mask_l1_is_the_sum_over_all_entries_or_per_position(features):
    model = masked_pooling()
    masks = masks_by_loops(features, *model.get_weights())
    mask_mean = model.predict_on_batch(features)["mask_mean"]
    total = masks.sum(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(MaskL1(H * W)(mask_mean), total, rtol=1e-5)
    np.testing.assert_allclose(MaskL1(1)(mask_mean), total / (H * W), rtol=1e-5)


def test_softmax_pooling_without_sharpness_is_the_linear_head_on_the_average(features):
    inputs = keras.Input((H, W, C))
    model = keras.Model(inputs, MaskedSoftmaxPooling(K, sharpness=0.0)(inputs))
    kernel, bias, head, head_bias = randomise_weights(model).get_weights()
    masks = masks_by_loops(features, kernel, bias)
    pooled = np.mean((1 + masks) * features[:, :, :, None], axis=(1, 2))
    outputs = model.predict_on_batch(features)
    expected = np.einsum("bkc,kc->bk", pooled, head) + head_bias
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)
    sums = masks.sum(axis=(1, 2, 3, 4)) / (H * W)
    np.testing.assert_allclose(MaskL1(1)(outputs["mask_mean"]), sums, rtol=1e-5)


def test_softmax_pooling_with_much_sharpness_is_the_strongest_evidence(features):
    inputs = keras.Input((H, W, C))
    model = keras.Model(inputs, MaskedSoftmaxPooling(K, sharpness=1e3)(inputs))
    kernel, bias, head, head_bias = randomise_weights(model).get_weights()
    masks = masks_by_loops(features, kernel, bias)
    evidence = np.einsum("bhwkc,bhwc,kc->bhwk", 1 + masks, features, head)
    found = model.predict_on_batch(features)["logits"]
    np.testing.assert_allclose(found, evidence.max(axis=(1, 2)) + head_bias, atol=1e-4)


def test_softmax_pooling_by_hand():
    # Two places of evidence 0 and ln 3 and sharpness 1: shares 1/4 and 3/4; a constant stays.
    evidence = np.array([[[[0.0, 5.0]], [[np.log(3), 5.0]]]], np.float32)  # (1, 2, 1, 2)
    pooled = keras.ops.convert_to_numpy(SoftmaxPooling(1.0)(evidence))
    np.testing.assert_allclose(pooled, [[0.75 * np.log(3), 5.0]], rtol=1e-6)
    plain = keras.ops.convert_to_numpy(SoftmaxPooling(0.0)(evidence))
    np.testing.assert_allclose(plain, [[0.5 * np.log(3), 5.0]], rtol=1e-6)


def explained_by_hand(features, masks, weights, shares):
    """Contributions (B, h, w, k) and (B, k, C), of weights (k, C) and shares (B, h, w, k)."""
    gated = np.einsum("bhwkc,bhwc,kc,bhwk->bhwkc", 1 + masks, features, weights, shares)
    return gated.sum(axis=-1), gated.sum(axis=(1, 2))


@pytest.mark.parametrize("channel_masks", [True, False])
def test_masked_pooling_explains_and_selects_what_it_pools(features, channel_masks):
    model = masked_pooling(channel_masks=channel_masks)
    layer, weights = model.get_layer("masked_pooling"), np.random.default_rng(0).normal(size=(K, C))
    kernel, bias = (values.repeat(C // layer.bias.shape[-1], -1) for values in model.get_weights())
    masks = masks_by_loops(features, kernel, bias)[:, :, :, [5, 0]]
    seen = []

    def slopes(pooled, indices):
        seen.append(keras.ops.convert_to_numpy(indices).tolist())
        return keras.ops.convert_to_tensor(weights[None, [5, 0]], "float32")

    found = layer.explained(features, [5, 0], slopes)
    even = np.full((B, H, W, 2), 1 / (H * W))
    over_channels, over_positions = explained_by_hand(features, masks, weights[[5, 0]], even)
    np.testing.assert_allclose(found["masks"], masks, atol=1e-6)
    np.testing.assert_allclose(found["mask_mean"], masks.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(found["contributions"], over_channels, atol=1e-5)
    np.testing.assert_allclose(found["channel_contributions"], over_positions, atol=1e-5)
    assert seen == [[5, 0]]
    pooled = np.mean((1 + masks) * features[:, :, :, None], axis=(1, 2))
    np.testing.assert_allclose(found["pooled"], pooled, atol=1e-5)
    selected = layer.selected(features, np.array([5, 0]))  # attribute 5 of image 0, 0 of image 1
    np.testing.assert_allclose(selected, pooled[range(2), range(2)], atol=1e-5)


def test_softmax_pooling_explains_and_selects_its_logits(features):
    inputs = keras.Input((H, W, C))
    model = keras.Model(inputs, MaskedSoftmaxPooling(K, sharpness=0.5, name="pooling")(inputs))
    kernel, bias, head, head_bias = randomise_weights(model).get_weights()
    masks = masks_by_loops(features, kernel, bias)
    evidence = np.einsum("bhwkc,bhwc,kc->bhwk", 1 + masks, features, head)
    shares = np.exp(0.5 * evidence)
    shares /= shares.sum(axis=(1, 2), keepdims=True)
    found = model.get_layer("pooling").explained(features, range(K))
    over_channels, over_positions = explained_by_hand(features, masks, head, shares)
    np.testing.assert_allclose(found["contributions"], over_channels, atol=1e-5)
    np.testing.assert_allclose(found["channel_contributions"], over_positions, atol=1e-5)
    logits = over_channels.sum(axis=(1, 2)) + head_bias
    np.testing.assert_allclose(model.predict_on_batch(features)["logits"], logits, atol=1e-5)
    selected = model.get_layer("pooling").selected(features, np.array([6, 2]))
    np.testing.assert_allclose(selected, logits[range(2), [6, 2]], atol=1e-5)


@pytest.mark.parametrize("layer", [MaskedPooling(K), MaskedSoftmaxPooling(K, sharpness=0.5)])
def test_a_stored_configuration_with_the_retired_kernel_size_is_read(layer):
    config = layer.get_config() | {"kernel_size": 1}
    assert type(layer).from_config(config).get_config() == layer.get_config()


def test_a_position_embedding_is_added_to_every_image_at_its_place(features):
    layer = PositionEmbedding()
    np.testing.assert_array_equal(layer(features), features)
    embedding = np.arange(H * W * C).reshape(H, W, C).astype(np.float32)
    layer.embedding.assign(embedding)
    np.testing.assert_allclose(layer(features), features + embedding)
