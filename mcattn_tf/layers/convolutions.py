"""Convolutions of the shared extractor: their initial weights, and dilation on small grids."""

import itertools

import keras
from keras import KerasTensor, ops

# Share of a kernel's products with cells of the grid, not with padding, above which the backend's
# own convolution is as fast: benchmarks/README.md.
TOGETHER_ABOVE = 0.5


@keras.saving.register_keras_serializable(package="mcattn_tf")
class CenterTap(keras.initializers.Initializer):
    """Initialises the centre of a kernel by He's method and the other taps by zeros.

    At first each cell sees only itself, and training extends its view where that helps. Dirac
    initialisation (Zagoruyko & Komodakis 2017) is similar, with the identity at the centre.
    """

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> KerasTensor:
        """Returns a kernel (rows, columns, in, out) with odd numbers of rows and columns."""
        rows, columns, *channels = shape
        center = keras.initializers.HeNormal()((1, 1, *channels), dtype)
        margins = (rows // 2, rows // 2), (columns // 2, columns // 2)
        return ops.pad(center, (*margins, (0, 0), (0, 0)))


@keras.saving.register_keras_serializable(package="mcattn_tf")
class DilatedConv2D(keras.layers.Conv2D):
    """A `Conv2D` that is fast for a dilation that is large for the grid.

    Where little of the kernel lies on the grid, each tap becomes a 1x1 convolution of the cells
    that it reaches, shifted into place. This saves the products with padding. The numbers differ
    only by the order of the sum (in bfloat16 each term is rounded).

    Source: Yu & Koltun 2016, section 2, for dilated convolutions.

    Input: (B, h, w, C), h and w known, channels last. Output: (B, h, w, C'). It supports
    `padding="same"` without strides or groups.
    """

    def convolution_op(self, inputs: KerasTensor, kernel: KerasTensor) -> KerasTensor:
        """Returns the convolution without bias and activation, for `Conv2D.call`."""
        height, width = inputs.shape[1:3]
        axes = zip(inputs.shape[1:3], self.kernel_size, self.dilation_rate, strict=True)
        taps = list(itertools.product(*(_reach(*axis) for axis in axes)))
        products = sum(len(rows) * len(columns) for (_, rows, _), (_, columns, _) in taps)
        if products > TOGETHER_ABOVE * height * width * len(taps):
            return super().convolution_op(inputs, kernel)
        parts = []
        for (i, rows, down), (j, columns, right) in taps:
            if rows and columns:
                above, below = rows.start + down, rows.stop + down
                x = inputs[:, above:below, columns.start + right : columns.stop + right]
                x = ops.conv(x, kernel[i : i + 1, j : j + 1], padding="valid")
                margins = (rows.start, height - rows.stop), (columns.start, width - columns.stop)
                parts.append(ops.pad(x, ((0, 0), *margins, (0, 0))))
        return sum(parts)


def _reach(cells: int, taps: int, dilation: int) -> list[tuple[int, range, int]]:
    """Returns the index of each tap along an axis, its output cells on the grid, and its offset."""
    before = (taps - 1) * dilation // 2  # "same" padding has one cell more on the far side
    offsets = [tap * dilation - before for tap in range(taps)]
    return [
        (tap, range(max(0, -offset), min(cells, cells - offset)), offset)
        for tap, offset in enumerate(offsets)
    ]
