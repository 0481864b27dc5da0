"""Which pixels a cell of a feature grid sees, worked out from the layers before it."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from mcattn_tf.layers import MaskedPooling, MaskedSoftmaxPooling, PositionEmbedding
from mcattn_tf.layers.convolutions import DilatedConv2D
from mcattn_tf.settings.systems import system_of

Edges = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class ReceptiveField:
    """The rectangle of pixels that each cell of a grid sees; all are pairs (rows, columns).

    Attributes:
        start: from cells (..., 2) to the first pixel that each sees, (..., 2); negative in the
            padding before the image. It is defined for cells beyond the grid, too.
        stop: likewise, the pixel after the last.
        stride: pixels from cell to cell.
        cells: size of the grid.
        image_size: in pixels.
    """

    start: Edges
    stop: Edges
    stride: np.ndarray
    cells: np.ndarray
    image_size: tuple[int, int]

    @property
    def side(self) -> int:
        """Pixels along the longer side, those beyond the image's border counted."""
        every = np.arange(self.cells.max())[:, None].repeat(2, axis=1)
        return int(np.max(self.stop(every) - self.start(every)))

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Returns (top, left, bottom, right) of what a cell sees, clipped to the image.

        They are pixels counted from 0, the last two exclusive.
        """
        cell = np.array((row, column))
        corners = [np.clip(edge(cell), 0, self.image_size) for edge in (self.start, self.stop)]
        return tuple(np.concatenate(corners).tolist())


def receptive_field(model: keras.Model, layer_name: str | None = None) -> ReceptiveField:
    """Works out what the cells of a layer see in inference: the support of their gradient.

    Args:
        model: a functional model of one input, images (B, H, W, 3) of fixed size.
        layer_name: name of the layer; None for the cells that the model's evidence is read from
            (`systems.System.evidence`). A global average leaves one cell, which sees what all
            cells saw.

    Raises:
        ValueError: if a layer or operation before it is of a kind that is not known here, is
            used more than once, or joins grids that do not match.
    """
    if layer_name is None:
        layer_name = system_of(model).evidence
    size, one = model.input_shape[1:3], np.ones(2, int)
    pixels = ReceptiveField(lambda cell: cell, lambda cell: cell + 1, one, size * one, size)
    fields = {id(model.input): pixels}
    # Those between the image and that layer, each after what it needs.
    for operation in keras.Function(model.input, model.get_layer(layer_name).output).operations:
        inputs = keras.tree.flatten(operation.input)
        if any(id(tensor) not in fields for tensor in inputs):  # `input` is of the first use alone
            raise ValueError(f"receptive field: {operation.name!r} is used more than once")
        if inputs:
            field = _rule(operation)(operation, *(fields[id(tensor)] for tensor in inputs))
            edges = {name: _remembered(getattr(field, name)) for name in ("start", "stop")}
            field = dataclasses.replace(field, **edges)
            fields |= {id(tensor): field for tensor in keras.tree.flatten(operation.output)}
    return field


def _remembered(edges: Edges) -> Edges:
    """Returns the same function, which works out nothing twice.

    What two branches have in common would be asked for by each, and so for ever more often from
    one residual block down to the next.
    """
    known: dict[tuple, np.ndarray] = {}

    def once(cell: np.ndarray) -> np.ndarray:
        key = cell.shape, cell.tobytes()
        if key not in known:
            known[key] = edges(cell)
        return known[key]

    return once


def _slide(
    field: ReceptiveField, size, strides=1, dilation=1, padding: str = "same"
) -> ReceptiveField:
    """Slides a window over a grid; its numbers are for both axes, or pairs."""
    extent = (np.asarray(size) - 1) * dilation + 1
    cells = -(-(field.cells if padding == "same" else field.cells - extent + 1) // strides)
    # Of an odd number of padding cells the far side has one more; "valid" has none to pad.
    before = np.maximum((cells - 1) * strides + extent - field.cells, 0) // 2
    return ReceptiveField(
        lambda cell: field.start(cell * strides - before),
        lambda cell: field.stop(cell * strides - before + extent - 1),
        field.stride * strides,
        cells,
        field.image_size,
    )


def _slide_transposed(layer: layers.Conv2DTranspose, field: ReceptiveField) -> ReceptiveField:
    """Every cell of the grid spreads a window, `strides` cells apart; a cell sees all it is in.

    Neighbours may be in different numbers of windows.
    """
    strides, extent = np.array(layer.strides), np.array(layer.kernel_size)
    known = (
        layer.padding == "same" and layer.output_padding is None and layer.dilation_rate == (1, 1)
    )
    if not known or np.any(extent < strides) or np.any(field.stride % strides):
        raise ValueError(f"receptive field: what {layer.name!r} sees is not known here")
    before = (extent - strides) // 2
    return ReceptiveField(
        lambda cell: field.start(-((extent - 1 - before - cell) // strides)),
        lambda cell: field.stop((cell + before) // strides),
        field.stride // strides,
        field.cells * strides,
        field.image_size,
    )


def _pad(layer: layers.ZeroPadding2D, field: ReceptiveField) -> ReceptiveField:
    """Puts cells around a grid, which see what a grid that went on there would."""
    padding = np.array(layer.padding)  # (before, after) of the rows, and of the columns
    return dataclasses.replace(
        field,
        start=lambda cell: field.start(cell - padding[:, 0]),
        stop=lambda cell: field.stop(cell - padding[:, 0]),
        cells=field.cells + padding.sum(axis=1),
    )


def _average_over_all(layer: keras.Layer, field: ReceptiveField) -> ReceptiveField:
    return dataclasses.replace(
        field,
        start=lambda cell: field.start(0 * cell),
        stop=lambda cell: field.stop(0 * cell + field.cells - 1),
        cells=np.ones(2, int),
    )


def _merge(operation: keras.Operation, *fields: ReceptiveField) -> ReceptiveField:
    """Joins what the same cell of every input sees; a single cell is shared by all."""
    if len(fields) == 1:
        return fields[0]
    cells = np.max([field.cells for field in fields], axis=0)
    stride = np.max([field.stride * (field.cells == cells) for field in fields], axis=0)
    for field in fields:
        matches = (field.cells == 1) | ((field.cells == cells) & (field.stride == stride))
        if not np.all(matches) or getattr(operation, "axis", -1) not in (-1, 3):
            raise ValueError(f"receptive field: {operation.name!r} joins what does not match")

    def own(cell: np.ndarray, field: ReceptiveField) -> np.ndarray:
        return np.where((field.cells == 1) & (cells > 1), 0, cell)

    return ReceptiveField(
        lambda cell: np.min([field.start(own(cell, field)) for field in fields], axis=0),
        lambda cell: np.max([field.stop(own(cell, field)) for field in fields], axis=0),
        stride,
        cells,
        fields[0].image_size,
    )


# Layers by their exact class; operations by name, because their classes are not public.
RULES: dict[type | str, Callable[..., ReceptiveField]] = {
    **dict.fromkeys(
        (layers.Conv2D, DilatedConv2D),
        lambda layer, field: _slide(
            field, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding
        ),
    ),
    layers.Conv2DTranspose: _slide_transposed,
    **dict.fromkeys(
        (layers.MaxPooling2D, layers.AveragePooling2D),
        lambda layer, field: _slide(field, layer.pool_size, layer.strides, 1, layer.padding),
    ),
    layers.GlobalAveragePooling2D: _average_over_all,
    layers.ZeroPadding2D: _pad,
    # These work on each position by itself.
    **dict.fromkeys((layers.Activation, layers.BatchNormalization, layers.Dense), _merge),
    **dict.fromkeys((layers.Dropout, layers.ReLU, PositionEmbedding), _merge),
    **dict.fromkeys((MaskedPooling, MaskedSoftmaxPooling), _merge),
    **dict.fromkeys((layers.Add, layers.Concatenate, layers.Multiply), _merge),
    **dict.fromkeys(
        ("Add", "Subtract", "Multiply", "TrueDivide", "Relu", "Sigmoid", "Split"), _merge
    ),
}


def _rule(operation: keras.Operation) -> Callable[..., ReceptiveField]:
    kind = type(operation) if isinstance(operation, keras.Layer) else type(operation).__name__
    if kind not in RULES or getattr(operation, "data_format", None) == "channels_first":
        raise ValueError(
            f"receptive field: what {operation.name!r}, a {type(operation).__name__}, sees is not "
            "known here; add its kind to RULES"
        )
    return RULES[kind]
