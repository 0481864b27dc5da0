"""Convolutional networks that explain themselves, in Keras 3."""

__version__ = "0.1.0"
