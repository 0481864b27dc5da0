"""Slices of a long axis, computed one after another to save memory."""

import math
from collections.abc import Callable, Sequence

from keras import KerasTensor, ops


def in_slices(
    function: Callable[..., list[KerasTensor]],
    tensors: Sequence[KerasTensor],
    length: int,
    shapes: Sequence[tuple],
    unrolled: bool,
) -> list[KerasTensor]:
    """Applies a function to slices of tensors along their first axis.

    Args:
        function: Function from slices (length, ...) to a list of float32 tensors (length, ...).
        tensors: Tensors (K, ...), K static; the last slice is padded by zeros.
        length: Length of a slice.
        shapes: Shapes of the function's outputs without the first axis.
        unrolled: Whether to avoid a loop of the backend, as on a GPU, where XLA compiles the step
            and cannot differentiate TensorFlow's loops.

    Returns:
        The outputs for all K, (K, ...).
    """
    count = tensors[0].shape[0]
    slice_count = math.ceil(count / length)

    def sliced(values: KerasTensor) -> KerasTensor:
        missing = slice_count * length - count
        values = ops.pad(values, ((0, missing), *[(0, 0)] * (len(values.shape) - 1)))
        return ops.reshape(values, (slice_count, length, *ops.shape(values)[1:]))

    def step(_: list[KerasTensor], slices: list[KerasTensor]) -> tuple[list, list]:
        outputs = function(*slices)
        return outputs, outputs

    pieces = [sliced(values) for values in tensors]
    if unrolled:
        each = [function(*(values[i] for values in pieces)) for i in range(slice_count)]
        results = [ops.stack(parts) for parts in zip(*each, strict=True)]
    else:
        # On TensorFlow the carry of `scan` must have the shapes of the outputs.
        start = [ops.zeros((length, *shape), "float32") for shape in shapes]
        _, results = ops.scan(step, start, pieces)
    return [ops.reshape(x, (slice_count * length, *ops.shape(x)[2:]))[:count] for x in results]
