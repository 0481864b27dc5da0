"""What the masks of MCAttn are like, and how much of the answers they carry."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
from keras import KerasTensor, ops

from mcattn_tf.data import Split
from mcattn_tf.data.pipeline import counted_batches, evaluation_batches
from mcattn_tf.explain.methods.contributions import SubnetworkExplanation
from mcattn_tf.metrics import MaskStatistics, confusion_measures, confusions, mask_statistics
from mcattn_tf.models.receptive_field import receptive_field
from mcattn_tf.tables import percent

STATISTICS_IMAGES = 256  # an image of CelebA has 4 million entries
CARRIED_IMAGES, CARRIED_BATCH = 1000, 16  # of accuracies with other masks
SURROUNDED = 64  # images whose surroundings are replaced
# {kind: function of masks (B, h, w, ...) to those that replace them}.
REPLACED: dict[str, Callable[[KerasTensor], KerasTensor]] = {
    "trained": lambda masks: masks,
    "another_image": lambda masks: ops.roll(masks, 1, axis=0),
    "position_mean": lambda masks: (
        ops.zeros_like(masks) + ops.mean(masks, axis=(1, 2), keepdims=True)
    ),
    "none": ops.zeros_like,
}


def _replaced(masks: KerasTensor) -> KerasTensor:
    """Returns masks of each kind (B kinds, h, w, n) for images that are repeated for each kind."""
    each = masks[:: len(REPLACED)]
    kinds = ops.stack([change(each) for change in REPLACED.values()], axis=1)
    return ops.reshape(kinds, (-1, *masks.shape[1:]))


def evaluate_masks(
    model: keras.Model, split: Split, attributes: tuple[str, ...], batch_size: int
) -> dict:
    """Measures the masks of a network on the first images of a split.

    Returns:
        {"images": number, at most 256, "mean" and "per_attribute": measures of `MaskStatistics`
        over these}, and of two images or more "carried": the result of `carried_accuracy` over the
        first 1,000 and their number, and "changed_by_surroundings" over the first 64.
    """
    few, several = split.take(STATISTICS_IMAGES), split.take(CARRIED_IMAGES)
    statistics = mask_statistics(model, (x for x, _ in counted_batches(few, batch_size, "masks")))
    result = {
        "images": few.count,
        "mean": statistics.result(),
        "per_attribute": statistics.per_attribute(attributes),
    }
    if several.count > 1:
        batches = counted_batches(several, CARRIED_BATCH, "what masks carry")
        result["carried"] = {"images": several.count, **carried_accuracy(model, batches)}
        images, _ = next(evaluation_batches(split, SURROUNDED).as_numpy_iterator())
        result["changed_by_surroundings"] = changed_by_surroundings(model, images)
    return result


def carried_accuracy(
    model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    """Measures the sub-networks' answers with their masks and with others in place of them.

    Args:
        model: Network from `build_mcattn`.
        batches: Images (B, H, W, 3) in [0, 1] and labels (B, K), 0, 1 or -1
            (unknown, not counted), of at least two images.

    Returns:
        {kind: accuracy}, in [0, 1], a mean over attributes of means over images: with masks as
        `trained`, those of `another_image`, each mask's `position_mean`, and `none`, (1 + 0) * f.
    """
    attributes = range(model.output["attributes"].shape[-1])
    # One explanation of repeated features: four would take four times as long to trace.
    features = ops.repeat(model.get_layer("features").output, len(REPLACED), axis=0)
    explanation = SubnetworkExplanation(model, attributes, _replaced, name="replaced_masks")
    changed = keras.Model(model.input, explanation.logits(explanation(features)))
    counts = {kind: np.zeros((4, len(attributes)), np.int64) for kind in REPLACED}
    for images, labels in batches:
        answers = changed.predict_on_batch(images) > 0
        for number, kind in enumerate(REPLACED):
            cases = confusions(labels, answers[number :: len(REPLACED)])
            counts[kind] += np.sum(cases, axis=1)
    measures = {kind: confusion_measures(*cases) for kind, cases in counts.items()}
    return {kind: float(np.nanmean(x["accuracy"])) for kind, x in measures.items()}


def changed_by_surroundings(model: keras.Model, images: np.ndarray) -> float:
    """Measures how much a cell's evidence depends on what its features do not see.

    Masks may see more than the features that they weigh. In each image the cell and attribute of
    the strongest evidence are taken. All pixels outside of the cell's receptive field are replaced
    by those of another image, so that the masks alone can change.

    Args:
        model: Network from `build_mcattn`.
        images: (B, H, W, 3), in [0, 1], at least two.

    Returns:
        Mean change of the evidence over the mean evidence, absolute values; 0 if the masks see what
        the features see.
    """
    attributes = range(model.output["attributes"].shape[-1])
    explained = SubnetworkExplanation(model, attributes, name="evidence")
    output = explained(model.get_layer("features").output)["evidence"]
    evidence, field = keras.Model(model.input, output), receptive_field(model)
    before = evidence.predict_on_batch(images)
    pasted = np.roll(images, 1, axis=0)
    strongest = before.reshape(len(images), -1).argmax(axis=1)
    places = list(zip(*np.unravel_index(strongest, before.shape[1:]), strict=True))
    for image, changed, (row, column, _) in zip(images, pasted, places, strict=True):
        top, left, bottom, right = field.box(row, column)
        changed[top:bottom, left:right] = image[top:bottom, left:right]
    after = evidence.predict_on_batch(pasted)
    pairs = [(x[place], y[place]) for x, y, place in zip(before, after, places, strict=True)]
    old, new = np.array(pairs).T
    return float(np.abs(new - old).mean() / np.abs(old).mean())


def mask_lines(masks: dict) -> list[str]:
    """Returns the lines of an evaluation on masks, a result of `evaluate_masks`."""
    mean, carried = masks["mean"], masks.get("carried")
    lines = [
        f"masks of the first {masks['images']} images: mean {mean['mask_mean']:.4f}, standard "
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
    if (changed := masks.get("changed_by_surroundings")) is not None:
        lines.append(
            f"the strongest evidence changes by {percent(changed)} % when all that "
            "the features of its cell do not see is another image's"
        )
    return lines
