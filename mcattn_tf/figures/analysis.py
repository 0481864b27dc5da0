"""Draws what an analysis found over many images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.errors import UserError, choose
from mcattn_tf.explain.feature_space.correlation import (
    ATTRIBUTE_CORRELATIONS,
    DEFAULT_CORRELATION,
    Analysis,
)
from mcattn_tf.figures.correlation import (
    attribute_correlation_figure,
    channel_correlation_figure,
    cluster,
    mean_masks_figure,
)

OF_ANALYSIS = ("mean_masks", "channel_correlation", "attribute_correlation")
ORDERS = {
    "channel": "as numbered",
    "sorted": "sorted by their mean over all attributes",
    "clustered": "clustered by correlation",
}


def draw_analysis(
    analysis: Analysis, what: Sequence[str], chosen: Sequence[int], order: str = "channel"
) -> dict[str, Figure]:
    """Draws figures of an analysis.

    Args:
        analysis: of a network.
        what: names out of `OF_ANALYSIS`; others are not drawn here.
        chosen: indices of the attributes that are drawn.
        order: a key of `ORDERS`, of the channels in `mean_masks`.

    Returns:
        {file name without its ending: figure}.

    Raises:
        UserError: for an unknown order, or a correlation of fewer than two images or attributes.
    """
    names = [analysis.attributes[index] for index in chosen]
    over = f"over {analysis.images} images"
    drawn: dict[str, Figure] = {}
    if "mean_masks" in what:
        drawn["mean_masks"] = mean_masks_figure(
            analysis.mean_masks[chosen],
            names,
            f"Mean mask of each of {analysis.mean_masks.shape[1]} channels {over},\n"
            f"channels along the rows, {ORDERS[choose('order', order, ORDERS)]}",
            _ordered(analysis, order),
        )
    for name, counts in _correlated(analysis, chosen).items():
        things, count = min(counts.items(), key=lambda item: item[1])
        if name in what and count < 2:
            raise UserError(f"{name} needs at least 2 {things}. Received: {count}")
    if "channel_correlation" in what:
        drawn["channel_correlation"] = channel_correlation_figure(
            analysis.channel_correlation(),
            f"Correlation of the masks' channels, {over} and {len(analysis.attributes)} attributes",
        )
    if "attribute_correlation" in what:
        found = analysis.correlations()
        drawn["attribute_correlation"] = attribute_correlation_figure(
            {ATTRIBUTE_CORRELATIONS[k]: v[np.ix_(chosen, chosen)] for k, v in found.items()},
            ATTRIBUTE_CORRELATIONS[DEFAULT_CORRELATION],
            names,
            f"Correlation of attributes {over}, in the order that clusters the first panel",
        )
    return drawn


def _ordered(analysis: Analysis, order: str) -> np.ndarray | None:
    """Returns the channels in an order; None for that of their numbers."""
    if order == "sorted":
        return np.argsort(-analysis.mean_masks.mean(axis=0), kind="stable")
    if order == "clustered":
        return cluster(analysis.channel_correlation()).order
    return None


def _correlated(analysis: Analysis, chosen: Sequence[int]) -> dict[str, dict[str, int]]:
    """Returns of what each correlation needs two, and how many there are."""
    return {
        "channel_correlation": {"channels": analysis.mean_masks.shape[1]},
        "attribute_correlation": {"images": analysis.images, "attributes": len(chosen)},
    }


def too_few_for(analysis: Analysis, chosen: Sequence[int]) -> set[str]:
    """Returns the figures that an analysis has too few images, attributes or channels for.

    Args:
        analysis: of a network.
        chosen: indices of the attributes that are drawn.
    """
    found = _correlated(analysis, chosen)
    return {name for name, counts in found.items() if min(counts.values()) < 2}
