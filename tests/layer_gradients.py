"""Computes masked pooling and its gradients on the backend that KERAS_BACKEND names.

python tests/layer_gradients.py INPUTS.npz OUTPUTS.npz BLOCK_CHANNELS
"""

import sys

import keras
import numpy as np

from mcattn_tf import masked_sums
from mcattn_tf.layers import MaskedPooling


def gradients(function, arrays):
    """Returns the gradients of a scalar function of arrays."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def graph(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(*tensors)
            return tape.gradient(value, tensors)

        return graph(*map(tf.constant, arrays))
    if backend == "jax":
        import jax

        return jax.jit(jax.grad(function, argnums=(0, 1, 2)))(*arrays)
    import torch

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    function(*tensors).backward()
    return [tensor.grad for tensor in tensors]


def main(inputs_file, outputs_file, block_channels):
    if block_channels:
        masked_sums.KEPT_CHANNELS = 0
        masked_sums.BLOCK_CHANNELS = block_channels
    inputs = np.load(inputs_file)
    kernel = inputs["kernel"]
    dtype = str(inputs["dtype"])
    layer = MaskedPooling(kernel.shape[3], kernel.shape[0], dtype=dtype)
    layer.build(inputs["features"].shape)

    upstream = {
        name: keras.ops.convert_to_tensor(inputs[f"of_{name}"]) for name in ("pooled", "mask_mean")
    }

    def outputs(features, kernel, bias):
        return layer.stateless_call([kernel, bias], [], features, training=True)[0]

    def value(features, kernel, bias):
        result = outputs(features, kernel, bias)
        return sum(keras.ops.sum(result[name] * upstream[name]) for name in result)

    arrays = [inputs[name] for name in ("features", "kernel", "bias")]
    slopes = gradients(value, arrays)
    results = dict(zip(("features", "kernel", "bias"), slopes, strict=True))
    results |= outputs(*map(keras.ops.convert_to_tensor, arrays))
    np.savez(outputs_file, **{k: keras.ops.convert_to_numpy(v) for k, v in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:3], int(sys.argv[3]))
