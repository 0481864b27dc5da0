"""Methods on request: on functions whose answer is known, and against captum and its like."""

import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import QUICK_XLA, ROOT, he_weights, run_script
from keras import layers
from torch_twin import twin

import mcattn_tf
from mcattn_tf.explain.methods import METHODS, methods_of
from mcattn_tf.explain.methods.occlusion import occluded
from mcattn_tf.explain.methods.perturbation import whole_cells
from mcattn_tf.explain.methods.rise import MASKS, masks
from mcattn_tf.explain.methods.smooth_grad import NOISE, SAMPLES

SIZE = (16, 12)
K = 3
ON_REQUEST = tuple(name for name, row in METHODS.items() if row.on_request)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(1).random((4, *SIZE, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    """Two convolutions, 7x5 cells of features, and two dense layers."""
    images = keras.Input((*SIZE, 3))
    x = layers.Conv2D(5, 3, padding="same", activation="relu")(images)
    x = layers.Flatten()(layers.Conv2D(6, 3, strides=2, activation="relu")(x))
    x = layers.Dense(7, activation="tanh")(x)
    return he_weights(keras.Model(images, layers.Dense(K, activation="softmax")(x)))


@pytest.fixture(scope="module")
def found(model, pictures):
    rows = [[0, 2], [1, 0], [2, 1], [0, 1]]
    return mcattn_tf.explain(model, pictures, rows, [*ON_REQUEST, "grad_cam"], batch_size=3)


def by_captum(name, network, images, target):
    """Maps (n, H, W) of all images, for one class."""
    attr = pytest.importorskip("captum.attr")
    if name == "integrated_gradients":
        method = attr.IntegratedGradients(network)
        maps = method.attribute(images, target=target, n_steps=32, method="gausslegendre")
        return maps.sum(dim=1).detach().numpy()
    means = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    window = (3, 2, 2)
    maps = attr.Occlusion(network).attribute(images, window, window, means, target)
    return maps[:, 0, ::2, ::2].detach().numpy()  # every pixel of a window has the drop


@pytest.mark.parametrize("name", ["integrated_gradients", "occlusion"])
def test_maps_are_those_of_captum(name, model, found, pictures):
    torch = pytest.importorskip("torch")
    network, _ = twin(model.get_weights())
    images = torch.tensor(pictures.transpose(0, 3, 1, 2))
    for row, column in np.ndindex(found.targets.shape):
        target = int(found.targets[row, column])
        [expected] = by_captum(name, network, images[row : row + 1], target)
        scale = np.abs(expected).max()
        assert scale > 1e-3
        np.testing.assert_allclose(found[name][row, column], expected, atol=1e-4 * scale)


def test_maps_are_those_of_pytorch_grad_cam(model, found, pictures, tmp_path):
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        pytest.skip("pytorch-grad-cam is not installed")
    weights = {f"weight_{i}": x for i, x in enumerate(model.get_weights())}
    np.savez(tmp_path / "in.npz", images=pictures, targets=found.targets, **weights)
    run_script("tests/torch_twin.py", tmp_path / "in.npz", tmp_path / "out.npz")
    for name, expected in np.load(tmp_path / "out.npz").items():
        expected = np.maximum(expected, 0) if name == "grad_cam_plus_plus" else expected
        scale = np.abs(expected).max()
        assert scale > 1e-3
        np.testing.assert_allclose(found[name], expected, atol=1e-4 * scale, err_msg=name)


def test_smooth_grad_is_the_mean_gradient_of_noisy_images_by_pytorch(model, found, pictures):
    torch = pytest.importorskip("torch")
    network, _ = twin(model.get_weights())
    noise = np.random.default_rng(0).standard_normal((SAMPLES, *SIZE, 3), np.float32)
    noisy = pictures[2] + NOISE * np.ptp(pictures[2]) * noise
    images = torch.tensor(noisy.transpose(0, 3, 1, 2), requires_grad=True)
    network(images)[:, int(found.targets[2, 1])].sum().backward()
    expected = np.abs(images.grad.numpy().mean(axis=0)).sum(axis=0)
    values = found["smooth_grad"][2, 1]
    np.testing.assert_allclose(values, expected, atol=1e-4 * expected.max())


def test_rise_is_the_mean_of_masks_weighted_by_the_answers(model, found, pictures):
    kept = np.stack(list(masks(SIZE, MASKS)))
    assert 0.45 < kept.mean() < 0.55 and kept.min() == 0 and kept.max() == 1
    answers = model.predict(pictures[3] * kept[..., None], verbose=0)
    expected = sum(p * mask for p, mask in zip(answers[:, 1], kept, strict=True)) / (MASKS / 2)
    np.testing.assert_allclose(found["rise"][3, 1], expected, rtol=1e-4)


def test_integrated_gradients_sum_to_the_difference_from_black(model, found, pictures):
    scores = keras.Model(model.input, model.layers[-2].output)
    kernel, bias = model.layers[-1].get_weights()
    image, black = (
        scores.predict(x, verbose=0) @ kernel + bias for x in (pictures, np.zeros_like(pictures))
    )
    expected = np.take_along_axis(image - black, found.targets, axis=1)
    sums = found["integrated_gradients"].sum(axis=(2, 3))
    np.testing.assert_allclose(
        sums, expected, atol=0.03 * np.abs(expected).max()
    )  # ReLUs have kinks


@pytest.fixture(scope="module")
def linear():
    """Score of class k: the sum over pixels of a plane of weights k times the mean colour."""
    planes = np.random.default_rng(5).normal(size=(*SIZE, 2)).astype(np.float32)
    images = keras.Input((*SIZE, 3))
    gray = layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="gray")(images)
    scores = layers.Dense(2, use_bias=False)(layers.Flatten()(gray))
    network = keras.Model(images, scores)
    network.layers[-1].set_weights([planes.reshape(-1, 2)])
    return network, planes


def test_maps_of_a_linear_function_are_its_terms(linear, pictures):
    network, planes = linear
    methods = ["integrated_gradients", "smooth_grad", "occlusion", "hires_cam"]
    found = mcattn_tf.explain(network, pictures, [[0], [1], [1], [0]], methods)
    for row, target in enumerate((0, 1, 1, 0)):
        image, plane = pictures[row], planes[..., target]
        terms = plane * image.sum(axis=-1)
        np.testing.assert_allclose(found["integrated_gradients"][row, 0], terms, atol=1e-4)
        np.testing.assert_allclose(found["hires_cam"][row, 0], terms, atol=1e-4)
        np.testing.assert_allclose(found["smooth_grad"][row, 0], 3 * np.abs(plane), rtol=1e-3)
        # 16x12 cells of one pixel each, whose colours become the mean.
        drops = plane * (image - image.mean(axis=(0, 1))).sum(axis=-1)
        np.testing.assert_allclose(found["occlusion"][row, 0], drops, atol=1e-4)


def test_rise_finds_the_pixels_that_a_network_reads():
    """Yes if most of the 8x6 pixels in the upper left corner are kept, by 60 times less 30."""
    images = keras.Input((*SIZE, 3))
    corner = layers.Conv2D(1, 1, kernel_initializer="ones")(images)[:, :8, :6]
    x = layers.GlobalAveragePooling2D()(layers.Activation("linear")(corner))
    network = keras.Model(images, layers.Dense(1)(x))
    network.layers[-1].set_weights([np.array([[20.0]]), np.array([-30.0])])
    white = np.ones((1, *SIZE, 3), np.float32)
    [[values]] = mcattn_tf.explain(network, white, 0, "rise")["rise"]
    assert values[:8, :6].mean() > 1.15 * max(values[:, 7:].mean(), values[9:].mean())


def test_cells_of_whole_pixels_are_near_the_grid():
    assert whole_cells((28, 28), (5, 5)) == (4, 4)
    assert whole_cells((32, 30), (8, 7)) == (8, 6)
    assert whole_cells((29, 12), (7, 12)) == (29, 12)  # 29 is prime
    image = np.arange(24.0, dtype=np.float32).reshape(4, 6, 1)
    whole, first, *_, last = occluded(image, (2, 3))
    np.testing.assert_array_equal(whole, image)
    assert first[:2, :2].tolist() == [[[11.5]] * 2] * 2
    np.testing.assert_array_equal(first[2:], image[2:])
    assert last[2:, 4:].tolist() == [[[11.5]] * 2] * 2


def test_methods_on_request_are_not_among_all(model):
    images = keras.Input((*SIZE, 3))
    features = layers.Conv2D(3, 3, name="features", activation="relu")(images)
    x = layers.Dense(2, name="scores")(layers.GlobalAveragePooling2D()(features))
    network = keras.Model(images, {"probabilities": layers.Softmax(name="probabilities")(x)})
    assert set(methods_of(network, True)) - set(methods_of(network)) == set(ON_REQUEST)
    assert set(ON_REQUEST) == {
        *("grad_cam_plus_plus", "hires_cam", "integrated_gradients", "smooth_grad"),
        *("occlusion", "rise"),
    }


ON_JAX = """
import keras
import numpy as np
import mcattn_tf
from mcattn_tf.errors import UserError
assert keras.backend.backend() == "jax"
images = keras.Input((8, 6, 3))
x = keras.layers.Conv2D(4, 3, activation="relu", name="grid")(images)
x = keras.layers.GlobalAveragePooling2D()(x)
model = keras.Model(images, keras.layers.Dense(2, activation="softmax")(x))
pictures = np.random.default_rng(0).random((2, 8, 6, 3), dtype="float32")
found = mcattn_tf.explain(model, pictures, 1, ["cam", "occlusion", "rise"])
grid = np.maximum(keras.Model(images, model.layers[1].output).predict(pictures, verbose=0), 0)
kernel = model.layers[-1].get_weights()[0]
np.testing.assert_allclose(found["cam"][:, 0], grid @ kernel[:, 1] / 24, rtol=1e-4)
assert found["occlusion"].std() > 0 and found["rise"].std() > 0
try:
    mcattn_tf.explain(model, pictures, 1, "grad_cam")
except UserError as error:
    print(error)
"""


def test_methods_without_gradients_work_on_jax_and_others_say_so():
    pytest.importorskip("jax")
    environment = {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), "PATH": "", **QUICK_XLA}
    process = subprocess.run(
        [sys.executable, "-c", ON_JAX], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    said = "grad_cam needs Keras' TensorFlow backend; take occlusion or rise. Received: jax"
    assert said in process.stdout
