"""Poolings and their gradients on JAX and PyTorch, in one process for all of them."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import QUICK_XLA, ROOT
from test_factored_pooling import features, of_other_backends  # noqa: F401 - a fixture
from test_masked_sums import (
    draw,
    draw_softmax_pooling,
    evidence_by_the_definition,
    sums_by_the_definition,
)


def by_the_layers_of(backend, cases, tmp_path, block_channels):
    """What each case gives on another backend, all in one process."""
    files = [str(tmp_path / f"{kind}_{i}.npz") for i in range(len(cases)) for kind in ("in", "out")]
    for path, inputs in zip(files[::2], cases, strict=True):
        np.savez(path, **inputs)
    environment = os.environ | QUICK_XLA | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    script = [sys.executable, ROOT / "tests" / "layer_gradients.py", str(block_channels), *files]
    subprocess.run(script, env=environment, check=True)
    return [np.load(path) for path in files[1::2]]


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("block_channels", [pytest.param(0, marks=pytest.mark.slow), 10])
def test_other_backends_agree(features, backend, block_channels, tmp_path):  # noqa: F811
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    factored, by_factored = of_other_backends(features)
    cases = draw(), draw_softmax_pooling(), factored
    expected = sums_by_the_definition(), evidence_by_the_definition(), by_factored
    found = by_the_layers_of(backend, cases, tmp_path, block_channels)
    tolerances = (1e-5, 1e-5), (1e-4, 1e-4), (1e-4, 2e-5)  # relative and absolute
    for outputs, right, (rtol, atol) in zip(found, expected, tolerances, strict=True):
        for name, values in right.items():
            np.testing.assert_allclose(outputs[name], values, rtol=rtol, atol=atol, err_msg=name)
