"""The client, against a server that holds requests to TensorFlow Serving's documented format."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tensorflow as tf
from conftest import NAMES
from matplotlib.figure import Figure
from PIL import Image
from processes import call

from mcattn_tf.commands import client
from mcattn_tf.commands.client import LoadedNetwork, RemoteNetwork, describe
from mcattn_tf.errors import UserError


def tensors_of(signature, request: dict) -> dict[str, tf.Tensor]:
    """The inputs of a request in row format (TensorFlow Serving, RESTful API, predict)."""
    assert set(request) == {"signature_name", "instances"}
    specs = signature.structured_input_signature[1]
    rows = request["instances"]
    assert isinstance(rows, list)
    if len(specs) == 1:  # one input is not named
        rows = [dict.fromkeys(specs, row) for row in rows]
    assert all(set(row) == set(specs) for row in rows)

    def value(name: str, given: object) -> object:
        if specs[name].dtype != tf.string:
            return given
        assert set(given) == {"b64"}
        return base64.b64decode(given["b64"], validate=True)

    return {
        name: tf.constant([value(name, row[name]) for row in rows], spec.dtype)
        for name, spec in specs.items()
    }


def rows_of(outputs: dict[str, tf.Tensor]) -> list:
    """The answer in row format: objects, or values where there is one output."""
    columns = {
        name: np.char.decode(values.numpy().astype(bytes)).tolist()
        if values.dtype == tf.string
        else values.numpy().tolist()
        for name, values in outputs.items()
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return rows if len(columns) > 1 else [row[name] for row in rows for name in row]


@pytest.fixture(scope="module")
def server(exported_mcattn):
    """Its URL, with a model `faces` on it, and one that answers nonsense."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            code, answer = 200, {}
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/models/faces:predict":
                request = json.loads(body)
                signature = exported_mcattn.signatures[request["signature_name"]]
                try:
                    outputs = signature(**tensors_of(signature, request))
                    answer = {"predictions": rows_of(outputs)}
                except tf.errors.InvalidArgumentError as error:
                    # Python's loader puts more before what a server says.
                    message = error.message.split("<stack traces unavailable>\n")[-1]
                    code, answer = 400, {"error": message}
                except AssertionError as error:
                    code, answer = 400, {"error": f"malformed request: {error}"}
            elif self.path != "/v1/models/nonsense:predict":
                code, answer = 404, {"error": f"Servable not found for request: {self.path}"}
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/v1/models"
        running.shutdown()


@pytest.fixture
def files(tmp_path):
    random = np.random.default_rng(4)
    for index, ending in enumerate(("jpg", "png")):
        pixels = random.integers(0, 256, (30, 25, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.{ending}")
    (tmp_path / "broken.png").write_bytes((tmp_path / "1.png").read_bytes()[:50])
    return tmp_path


def maps_of(figure: Figure) -> list[np.ndarray]:
    """What the pictures of a figure show, without the image and its grey copies."""
    pictures = [axis.get_images() for axis in figure.axes]
    return [np.asarray(images[1].get_array()) for images in pictures if len(images) > 1]


def test_a_server_and_its_saved_model_say_and_draw_the_same(server, exported_mcattn, files):
    remote = RemoteNetwork(f"{server}/faces/")
    loaded = LoadedNetwork(exported_mcattn.directory.parent)
    for name in ("0.jpg", "1.png"):
        text, figure = describe(remote, str(files / name))
        again, other = describe(loaded, str(files / name))
        assert text == again
        content = (files / name).read_bytes()
        answer = exported_mcattn.ask("explain", images=read(exported_mcattn, content))
        order = np.argsort(-answer["attributes"][0])
        path, heads, *rows = text.splitlines()
        assert path == str(files / name) and heads.split() == ["attributes", "multilabel"]
        for index, row in zip(order, rows, strict=True):
            assert row.split() == [
                NAMES[index],
                *(f"{100 * answer[x][0, index]:.2f}" for x in ("attributes", "multilabel")),
            ]
        present = [index for index in order if answer["attributes"][0, index] >= 0.5] or order[:1]
        for drawn in (maps_of(figure), maps_of(other)):
            assert len(drawn) == len(present)
            for index, values in zip(present, drawn, strict=True):
                expected = answer["contributions"][0, ..., index]
                np.testing.assert_allclose(values, expected, atol=1e-5)


def read(exported, content: bytes) -> np.ndarray:
    pixels = tf.image.resize(tf.image.decode_image(content), (30, 25))
    kept = pixels[:, 2:22]  # of 25 columns those that 12x8 pixels are in proportion to
    return tf.round(tf.image.resize(kept[None], (12, 8), method="area")).numpy() / 255.0


def test_chosen_attributes_are_drawn_in_their_order(server, exported_mcattn, files):
    chosen = [NAMES[2], NAMES[0]]
    _, figure = describe(RemoteNetwork(f"{server}/faces"), str(files / "1.png"), chosen)
    answer = exported_mcattn.ask(
        "explain_bytes", image_bytes=[(files / "1.png").read_bytes()], attribute=[[2, 0]]
    )
    titles = [axis.get_title().splitlines()[0] for axis in figure.axes if axis.get_title()]
    assert titles == ["image", *chosen]
    expected = np.moveaxis(answer["contributions"][0], -1, 0)
    np.testing.assert_allclose(maps_of(figure), expected, atol=1e-5)


def test_the_highest_version_is_taken(tmp_path):
    for version in ("9", "10", "partial"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    with pytest.raises(UserError, match=r"10 is no SavedModel, or is damaged"):
        LoadedNetwork(tmp_path)


@pytest.mark.parametrize(
    ("model", "file", "words"),
    [
        ("faces", "broken.png", "refused: .*Invalid PNG data"),
        ("cars", "0.jpg", "refused: Servable not found"),
        ("nonsense", "0.jpg", "gave no answer in TensorFlow Serving's"),
        ("faces", "nowhere.jpg", "cannot read image .*No such file"),
    ],
)
def test_what_a_server_refuses_is_one_line(server, files, model, file, words):
    with pytest.raises(UserError, match=words) as raised:
        describe(RemoteNetwork(f"{server}/{model}"), str(files / file))
    assert file in str(raised.value) and "\n" not in str(raised.value)


def test_bad_files_and_attributes_without_a_server(exported_mcattn, files):
    network = LoadedNetwork(exported_mcattn.directory)
    with pytest.raises(UserError, match=r"broken.png: truncated or damaged$"):
        describe(network, str(files / "broken.png"))
    with pytest.raises(UserError, match=r"^`attributes` must be one of Smiling, Bald"):
        describe(network, str(files / "0.jpg"), ["Young"])


def test_the_command_line_prints_and_writes(exported_mcattn, files):
    out, saved_model = files / "out", exported_mcattn.directory
    flags = (f"--saved_model={saved_model}", f"--out={out}")
    arguments = [files / name for name in ("0.jpg", "broken.png", "1.png")]
    status, printed, errors = call(client.main, *flags, *arguments)
    assert status == 1 and "broken.png" in errors
    assert [path.name for path in out.iterdir()] == ["explanation_0.png"]  # it is kept
    status, again, _ = call(client.main, *flags, arguments[0], arguments[2])
    assert status == 0
    assert {path.name for path in out.iterdir()} == {"explanation_0.png", "explanation_1.png"}
    assert (printed + again).count(str(out / "explanation_0.png")) == 2 and "Smiling" in printed
    assert min(Image.open(out / "explanation_1.png").size) > 200


def test_bad_flags_are_one_line():
    for arguments, words in (
        ((), "by either --url or --saved_model"),
        (("--url=http://x", "--saved_model=y", "me.jpg"), "by either --url or --saved_model"),
        (("--url=http://x",), "name at least one image file"),
        (("--url=http://x", "--attributes=", "me.jpg"), "--attributes must name something"),
    ):
        status, _, errors = call(client.main, *arguments)
        assert status == 1
        assert errors.startswith("error: ") and errors.count("\n") == 1 and words in errors


def test_a_server_that_is_not_there_is_named(files):
    with pytest.raises(UserError, match=r"0\.jpg: cannot reach http://127\.0\.0\.1:1/"):
        describe(RemoteNetwork("http://127.0.0.1:1/v1/models/x"), str(files / "0.jpg"))
    for url in ("localhost:8501/v1/models/x", "http://[bad/v1", "http://"):
        with pytest.raises(UserError, match="--url must be http://HOST:PORT"):
            RemoteNetwork(url)
