"""Text of an atlas: channel, part and attributes; and the parts of channels used apart."""

from collections.abc import Sequence

import numpy as np

from mcattn_tf.explain.feature_space.analysis_tables import most_correlated
from mcattn_tf.explain.feature_space.atlas import CHANCE, STRONG, Atlas
from mcattn_tf.explain.feature_space.correlation import DEFAULT_CORRELATION, Analysis
from mcattn_tf.tables import Column, lay_out, paragraph

SHORT = 10  # rows of a short table
NAMED = 2  # attributes of a channel
ANSWERED = 5  # questions in a short text
CHANNELS = 6  # in an answer


def by_use(atlas: Atlas) -> list[int]:
    """Returns the numbers of all channels by their largest share of an attribute, highest first."""
    return np.argsort(-atlas.shares.max(axis=0), kind="stable").tolist()


def words_of(atlas: Atlas, channel: int) -> str:
    """Returns the attributes that have the largest shares in a channel, with share and sign.

    The sign is that of the mean contribution: + speaks for the attribute.
    """
    shares = atlas.shares[:, channel]
    order = np.argsort(-shares, kind="stable")[:NAMED]
    signs = np.where(atlas.mean_contributions[:, channel] < 0, "-", "+")
    return ", ".join(f"{signs[k]}{atlas.attributes[k]} {100 * shares[k]:.1f} %" for k in order)


def part_of(atlas: Atlas, detected: np.ndarray, channel: int) -> str:
    """Returns the name of the part that a channel detects, or a dash."""
    return atlas.parts[detected[channel]] if detected[channel] >= 0 else "-"


def channel_columns(atlas: Atlas, channels: Sequence[int]) -> list[Column]:
    """Returns the columns of a table of channels: the part, its overlap, chance and attributes."""
    detected, columns = atlas.detected(), []
    if atlas.parts:
        pairs = [(channel, detected[channel]) for channel in channels]
        overlaps = [f"{atlas.overlaps[x]:.2f}" if x[1] >= 0 else "-" for x in pairs]
        chance = [
            f"{atlas.chance[:, channel, part].mean():.2f}" if part >= 0 else "-"
            for channel, part in pairs
        ]
        columns = [
            Column("", "part", [part_of(atlas, detected, channel) for channel in channels]),
            Column("", "overlap", overlaps),
            Column("", "chance", chance),
        ]
    return [*columns, Column("", "attributes", [words_of(atlas, x) for x in channels])]


def format_atlas(atlas: Atlas, analysis: Analysis | None, full: bool = True) -> str:
    """Returns the table channel - part - attributes, and which channels attributes use apart.

    Args:
        atlas: Atlas of a network.
        analysis: Analysis of the same network, for attributes that are alike; None for none.
        full: Whether all channels have a row; else those that are used most.
    """
    detected, channels = atlas.detected(), by_use(atlas)
    count = int(np.sum(detected >= 0))
    title = f"channels by their largest share of an attribute, on {atlas.images} images"
    if atlas.parts:
        title += (
            f"; {count} of {len(channels)} detect a part: the pixels above the channel's "
            f"{STRONG:.0%} quantile overlap it (intersection over union) more than {CHANCE:.0%} of "
            f"all channels overlap the regions of other images, {atlas.source}. A part is named by "
            "an attribute that is seen there, +2 by two more"
        )
    rows = channels if full else channels[:SHORT]
    columns = channel_columns(atlas, rows)
    lines = [paragraph(title), *lay_out([str(channel) for channel in rows], columns)]
    if atlas.parts:
        lines += ["", *_parts(atlas, detected)]
    if analysis is not None and len(atlas.attributes) > 1:
        lines += ["", *_answers(atlas, analysis, detected, full)]
    return "\n".join(lines)


def _parts(atlas: Atlas, detected: np.ndarray) -> list[str]:
    """Returns the lines of a table of the parts: how many channels detect each, and the best."""
    numbers = [np.flatnonzero(detected == part) for part in range(len(atlas.parts))]
    best = [
        sorted(own.tolist(), key=lambda channel, part=part: -atlas.overlaps[channel, part])
        for part, own in enumerate(numbers)
    ]
    columns = [
        Column("", "channels", [str(len(own)) for own in numbers]),
        Column("", "best", [" ".join(map(str, own[:CHANNELS])) or "-" for own in best]),
    ]
    return lay_out(list(atlas.parts), columns)


def _answers(atlas: Atlas, analysis: Analysis, detected: np.ndarray, full: bool) -> Sequence[str]:
    """Returns which channels an attribute uses and its nearest one does not, with their parts."""
    correlation = analysis.correlations()[DEFAULT_CORRELATION]
    pairs = [
        (row, other)
        for row in range(len(atlas.attributes))
        for other in most_correlated(correlation, row, 1)
    ]
    pairs.sort(key=lambda pair: -abs(correlation[pair]))
    lines = []
    for row, other in pairs if full else pairs[:ANSWERED]:
        apart = analysis.channels_apart(row, other)[:CHANNELS]
        words = [
            f"{channel} ({part_of(atlas, detected, channel)})" if atlas.parts else str(channel)
            for channel in apart
        ]
        names = f"{atlas.attributes[row]} uses and {atlas.attributes[other]} does not"
        lines.append(paragraph(f"{names}: {', '.join(words) or 'none'}"))
    return lines
