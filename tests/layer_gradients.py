"""Computes masked poolings and their gradients on the backend that KERAS_BACKEND names.

python tests/layer_gradients.py BLOCK_CHANNELS INPUTS.npz OUTPUTS.npz [INPUTS.npz OUTPUTS.npz ...]
"""

import sys

import keras
import numpy as np

from mcattn_tf import layers
from mcattn_tf.layers import masked_sums


def gradients(function, arrays):
    """Returns the gradients of a scalar function of arrays."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tensors = list(map(tf.constant, arrays))
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return tape.gradient(value, tensors)
    if backend == "jax":
        import jax

        return jax.jit(jax.grad(function, argnums=tuple(range(len(arrays)))))(*arrays)
    import torch

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    function(*tensors).backward()
    return [tensor.grad for tensor in tensors]


def main(inputs_file, outputs_file, block_channels):
    if block_channels:
        masked_sums.KEPT_CHANNELS = 0
        masked_sums.BLOCK_CHANNELS = block_channels
    inputs = np.load(inputs_file)
    options = {name: int(inputs[name]) for name in ("rank", "stride", "context") if name in inputs}
    count = inputs["kernel"].shape[3] if "kernel" in inputs else len(inputs["head"])
    layer = getattr(layers, str(inputs["layer"]))(count, dtype=str(inputs["dtype"]), **options)
    if "sharpness" in inputs:
        layer.sharpness = float(inputs["sharpness"])
    layer.build(inputs["features"].shape)
    names = ["features", *(weight.name for weight in layer.weights)]
    upstream = {
        name.removeprefix("of_"): keras.ops.convert_to_tensor(inputs[name])
        for name in inputs
        if name.startswith("of_")
    }

    def outputs(features, *weights):
        return layer.stateless_call(weights, [], features, training=True)[0]

    def value(*arrays):
        result = outputs(*arrays)
        return sum(keras.ops.sum(result[name] * upstream[name]) for name in result)

    arrays = [inputs[name] for name in names]
    results = dict(zip(names, gradients(value, arrays), strict=True))
    results |= outputs(*map(keras.ops.convert_to_tensor, arrays))
    np.savez(outputs_file, **{k: keras.ops.convert_to_numpy(v) for k, v in results.items()})


if __name__ == "__main__":
    blocks, *files = sys.argv[1:]
    for pair in zip(files[::2], files[1::2], strict=True):
        main(*pair, int(blocks))
