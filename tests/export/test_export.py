"""The exported network beside the Keras model, endpoint by endpoint."""

import contextlib
import io
import json
import re
import resource
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    MLP,
    NAMES,
    ROOT,
    exported,
    he_weights,
    random_split,
    tiny_config,
    tiny_config_of,
)
from processes import call, run
from tensorflow.python.tools import saved_model_cli

from mcattn_tf import models, runs
from mcattn_tf.commands import export as script
from mcattn_tf.commands.client import LoadedNetwork, describe
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import thresholds
from mcattn_tf.explain.methods.contribution_maps import build_map_explainer
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.export.exporting import export
from mcattn_tf.export.saved_model import ENDPOINTS, WARM_UP, write_warm_up
from mcattn_tf.settings.backbones import BACKBONES, BASIC, Backbone

slow = pytest.mark.slow
MIXED = {"precision": "mixed_float16"}
NETWORKS = {
    "baseline": lambda: tiny_config(
        data={"dataset": "celeba", "data_dir": "/home/someone", "cache_dir": "/scratch"},
        model={"name": "baseline"},
    ),
    "gcm": lambda: tiny_config_of("gcm", exclusive=True),
    "cnn": lambda: tiny_config_of("cnn", exclusive=True),
    "abn": lambda: tiny_config_of("abn", backbone="tiny", exclusive=True),
    "multitask_abn": lambda: tiny_config_of("multitask_abn", backbone="tiny").replace(
        "training", **MIXED
    ),
    "mcattn_float32": lambda: tiny_config(model=MLP),
    "gcm_mixed": lambda: tiny_config_of("gcm").replace("training", **MIXED),
}


def small_baseline():
    """Of a network to which tests are indifferent: the fewest layers."""
    return tiny_config(model={"name": "baseline", "stem": ((7, 3, 2),)})


SLOW = ("baseline", "cnn", "gcm", "abn", "mcattn_float32", "gcm_mixed")


@pytest.fixture(
    scope="module",
    params=["mcattn", *(pytest.param(x, marks=slow if x in SLOW else ()) for x in NETWORKS)],
)
def network(request, exported_mcattn, tmp_path_factory):
    if request.param == "mcattn":
        return exported_mcattn
    # Of 12x8 pixels: an attention map of 6x4 cells.
    BACKBONES["tiny"] = Backbone((3, 4, 6), (1, 1, 1), BASIC, stem=3)
    return exported(NETWORKS[request.param](), tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (17, 12, 8, 3)).astype(np.uint8)


def each_pixel(maps: np.ndarray) -> np.ndarray:
    """(B, 6, 4, K) or (B, 3, 2, K) as large as the images: what each pixel's cell has."""
    rows, columns = np.arange(12) * maps.shape[1] // 12, np.arange(8) * maps.shape[2] // 8
    return maps[:, rows][:, :, columns]


def cam(model: keras.Model, output: str, images: np.ndarray) -> np.ndarray:
    layer = {"multilabel": "multilabel_logits", "probabilities": "scores"}[output]
    features = keras.Model(model.input, model.get_layer("features").output)(images).numpy()
    positions = features.shape[1] * features.shape[2]
    return each_pixel(features @ model.get_layer(layer).kernel.numpy() / positions)


def local_probabilities(model: keras.Model, output: str, images: np.ndarray) -> np.ndarray:
    """The activation of the classifier's dense layer on the features of each cell."""
    layer = {"multilabel": "multilabel_logits", "probabilities": "scores"}.get(output)
    dense = model.get_layer(layer or next(x.name for x in model.layers if "logits" in x.name))
    features = keras.Model(model.input, model.get_layer("features").output).predict_on_batch(images)
    logits = features @ dense.kernel.numpy() + dense.bias.numpy()
    return each_pixel(model.get_layer(output).activation(logits).numpy())


def expected_of(network, images: np.ndarray) -> tuple[dict, dict]:
    """What the Keras model answers, and the maps that explain it."""
    model = network.model
    outputs = model.predict_on_batch(images)
    answers = {name: outputs[name] for name in (*models.LABEL_OUTPUTS, "scores") if name in outputs}
    if network.config.model.name == "mcattn":
        maps = build_explainer(model, range(len(NAMES))).predict_on_batch(images)
        named = {"contributions", "local_probabilities"} & set(maps)
        return answers, {name: each_pixel(maps[name]) for name in named}
    if network.config.model.name == "gcm":
        maps = build_map_explainer(model).predict_on_batch(images)
        return answers, {name: maps[name] for name in ("weight_maps", "contribution_maps")}
    if "attention_map" in outputs:
        return answers, {"attention_map": each_pixel(outputs["attention_map"])}
    output = next(iter(answers))
    return answers, {
        "cam": cam(model, output, images),
        "local_probabilities": local_probabilities(model, output, images),
    }


def assert_equal(answer: dict, expected: dict) -> None:
    assert sorted(answer) == sorted(expected)
    for name, values in expected.items():
        if name == "names":
            np.testing.assert_array_equal(answer[name].astype(str), values)
        else:
            assert answer[name].dtype == np.float32
            np.testing.assert_allclose(answer[name], values, atol=1e-5, err_msg=name)


def test_every_endpoint_equals_the_keras_model_at_any_batch_size(network, pixels):
    images = pixels.astype(np.float32) / 255
    files = np.array([tf.io.encode_png(picture).numpy() for picture in pixels], object)
    attribute = np.array([(index % 3, (index + 2) % 3) for index in range(17)], np.int32)
    answers, maps = expected_of(network, images)
    named = answers | {"names": np.tile(NAMES, (17, 1))}
    chosen = {
        name: np.stack([x[..., own] for x, own in zip(values, attribute, strict=True)])
        if values.shape[-1] == len(NAMES)
        else values  # a map for all
        for name, values in (named | maps).items()
    }
    for count in (1, 3, 17):

        def first(outputs: dict, count: int = count) -> dict:
            return {name: values[:count] for name, values in outputs.items()}

        ask = network.ask
        assert_equal(ask("serving_default", images=images[:count]), first(answers))
        assert_equal(ask("predict_bytes", image_bytes=files[:count]), first(named))
        assert_equal(ask("explain", images=images[:count]), first(answers | maps))
        explained = ask("explain_bytes", image_bytes=files[:count], attribute=attribute[:count])
        assert_equal(explained, first(chosen))


def test_a_batch_of_no_images_gives_no_answers(network):
    none, no_files = tf.zeros((0, 12, 8, 3)), tf.constant([], tf.string)
    answers, maps = expected_of(network, np.zeros((1, 12, 8, 3), np.float32))
    outputs = network.ask("explain", images=none)
    for name, values in (answers | maps).items():
        assert outputs[name].shape == (0, *values.shape[1:]), name
    attribute = tf.zeros((0, 2), tf.int32)
    outputs = network.ask("explain_bytes", image_bytes=no_files, attribute=attribute)
    for name, values in (answers | maps).items():
        columns = min(2, values.shape[-1])
        assert outputs[name].shape == (0, *values.shape[1:-1], columns), name
    assert network.ask("predict_bytes", image_bytes=no_files)["names"].shape == (0, 3)


def test_the_graphs_need_no_xla_no_python_and_no_op_of_others(network):
    graphs = [network.signatures[endpoint].graph.as_graph_def() for endpoint in ENDPOINTS]
    functions = [function for graph in graphs for function in graph.library.function]
    nodes = [
        *(node for graph in graphs for node in graph.node),
        *(node for function in functions for node in function.node_def),
    ]
    assert len(nodes) > 100
    assert not {"PyFunc", "EagerPyFunc", "PyFuncStateless", "XlaLaunch"} & {x.op for x in nodes}
    assert not any(
        "_XlaMustCompile" in x.attr and x.attr["_XlaMustCompile"].b for x in (*nodes, *functions)
    )


def test_served_contributions_and_the_bias_sum_to_the_logit(exported_mcattn, pixels):
    outputs = exported_mcattn.ask("explain", images=pixels.astype(np.float32) / 255)
    cells = outputs["contributions"][:, ::2, ::2]  # of 2 x 2 pixels
    bias = exported_mcattn.model.get_layer("masked_pooling").head_bias.numpy()
    probabilities = 1 / (1 + np.exp(-cells.sum((1, 2)) - bias))
    np.testing.assert_allclose(outputs["attributes"], probabilities, atol=1e-5)


def test_names_and_settings_travel_but_not_the_places_of_the_data(network):
    assets = network.directory / "assets"
    assert (assets / "attributes.txt").read_text().split() == list(NAMES)
    stored = type(network.config).from_json((assets / "config.json").read_text())
    assert stored.model == network.config.model
    assert (stored.data.data_dir, stored.data.cache_dir) == (None, None)
    assert stored.data.image_size == (12, 8)


def test_nothing_else_is_left_beside_the_version(network):
    assert [path.name for path in network.directory.parent.iterdir()] == ["2"]


def test_saved_model_cli_lists_the_endpoints_that_the_page_has(exported_mcattn):
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        saved_model_cli._show_all(str(exported_mcattn.directory))
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \| (.*) \|$", (ROOT / "docs/serving.md").read_text(), re.M
    )
    rows = {name: columns for name, *columns in rows if name in ENDPOINTS}
    assert set(rows) == set(ENDPOINTS)
    sections = re.split(r"signature_def\['(\w+)'\]:", shown.getvalue())
    for endpoint, listed in zip(sections[1::2], sections[2::2], strict=True):
        if endpoint == "__saved_model_init_op":
            continue
        takes, gives = rows.pop(endpoint)
        assert re.findall(r"inputs\['(\w+)'\]", listed) == sorted(re.findall(r"`(\w+)`", takes))
        for output in re.findall(r"outputs\['(\w+)'\]", listed):
            named = dict.fromkeys(("attributes", "multilabel"), "answers")
            named |= dict.fromkeys(("contributions", "local_probabilities"), "maps")
            assert named.get(output, f"`{output}`") in gives, (endpoint, output)
        assert "shape: (-1" in listed
    assert not rows


def test_warm_up_requests_are_answered(exported_mcattn):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    records = tf.data.TFRecordDataset(str(exported_mcattn.directory / WARM_UP))
    asked = []
    for record in records.as_numpy_iterator():
        request = apis.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        asked.append(request.model_spec.signature_name)
        for values in exported_mcattn.ask(asked[-1], **inputs).values():
            assert len(values) == 1
    assert asked == list(ENDPOINTS)


def test_without_its_package_warm_up_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    assert not write_warm_up(tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_a_saved_model_that_answers_differently_is_not_put_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr("mcattn_tf.export.saved_model.TOLERANCE", -1.0)
    config = small_baseline()
    with pytest.raises(RuntimeError, match="multilabel by serving_default differs"):
        export(models.build(config), config, tmp_path / "export" / "1")
    assert not list((tmp_path / "export").iterdir())


def test_a_version_is_not_overwritten(exported_mcattn):
    with pytest.raises(UserError, match="exists and is not overwritten"):
        export(exported_mcattn.model, exported_mcattn.config, exported_mcattn.directory)


def test_where_nothing_can_be_written_nothing_is_left(tmp_path):
    (tmp_path / "file").touch()
    config = small_baseline()
    model = models.build(config)
    with pytest.raises(UserError, match=r"cannot export to .*: Not a directory"):
        export(model, config, tmp_path / "file" / "export" / "1")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as on a full disk
    try:
        with pytest.raises(UserError, match=r"cannot export to .*File too large") as raised:
            export(model, config, tmp_path / "export" / "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "export").iterdir())


def test_the_command_line_exports_the_best_network_as_a_version(tmp_path, pixels):
    config = small_baseline()
    model = he_weights(models.build(config))
    runs.create(tmp_path, config)
    model.save(tmp_path / "best.keras")
    to = tmp_path / "models"
    status, _, errors = call(script.main, f"--run={tmp_path}", f"--to={to}", "--thresholds=f1")
    assert status == 1 and "evaluate.py --run" in errors and errors.count("\n") == 1
    content = thresholds.choose_thresholds(model, config, random_split(30, 3))
    thresholds.write_thresholds(tmp_path, content)
    run(script.main, f"--run={tmp_path}", f"--to={to}", "--version=2", "--thresholds=f1")
    assert [path.name for path in to.iterdir()] == ["2"]
    images = pixels.astype(np.float32) / 255
    served = tf.saved_model.load(str(to / "2")).signatures["serving_default"]
    answers = served(images=tf.constant(images))
    np.testing.assert_allclose(answers["multilabel"], model(images)["multilabel"], atol=1e-5)
    levels = thresholds.Chosen(content, "f1").of("multilabel", NAMES)
    present = answers["present"].numpy()
    assert present.dtype == bool and 0 < present.sum() < present.size
    np.testing.assert_array_equal(present, answers["multilabel"].numpy() > levels)
    kept = json.loads((to / "2" / "assets" / "thresholds.json").read_text())
    assert kept["chosen_by"] == "f1" and kept["images"] == 30
    assert list(kept["thresholds"].values()) == levels.tolist()
    # The client calls present what they do.
    (tmp_path / "0.png").write_bytes(tf.io.encode_png(pixels[0]).numpy())
    network = LoadedNetwork(to)
    text, figure = describe(network, str(tmp_path / "0.png"), thresholds=True)
    rows = {name: said for name, *_, said in map(str.split, text.splitlines()[2:])}
    assert rows == {n: "yes" if x else "no" for n, x in zip(NAMES, present[0], strict=True)}
    titles = [axis.get_title().splitlines()[0] for axis in figure.axes if axis.get_title()]
    assert len(titles) == 1 + max(1, present[0].sum())


def test_what_the_command_line_refuses(tmp_path):
    runs.create(tmp_path / "run", tiny_config())
    to, of_run = tmp_path / "to", f"--run={tmp_path / 'run'}"
    for message, arguments in (
        ("takes flags only", [of_run, "runs"]),
        ("--run must be given", []),
        ("--version must be positive", [of_run, "--version=0"]),
        ("--format must be one of saved_model, onnx, tflite", [of_run, "--format=h5"]),
        ("has no best.keras yet", [of_run]),
        ("is not a run directory", [f"--run={tmp_path}"]),
    ):
        status, _, errors = call(script.main, *arguments, f"--to={to}")
        assert status == 1 and message in errors and errors.count("\n") == 1
        assert not to.exists()


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[] if x == "baseline" else slow) for x in ("mcattn", *NETWORKS)],
)
def test_a_tflite_file_equals_the_keras_model_at_any_batch_size(tmp_path, pixels, name):
    BACKBONES["tiny"] = Backbone((3, 4, 6), (1, 1, 1), BASIC, stem=3)
    config = tiny_config() if name == "mcattn" else NETWORKS[name]()
    if name == "multitask_abn":
        with pytest.raises(UserError, match="`task_units` 1, only with 2; export it by"):
            export(models.build(config), config, tmp_path / "1", "tflite")
        assert not list(tmp_path.iterdir())
        config = config.replace("model", task_units=2)
    model = models.in_float32(he_weights(models.build(config)), config)
    export(model, config, tmp_path / "1", "tflite")
    assert {path.name for path in (tmp_path / "1").iterdir()} == {"assets", "model.tflite"}
    images = pixels[:10].astype(np.float32) / 255
    answers, maps = expected_of(type("Network", (), {"model": model, "config": config}), images)
    with pytest.warns(UserWarning, match="Interpreter is deprecated"):
        interpreter = tf.lite.Interpreter(str(tmp_path / "1" / "model.tflite"))
    for signature, expected in (("serving_default", answers), ("explain", answers | maps)):
        ask = interpreter.get_signature_runner(signature)
        for count in (10, 1, 0):
            given = ask(images=images[:count])
            assert_equal(given, {key: values[:count] for key, values in expected.items()})
    operations = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert "CONV_2D" in operations and not any("Flex" in name for name in operations)


@slow
def test_onnx_files_equal_the_keras_model_at_any_batch_size(tmp_path, pixels):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    BACKBONES["tiny"] = Backbone((3, 4, 6), (1, 1, 1), BASIC, stem=3)
    for name, config in {"mcattn": tiny_config(), **{x: NETWORKS[x]() for x in NETWORKS}}.items():
        model = models.in_float32(he_weights(models.build(config)), config)
        export(model, config, tmp_path / name, "onnx")
        images = pixels.astype(np.float32) / 255
        for file in ("predict", "explain"):
            session = onnxruntime.InferenceSession(tmp_path / name / f"{file}.onnx")
            network = type("Network", (), {"model": model, "config": config})
            answers, maps = expected_of(network, images)
            expected = answers | (maps if file == "explain" else {})
            shapes = {x.name: x.shape for x in (*session.get_inputs(), *session.get_outputs())}
            assert shapes.pop("images") == ["batch", 12, 8, 3]
            assert shapes == {key: ["batch", *x.shape[1:]] for key, x in expected.items()}
            metadata = session.get_modelmeta().custom_metadata_map
            assert metadata == {"attributes": '["Smiling", "Bald", "Eyeglasses"]'}
            for count in (1, 17):
                outputs = session.run(list(expected), {"images": images[:count]})
                given = dict(zip(expected, outputs, strict=True))
                assert_equal(given, {key: values[:count] for key, values in expected.items()})


def test_onnx_without_its_packages_is_refused(tmp_path, exported_mcattn, monkeypatch):
    monkeypatch.setattr("mcattn_tf.export.exporting.NEEDED", ("onnx_that_nobody_has",))
    with pytest.raises(UserError, match="onnx_that_nobody_has: pip install"):
        export(exported_mcattn.model, exported_mcattn.config, tmp_path / "1", "onnx")
    assert not list(tmp_path.iterdir())
