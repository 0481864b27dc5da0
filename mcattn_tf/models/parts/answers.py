"""Answers of a network: probabilities of classes or attributes."""

from keras import KerasTensor, layers


def probabilities(scores: KerasTensor, name: str, exclusive: bool | None = False) -> KerasTensor:
    """Adds the probabilities of classes or attributes.

    Args:
        scores: Logits, (B, N).
        name: Name of the layer and the output.
        exclusive: Whether each image has exactly one of the N labels: a softmax in place of
            sigmoids.

    Returns:
        (B, N), float32.
    """
    activation = "softmax" if exclusive else "sigmoid"
    return layers.Activation(activation, dtype="float32", name=name)(scores)
