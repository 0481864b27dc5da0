"""The multi-task ABN that is measured: its shape and the weights of its check.

NumPy alone is imported, so that every peer can read it in an environment of its own.
"""

import dataclasses
import math

import numpy as np

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)
LEARNING_RATE, MOMENTUM = 0.01, 0.9
# Keras' and not PyTorch's, for those who are not Keras.
NORMALISATION_EPSILON = 1e-3
# All grids of such an image have odd sides: there Keras and PyTorch pad alike.
CHECKED_SIZE, CHECKED_ATTRIBUTES, CHECKED_BATCH = (65, 65), 3, 8
# Of what a block adds to its shortcut. With 1, as layers begin, float32 decides the second loss of
# an untrained ResNet-50: weights that differ by 1e-7 change it by 3 %.
BLOCK_SCALE = 0.2


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is computed: multi-task ABN as its authors' PyTorch code has it, without the residual.

    Attributes:
        mode: `train` (a step of SGD with momentum) or `predict` (both branches' answers).
        backbone: a key of `BLOCKS`, cut before its last stage.
        attributes: T, the tasks.
        image_size: height and width.
        batch_size: images in a step.
        precision: `float32` or `mixed_bfloat16`, of Keras; PyTorch's is `float32`.
        official_dir: a checkout of the authors' code, for those who run it.
    """

    mode: str
    backbone: str
    attributes: int
    image_size: tuple[int, int]
    batch_size: int
    precision: str
    official_dir: str = ""

    def checked(self) -> "Problem":
        """Returns the small problem on which the implementations must agree."""
        return dataclasses.replace(
            self,
            image_size=CHECKED_SIZE,
            attributes=CHECKED_ATTRIBUTES,
            batch_size=CHECKED_BATCH,
        )


def _stage(backbone: str, stage: int, prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a stage's kernels, (row, column, in, out), and of scales, (out,)."""
    width, shapes = WIDTHS[stage - 1], {}
    bottleneck = backbone == "resnet50"
    out = 4 * width if bottleneck else width
    for block in range(1, BLOCKS[backbone][stage - 1] + 1):
        name = f"{prefix}stage_{stage}_block_{block}"
        kernels = ((1, width), (3, width), (1, out)) if bottleneck else ((3, width), (3, width))
        before = channels
        for number, (size, filters) in enumerate(kernels, start=1):
            shapes[f"{name}_conv_{number}"] = (size, size, before, filters)
            before = filters
        shapes[f"{name}_bn_{len(kernels)}"] = (out,)
        if block == 1 and (stage > 1 or channels != out):
            shapes[f"{name}_shortcut"] = (1, 1, channels, out)
        channels = out
    return shapes


def weights(problem: Problem) -> dict[str, np.ndarray]:
    """Returns the same random kernels, and scales of blocks, to every implementation, float32.

    They are named as `mcattn_tf` names its layers; `perception_scores` is (T, C).
    """
    expansion = 4 if problem.backbone == "resnet50" else 1
    shapes, channels = {"stem_conv": (7, 7, 3, 64)}, 64
    for stage, width in enumerate(WIDTHS, start=1):
        if stage == 4:
            shapes |= _stage(problem.backbone, stage, "attention_", channels)
        shapes |= _stage(problem.backbone, stage, "", channels)
        channels = width * expansion
    shapes["attention_evidence"] = (1, 1, channels, problem.attributes)
    shapes["perception_scores"] = (problem.attributes, channels)
    random = np.random.default_rng(0)

    def value(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.full(shape, BLOCK_SCALE, np.float32)
        deviation = (1 / shape[1] if len(shape) == 2 else 2 / math.prod(shape[:3])) ** 0.5
        return random.standard_normal(shape, np.float32) * deviation

    return {name: value(shape) for name, shape in shapes.items()}
