"""Tasks folded into the batch against a plain loop over them."""

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import QUICK_XLA, ROOT, randomise_weights
from keras import layers, ops
from layer_gradients import gradients

from mcattn_tf.layers.task_folding import FoldedTasks
from mcattn_tf.models.backbones import build_stage
from mcattn_tf.settings.backbones import BASIC, BOTTLENECK, DENSE, Backbone

B, H, W, C, T = 3, 6, 5, 4, 5
BRANCHES = {
    "basic": Backbone((3, 6), (1, 1), BASIC),
    "bottleneck": Backbone((2, 3), (1, 2), BOTTLENECK),
    "squeezed": Backbone((2, 4), (1, 1), BOTTLENECK, squeeze=2),
    "grouped": Backbone((2, 4), (1, 1), BOTTLENECK, groups=2),
    "dense": Backbone((3, 3), (1, 2), DENSE, joined="concatenate", preactivated=True),
    "plain": Backbone((2, 5), (1, 2), ((1, 3),), joined="none"),
}


class LoopedTasks(keras.layers.Layer):
    """The definition: the branch on one task's features after another's."""

    def __init__(self, branch):
        super().__init__()
        self.branch = branch
        self.built = True

    def call(self, features, maps, training=None):
        each = [
            ops.mean(self.branch(features * maps[..., task : task + 1], training=training), (1, 2))
            for task in range(maps.shape[-1])
        ]
        return ops.stack(each, axis=1)


def biased(x):
    """As in `keras.applications`: biases, and the stride in the first 1x1 convolution."""
    shortcut = layers.BatchNormalization()(layers.Conv2D(6, 1, strides=2)(x))
    x = layers.BatchNormalization()(layers.Conv2D(3, 1, strides=2)(x))
    x = layers.Conv2D(6, 3, padding="same")(layers.ReLU()(x))
    return layers.ReLU()(layers.Add()([shortcut, layers.BatchNormalization()(x)]))


def make_branch(kind):
    inputs = keras.Input((H, W, C))
    output = biased(inputs) if kind == "biased" else build_stage(inputs, BRANCHES[kind], "stage_2")
    return randomise_weights(keras.Model(inputs, output))


def compute(layer, training):
    """Returns outputs, gradients of features, maps and weights, and the moving averages."""
    random = np.random.default_rng(1)
    features, maps = random.normal(size=(B, H, W, C)), random.normal(size=(B, H, W, T))
    upstream = random.normal(size=(B, T, layer.branch.output.shape[-1])).astype("float32")
    arrays = [features, maps, *(ops.convert_to_numpy(v) for v in layer.branch.trainable_weights)]
    arrays = [np.asarray(array, "float32") for array in arrays]
    state = [ops.convert_to_numpy(v) for v in layer.branch.non_trainable_weights]

    def run(*tensors):
        features, maps, *weights = tensors
        moved = [ops.convert_to_tensor(v) for v in state]
        return layer.stateless_call(list(weights), moved, features, maps, training=training)

    found = gradients(lambda *tensors: ops.sum(run(*tensors)[0] * upstream), arrays)
    outputs, moved = run(*map(ops.convert_to_tensor, arrays))
    return {
        "outputs": [ops.convert_to_numpy(outputs)],
        "gradients": [ops.convert_to_numpy(gradient) for gradient in found],
        "moved": [ops.convert_to_numpy(average) for average in moved],
    }


@functools.cache
def by_the_loop(kind, training):
    return compute(LoopedTasks(make_branch(kind)), training)


def assert_the_same(kind, task_slice, training):
    expected = by_the_loop(kind, training)
    found = compute(FoldedTasks(make_branch(kind), task_slice), training)
    for name, tolerance in (("outputs", 1e-4), ("moved", 1e-4), ("gradients", 1e-3)):
        assert len(found[name]) == len(expected[name])
        for values, right in zip(found[name], expected[name], strict=True):
            scale = max(1.0, np.abs(right).max())
            np.testing.assert_allclose(values / scale, right / scale, atol=tolerance, err_msg=name)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("task_slice", "training"),
    [
        (None, True),
        (2, True),
        (2, False),
        *(pytest.param(size, True, marks=SLOW) for size in (1, 3, 4, T)),
        *(pytest.param(size, False, marks=SLOW) for size in (None, 1, 3, 4, T)),
    ],
)
def test_slices_of_any_size_are_the_loop(task_slice, training):
    assert_the_same("basic", task_slice, training)


@pytest.mark.parametrize(
    "kind",
    [
        "bottleneck",
        *(
            pytest.param(kind, marks=SLOW)
            for kind in ("biased", "dense", "grouped", "plain", "squeezed")
        ),
    ],
)
def test_branches_of_every_kind_are_the_loop(kind):
    assert_the_same(kind, 3, training=True)


@SLOW
def test_slices_as_on_a_gpu_are_the_loop(monkeypatch):
    monkeypatch.setattr("mcattn_tf.layers.task_folding.gpus", lambda: ["gpu:0"])
    assert_the_same("bottleneck", 2, training=True)


@pytest.mark.parametrize(
    ("kind", "once"),
    [
        # The 3x3 convolution and the shortcut; of a bottleneck the 1x1 convolution in its place.
        ("basic", {"conv_1_pad", "conv_1", "shortcut", "shortcut_subsample"}),
        ("bottleneck", {"conv_1", "shortcut", "shortcut_subsample"}),
    ],
)
def test_what_is_linear_in_the_map_is_computed_once(kind, once):
    layer = FoldedTasks(make_branch(kind))
    names = {operation.name for operation in layer._plan.once}
    assert names == {f"stage_2_block_1_{name}" for name in once}


@pytest.mark.graphs
def test_a_fit_in_slices_leaves_the_weights_and_averages_of_the_loop():
    random = np.random.default_rng(0)
    features, maps = random.random((7, H, W, C)), random.random((7, H, W, T))
    targets = random.random((7, T, 6))

    def fitted(make):
        inputs = keras.Input((H, W, C)), keras.Input((H, W, T))
        model = keras.Model(inputs, make(make_branch("basic"))(*inputs))
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        # 3, 3 and 1 images: slices must not depend on the size of a batch.
        model.fit([features, maps], targets, batch_size=3, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    expected = fitted(LoopedTasks)
    for task_slice in (None, 2):
        found = fitted(lambda branch, task_slice=task_slice: FoldedTasks(branch, task_slice))
        for values, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(values, right, atol=1e-4)


def test_in_bfloat16_it_is_as_near_as_eight_bits_allow():
    expected = by_the_loop("basic", True)["outputs"][0]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = FoldedTasks(make_branch("basic"), 2)
    finally:
        keras.config.set_dtype_policy("float32")
    found = compute(mixed, True)
    assert found["outputs"][0].dtype == np.float32
    np.testing.assert_allclose(found["outputs"][0], expected, atol=0.05 * np.abs(expected).max())


@SLOW
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_agree(backend):
    pytest.importorskip(backend)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | QUICK_XLA | {"KERAS_BACKEND": backend, "PYTHONPATH": path}
    script = "from test_task_folding import assert_the_same; "
    script += "assert_the_same('basic', None, True); assert_the_same('bottleneck', 2, True)"
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
