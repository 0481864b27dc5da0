"""Batch normalisation that takes one operation of TensorFlow in training."""

import keras
from keras import KerasTensor


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
        import tensorflow as tf

        normalized, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        # TensorFlow's variance is that of a sample, Keras' that of the values themselves.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
        averages = (self.moving_mean, mean), (self.moving_variance, variance * (1 - 1 / count))
        for average, value in averages:
            average.assign(self.momentum * average + (1 - self.momentum) * value)
        return normalized
