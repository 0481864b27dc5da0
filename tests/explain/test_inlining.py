"""Sequential networks, alone and inside of another, are put in line layer by layer."""

import keras
import numpy as np
from conftest import he_weights
from keras import layers

from mcattn_tf.explain.methods.inlining import Inliner, inlined

SIZE = (6, 4, 3)
IMAGES = np.random.default_rng(0).random((2, *SIZE), dtype=np.float32)


def sequential(name="inner"):
    return keras.Sequential(
        [layers.Conv2D(5, 3, padding="same", name="grid"), layers.ReLU(name="relu")], name=name
    )


def test_a_sequential_network_is_run_layer_by_layer_on_shared_weights():
    model = sequential()
    model(IMAGES)
    he_weights(model)
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    inliner, images = Inliner(reserved=("grid",)), keras.Input(SIZE)
    whole = keras.Model(images, inliner.run(model, images))
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes  # it stays as it is
    assert list(inliner.layers) == ["grid", "relu"]
    assert inliner.layers["grid"].name == "grid_1"  # `grid` is reserved
    np.testing.assert_allclose(whole(IMAGES), model(IMAGES), rtol=1e-5)
    before = np.asarray(whole(IMAGES))
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([2 * kernel, bias])
    assert np.abs(np.asarray(whole(IMAGES)) - before).max() > 1e-3


def test_sequential_networks_inside_of_one_are_replaced_by_their_layers():
    images = keras.Input(SIZE)
    deeper = keras.Sequential([sequential("first"), layers.Conv2D(2, 1)], name="deeper")
    scores = layers.GlobalMaxPooling2D()(deeper(images))
    model = keras.Model(images, {"scores": scores}, name="outer")
    he_weights(model)
    flat = inlined(model)
    assert flat.name == "outer" and not any(isinstance(x, keras.Model) for x in flat.layers)
    assert [x.name for x in flat.layers[1:3]] == ["grid", "relu"]
    np.testing.assert_allclose(flat(IMAGES)["scores"], model(IMAGES)["scores"], rtol=1e-5)
    assert inlined(flat) is flat
