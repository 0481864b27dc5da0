"""Masked poolings and their handwritten gradients against eq. 2 and its derivatives."""

import functools
import os
import subprocess
import sys

import keras
import layer_gradients
import numpy as np
import pytest
from conftest import ROOT

from mcattn_tf.layers import MaskedPooling, MaskedSoftmaxPooling, masked_sums

B, H, W, C, K = 2, 4, 3, 5, 7
NAMES = ("pooled", "mask_mean", "features", "kernel", "bias")


def draw(dtype="float32"):
    random = np.random.default_rng(5)

    def normal(*shape):
        return random.normal(size=shape).astype(np.float32)

    return {
        "features": normal(B, H, W, C),
        "kernel": normal(1, 1, C, K, C),
        "bias": normal(K, C),
        "of_pooled": normal(B, K, C),
        "of_mask_mean": normal(B, K, C),
        "dtype": dtype,
        "layer": "MaskedPooling",
    }


def draw_softmax_pooling(dtype="float32"):
    random = np.random.default_rng(6)
    head, head_bias, of_logits, of_mask_mean = (
        random.normal(size=shape).astype(np.float32) for shape in ((K, C), (K,), (B, K), (B, K))
    )
    inputs = draw(dtype) | {"layer": "MaskedSoftmaxPooling", "sharpness": 0.7}
    inputs |= {"head": head, "head_bias": head_bias}
    inputs |= {"of_logits": of_logits, "of_mask_mean": of_mask_mean}
    del inputs["of_pooled"]
    return inputs


def by_the_definition(features, kernel, bias, of_pooled, of_mask_mean, dtype, layer):
    """Equation 2 and the chain rule in float64, one attribute and position at a time."""
    features, kernel = features.astype(float), kernel[0, 0].astype(float)
    pooled, mask_mean = np.zeros((B, K, C)), np.zeros((B, K, C))
    of_features, of_kernel = np.zeros(features.shape), np.zeros(kernel.shape)
    of_bias = np.zeros(bias.shape)
    for k in range(K):
        for row in range(H):
            for column in range(W):
                cell = features[:, row, column]
                mask = 1 / (1 + np.exp(-(cell @ kernel[:, k] + bias[k])))
                pooled[:, k] += (1 + mask) * cell / (H * W)
                mask_mean[:, k] += mask / (H * W)
                of_mask = (of_pooled[:, k] * cell + of_mask_mean[:, k]) / (H * W)
                of_logits = of_mask * mask * (1 - mask)
                of_features[:, row, column] += of_pooled[:, k] * (1 + mask) / (H * W)
                of_features[:, row, column] += of_logits @ kernel[:, k].T
                of_kernel[:, k] += cell.T @ of_logits
                of_bias[k] += of_logits.sum(axis=0)
    of_kernel = of_kernel[None, None]
    return dict(zip(NAMES, (pooled, mask_mean, of_features, of_kernel, of_bias), strict=True))


def softmax_pooling(features, kernel, bias, head, head_bias, sharpness):
    """Logits and mean masks of `MaskedSoftmaxPooling`, in float64."""
    masks = 1 / (1 + np.exp(-np.einsum("bhwc,ckd->bhwkd", features, kernel[0, 0]) - bias))
    evidence = np.einsum("bhwkc,bhwc,kc->bhwk", 1 + masks, features, head)
    weights = np.exp(sharpness * evidence)
    pooled = (weights * evidence).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
    return pooled + head_bias, masks.mean(axis=(1, 2)).sum(axis=-1)


def softmax_pooling_by_the_definition(
    sharpness, of_logits, of_mask_mean, dtype, layer, step=1e-5, **arrays
):
    """The definition, and its gradients by central differences."""
    arrays = {name: values.astype(float) for name, values in arrays.items()}
    logits, mask_mean = softmax_pooling(**arrays, sharpness=sharpness)
    expected = {"logits": logits, "mask_mean": mask_mean}
    for name, values in arrays.items():
        expected[name] = np.zeros(values.shape)
        for place in np.ndindex(values.shape):
            kept, ends = values[place], []
            for shift in (step, -step):
                values[place] = kept + shift
                logits, mask_mean = softmax_pooling(**arrays, sharpness=sharpness)
                ends.append(np.sum(of_logits * logits) + np.sum(of_mask_mean * mask_mean))
            values[place] = kept
            expected[name][place] = (ends[0] - ends[1]) / (2 * step)
    return expected


@functools.cache
def sums_by_the_definition():
    return by_the_definition(**draw())


@functools.cache
def evidence_by_the_definition():
    return softmax_pooling_by_the_definition(**draw_softmax_pooling())


def by_the_layer(inputs, tmp_path, block_channels=0):
    files = [str(tmp_path / name) for name in ("inputs.npz", "outputs.npz")]
    np.savez(files[0], **inputs)
    layer_gradients.main(*files, block_channels)
    return np.load(files[1])


@pytest.fixture(autouse=True)
def original_sizes(monkeypatch):
    for name in ("SLICE_CHANNELS", "KEPT_CHANNELS", "BLOCK_CHANNELS"):
        monkeypatch.setattr(masked_sums, name, getattr(masked_sums, name))


# Slices of 1, 3 and all 7 attributes; no blocks; 7 blocks of 1, also where a block cannot hold one;
# 4 of 2 and 2 of 4, padded. Other pairs make the same slices as one of these.
@pytest.mark.parametrize(
    ("slice_channels", "block_channels"),
    [
        *((1, 0), (15, 0), (10_000, 0), (1, 3), (10_000, 9)),
        *((1, 10), (10_000, 10), (1, 20), (15, 20), (10_000, 20)),
    ],
)
def test_forward_and_gradients_are_the_definition(
    slice_channels, block_channels, tmp_path, monkeypatch
):
    monkeypatch.setattr(masked_sums, "SLICE_CHANNELS", slice_channels)
    inputs = draw()
    expected = sums_by_the_definition()
    found = by_the_layer(inputs, tmp_path, block_channels)
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("block_channels", "gpus"), [(0, []), (0, ["gpu:0"]), (10, []), (20, []), (20, ["gpu:0"])]
)
def test_softmax_pooling_and_its_gradients_are_the_definition(
    block_channels, gpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(masked_sums, "gpus", lambda: gpus)
    monkeypatch.setattr(masked_sums, "SLICE_CHANNELS", 15)
    inputs = draw_softmax_pooling()
    expected = evidence_by_the_definition()
    found = by_the_layer(inputs, tmp_path, block_channels)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=2e-5, err_msg=name)


def test_softmax_pooling_in_half_precision_is_as_near_as_eight_bits_allow(tmp_path):
    inputs = draw_softmax_pooling("mixed_bfloat16")
    expected = evidence_by_the_definition()
    found = by_the_layer(inputs, tmp_path)
    for name, values in expected.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(found[name] / scale, values / scale, atol=0.02, err_msg=name)


@pytest.mark.parametrize("block_channels", [0, 10])
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_they_are_as_near_as_eight_bits_allow(
    block_channels, dtype, tmp_path, monkeypatch
):
    monkeypatch.setattr(masked_sums, "SLICE_CHANNELS", 1)
    inputs = draw(dtype)
    expected = sums_by_the_definition()
    found = by_the_layer(inputs, tmp_path, block_channels)
    for name in NAMES:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name] / scale, expected[name] / scale, atol=0.02)


@pytest.mark.parametrize("layer", [MaskedPooling(K), MaskedSoftmaxPooling(K, sharpness=0.5)])
def test_training_and_inference_pool_the_same(layer):
    features = draw()["features"]
    for name, values in layer(features, training=True).items():
        np.testing.assert_allclose(
            layer(features)[name], values, rtol=1e-5, atol=1e-6, err_msg=name
        )


def test_all_attributes_at_once_as_on_a_gpu_are_the_definition(tmp_path, monkeypatch):
    monkeypatch.setattr(masked_sums, "gpus", lambda: ["gpu:0"])
    inputs = draw()
    expected, found = sums_by_the_definition(), by_the_layer(inputs, tmp_path)
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("gpus", "jit_compile"), [([], False), (["gpu:0"], False), (["gpu:0"], True)]
)
def test_blocks_change_no_number_of_a_fit_whose_batches_vary_in_size(
    gpus, jit_compile, monkeypatch
):
    monkeypatch.setattr(masked_sums, "gpus", lambda: gpus)
    random = np.random.default_rng(0)
    images, targets = random.random((7, H, W, C)), random.random((7, K, C))

    def fitted():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((H, W, C))
        model = keras.Model(inputs, MaskedPooling(K)(inputs)["pooled"])
        model.compile("sgd", "mse", jit_compile=jit_compile)
        model.fit(images, targets, batch_size=3, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    whole = fitted()
    monkeypatch.setattr(masked_sums, "KEPT_CHANNELS", 0)
    monkeypatch.setattr(masked_sums, "BLOCK_CHANNELS", 15)
    for in_blocks, kept in zip(fitted(), whole, strict=True):
        np.testing.assert_allclose(in_blocks, kept, rtol=1e-5, atol=1e-6)


def test_a_symbolic_call_may_say_that_it_trains():
    assert MaskedPooling(K)(keras.Input((H, W, C)), training=True)["pooled"].shape == (None, K, C)


RESIDUALS = """
import jax, numpy as np
from mcattn_tf.layers import MaskedPooling, masked_sums
masked_sums.KEPT_CHANNELS, masked_sums.BLOCK_CHANNELS = {kept}, 10
for attributes in (8, 16):
    layer = MaskedPooling(attributes)
    layer.build((2, 30, 20, 5))
    def pooled(features, kernel, bias):
        return layer.stateless_call([kernel, bias], [], features, training=True)[0]["pooled"]
    arrays = [v.value for v in layer.trainable_variables]
    _, pullback = jax.vjp(pooled, np.ones((2, 30, 20, 5), "float32"), *arrays)
    print(sum(x.size for x in jax.tree.leaves(pullback)))
"""


@pytest.mark.parametrize(("kept", "growth"), [(1000, 8 * 2 * 30 * 20 * 5), (0, 0)])
@pytest.mark.slow
def test_logits_that_may_not_be_kept_are_not(kept, growth):
    pytest.importorskip("jax")
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RESIDUALS.format(kept=kept)]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    fewer, more = map(int, run.stdout.split())
    of_weights = 10 * 8 * (5 * 5 + 5)  # kernels and biases may be there several times
    assert growth <= more - fewer <= growth + of_weights
