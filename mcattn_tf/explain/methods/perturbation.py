"""Answers to changed pictures, and the cells that are changed."""

import itertools
import math
from collections.abc import Callable, Iterable

import keras
import numpy as np
from keras import KerasTensor

PICTURES = 64  # pictures in one forward pass


def whole_cells(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Returns the grid nearest to one (h, w) whose cells are whole pixels of images (H, W)."""

    def nearest(pixels: int, cells: int) -> int:
        divisors = [n for n in range(2, pixels + 1) if pixels % n == 0]
        return min(divisors or [1], key=lambda n: (abs(math.log(n / cells)), -n))

    return tuple(map(nearest, size, grid))


def answers_of(
    model: keras.Model, output: KerasTensor
) -> Callable[[Iterable[np.ndarray]], np.ndarray]:
    """Returns a function from N pictures (H, W, C), read as needed, to an output (N, K)."""
    answers = keras.Model(model.input, output)

    def ask(pictures: Iterable[np.ndarray]) -> np.ndarray:
        pictures, parts = iter(pictures), []
        while batch := list(itertools.islice(pictures, PICTURES)):
            # Another number of pictures would be traced again.
            whole = np.stack(batch + batch[-1:] * (PICTURES - len(batch)))
            parts.append(np.asarray(answers.predict_on_batch(whole))[: len(batch)])
        return np.concatenate(parts).astype(np.float32)

    return ask
