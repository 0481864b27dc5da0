"""Receptive field of the cells of a feature grid, derived from the layers before it."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from mcattn_tf.layers import (
    BatchNormalization,
    FactoredSoftmaxPooling,
    MaskedPooling,
    MaskedSoftmaxPooling,
    PositionEmbedding,
)
from mcattn_tf.layers.convolutions import DilatedConv2D
from mcattn_tf.settings.systems import system_of


@dataclasses.dataclass(frozen=True, eq=False)
class ReceptiveField:
    """The rectangle of pixels that each cell of a grid sees; pairs are (rows, columns)."""

    first: np.ndarray  # (n, 2), first pixel that cell i sees; negative in the padding
    last: np.ndarray  # (n, 2), last such pixel
    stride: np.ndarray  # pixels from cell to cell
    cells: np.ndarray  # size of the grid; n is the larger one
    image_size: tuple[int, int]

    @property
    def side(self) -> int:
        """Pixels along the longer side, including those beyond the image's border."""
        return int(np.max(self.last - self.first)) + 1

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Returns (top, left, bottom, right) of the pixels that a cell sees, inside the image.

        Pixels count from 0; bottom and right are exclusive.
        """
        cell, axes = (row, column), (0, 1)
        corners = self.first[cell, axes], self.last[cell, axes] + 1
        return tuple(np.concatenate([np.clip(x, 0, self.image_size) for x in corners]).tolist())


@dataclasses.dataclass(frozen=True)
class _Window:
    """The cells of an operation's input that an output cell i sees, for both axes or as pairs.

    They are those from ceil((scale i - before) / divisor) to floor((scale i + after) / divisor).
    """

    cells: np.ndarray  # size of the output's grid
    scale: np.ndarray | int = 1
    before: np.ndarray | int = 0
    after: np.ndarray | int = 0
    divisor: np.ndarray | int = 1


def receptive_field(model: keras.Model, layer_name: str | None = None) -> ReceptiveField:
    """Derives the pixels that a layer's cells see in inference: the support of their gradient.

    Args:
        model: Functional model of one input, images (B, H, W, 3) of fixed size.
        layer_name: Name of the layer; None for `System.evidence`. A global average leaves one cell,
            which sees everything that the cells before it see.

    Raises:
        ValueError: If a layer or operation before it is of an unknown kind, is used more than
            once, or joins grids that do not match.
    """
    output = model.get_layer(layer_name or system_of(model).evidence).output
    size, one = model.input_shape[1:3], np.ones(2, int)
    grids = {id(model.input): (size * one, one)}  # cells and stride of each tensor
    windows: list[tuple[int, int, _Window]] = []  # (input, output, window), from the image on
    for operation in keras.Function(model.input, output).operations:
        inputs = [id(tensor) for tensor in keras.tree.flatten(operation.input)]
        if not grids.keys() >= set(inputs):  # `operation.input` is that of the first use
            raise ValueError(f"receptive field: {operation.name!r} is used more than once")
        if inputs:
            each, stride = _windows(operation, [grids[key] for key in inputs])
            for result in map(id, keras.tree.flatten(operation.output)):
                grids[result] = each[0].cells, stride
                windows += [(key, result, x) for key, x in zip(inputs, each, strict=True)]
    results = [id(tensor) for tensor in keras.tree.flatten(output)]
    cells, stride = grids[results[0]]
    indices = np.arange(cells.max())[:, None].repeat(2, axis=1)
    spans = dict.fromkeys(results, (indices, indices))  # of each tensor, what those cells see
    for source, result, window in reversed(windows):
        if result in spans:
            first, last = spans[result]
            first = -((window.before - window.scale * first) // window.divisor)
            last = (window.scale * last + window.after) // window.divisor
            other = spans.get(source, (first, last))
            spans[source] = np.minimum(first, other[0]), np.maximum(last, other[1])
    return ReceptiveField(*spans[id(model.input)], stride, cells, size)


def _windows(
    operation: keras.Operation, grids: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[list[_Window], np.ndarray]:
    """Returns the window on each input, and the output's stride in pixels."""
    kind = type(operation) if isinstance(operation, keras.Layer) else type(operation).__name__
    if kind not in RULES or getattr(operation, "data_format", None) == "channels_first":
        raise ValueError(
            f"receptive field: what {operation.name!r}, a {type(operation).__name__}, sees is not "
            "known here; add its kind to RULES"
        )
    if RULES[kind] is None:
        return _merge(operation, grids)
    [(cells, stride)] = grids
    window = RULES[kind](operation, cells)
    if np.any(stride % window.divisor):
        raise ValueError(f"receptive field: what {operation.name!r} sees is not known here")
    return [window], stride * np.maximum(window.scale, 1) // window.divisor


def _slide(layer: keras.Layer, cells: np.ndarray) -> _Window:
    """Slides the window of a convolution or a pooling over a grid."""
    size = layer.pool_size if hasattr(layer, "pool_size") else layer.kernel_size
    strides, dilation = np.array(layer.strides), getattr(layer, "dilation_rate", 1)
    extent = (np.array(size) - 1) * dilation + 1
    count = -(-(cells if layer.padding == "same" else cells - extent + 1) // strides)
    # Of an odd number of padding cells the far side has one more; "valid" has none.
    before = np.maximum((count - 1) * strides + extent - cells, 0) // 2
    return _Window(count, strides, before, extent - 1 - before)


def _slide_transposed(layer: layers.Conv2DTranspose, cells: np.ndarray) -> _Window:
    """Every input cell spreads a window, `strides` cells apart; a cell sees all it lies in."""
    strides, extent = np.array(layer.strides), np.array(layer.kernel_size)
    plain = layer.output_padding is None and layer.dilation_rate == (1, 1)
    if not plain or layer.padding != "same" or np.any(extent < strides):
        raise ValueError(f"receptive field: what {layer.name!r} sees is not known here")
    before = (extent - strides) // 2
    return _Window(cells * strides, 1, extent - 1 - before, before, strides)


def _pad(layer: layers.ZeroPadding2D, cells: np.ndarray) -> _Window:
    padding = np.array(layer.padding)  # (before, after) of the rows, and of the columns
    return _Window(cells + padding.sum(axis=1), 1, padding[:, 0], -padding[:, 0])


def _gather(_: keras.Layer, cells: np.ndarray) -> _Window:
    """One cell is left, which sees all."""
    return _Window(cells // cells, 0, 0, cells - 1)


def _reshape(layer: layers.Reshape, cells: np.ndarray) -> _Window:
    """A single cell stays one."""
    if np.any(cells > 1) or np.any(np.array(layer.output.shape[1:-1]) > 1):
        raise ValueError(f"receptive field: what {layer.name!r} sees is not known here")
    return _Window(cells)


def _merge(
    operation: keras.Operation, grids: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[list[_Window], np.ndarray]:
    """Joins the same cell of every input; an input of a single cell is shared by all."""
    cells = np.max([grid for grid, _ in grids], axis=0)
    stride = np.max([step * (grid == cells) for grid, step in grids], axis=0)
    for grid, step in grids if len(grids) > 1 else ():
        matches = (grid == 1) | ((grid == cells) & (step == stride))
        if not np.all(matches) or getattr(operation, "axis", -1) not in (-1, 3):
            raise ValueError(f"receptive field: {operation.name!r} joins what does not match")
    windows = [_Window(cells, np.where((grid == 1) & (cells > 1), 0, 1)) for grid, _ in grids]
    return windows, stride


# Layers by their exact class; operations by name, because their classes are not public. None for
# those that work on each position by itself.
RULES: dict[type | str, Callable[..., _Window] | None] = {
    **dict.fromkeys((layers.Conv2D, DilatedConv2D, layers.DepthwiseConv2D), _slide),
    **dict.fromkeys((layers.SeparableConv2D, layers.MaxPooling2D, layers.AveragePooling2D), _slide),
    layers.Conv2DTranspose: _slide_transposed,
    **dict.fromkeys((layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D), _gather),
    layers.Reshape: _reshape,
    layers.ZeroPadding2D: _pad,
    **dict.fromkeys((layers.Activation, layers.BatchNormalization, layers.Dense, layers.Dropout)),
    **dict.fromkeys((layers.ReLU, layers.LeakyReLU, layers.ELU, layers.PReLU, layers.Identity)),
    **dict.fromkeys((layers.Rescaling, layers.Normalization, layers.SpatialDropout2D)),
    **dict.fromkeys((BatchNormalization, PositionEmbedding, FactoredSoftmaxPooling)),
    **dict.fromkeys((MaskedPooling, MaskedSoftmaxPooling)),
    **dict.fromkeys((layers.Add, layers.Subtract, layers.Average, layers.Maximum)),
    **dict.fromkeys((layers.Minimum, layers.Concatenate, layers.Multiply)),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "TrueDivide", "Relu", "Relu6", "Sigmoid")),
    **dict.fromkeys(("Silu", "Gelu", "Tanh", "Split")),
}
