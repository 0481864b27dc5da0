"""The same network in PyTorch, as it is usually written there.

PyTorch pads a convolution of stride 2 on both sides, Keras only behind the image. Both sample the
same cells if the image is mirrored in both directions, and the kernels with it: so the losses can
be compared although PyTorch pays for no padding of its own.
"""

import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peers.problem import (
    ADAM_EPSILON,
    CONTEXT,
    CONTRAST,
    DILATIONS,
    LEARNING_RATE,
    MASK_L1_WEIGHT,
    MASK_STRIDE,
    MULTILABEL_WEIGHT,
    NORMALISATION_EPSILON,
    NORMALISATION_MOMENTUM,
    RANK,
    RECONSTRUCTION_WEIGHT,
    SELECTIVITY,
    STEM,
    THRESHOLD,
    VARIANCE_EPSILON,
    Problem,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _normalised(convolution: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        convolution,
        nn.BatchNorm2d(
            convolution.out_channels,
            eps=NORMALISATION_EPSILON,
            momentum=1 - NORMALISATION_MOMENTUM,
        ),
        nn.ReLU(inplace=True),
    )


class SharedMasks(nn.Module):
    """The r shared masks (B, r, h, w) of the features (B, C, h, w)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            problem.channels, RANK, CONTEXT, padding=CONTEXT // 2, bias=False
        )

    def forward(self, features: Tensor) -> Tensor:
        """Returns the masks, float32."""
        x = self.convolution(F.avg_pool2d(features, MASK_STRIDE)).float()
        x = F.interpolate(x, scale_factor=MASK_STRIDE, mode="bilinear", align_corners=False)
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        x = (x - mean) * torch.rsqrt(variance + VARIANCE_EPSILON)
        return torch.sigmoid(CONTRAST * (x - THRESHOLD))


class Mixtures(nn.Module):
    """Masks (B, ..., C, h, w) mixed from the shared ones, of one attribute or all."""

    def __init__(self, channels: int, *attributes: int) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.zeros(*attributes, RANK, channels))
        self.amplitude = nn.Parameter(torch.zeros(*attributes, channels))

    def forward(self, shared: Tensor) -> Tensor:
        """Returns the masks."""
        shares = torch.softmax(SELECTIVITY * self.mixing, -2)
        weights = torch.sigmoid(self.amplitude).unsqueeze(-2) * shares
        return torch.einsum("brhw,...rc->b...chw", shared, weights)


class BranchedSubnetworks(nn.Module):
    """K branches: a mask, a product, an average and a linear layer each."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.positions = problem.positions
        every, channels = range(problem.attributes), problem.channels
        self.factored = problem.masks == "factored"
        self.sources = SharedMasks(problem) if self.factored else nn.Identity()
        self.masks = nn.ModuleList(
            Mixtures(channels)
            if self.factored
            else nn.Sequential(nn.Conv2d(channels, channels, 1), nn.Sigmoid())
            for _ in every
        )
        self.heads = nn.ModuleList(nn.Linear(channels, 1) for _ in every)

    def forward(self, features: Tensor, explain: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns logits (B, K), norms of the masks (B,) and contributions (B, K, h, w)."""
        logits, norms, maps = [], [], []
        sources = self.sources(features)
        for masks, head in zip(self.masks, self.heads, strict=True):
            mask = masks(sources)
            gated = (1 + mask) * features
            logits.append(head(gated.mean((2, 3))))
            norms.append(mask.sum((1, 2, 3), dtype=torch.float32))
            if explain:
                maps.append(torch.einsum("bchw,c->bhw", gated, head.weight[0]) / self.positions)
        return torch.cat(logits, 1), sum(norms), torch.stack(maps, 1) if explain else None

    def load(self, weights: dict[str, Tensor]) -> None:
        """Gives the branches the common weights."""
        for index, (mask, head) in enumerate(zip(self.masks, self.heads, strict=True)):
            if self.factored:
                mask.mixing.copy_(weights["masked_pooling/mixing"][index])
                mask.amplitude.copy_(weights["masked_pooling/amplitude"][index])
            else:
                kernel = weights["masked_pooling/kernel"][0, 0, :, index]  # (in, out)
                mask[0].weight.copy_(kernel.T[:, :, None, None])
                mask[0].bias.copy_(weights["masked_pooling/bias"][index])
            head.weight.copy_(weights["attribute_logits/kernel"][index][None])
            head.bias.copy_(weights["attribute_logits/bias"][index][None])


class WideSubnetworks(nn.Module):
    """All K masks at once, own ones by one convolution of K C filters."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.positions, self.shape = problem.positions, (problem.attributes, problem.channels)
        attributes, channels = self.shape
        self.factored = problem.masks == "factored"
        if self.factored:
            self.sources, self.masks = SharedMasks(problem), Mixtures(channels, attributes)
        else:
            convolution = nn.Conv2d(channels, attributes * channels, 1)
            self.sources = nn.Identity()
            self.masks = nn.Sequential(convolution, nn.Sigmoid(), nn.Unflatten(1, self.shape))
        self.weight = nn.Parameter(torch.zeros(self.shape))
        self.bias = nn.Parameter(torch.zeros(attributes))

    def forward(self, features: Tensor, explain: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns logits (B, K), norms of the masks (B,) and contributions (B, K, h, w)."""
        masks = self.masks(self.sources(features))  # (B, K, C, h, w)
        gated = (1 + masks) * features[:, None]
        logits = (gated.mean((3, 4)) * self.weight).sum(-1) + self.bias
        norms = masks.sum((1, 2, 3, 4), dtype=torch.float32)
        if not explain:
            return logits, norms, None
        return logits, norms, torch.einsum("bkchw,kc->bkhw", gated, self.weight) / self.positions

    def load(self, weights: dict[str, Tensor]) -> None:
        """Gives the layers the common weights."""
        if self.factored:
            self.masks.mixing.copy_(weights["masked_pooling/mixing"])
            self.masks.amplitude.copy_(weights["masked_pooling/amplitude"])
        else:
            kernel = weights["masked_pooling/kernel"][0, 0].flatten(1)  # (in, K out)
            self.masks[0].weight.copy_(kernel.T[:, :, None, None])
            self.masks[0].bias.copy_(weights["masked_pooling/bias"].flatten())
        self.weight.copy_(weights["attribute_logits/kernel"])
        self.bias.copy_(weights["attribute_logits/bias"])


class Network(nn.Module):
    """Extractor, sub-networks, multi-label classifier and reconstructor."""

    def __init__(self, problem: Problem, design: str) -> None:
        super().__init__()
        before, channels = 3, problem.channels
        stages = {}
        for index, (filters, stride) in enumerate(STEM):
            stages[f"stem_{index}_conv"] = _normalised(
                nn.Conv2d(before, filters, 3, stride, padding=1, bias=False)
            )
            before = filters
        for index, dilation in enumerate(DILATIONS):
            stages[f"context_{index}_conv"] = _normalised(
                nn.Conv2d(before, channels, 3, padding=dilation, dilation=dilation, bias=False)
            )
            before = channels
        self.extractor = nn.Sequential(*stages.values())
        self.subnetworks = {"branches": BranchedSubnetworks, "wide": WideSubnetworks}[design](
            problem
        )
        self.multilabel = nn.Linear(channels, problem.attributes)
        upsampling = {}
        for index, filters in enumerate(problem.upsampling_filters):
            upsampling[f"upsample_{index}_conv"] = _normalised(
                nn.ConvTranspose2d(before, filters, 4, 2, padding=1, bias=False)
            )
            before = filters
        last = nn.Conv2d(before, 3, 3, padding=1)
        self.reconstructor = nn.Sequential(*upsampling.values(), last)
        normalised = stages | upsampling
        self._convolutions = {name: stage[0] for name, stage in normalised.items()}
        self._convolutions["reconstruction_logits"] = last

    def forward(
        self, images: Tensor, explain: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Returns logits of both heads (B, K), features, norms (B,) and contributions."""
        features = self.extractor(images * 2 - 1)
        logits, norms, contributions = self.subnetworks(features, explain)
        return logits, self.multilabel(features.mean((2, 3))), features, norms, contributions

    @torch.no_grad()
    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Gives the network the common weights, mirrored (see above)."""
        weights = {name: torch.from_numpy(value) for name, value in weights.items()}
        convolutions = {f"{name}/kernel": x for name, x in self._convolutions.items()}
        if self.subnetworks.factored:
            shared = self.subnetworks.sources.convolution
            convolutions["masked_pooling/shared_kernel"] = shared
        for name, convolution in convolutions.items():
            # From (row, column, in, out); of transposed ones (row, column, out, in).
            kernel = weights[name].flip(0, 1).permute(3, 2, 0, 1)
            convolution.weight.copy_(kernel)
        self._convolutions["reconstruction_logits"].bias.copy_(
            weights["reconstruction_logits/bias"]
        )
        self.multilabel.weight.copy_(weights["multilabel_logits/kernel"].T)
        self.multilabel.bias.copy_(weights["multilabel_logits/bias"])
        self.subnetworks.load(weights)


class Subject:
    """A PyTorch network that takes steps.

    Args:
        problem: what is computed.
        variant: `branches` or `wide`, `eager` or `compiled`, and `channels_first` or
            `channels_last`, joined by hyphens.
        images: (B, H, W, 3), in [0, 1].
        labels: (B, K), 0 or 1.
    """

    def __init__(
        self, problem: Problem, variant: str, images: np.ndarray, labels: np.ndarray
    ) -> None:
        design, execution, layout = variant.split("-")
        if DEVICE == "cuda":
            # As TensorFlow does by default.
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        memory_format = torch.channels_last if layout == "channels_last" else None
        self._problem = problem
        mirrored = np.ascontiguousarray(images[:, ::-1, ::-1].transpose(0, 3, 1, 2))
        self._images = torch.from_numpy(mirrored).to(DEVICE)
        self._labels = torch.from_numpy(labels).to(DEVICE)
        self._network = Network(problem, design).to(DEVICE)
        if memory_format:
            self._images = self._images.contiguous(memory_format=memory_format)
            self._network = self._network.to(memory_format=memory_format)
        if problem.mode == "train":
            self._optimizer = torch.optim.Adam(
                self._network.parameters(), LEARNING_RATE, eps=ADAM_EPSILON, fused=True
            )
            self._compute = self._loss
        else:
            self._network.eval()
            self._compute = self._answer
        if execution == "compiled":
            self._compute = torch.compile(self._compute)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Gives the network the common weights."""
        self._network.load(weights)

    def _autocast(self) -> torch.autocast:
        reduced = self._problem.precision == "mixed_bfloat16"
        return torch.autocast(DEVICE, torch.bfloat16, enabled=reduced)

    def _loss(self) -> Tensor:
        with self._autocast():
            logits, multilabel, features, norms, _ = self._network(self._images)
            reconstruction = self._network.reconstructor(features)
        entropies = [
            F.binary_cross_entropy_with_logits(x.float(), self._labels, reduction="sum")
            for x in (logits, multilabel)
        ]
        error = F.mse_loss(torch.sigmoid(reconstruction.float()), self._images)
        return (
            (entropies[0] + MULTILABEL_WEIGHT * entropies[1]) / len(self._images)
            + RECONSTRUCTION_WEIGHT * error
            + MASK_L1_WEIGHT * norms.mean()
        )

    def _answer(self) -> tuple[Tensor, Tensor, Tensor | None]:
        with self._autocast():
            logits, multilabel, _, _, maps = self._network(
                self._images, explain=self._problem.mode == "explain"
            )
        return torch.sigmoid(logits.float()), torch.sigmoid(multilabel.float()), maps

    def _train_step(self) -> Tensor:
        loss = self._compute()
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss

    def _predict(self) -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = self._compute()
        return [x.float().cpu().numpy() for x in outputs if x is not None]

    def check(self) -> float:
        """Takes a step and returns the number described in `keras_models.Subject.check`."""
        if self._problem.mode == "train":
            return self._train_step().item()
        attributes, _, *maps = self._predict()
        number = np.abs(attributes - self._labels.cpu().numpy()).mean()
        if maps:
            number += np.abs(maps[0]).mean() * self._problem.positions
        return float(number)

    def run(self, steps: int) -> None:
        """Takes steps and waits for the last."""
        for _ in range(steps):
            loss = self._train_step() if self._problem.mode == "train" else self._predict()
        if self._problem.mode == "train":
            loss.item()
            if DEVICE == "cuda":
                torch.cuda.synchronize()

    def device_memory_peak(self) -> int | None:
        """Returns the most bytes of a GPU that were in use; None without one."""
        return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None


def matrix_product_speed(precision: str, seconds: float, side: int | None) -> float:
    """Returns floating-point operations a second of plain square matrix products."""
    side = side or (8192 if DEVICE == "cuda" else 2048)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    matrix = torch.randn((side, side)).to(DEVICE, dtype)
    (matrix @ matrix)[0, 0].item()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            product = matrix @ matrix
        product[0, 0].item()
        count += 4
    return 2 * side**3 * count / (time.perf_counter() - start)
