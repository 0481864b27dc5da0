"""The network of `tests/explain/test_methods.py` in PyTorch, and maps of pytorch-grad-cam.

As a script it runs in a process of its own: torchvision, which pytorch-grad-cam imports, can crash
beside TensorFlow.
"""

import sys

import numpy as np


def twin(weights):
    """Returns the network, from images (n, C, H, W) to scores (n, K), and its convolution."""
    import torch

    class Second(torch.nn.Module):
        def __init__(self, kernel, bias):
            super().__init__()
            self.kernel, self.bias = torch.nn.Parameter(kernel.permute(3, 2, 0, 1)), bias

        def forward(self, x):
            return torch.relu(torch.conv2d(x, self.kernel, self.bias, stride=2))

    class Twin(torch.nn.Module):
        def __init__(self, first, bias, kernel, other, *dense):
            super().__init__()
            self.first, self.bias, self.dense = first.permute(3, 2, 0, 1), bias, dense
            self.second = Second(kernel, other)

        def forward(self, x):
            x = torch.relu(torch.conv2d(x, self.first, self.bias, padding=1))
            x = self.second(x).permute(0, 2, 3, 1).flatten(1)
            return torch.tanh(x @ self.dense[0] + self.dense[1]) @ self.dense[2] + self.dense[3]

    network = Twin(*(torch.tensor(np.asarray(x)) for x in weights))
    return network, network.second


def main(given, written):
    """Writes {method: maps (n, k, h, w)}, not yet scaled or rectified."""
    import pytorch_grad_cam
    import torch
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    data = np.load(given)
    network, layer = twin([data[f"weight_{i}"] for i in range(8)])
    images = torch.tensor(data["images"].transpose(0, 3, 1, 2))
    kinds = {
        "grad_cam": "GradCAM",
        "grad_cam_plus_plus": "GradCAMPlusPlus",
        "hires_cam": "HiResCAM",
    }
    maps = {name: [] for name in kinds}
    for name, kind in kinds.items():
        with getattr(pytorch_grad_cam, kind)(model=network, target_layers=[layer]) as method:
            for targets in data["targets"].T:
                method(images, [ClassifierOutputTarget(int(target)) for target in targets])
                recorded = method.activations_and_grads
                parts = (x[0].detach().numpy() for x in (recorded.activations, recorded.gradients))
                maps[name].append(method.get_cam_image(images, layer, None, *parts, False))
    np.savez(written, **{name: np.stack(values, axis=1) for name, values in maps.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
