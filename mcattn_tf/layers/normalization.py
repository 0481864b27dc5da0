"""Batch normalisation that takes one operation of TensorFlow in training."""

import keras
from keras import KerasTensor

from mcattn_tf.layers.fusion import normalized_by_batch


@keras.saving.register_keras_serializable(package="mcattn_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, computed by TensorFlow's own kernel while it trains.

    Keras writes the same numbers as a dozen operations forward and backward, each a pass over the
    features, and casts them to float32 and back in mixed precision. TensorFlow does not fuse them.
    Weights, settings, inference, other backends and statistics over several devices are Keras'.

    Input: features (B, h, w, C). Output: the same shape.
    """

    def call(
        self,
        inputs: KerasTensor,
        training: bool | None = None,
        mask: KerasTensor | None = None,
    ) -> KerasTensor:
        """Returns the normalised features; in training, moves the averages."""
        of_batch = training and self.trainable and not self.synchronized
        if not of_batch or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        normalized, *statistics = normalized_by_batch(inputs, self.gamma, self.beta, self.epsilon)
        for average, value in zip(
            (self.moving_mean, self.moving_variance), statistics, strict=True
        ):
            average.assign(self.momentum * average + (1 - self.momentum) * value)
        return normalized
