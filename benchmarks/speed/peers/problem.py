"""The pinned network that is measured: its shape, weights, batch and operations.

NumPy alone is imported, so that every peer can read it in an environment of its own.
"""

import dataclasses
import math

import numpy as np

STEM = ((32, 1), (64, 2), (128, 2))  # filters and stride of the 3x3 convolutions
DILATIONS = (1, 2, 4, 8)
STRIDE = math.prod(stride for _, stride in STEM)
# Factored masks: r shared masks, by a convolution of s x s cells on a grid t times coarser.
RANK, MASK_STRIDE, CONTEXT = 16, 2, 5
CONTRAST, THRESHOLD, VARIANCE_EPSILON, SELECTIVITY = 3.0, 0.7, 1e-3, 4.0
LEARNING_RATE = 1e-3
# Keras' defaults of Adam and the settings of batch normalisation, for those who are not Keras.
ADAM_EPSILON = 1e-7
NORMALISATION_EPSILON, NORMALISATION_MOMENTUM = 1e-3, 0.9
MULTILABEL_WEIGHT, RECONSTRUCTION_WEIGHT, MASK_L1_WEIGHT = 1.0, 4.0, 1e-5


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is computed.

    Attributes:
        mode: `train` (a step of Adam), `predict` (probabilities of both heads) or `explain` (the
            same with the contribution maps of all attributes).
        attributes: K.
        channels: C.
        image_size: height and width, divisible by 4.
        batch_size: images in a step.
        precision: `float32` or `mixed_bfloat16`.
        masks: `own` (a convolution of K C filters) or `factored` (mixtures of r shared masks).
    """

    mode: str
    attributes: int
    channels: int
    image_size: tuple[int, int]
    batch_size: int
    precision: str
    masks: str = "own"

    def checked(self) -> "Problem":
        """Returns the problem on which the implementations must agree: itself."""
        return self

    @property
    def positions(self) -> int:
        """Cells of the feature grid, h w."""
        height, width = self.image_size
        return height * width // STRIDE**2

    @property
    def upsampling_filters(self) -> tuple[int, ...]:
        """Filters of the reconstructor's transposed convolutions."""
        return tuple(max(self.channels // 4 // 2**index, 8) for index in range(2))


def weight_shapes(problem: Problem) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of all weights but batch normalisation's, as `mcattn_tf` names them."""
    attributes, channels = problem.attributes, problem.channels
    shapes, before = {}, 3
    for index, (filters, _) in enumerate(STEM):
        shapes[f"stem_{index}_conv/kernel"] = (3, 3, before, filters)
        before = filters
    for index in range(len(DILATIONS)):
        shapes[f"context_{index}_conv/kernel"] = (3, 3, before, channels)
        before = channels
    if problem.masks == "factored":
        shapes["masked_pooling/shared_kernel"] = (CONTEXT, CONTEXT, channels, RANK)
        shapes["masked_pooling/mixing"] = (attributes, RANK, channels)
        shapes["masked_pooling/amplitude"] = (attributes, channels)
    else:
        shapes["masked_pooling/kernel"] = (1, 1, channels, attributes, channels)
        shapes["masked_pooling/bias"] = (attributes, channels)
    shapes["attribute_logits/kernel"] = (attributes, channels)
    shapes["attribute_logits/bias"] = (attributes,)
    shapes["multilabel_logits/kernel"] = (channels, attributes)
    shapes["multilabel_logits/bias"] = (attributes,)
    for index, filters in enumerate(problem.upsampling_filters):
        shapes[f"upsample_{index}_conv/kernel"] = (4, 4, filters, before)
        before = filters
    shapes["reconstruction_logits/kernel"] = (3, 3, before, 3)
    shapes["reconstruction_logits/bias"] = (3,)
    return shapes


def weights(problem: Problem) -> dict[str, np.ndarray]:
    """Returns the same random weights to every implementation, float32."""
    random = np.random.default_rng(0)
    drawn = {}
    for name, shape in weight_shapes(problem).items():
        if name.endswith("bias"):
            scale = 0.1
        elif name.endswith(("mixing", "amplitude")):
            scale = 1.0
        elif name.startswith("upsample"):
            scale = (2 / (4 * shape[-1])) ** 0.5  # 4 of the 16 kernel cells reach a pixel
        elif name.startswith("attribute"):
            scale = (2 / problem.channels) ** 0.5
        else:
            scale = (2 / math.prod(shape[:3])) ** 0.5
        drawn[name] = scale * random.standard_normal(shape, np.float32)
    return drawn


def batch(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (B, H, W, 3) in [0, 1] and labels (B, K), 0 or 1; float32."""
    random = np.random.default_rng(1)
    images = random.random((problem.batch_size, *problem.image_size, 3), np.float32)
    labels = random.integers(0, 2, (problem.batch_size, problem.attributes))
    return images, labels.astype(np.float32)


def operations_per_image(problem: Problem) -> int:
    """Counts the floating-point operations of convolutions and matrix products for an image.

    A multiplication and an addition are two. The backward pass is twice the forward pass, once
    for the inputs and once for the weights; what an implementation computes again is not counted,
    nor is the reconstructor in inference, nor anything element by element.
    """
    height, width = problem.image_size
    cells = {}
    stride = 1
    for index, (_, layer_stride) in enumerate(STEM):
        stride *= layer_stride
        cells[f"stem_{index}_conv/kernel"] = height * width // stride**2
    # A transposed convolution applies its whole kernel to each cell of its input.
    cells["masked_pooling/shared_kernel"] = problem.positions // MASK_STRIDE**2
    # The evidence of all K masks, without any of them: features by K (1 + r) columns.
    cells["masked_pooling/mixing"] = problem.positions
    cells["upsample_0_conv/kernel"] = problem.positions
    cells["upsample_1_conv/kernel"] = 4 * problem.positions
    cells["reconstruction_logits/kernel"] = height * width
    cells["attribute_logits/kernel"] = cells["multilabel_logits/kernel"] = 1
    if problem.mode == "explain":
        cells["attribute_logits/kernel"] += problem.positions
    forward = 0
    for name, shape in weight_shapes(problem).items():
        unused = problem.mode != "train" and name.startswith(("upsample", "reconstruction"))
        if name.endswith(("kernel", "mixing")) and not unused:
            forward += 2 * math.prod(shape) * cells.get(name, problem.positions)
    return forward * (3 if problem.mode == "train" else 1)
