"""Terms of the loss of Kimura & Tanaka 2019, eq. 1, 3, 5 and 6, and those of GCM and ABN."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.settings.config import LossConfig


@keras.saving.register_keras_serializable(package="mcattn_tf")
class SummedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropies summed over attributes, averaged over images (eq. 1 and 3).

    Args:
        label_smoothing: Share s of the smoothed labels (1 - s) y + s / 2.
        positive_weights: K weights of the cross-entropies where an attribute is present; empty for
            1. `positive_weights` makes them from the training labels.

    Input: labels (B, K), 1 present, 0 absent and -1 unknown; probabilities (B, K), the direct
    output of a sigmoid. On TensorFlow Keras then computes with the logits, so that the loss does
    not saturate. Other backends clip probabilities to 1e-7 from 0 and 1.

    An unknown label adds nothing: the sum has fewer terms, and the others keep their weight. The
    average is over all images of the batch, those without a known label too.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        name: str = "summed_binary_crossentropy",
        positive_weights: Sequence[float] = (),
        **kwargs,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing, self.positive_weights = label_smoothing, tuple(positive_weights)

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Returns the sum over attributes for each image, (B,)."""
        weights = ops.cast(y_true >= 0, y_pred.dtype)  # 0 where a label is unknown
        if self.positive_weights:
            weights += ops.relu(y_true) * (np.array(self.positive_weights, "float32") - 1)
        y_true = (1 - self.label_smoothing) * ops.relu(y_true) + self.label_smoothing / 2
        return ops.sum(weights * ops.binary_crossentropy(y_true, y_pred), axis=-1)

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the loss."""
        own = {"label_smoothing": self.label_smoothing, "positive_weights": self.positive_weights}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MeanBinaryCrossentropy(SummedBinaryCrossentropy):
    """The same sum divided by K, the number of attributes with the unknown ones."""

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Returns the K-th part of the sum over attributes for each image, (B,)."""
        return super().call(y_true, y_pred) / y_pred.shape[-1]


@keras.saving.register_keras_serializable(package="mcattn_tf")
class ReconstructionError(keras.losses.Loss):
    """Mean squared error over the H W 3 values of an image, averaged over images (eq. 5).

    Input: images and reconstructions, both (B, H, W, 3).
    """

    def __init__(self, name: str = "reconstruction_error", **kwargs) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Returns the error of each image, (B,)."""
        return ops.mean(ops.square(y_true - y_pred), axis=(1, 2, 3))

    @classmethod
    def from_config(cls, config: dict) -> "ReconstructionError":
        """Returns the loss of a stored configuration, also one with a retired argument."""
        return cls(**{k: v for k, v in config.items() if k != "pixel_reduction"})


@keras.saving.register_keras_serializable(package="mcattn_tf")
class MaskSparsity(keras.losses.Loss):
    """L1 norm of the masks, averaged over images (the last term of eq. 6).

    Input: targets (B,), zeros; norms (B,) as the layer `MaskL1` gives them.
    """

    def __init__(self, name: str = "mask_sparsity", **kwargs) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Returns the distance of each image's norm from its target, (B,)."""
        return ops.abs(y_pred - y_true)


# Outputs that may be a softmax; their losses have no weights (Fukui et al. 2019, eq. 3).
OF_CLASSES = ("probabilities", "perception", "attention")


def positive_weights(labels: np.ndarray, cap: float) -> tuple[float, ...]:
    """Returns the weight of each attribute's present labels that balances it with the absent ones.

    Args:
        labels: (N, K), 1 present, 0 absent and -1 unknown.
        cap: Largest weight, 1 or more; its inverse is the smallest.

    Returns:
        K weights: absent labels divided by present ones. 1 for an attribute that has only one of
        the two.
    """
    present, absent = np.sum(labels == 1, axis=0), np.sum(labels == 0, axis=0)
    both = (present > 0) & (absent > 0)
    ratios = np.where(both, absent / np.maximum(present, 1), 1.0)
    return tuple(np.clip(ratios, 1 / cap, cap).tolist())


def losses_of(
    outputs: list[str],
    config: LossConfig,
    exclusive: bool = False,
    label_smoothing: float = 0.0,
    weights_of_present: Sequence[float] = (),
) -> tuple[dict, dict]:
    """Returns the losses of a model's outputs and their weights (eq. 6).

    Args:
        outputs: Names of the model's outputs.
        config: Weights; those of `OF_CLASSES` are 1.
        exclusive: Whether `OF_CLASSES` are softmaxes over classes.
        label_smoothing: Smoothing of the labels, for all outputs that are compared with them.
        weights_of_present: K weights of `positive_weights`, for the same outputs; empty for 1.

    Returns:
        {output: loss} and {output: weight}, for `keras.Model.compile`. `scores` and
        `attention_map` have none.
    """
    own = {"label_smoothing": label_smoothing, "positive_weights": weights_of_present}
    summed = SummedBinaryCrossentropy(**own)
    # The mean, as in the code of ABN's authors; its presets' learning rates suit that.
    mean = MeanBinaryCrossentropy(name="mean_binary_crossentropy", **own)
    classes = keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing)
    losses = {
        "attributes": summed,
        "multilabel": summed,
        "reconstruction": ReconstructionError(),
        "mask_l1": MaskSparsity(),
        "probabilities": classes if exclusive else summed,
        **dict.fromkeys(("perception", "attention"), classes if exclusive else mean),
    }
    weights = dataclasses.asdict(config) | dict.fromkeys(OF_CLASSES, 1.0)
    names = [name for name in outputs if name in losses]
    return {name: losses[name] for name in names}, {name: weights[name] for name in names}
