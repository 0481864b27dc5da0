"""Trains a network, evaluates it on the test images and exports it."""

from mcattn_tf.commands import flags, train

if __name__ == "__main__":
    flags.end(train.main())
