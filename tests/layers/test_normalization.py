"""Batch normalisation by TensorFlow's kernel beside Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mcattn_tf.layers import BatchNormalization

SHAPE = (3, 4, 5, 2)  # B, h, w, C


def trained(kind, policy, steps=2, **options):
    """Output, gradients and weights of a layer after steps on other features each."""
    layer = kind(momentum=0.9, epsilon=0.01, dtype=policy, **options)
    layer.build(SHAPE)
    random = np.random.default_rng(0)
    layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    for _ in range(steps):
        features = tf.cast(random.normal(3, 2, SHAPE), layer.compute_dtype)
        upstream = tf.cast(random.normal(size=SHAPE), layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(features)
            output = layer(features, training=True)
        sources = [features, layer.gamma.value, layer.beta.value]
        gradients = tape.gradient(output, sources, upstream)
    gradients = [x for x in gradients if x is not None]
    return [tf.cast(x, "float32").numpy() for x in (output, *gradients, *layer.weights)]


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 3e-2), ("mixed_float16", 4e-3)]
)
def test_a_training_step_is_that_of_keras(policy, tolerance):
    ours = trained(BatchNormalization, policy)
    keras_own = trained(keras.layers.BatchNormalization, "float32")
    assert len(ours) == len(keras_own) == 1 + 3 + 4
    for values, expected in zip(ours, keras_own, strict=True):
        np.testing.assert_allclose(values, expected, atol=tolerance * np.abs(expected).max())


def test_it_is_one_operation_forward_and_one_backward():
    layer = BatchNormalization()
    layer.build(SHAPE)

    @tf.function
    def step(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            output = layer(features, training=True)
        return tape.gradient(output, features)

    kinds = [
        x.type for x in step.get_concrete_function(tf.TensorSpec(SHAPE)).graph.get_operations()
    ]
    assert kinds.count("FusedBatchNormV3") == kinds.count("FusedBatchNormGradV3") == 1
    assert not {"Rsqrt", "SquaredDifference"} & {*kinds}


@pytest.mark.parametrize("options", [{"trainable": False}, {"synchronized": True}])
def test_frozen_and_synchronised_layers_are_those_of_keras(options):
    for values, expected in zip(
        trained(BatchNormalization, "float32", **options),
        trained(keras.layers.BatchNormalization, "float32", **options),
        strict=True,
    ):
        np.testing.assert_array_equal(values, expected)
