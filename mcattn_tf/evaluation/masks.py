"""What the masks of MCAttn are like, and how much of the answers they carry."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.explain.methods.contributions import SubnetworkExplanation
from mcattn_tf.metrics import MaskStatistics, mask_warnings
from mcattn_tf.tables import percent

# {kind: function of masks (B, h, w, ...) to those that replace them}.
REPLACED: dict[str, Callable[[KerasTensor], KerasTensor] | None] = {
    "trained": None,
    "another_image": lambda masks: ops.roll(masks, 1, axis=0),
    "position_mean": lambda masks: (
        ops.zeros_like(masks) + ops.mean(masks, axis=(1, 2), keepdims=True)
    ),
    "none": ops.zeros_like,
}


def carried_accuracy(
    model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    """Measures the sub-networks' answers with their masks and with others in place of them.

    Args:
        model: Network from `build_mcattn`.
        batches: Images (B, H, W, 3) in [0, 1] and labels (B, K), 0 or 1, of at least two images.

    Returns:
        {kind: accuracy}, in [0, 1], a mean over images and attributes: with masks as `trained`,
        those of `another_image`, each mask's `position_mean`, and `none`, (1 + 0) * f.
    """
    features = model.get_layer("features").output
    attributes = range(model.output["attributes"].shape[-1])
    logits = {}
    for kind, change in REPLACED.items():
        explanation = SubnetworkExplanation(model, attributes, change, name=kind)
        logits[kind] = explanation.logits(explanation(features))
    changed = keras.Model(model.input, logits)
    hits, count = dict.fromkeys(logits, 0), 0
    for images, labels in batches:
        for kind, values in changed.predict_on_batch(images).items():
            hits[kind] += int(np.sum((values > 0) == (labels > 0.5)))
        count += labels.size
    return {kind: number / count for kind, number in hits.items()}


def mask_lines(images: int, mean: dict, per_attribute: dict, carried: dict | None = None) -> list:
    """Returns the lines of an evaluation on masks, and warnings of dead and constant ones."""
    lines = [
        f"masks of the first {images} images: mean {mean['mask_mean']:.4f}, standard "
        f"deviation {mean['mask_std']:.4f} (over positions {mean['mask_std_positions']:.4f}, "
        f"channels {mean['mask_std_channels']:.4f}, attributes "
        f"{mean['mask_std_attributes']:.4f}), {percent(mean['mask_dead'])} % under "
        f"{MaskStatistics.DEAD_BELOW}, Gini {mean['mask_gini']:.4f}"
    ]
    if carried:
        shares = {kind: percent(carried[kind]) for kind in REPLACED}
        lines.append(
            f"what the masks carry, accuracy of {carried['images']} images: as trained "
            f"{shares['trained']} %, with another image's masks {shares['another_image']} %, each "
            f"mask at its mean over positions {shares['position_mean']} %, without masks "
            f"{shares['none']} %"
        )
    return [*lines, *mask_warnings(per_attribute)]
