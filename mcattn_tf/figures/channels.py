"""Atlas of channels: one page ordered by part, and a sheet for each of the most used channels."""

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.explain.feature_space.atlas import Atlas
from mcattn_tf.explain.feature_space.atlas_tables import by_use, part_of
from mcattn_tf.figures import panels
from mcattn_tf.figures.panels import MASK_COLORS, names_as_written, readable
from mcattn_tf.figures.scene import Scene, Undrawable
from mcattn_tf.tables import listed

SHEETS = 6  # channels that have a sheet
IN_ROW = 7  # channels of a part on the page
SHOWN = 3  # patches of a channel on the page
BARS = 6  # attributes on a sheet
TILE, NAME = 0.62, 1.9  # inches of a picture and of a part's name
FOR, AGAINST = "#d95f02", "#542788"  # colours of contributions


@names_as_written
def page_figure(atlas: Atlas, title: str) -> Figure:
    """Draws for each part the channels that detect it best: their mean map and strongest patches.

    The last row has the most used of the channels that detect none.
    """
    detected = atlas.detected()
    rows = _rows(atlas, detected)
    if unseen := [readable(name) for name in atlas.parts if name not in rows]:
        title = f"{title}\nNo channel detects {listed(unseen, 8)}"
    group, height = (1 + SHOWN) * TILE + 0.15, TILE + 0.3
    size = NAME + IN_ROW * group + 0.1, len(rows) * height + 0.9
    figure = Figure(figsize=size)
    figure.suptitle(title, y=1 - 0.1 / size[1])
    # In inches from the left upper corner: hundreds of axes would take minutes to lay out.
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axis.set_axis_off()
    for row, (name, channels) in enumerate(rows.items()):
        top = 0.85 + row * height
        label = f"{readable(name)}\n{len(channels)} of {len(detected)} channels"
        overlaps = atlas.overlaps[:, atlas.parts.index(name)] if name in atlas.parts else None
        style = {"fontsize": panels.fitting_size(label, NAME - 0.15), "ha": "right", "va": "center"}
        axis.text(NAME - 0.1, top + TILE / 2, label, **style)
        for place, channel in enumerate(channels[:IN_ROW].tolist()):
            left = NAME + place * group
            pictures = [_colored(atlas.mean_maps[channel]), *atlas.patches[channel, :SHOWN]]
            for index, picture in enumerate(pictures):
                x = left + index * TILE
                extent = x, x + 0.95 * TILE, top + 0.95 * TILE, top
                axis.imshow(picture, extent=extent, aspect="auto", interpolation="nearest")
            overlap = "" if overlaps is None else f", overlap {overlaps[channel]:.2f}"
            axis.text(left, top - 0.03, f"{channel}{overlap}", fontsize=7, va="bottom")
    return figure


def _rows(atlas: Atlas, detected: np.ndarray) -> dict[str, np.ndarray]:
    """Returns {part: channels that detect it, the best first}, and those that detect none."""
    rows, order = {}, np.array(by_use(atlas))
    for part, name in enumerate(atlas.parts):
        own = np.flatnonzero(detected == part)
        rows[name] = own[np.argsort(-atlas.overlaps[own, part], kind="stable")]
    rows["no part" if atlas.parts else "most used"] = order[detected[order] < 0]
    return {name: channels for name, channels in rows.items() if len(channels)}


def _colored(values: np.ndarray) -> np.ndarray:
    """Returns a map (h, w) as colours from its lowest to its highest value."""
    span = max(float(np.ptp(values)), 1e-9)
    return MASK_COLORS((values - values.min()) / span)[..., :3]


@names_as_written
def sheet_figure(atlas: Atlas, channel: int, detected: np.ndarray) -> Figure:
    """Draws where a channel is strong, its nine strongest patches, and the attributes' shares."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    text = "detects no known part" if atlas.parts else f"on {atlas.images} images"
    if (part := detected[channel]) >= 0:
        chance = atlas.chance[:, channel, part].mean()
        text = (
            f"{part_of(atlas, detected, channel)}, overlap "
            f"{atlas.overlaps[channel, part]:.2f} (chance {chance:.2f})"
        )
    figure.suptitle(f"Channel {channel}: {text}")
    where, patches, bars = figure.subplots(1, 3)
    where.imshow(_colored(atlas.mean_maps[channel]))
    where.set_title(f"mean over {atlas.images} images", fontsize=9)
    seen = atlas.patches[channel]  # (9, a, b, 3)
    framed = np.pad(seen, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    rows = [np.concatenate(framed[start : start + 3], axis=1) for start in (0, 3, 6)]
    patches.imshow(np.concatenate(rows), interpolation="nearest")
    patches.set_title("what its strongest cells see", fontsize=9)
    for axis in (where, patches):
        axis.set_axis_off()
    shares = 100 * atlas.shares[:, channel]
    order = np.argsort(-shares, kind="stable")[:BARS][::-1]
    signs = atlas.mean_contributions[order, channel]
    bars.barh(range(len(order)), shares[order], color=np.where(signs < 0, AGAINST, FOR))
    bars.set_yticks(range(len(order)), [readable(atlas.attributes[k]) for k in order], fontsize=8)
    bars.tick_params(axis="x", labelsize=8)
    bars.set_xlabel("share of the attribute's contributions, %", fontsize=8)
    bars.set_title("orange: for, purple: against, on average", fontsize=9)
    bars.spines[["top", "right"]].set_visible(False)
    return figure


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws the page, and sheets of the most used channels."""
    atlas = scene.pictures.atlas
    if atlas is None:
        raise Undrawable(
            "channels needs an atlas; leave out --images, or run evaluate.py --analysis first"
        )
    detected, source = atlas.detected(), f" beside {atlas.source}" if atlas.parts else ""
    title = f"Channels by the part that they detect, over {atlas.images} images{source}"
    return {"channels": page_figure(atlas, title)} | {
        f"channel_{channel}": sheet_figure(atlas, channel, detected)
        for channel in by_use(atlas)[:SHEETS]
    }
