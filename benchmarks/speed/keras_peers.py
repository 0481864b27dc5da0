"""What tf-keras-vis and Xplique explain on Keras 3, and how long it takes beside ours.

pip install --no-deps tf-keras-vis xplique deprecated
python benchmarks/speed/keras_peers.py --json keras_peers.json

Prints, for each library, which networks Grad-CAM runs on; then the seconds of 64 images with 10
targets each. Maps of our one call are beside ten calls, the only way there.
"""

import importlib.metadata
from collections.abc import Callable

import numpy as np
from absl import flags
from timing import in_turn, report, row

from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands.environment import import_tensorflow_quietly
from mcattn_tf.errors import reason_of

IMAGES = flags.DEFINE_integer("images", 64, "to explain")
TARGETS = flags.DEFINE_integer("targets", 10, "of each image")
REPEATS = flags.DEFINE_integer("repeats", 3, "the fastest of so many counts")
JSON = flags.DEFINE_string("json", None, "file for the rows")

SIDE, CELLS, STEPS = 64, 16, 32  # pixels, cells of occlusion, points of integrated gradients


def networks() -> dict:
    """Returns {kind: function that makes a network of 10 classes}."""
    import keras
    from keras import layers

    def end(x: "keras.KerasTensor") -> "keras.KerasTensor":
        return layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))

    def convolutions() -> list:
        return [
            layers.Conv2D(16, 4, strides=4, activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
        ]

    def functional() -> "keras.Model":
        images = keras.Input((SIDE, SIDE, 3))
        first, second = convolutions()
        return keras.Model(images, end(second(first(images))))

    def sequential() -> "keras.Model":
        last = [layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")]
        return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *convolutions(), *last])

    def nested() -> "keras.Model":
        outer, inner = keras.Input((SIDE, SIDE, 3)), keras.Input((SIDE, SIDE, 3))
        first, second = convolutions()
        deep = keras.Sequential([keras.Input((SIDE, SIDE, 3)), first])
        return keras.Model(outer, end(keras.Model(inner, second(deep(inner)))(outer)))

    def two_outputs() -> "keras.Model":
        one = functional()
        return keras.Model(one.input, [one.output, layers.Dense(1)(one.layers[-2].output)])

    def half() -> "keras.Model":
        keras.config.set_dtype_policy("mixed_float16")
        try:
            return functional()
        finally:
            keras.config.set_dtype_policy("float32")

    def mobile() -> "keras.Model":
        shape = (SIDE, SIDE, 3)
        return keras.applications.MobileNetV2(shape, 0.35, weights=None, classes=10)

    return {
        "functional": functional,
        "Sequential": sequential,
        "nested two deep": nested,
        "two outputs": two_outputs,
        "mixed_float16": half,
        "MobileNetV2": mobile,
    }


def ours(model: object, images: np.ndarray, targets: range, method: str) -> np.ndarray:
    """Explains all targets in one call."""
    import mcattn_tf

    return mcattn_tf.explain(model, images, list(targets), method, batch_size=64)[method]


def tf_keras_vis(model: object, images: np.ndarray, targets: range, method: str) -> list:
    """Explains target after target by Grad-CAM; the library has no more of the three methods."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore, InactiveScore

    if method != "grad_cam":
        raise NotImplementedError(method)
    explainer = Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)
    others = [InactiveScore()] * (len(model.outputs) - 1)
    scores = [[CategoricalScore([target] * len(images)), *others] for target in targets]
    return [explainer(score, images, penultimate_layer=-1) for score in scores]


def xplique(model: object, images: np.ndarray, targets: range, method: str) -> list:
    """Explains target after target."""
    from xplique import attributions

    side = SIDE // CELLS
    explainer = {
        "grad_cam": lambda: attributions.GradCAM(model),
        "integrated_gradients": lambda: attributions.IntegratedGradients(model, steps=STEPS),
        "occlusion": lambda: attributions.Occlusion(model, patch_size=side, patch_stride=side),
    }[method]()
    one_hot = np.eye(10, dtype=np.float32)
    return [explainer(images, one_hot[[target] * len(images)]) for target in targets]


LIBRARIES = {"mcattn_tf": ours, "tf-keras-vis": tf_keras_vis, "xplique": xplique}


def runs_on(explain: Callable, make: Callable) -> str:
    """Returns whether Grad-CAM runs, or the error."""
    images = np.random.default_rng(0).random((2, SIDE, SIDE, 3), np.float32)
    try:
        explain(make(), images, range(1), "grad_cam")
    except Exception as error:  # of any kind
        return f"no: {type(error).__name__}, {reason_of(error)}"
    return "yes"


def main(_: list[str]) -> None:
    """Prints what runs, then the times."""
    import_tensorflow_quietly()
    for package in ("keras", "tensorflow", "tf-keras-vis", "xplique"):
        print(package, importlib.metadata.version(package))
    for kind, make in networks().items():
        for name, explain in LIBRARIES.items():
            print(f"{kind}, {name}: {runs_on(explain, make)}")
    model, rows = networks()["functional"](), []
    images = np.random.default_rng(0).random((IMAGES.value, SIDE, SIDE, 3), np.float32)
    for method in ("grad_cam", "integrated_gradients", "occlusion"):
        calls = {}
        for name, explain in LIBRARIES.items():
            try:
                explain(model, images[:1], range(1), method)
            except Exception:  # what runs is printed above
                continue
            calls[name] = lambda x=explain, y=method: x(model, images, range(TARGETS.value), y)
        seconds = [min(times) for times in in_turn(REPEATS.value, *calls.values())]
        what = f"{method}, {len(images)} images, {TARGETS.value} targets"
        for name, own in list(zip(calls, seconds, strict=True))[1:]:
            rows.append(row(what, name, seconds[0], own))
    report(rows, JSON.value)


if __name__ == "__main__":
    command_line.run_script(main)
