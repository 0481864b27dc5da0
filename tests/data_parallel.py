"""Trains MCAttn on JAX, alone and by `keras.distribution` on two devices, and compares the weights.

XLA_FLAGS=--xla_force_host_platform_device_count=2 KERAS_BACKEND=jax python tests/data_parallel.py
"""

import keras
import numpy as np

from mcattn_tf import models
from mcattn_tf.settings.config import make_config
from mcattn_tf.training.compiling import compile_model

CONFIG = make_config(
    {
        "data": {"image_size": (12, 8)},
        "found": {"attributes": ("A", "B", "C")},
        "model": {"stem": ((4, 3, 1), (7, 3, 2)), "channels": 5, "dilations": (1, 2)},
    }
)


def trained() -> keras.Model:
    """Returns the network after six steps of SGD, 8 images each."""
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(0)
    images = random.random((24, 12, 8, 3), np.float32)
    labels = random.integers(0, 2, (24, 3)).astype(np.float32)
    model = models.build(CONFIG)
    compile_model(model, optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    model.fit(images, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model


def main() -> None:
    """Compares."""
    alone = trained()
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    divided = trained()
    for ours, expected in zip(divided.weights, alone.get_weights(), strict=True):
        assert len(ours.value.sharding.device_set) == 2, ours.path
        difference = np.abs(keras.ops.convert_to_numpy(ours) - expected).max()
        assert difference < 1e-5 * np.abs(expected).max(), (ours.path, difference)
    assert int(alone.optimizer.iterations) == int(divided.optimizer.iterations) == 6


if __name__ == "__main__":
    main()
