import numpy as np
import pytest
import tensorflow as tf
from conftest import NAMES, he_weights, randomise_weights, tiny_config, tiny_config_of

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.export.exporting import export


@pytest.fixture(scope="module", params=["float32", "mixed_bfloat16"])
def exported(request, tmp_path_factory):
    config = tiny_config(training={"precision": request.param})
    model = randomise_weights(models.build(config))
    directory = tmp_path_factory.mktemp(request.param) / "export" / "1"
    export(model, config, directory)
    return models.in_float32(model, config), directory


@pytest.mark.parametrize("batch_size", [1, 6])
def test_saved_model_equals_the_keras_model(exported, images, batch_size):
    model, directory = exported
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    outputs = serve(images=tf.constant(images[:batch_size]))
    assert sorted(outputs) == ["attributes", "multilabel"]
    expected = model.predict_on_batch(images[:batch_size])
    for name, values in outputs.items():
        assert values.dtype == tf.float32
        np.testing.assert_allclose(values, expected[name], atol=1e-5)


def test_names_travel_as_a_text_asset(exported):
    assert (exported[1] / "assets" / "attributes.txt").read_text().split() == list(NAMES)


def test_nothing_else_is_left_beside_the_version(exported):
    assert [path.name for path in exported[1].parent.iterdir()] == ["1"]


def test_the_graph_needs_no_xla_and_no_python(exported):
    loaded = tf.saved_model.load(str(exported[1]))
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    assert not {"PyFunc", "EagerPyFunc"} & {node.op for node in nodes}
    assert not any("_XlaMustCompile" in node.attr for node in nodes)


def test_a_baseline_exports_its_one_output(tmp_path, images):
    config = tiny_config(model={"name": "baseline"})
    export(randomise_weights(models.build(config)), config, tmp_path / "1")
    serve = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    assert list(serve(images=tf.constant(images))) == ["multilabel"]


def test_a_saved_model_that_answers_differently_is_not_put_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr("mcattn_tf.export.TOLERANCE", -1.0)
    config = tiny_config()
    with pytest.raises(RuntimeError, match="differs from the Keras model's"):
        export(models.build(config), config, tmp_path / "export" / "1")
    assert not list((tmp_path / "export").iterdir())


def test_a_version_is_not_overwritten(exported):
    model, directory = exported
    with pytest.raises(UserError, match="exists and is not overwritten"):
        export(model, tiny_config(), directory)


def test_scores_and_probabilities_are_served(images, tmp_path):
    config = tiny_config_of("cnn", exclusive=True)
    model = he_weights(models.build(config))
    export(model, config, tmp_path / "1")
    serve = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    expected = model.predict_on_batch(images)
    outputs = serve(images=tf.constant(images))
    assert sorted(outputs) == ["probabilities", "scores"]
    for name, values in outputs.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
