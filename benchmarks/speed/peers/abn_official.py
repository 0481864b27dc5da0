"""Multi-task ABN by its authors' PyTorch code, from a checkout of it.

The module of the networks is read by its path: the package around it needs torchvision.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from peers.abn_problem import LEARNING_RATE, MOMENTUM, NORMALISATION_EPSILON, Problem
from peers.pytorch import DEVICE, matrix_product_speed  # noqa: F401 - of every module of peers

NETWORKS = Path("mtabn", "models", "resnet_mtabn_v1.py")


def _network(problem: Problem) -> nn.Module:
    specification = importlib.util.spec_from_file_location(
        "official_networks", Path(problem.official_dir) / NETWORKS
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    build = getattr(module, f"mtabn_v1_{problem.backbone}")
    return build(num_classes=problem.attributes, residual_attention=False).to(DEVICE)


def _name(layer: str) -> str:
    """Returns the authors' name of a layer, from ours."""
    _, attention, layer = layer.rpartition("attention_")
    if layer == "stem_conv":
        return "conv1"
    if layer == "evidence":
        return "conv_att"
    _, stage, _, block, kind, *number = layer.split("_")
    kind = f"{kind}{number[0]}" if number else "downsample.0"
    return f"layer{stage}{'_att' if attention else ''}.{int(block) - 1}.{kind}"


class Subject:
    """The authors' network, which takes steps.

    Args:
        problem: what is computed.
        variant: not used, there is one.
        images: (B, H, W, 3), in [0, 1].
        labels: (B, T), 0 or 1.
    """

    def __init__(
        self, problem: Problem, variant: str, images: np.ndarray, labels: np.ndarray
    ) -> None:
        self._problem, self._variant = problem, variant
        self._images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2) * 2 - 1))
        self._images, self._labels = self._images.to(DEVICE), torch.from_numpy(labels).to(DEVICE)
        self._network = _network(problem)
        for module in self._network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = NORMALISATION_EPSILON
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), LEARNING_RATE, momentum=MOMENTUM
        )
        self._network.train(problem.mode == "train")

    @torch.no_grad()
    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Sets the weights."""
        for name, value in weights.items():
            if name == "perception_scores":
                for unit, row in zip(self._network.output_per, value, strict=True):
                    unit.weight.copy_(torch.from_numpy(row[None]))
                    unit.bias.zero_()
                continue
            layer = self._network.get_submodule(_name(name))
            kernel = value if value.ndim == 1 else value.transpose(3, 2, 0, 1)
            layer.weight.copy_(torch.from_numpy(kernel))

    def _train_step(self) -> torch.Tensor:
        perception, attention, _ = self._network(self._images)
        loss = sum(
            F.binary_cross_entropy_with_logits(scores, self._labels)
            for scores in (perception, attention)
        )
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss

    def _answer(self) -> float:
        with torch.inference_mode():
            perception, attention, _ = self._network(self._images)
            return (torch.sigmoid(perception).mean() + torch.sigmoid(attention).mean()).item()

    def check(self) -> float:
        """Takes a step and returns what `abn_keras.Subject.check` returns."""
        return self._train_step().item() if self._problem.mode == "train" else self._answer()

    def run(self, steps: int) -> None:
        """Takes steps and waits for the last."""
        for _ in range(steps):
            self.check()

    def device_memory_peak(self) -> int | None:
        """Returns the most bytes of a GPU that were in use; None without one."""
        return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None
