"""Measures a trained network on every image of a split, its explanations or its feature space."""

from mcattn_tf.commands import evaluate, flags

if __name__ == "__main__":
    flags.end(evaluate.main())
