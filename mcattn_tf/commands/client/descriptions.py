"""What a network says about image files, as text and as figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.commands.client.networks import LoadedNetwork, RemoteNetwork
from mcattn_tf.data.images import read_images
from mcattn_tf.errors import UserError, choose
from mcattn_tf.figures.answer import answer_figure
from mcattn_tf.figures.contribution_maps import CONTRIBUTION_MAP_LABEL
from mcattn_tf.models import LABEL_OUTPUTS
from mcattn_tf.tables import Column, lay_out, percent


class Drawn(NamedTuple):
    """How a map is drawn.

    Attributes:
        label: of its scale.
        signed: whether there may be negative values; where there are some it is taken to be.
    """

    label: str
    signed: bool


# The first that an answer has is drawn.
DRAWN = {
    "contributions": Drawn("contribution of a cell to the logit", True),
    "contribution_maps": Drawn(CONTRIBUTION_MAP_LABEL, True),
    "cam": Drawn("evidence of a cell before it is pooled", True),
    "attention_map": Drawn("attention", False),
}


def describe(
    network: RemoteNetwork | LoadedNetwork,
    path: str,
    attributes: Sequence[str] | None = None,
) -> tuple[str, Figure]:
    """Asks a network about an image file.

    Args:
        network: that is asked.
        path: of a JPEG or PNG file.
        attributes: names of those that are drawn; None for what the network calls present, or
            holds most probable.

    Returns:
        A table of the probabilities in per cent, the highest first, and a figure of the image and
        its maps.

    Raises:
        UserError: if the file, the network or an attribute is not there, or refused.
    """
    try:
        image = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read image {path}: {error.strerror}") from None

    def ask(endpoint: str, *chosen: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return network.ask(endpoint, image, *chosen)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    answer = ask("predict_bytes")
    explained = ask("explain_bytes", _chosen(answer, attributes))
    return f"{path}\n{_table(answer)}", _figure(explained, path)


def _probabilities(answer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: answer[name] for name in LABEL_OUTPUTS if name in answer}


def _chosen(answer: dict[str, np.ndarray], attributes: Sequence[str] | None) -> np.ndarray:
    """Returns the indices of the attributes that are drawn, the most probable first."""
    names = answer["names"].tolist()
    if attributes is not None:
        return np.array([names.index(choose("attributes", name, names)) for name in attributes])
    probabilities = next(iter(_probabilities(answer).values()))
    present = max(1, np.sum(probabilities > 0.5))
    return np.argsort(-probabilities, kind="stable")[:present]


def _table(answer: dict[str, np.ndarray]) -> str:
    columns = _probabilities(answer)
    order = np.argsort(-next(iter(columns.values())), kind="stable")
    cells = [
        Column("", name, [percent(value) for value in values[order]])
        for name, values in columns.items()
    ]
    return "\n".join(lay_out(answer["names"][order].tolist(), cells)[1:])  # no groups of columns


def _figure(answer: dict[str, np.ndarray], path: str) -> Figure:
    kind = next(name for name in DRAWN if name in answer)
    maps = answer[kind]
    if maps.ndim == 4:
        maps = maps.mean(axis=2)  # over colours
    return answer_figure(
        read_images([path], maps.shape[:2])[0],
        maps,
        DRAWN[kind].signed or maps.min() < 0,
        next(iter(_probabilities(answer).values())),
        answer["names"].tolist(),
        DRAWN[kind].label,
        f"Maps that explain the answers: {Path(path).name}",
    )
