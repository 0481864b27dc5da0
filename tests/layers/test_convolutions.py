import keras
import numpy as np
import pytest
import tensorflow as tf

from mcattn_tf.layers import convolutions
from mcattn_tf.layers.convolutions import CenterTap, DilatedConv2D


def outputs_and_gradients(layer, features, kernel, upstream):
    layer.build(features.shape)
    layer.kernel.assign(kernel)
    features = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = layer(features)
        value = tf.reduce_sum(outputs * upstream)
    return [outputs, *tape.gradient(value, [features, layer.kernel.value])]


@pytest.mark.parametrize(
    ("kernel_size", "dilation"),
    [(3, 1), (3, 2), (3, 4), (3, 5), (3, 8), ((2, 5), (3, 2)), ((4, 1), 3)],
)
def test_taps_one_by_one_are_the_convolution(kernel_size, dilation, monkeypatch):
    monkeypatch.setattr(convolutions, "TOGETHER_ABOVE", 1.0)  # else small dilations are Conv2D's
    random = np.random.default_rng(0)
    settings = {"dilation_rate": dilation, "padding": "same", "use_bias": False}
    plain = keras.layers.Conv2D(6, kernel_size, **settings)
    features = random.normal(size=(2, 8, 5, 4)).astype(np.float32)
    kernel = random.normal(size=(*plain.kernel_size, 4, 6)).astype(np.float32)
    upstream = random.normal(size=(2, 8, 5, 6)).astype(np.float32)
    ours = DilatedConv2D(6, kernel_size, **settings)
    expected = outputs_and_gradients(plain, features, kernel, upstream)
    found = outputs_and_gradients(ours, features, kernel, upstream)
    for values, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, reference, rtol=1e-4, atol=1e-4)


def test_a_dilation_wider_than_the_grid_leaves_the_middle_tap():
    features = np.arange(24, dtype=np.float32).reshape(1, 4, 3, 2)
    layer = DilatedConv2D(1, 3, dilation_rate=4, padding="same", use_bias=False)
    layer.build(features.shape)
    kernel = np.full((3, 3, 2, 1), 1e6, np.float32)
    kernel[1, 1] = [[2.0], [-1.0]]
    layer.kernel.assign(kernel)
    expected = 2 * features[..., :1] - features[..., 1:]
    np.testing.assert_array_equal(layer(features), expected)


def test_a_center_tap_starts_as_hes_1x1_convolution():
    kernel = keras.ops.convert_to_numpy(CenterTap()((3, 5, 200, 100)))
    assert kernel[1, 2].std() == pytest.approx((2 / 200) ** 0.5, rel=0.05)
    kernel[1, 2] = 0
    np.testing.assert_array_equal(kernel, 0)
