"""Which pixels a cell of a feature grid sees, worked out from the layers before it."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from mcattn_tf.layers import MaskedPooling, MaskedSoftmaxPooling, PositionEmbedding

CELLS = ("masked_pooling", "features")  # where evidence is read: the first that a model has


@dataclasses.dataclass(frozen=True, eq=False)
class ReceptiveField:
    """The rectangle of pixels that each cell of a grid sees; all are pairs (rows, columns).

    Attributes:
        start: first pixel that cell (0, 0) sees; negative in the padding before the image.
        stop: pixel after the last that it sees.
        stride: pixels from cell to cell.
        cells: size of the grid.
        image_size: in pixels.
    """

    start: np.ndarray
    stop: np.ndarray
    stride: np.ndarray
    cells: np.ndarray
    image_size: tuple[int, int]

    @property
    def side(self) -> int:
        """Pixels along the longer side, those beyond the image's border counted."""
        return int(np.max(self.stop - self.start))

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Returns (top, left, bottom, right) of what a cell sees, clipped to the image.

        They are pixels counted from 0, the last two exclusive.
        """
        shift = self.stride * (row, column)
        corners = [np.clip(edge + shift, 0, self.image_size) for edge in (self.start, self.stop)]
        return tuple(np.concatenate(corners).tolist())


def receptive_field(model: keras.Model, layer_name: str | None = None) -> ReceptiveField:
    """Works out what the cells of a layer see in inference: the support of their gradient.

    Args:
        model: a functional model of one input, images (B, H, W, 3) of fixed size.
        layer_name: name of the layer; None for the cells that evidence is read from: of
            `masked_pooling` (features behind their masks, before they are averaged) where the
            model has it, else of `features`. A global average leaves one cell, which sees what
            all cells saw.

    Raises:
        ValueError: if a layer or operation before it is of a kind that is not known here, is
            used more than once, or joins grids that do not match.
    """
    if layer_name is None:
        names = {layer.name for layer in model.layers}
        layer_name = next(name for name in CELLS if name in names)
    size, one = model.input_shape[1:3], np.ones(2, int)
    fields = {id(model.input): ReceptiveField(0 * one, one, one, size * one, size)}
    # Those between the image and that layer, each after what it needs.
    for operation in keras.Function(model.input, model.get_layer(layer_name).output).operations:
        inputs = keras.tree.flatten(operation.input)
        if any(id(tensor) not in fields for tensor in inputs):  # `input` is of the first use alone
            raise ValueError(f"receptive field: {operation.name!r} is used more than once")
        if inputs:
            field = _rule(operation)(operation, *(fields[id(tensor)] for tensor in inputs))
            fields |= {id(tensor): field for tensor in keras.tree.flatten(operation.output)}
    return field


def _slide(
    field: ReceptiveField, size, strides=1, dilation=1, padding: str = "same"
) -> ReceptiveField:
    """Slides a window over a grid; its numbers are for both axes, or pairs."""
    extent = (np.asarray(size) - 1) * dilation + 1
    cells = -(-(field.cells if padding == "same" else field.cells - extent + 1) // strides)
    # Of an odd number of padding cells the far side has one more; "valid" has none to pad.
    before = np.maximum((cells - 1) * strides + extent - field.cells, 0) // 2
    start = field.start - before * field.stride
    stop = field.stop + (extent - 1 - before) * field.stride
    return ReceptiveField(start, stop, field.stride * strides, cells, field.image_size)


def _average_over_all(layer: keras.Layer, field: ReceptiveField) -> ReceptiveField:
    stop = field.stop + (field.cells - 1) * field.stride
    return dataclasses.replace(field, stop=stop, cells=np.ones(2, int))


def _merge(operation: keras.Operation, *fields: ReceptiveField) -> ReceptiveField:
    """Joins what the same cell of every input sees; a single cell is shared by all."""
    cells = np.max([field.cells for field in fields], axis=0)
    stride = np.max([field.stride * (field.cells == cells) for field in fields], axis=0)
    for field in fields:
        matches = (field.cells == 1) | ((field.cells == cells) & (field.stride == stride))
        if not np.all(matches) or getattr(operation, "axis", -1) not in (-1, 3):
            raise ValueError(f"receptive field: {operation.name!r} joins what does not match")
    # Moved so that the last cell, too, sees all of what is shared.
    starts = [field.start - (cells - field.cells) * stride for field in fields]
    stop = np.max([field.stop for field in fields], axis=0)
    return ReceptiveField(np.min(starts, axis=0), stop, stride, cells, fields[0].image_size)


# Layers by their exact class; operations by name, because their classes are not public.
RULES: dict[type | str, Callable[..., ReceptiveField]] = {
    layers.Conv2D: lambda layer, field: _slide(
        field, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding
    ),
    **dict.fromkeys(
        (layers.MaxPooling2D, layers.AveragePooling2D),
        lambda layer, field: _slide(field, layer.pool_size, layer.strides, 1, layer.padding),
    ),
    **dict.fromkeys(
        (MaskedPooling, MaskedSoftmaxPooling),
        lambda layer, field: _slide(field, layer.kernel_size),
    ),
    layers.GlobalAveragePooling2D: _average_over_all,
    # These work on each position by itself.
    **dict.fromkeys((layers.Activation, layers.BatchNormalization, layers.Dense), _merge),
    **dict.fromkeys((layers.Dropout, layers.ReLU, PositionEmbedding), _merge),
    **dict.fromkeys((layers.Add, layers.Concatenate, layers.Multiply), _merge),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "TrueDivide", "Relu", "Sigmoid"), _merge),
}


def _rule(operation: keras.Operation) -> Callable[..., ReceptiveField]:
    kind = type(operation) if isinstance(operation, keras.Layer) else type(operation).__name__
    if kind not in RULES or getattr(operation, "data_format", None) == "channels_first":
        raise ValueError(
            f"receptive field: what {operation.name!r}, a {type(operation).__name__}, sees is not "
            "known here; add its kind to RULES"
        )
    return RULES[kind]
