"""Draws what a trained network looks at."""

from mcattn_tf.commands import flags, visualize

if __name__ == "__main__":
    flags.end(visualize.main())
