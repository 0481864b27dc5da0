"""Convolutions of the shared extractor: how they start, and dilated ones on small grids."""

import itertools

import keras
from keras import KerasTensor, ops

# Share of a kernel's products that are with cells of the grid, above which a library's convolution
# of the whole kernel is as quick: benchmarks/README.md.
TOGETHER_ABOVE = 0.5


@keras.saving.register_keras_serializable(package="mcattn_tf")
class CenterTap(keras.initializers.Initializer):
    """Starts a convolution as one of a single tap: He's initialisation there, zeros around it.

    A cell then begins by looking at what is in its own middle, and at its surroundings only as far
    as that helps. Dirac initialisation (Zagoruyko & Komodakis 2017) is its kin, with the identity
    in the middle.
    """

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> KerasTensor:
        """Returns a kernel (rows, columns, in, out) with odd numbers of rows and columns."""
        rows, columns, *channels = shape
        center = keras.initializers.HeNormal()((1, 1, *channels), dtype)
        margins = (rows // 2, rows // 2), (columns // 2, columns // 2)
        return ops.pad(center, (*margins, (0, 0), (0, 0)))


@keras.saving.register_keras_serializable(package="mcattn_tf")
class DilatedConv2D(keras.layers.Conv2D):
    """A `Conv2D` that is quick where the dilation is large for the grid.

    A tap, one position of the kernel, reaches as far as its dilation, and beside a small grid it
    finds only padding. Where little of the kernel lies on the grid, each tap is a 1x1 convolution
    of the cells that it does reach, moved to where they belong: the same numbers but for the order
    of the sum (in bfloat16 each term is rounded), without the products with padding.

    Source: Yu & Koltun 2016, section 2, for what a dilated convolution is.

    Input: (B, h, w, C), h and w known, channels last. Output: (B, h, w, C'), with
    `padding="same"` and no strides or groups, for which it is made.
    """

    def convolution_op(self, inputs: KerasTensor, kernel: KerasTensor) -> KerasTensor:
        """Returns the convolution without bias and activation; `Conv2D.call` asks for it."""
        height, width = inputs.shape[1:3]
        taps = list(
            itertools.product(
                _reach(height, self.kernel_size[0], self.dilation_rate[0]),
                _reach(width, self.kernel_size[1], self.dilation_rate[1]),
            )
        )
        products = sum(len(rows) * len(columns) for (_, rows, _), (_, columns, _) in taps)
        if products > TOGETHER_ABOVE * height * width * len(taps):
            return super().convolution_op(inputs, kernel)
        return sum(
            _one_tap(inputs, kernel[i : i + 1, j : j + 1], (rows, down), (columns, right))
            for (i, rows, down), (j, columns, right) in taps
            if rows and columns
        )


def _reach(cells: int, taps: int, dilation: int) -> list[tuple[int, range, int]]:
    """Returns of each tap along an axis its index, the cells that it serves, and its offset.

    It serves the cells from which it lies on the grid; the offset, in cells, is that of "same"
    padding, which has one cell more on the far side.
    """
    before = (taps - 1) * dilation // 2
    offsets = [tap * dilation - before for tap in range(taps)]
    return [
        (tap, range(max(0, -offset), min(cells, cells - offset)), offset)
        for tap, offset in enumerate(offsets)
    ]


def _one_tap(
    inputs: KerasTensor, kernel: KerasTensor, rows: tuple[range, int], columns: tuple[range, int]
) -> KerasTensor:
    """Returns what a tap, (1, 1, C, C'), adds to each cell: (B, h, w, C')."""
    height, width = inputs.shape[1:3]
    (rows, down), (columns, right) = rows, columns
    reached = inputs[
        :, rows.start + down : rows.stop + down, columns.start + right : columns.stop + right
    ]
    margins = (rows.start, height - rows.stop), (columns.start, width - columns.stop)
    return ops.pad(ops.conv(reached, kernel, padding="valid"), ((0, 0), *margins, (0, 0)))
