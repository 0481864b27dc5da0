"""Factored masks against their definition, computed one position and channel at a time."""

import keras
import numpy as np
import pytest
from conftest import randomise_weights
from layer_gradients import gradients

from mcattn_tf.layers import FactoredSoftmaxPooling, MaskedSoftmaxPooling

B, H, W, C, K, R = 2, 5, 3, 4, 6, 3
SHAPES = [(1, 1), (2, 3), (3, 1), (4, 5)]  # stride and context; the grid is no multiple of 2
LAYER = {"rank": R, "stride": 2, "context": 3, "sharpness": 0.7}


def shared_by_the_definition(features, kernel, stride):
    """G by loops: pooling, convolution, bilinear enlargement and contrast."""
    size, rank = kernel.shape[0], kernel.shape[3]
    rows, columns = -(-H // stride), -(-W // stride)
    coarse = np.zeros((B, rows, columns, C))
    for i in range(rows):
        for j in range(columns):
            block = features[:, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            coarse[:, i, j] = block.mean(axis=(1, 2))  # of the cells that exist
    padded = np.pad(coarse, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    z = np.zeros((B, rows, columns, rank))
    for i in range(rows):
        for j in range(columns):
            window = padded[:, i : i + size, j : j + size]
            z[:, i, j] = np.einsum("bijc,ijcr->br", window, kernel)
    fine = np.zeros((B, H, W, rank))
    for row in range(H):
        for column in range(W):
            y = min(max((row + 0.5) / stride - 0.5, 0), rows - 1)
            x = min(max((column + 0.5) / stride - 0.5, 0), columns - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            upper = z[:, top, left] * (1 - x + left) + z[:, top, right] * (x - left)
            lower = z[:, bottom, left] * (1 - x + left) + z[:, bottom, right] * (x - left)
            fine[:, row, column] = upper * (1 - y + top) + lower * (y - top)
    mean, variance = fine.mean(axis=(1, 2)), fine.var(axis=(1, 2))
    scaled = (fine - mean[:, None, None]) / np.sqrt(variance + 1e-3)[:, None, None]
    return 1 / (1 + np.exp(3 * (0.7 - scaled)))


def masks_by_the_definition(features, kernel, mixing, amplitude, stride):
    shared = shared_by_the_definition(features, kernel, stride)
    masks = np.zeros((B, H, W, K, C))
    for k in range(K):
        for c in range(C):
            shares = np.exp(4 * mixing[k, :, c]) / np.exp(4 * mixing[k, :, c]).sum()
            shares /= 1 + np.exp(-amplitude[k, c])
            masks[..., k, c] = sum(shares[j] * shared[..., j] for j in range(R))
    return masks


def masks_of(features, weights, stride):
    names = ("shared_kernel", "mixing", "amplitude")
    return masks_by_the_definition(features, *(weights[name] for name in names), stride)


def built(stride=2, context=3, sharpness=0.7, dtype="float32"):
    """A layer with random weights, and these, {name: float64}."""
    layer = FactoredSoftmaxPooling(K, R, stride, context, sharpness=sharpness, dtype=dtype)
    inputs = keras.Input((H, W, C))
    model = randomise_weights(keras.Model(inputs, layer(inputs)))
    return model, layer, {x.name: np.array(x, float) for x in layer.weights}


@pytest.fixture
def features():
    return np.random.default_rng(3).normal(size=(B, H, W, C)).astype(np.float32)


def explained_by_the_definition(features, masks, head, sharpness):
    terms = (1 + masks) * features[:, :, :, None] * head  # (B, H, W, K, C)
    evidence = terms.sum(axis=-1)
    shares = np.exp(sharpness * evidence)
    shares /= shares.sum(axis=(1, 2), keepdims=True)
    return evidence, shares, (terms * shares[..., None]).sum(axis=(1, 2))


@pytest.mark.parametrize(("stride", "context"), SHAPES)
def test_masks_and_logits_are_the_definition(features, stride, context):
    model, layer, weights = built(stride, context)
    masks = masks_of(features, weights, stride)
    np.testing.assert_allclose(layer.masks(features, [4, 1]), masks[:, :, :, [4, 1]], atol=1e-5)
    _, _, channels = explained_by_the_definition(features, masks, weights["head"], 0.7)
    outputs = model.predict_on_batch(features)
    expected = channels.sum(axis=-1) + weights["head_bias"]
    np.testing.assert_allclose(outputs["logits"], expected, atol=2e-5)
    sums = masks.mean(axis=(1, 2)).sum(axis=-1)
    np.testing.assert_allclose(outputs["mask_mean"], sums, rtol=1e-5)


def test_they_explain_and_select_what_they_pool(features):
    model, layer, weights = built()
    masks = masks_of(features, weights, 2)
    evidence, shares, channels = explained_by_the_definition(features, masks, weights["head"], 0.7)
    averaging = np.random.default_rng(4).random((2, 2, C)).astype(np.float32)
    found = layer.explained(features, [5, 0], mask_weights=averaging)
    for name, values in {
        "masks": masks[:, :, :, [5, 0]],
        "averaged_masks": np.einsum("bhwkc,nkc->bhwkn", masks[:, :, :, [5, 0]], averaging),
        "evidence": evidence[..., [5, 0]],
        "contributions": (evidence * shares)[..., [5, 0]],
        "channel_contributions": channels[:, [5, 0]],
        "mask_mean": masks.mean(axis=(1, 2))[:, [5, 0]],
        "pooled": channels[:, [5, 0]] / weights["head"][[5, 0]],
    }.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=2e-5, err_msg=name)
    selected = layer.selected(features, np.array([5, 0]))
    logits = model.predict_on_batch(features)["logits"]
    np.testing.assert_allclose(selected, logits[range(2), [5, 0]], atol=2e-5)


def test_other_masks_take_their_place(features):
    _, layer, weights = built()
    masks = masks_of(features, weights, 2)
    found = layer.explained(features, [2], change=lambda x: x[::-1])
    other, *_ = explained_by_the_definition(features, masks[::-1], weights["head"], 0.7)
    np.testing.assert_allclose(found["evidence"][..., 0], other[..., 2], atol=2e-5)


def loss(layer, names, upstream):
    def value(features, *weights):
        outputs, _ = layer.stateless_call(weights, [], features, training=True)
        return sum(keras.ops.sum(outputs[name] * upstream[name]) for name in names)

    return value


def test_gradients_are_those_of_the_definition(features):
    _, layer, weights = built()
    random = np.random.default_rng(7)
    upstream = {x: random.normal(size=(B, K)) for x in ("logits", "mask_mean")}

    def value(features, shared_kernel, mixing, amplitude, head, head_bias):
        masks = masks_by_the_definition(features, shared_kernel, mixing, amplitude, 2)
        *_, channels = explained_by_the_definition(features, masks, head, 0.7)
        sums = masks.mean(axis=(1, 2)).sum(axis=-1)
        logits = channels.sum(axis=-1) + head_bias
        return np.sum(upstream["logits"] * logits) + np.sum(upstream["mask_mean"] * sums)

    arrays = {"features": features.astype(float), **weights}
    half = [np.array(x, np.float32) for x in arrays.values()]
    floats = {k: v.astype(np.float32) for k, v in upstream.items()}
    found = gradients(loss(layer, upstream, floats), half)
    for (name, values), gradient in zip(arrays.items(), found, strict=True):
        for place in random.permutation(list(np.ndindex(values.shape)))[:12]:
            place, ends = tuple(place), []
            kept = values[place]
            for shift in (1e-5, -1e-5):
                values[place] = kept + shift
                ends.append(value(**arrays))
            values[place] = kept
            expected = (ends[0] - ends[1]) / 2e-5
            assert np.array(gradient)[place] == pytest.approx(expected, rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_logits_are_as_near_as_eight_bits_allow(features, dtype):
    exact, _, _ = built()
    mixed, _, _ = built(dtype=dtype)
    mixed.set_weights(exact.get_weights())
    expected, found = (x.predict_on_batch(features) for x in (exact, mixed))
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, atol=0.03 * np.abs(values).max())


def of_other_backends(features):
    """Inputs of a case of `test_other_backends.py`, and what they give here."""
    model, layer, weights = built()
    upstream = {x: np.random.default_rng(8).normal(size=(B, K)) for x in ("logits", "mask_mean")}
    floats = {k: v.astype(np.float32) for k, v in upstream.items()}
    arrays = {k: v.astype(np.float32) for k, v in {"features": features, **weights}.items()}
    case = arrays | {f"of_{k}": v for k, v in floats.items()} | LAYER
    found = gradients(loss(layer, upstream, floats), arrays.values())
    expected = dict(zip(arrays, found, strict=True)) | model.predict_on_batch(features)
    return case | {"layer": "FactoredSoftmaxPooling", "dtype": "float32"}, expected


def test_a_blank_image_has_flat_masks_and_a_constant_shift_changes_none(features):
    _, layer, _ = built(stride=1, context=1)
    blank = np.array(layer.shared_masks(np.full((1, H, W, C), 0.3, np.float32)))
    np.testing.assert_allclose(blank, 1 / (1 + np.exp(2.1)), atol=1e-4)
    plain, shifted = (np.array(layer.shared_masks(x)) for x in (features, features + 0.5))
    np.testing.assert_allclose(shifted, plain, atol=1e-5)


def test_masks_begin_spatial_and_close_to_one_shared_mask(features):
    layer = FactoredSoftmaxPooling(40, 8, 2, 3)
    layer.build((None, H, W, 60))
    mixtures = np.array(layer.mixtures())  # (40, 8, 60)
    np.testing.assert_allclose(mixtures.sum(axis=1), 1 / (1 + np.exp(-2)), rtol=1e-5)
    assert mixtures.max(axis=1).mean() > 0.6
    images = np.random.default_rng(1).normal(size=(B, H, W, 60)).astype(np.float32)
    masks = np.array(layer.masks(images, range(40)))
    assert 0.15 < masks.std(axis=(1, 2)).mean() < 0.4


def test_without_amplitude_the_logits_are_those_of_unmasked_features(features):
    model, layer, weights = built()
    layer.amplitude.assign(np.full(layer.amplitude.shape, -100.0))
    evidence = features.astype(float) @ weights["head"].T
    shares = np.exp(0.7 * evidence)
    shares /= shares.sum(axis=(1, 2), keepdims=True)
    expected = (shares * evidence).sum(axis=(1, 2)) + weights["head_bias"]
    np.testing.assert_allclose(model.predict_on_batch(features)["logits"], expected, atol=2e-5)


def test_full_masks_of_the_same_value_give_the_same_logits(features):
    """One shared mask on a blank grid beside full masks of its value."""
    blank = np.broadcast_to(features[:, :1, :1], features.shape)
    layer = FactoredSoftmaxPooling(K, 1, 1, 1, sharpness=0.7)
    full = MaskedSoftmaxPooling(K, sharpness=0.7)
    for pooling in (full, layer):
        pooling.build((None, H, W, C))
    full.head.assign(layer.head)
    value = np.array(layer.masks(blank, [0]))[0, 0, 0, 0, 0]
    full.kernel.assign(np.zeros(full.kernel.shape))
    full.bias.assign(np.full(full.bias.shape, np.log(value / (1 - value))))
    expected = np.array(full(blank)["logits"])
    np.testing.assert_allclose(layer(blank)["logits"], expected, rtol=1e-4, atol=1e-4)
