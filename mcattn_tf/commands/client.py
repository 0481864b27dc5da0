"""Sends image files to a served network, prints its predictions and draws explanations.

python -m mcattn_tf.commands.client --url http://localhost:8501/v1/models/celeba face.jpg
python -m mcattn_tf.commands.client --saved_model runs/celeba/export/1 face.jpg
"""

import base64
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcattn_tf.commands import environment, flags
from mcattn_tf.commands.flags import Flag
from mcattn_tf.errors import UserError, choose, reason_of
from mcattn_tf.settings.data import RESIZE
from mcattn_tf.settings.systems import LABEL_OUTPUTS
from mcattn_tf.tables import Column, lay_out, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIMEOUT = 60  # seconds that a server may take
WRONG_FORMAT = (AttributeError, LookupError, TypeError, ValueError)  # of JSON that is read
# Maps that may be drawn, the first that an answer has: {output: (label of the scale, signed)}.
DRAWN = {
    "contributions": ("contribution of a cell to the logit", True),
    "contribution_maps": ("contribution, mean over the colours", True),
    "cam": ("evidence of a cell before pooling", True),
    "attention_map": ("attention", False),
}
FLAGS = (
    Flag("url", str, None, "URL of the served model: http://HOST:8501/v1/models/NAME"),
    Flag("saved_model", str, None, "Folder of an exported network, without a server"),
    Flag("attributes", tuple[str, ...], None, "Attributes to draw", "those present"),
    Flag(
        "thresholds",
        bool,
        False,
        "Call present, and draw, what is above the served network's thresholds, not above 0.5",
    ),
    Flag("out", str, "explanations", "Folder for the figures"),
    Flag(
        "resize", str, "crop", "Way to resize images, as the network was trained: crop or squeeze"
    ),
)


class RemoteNetwork:
    """A network behind the REST API of TensorFlow Serving.

    Args:
        url: URL of the model, `http://HOST:8501/v1/models/NAME`, or of one of its versions.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:  # brackets that hold no address
            parts = urllib.parse.urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(f"--url must be http://HOST:PORT/v1/models/NAME. Received: {url}")
        self._url = f"{url.rstrip('/')}:predict"

    def ask(
        self, endpoint: str, image: bytes, attribute: Sequence[int] | None = None
    ) -> dict[str, np.ndarray]:
        """Asks about one image.

        Args:
            endpoint: `predict_bytes` or `explain_bytes`.
            image: Content of a JPEG or PNG file.
            attribute: Indices of the attributes to explain, for `explain_bytes`.

        Returns:
            {output: its value for this image}.

        Raises:
            UserError: if the server cannot be reached or refuses.
        """
        # A single input is not named (TensorFlow Serving, RESTful API, row format).
        instance = encoded = {"b64": base64.b64encode(image).decode()}
        if attribute is not None:
            instance = {"image_bytes": encoded, "attribute": [int(index) for index in attribute]}
        body = json.dumps({"signature_name": endpoint, "instances": [instance]}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                (outputs,) = json.load(response)["predictions"]
            return {name: np.asarray(values) for name, values in outputs.items()}
        except urllib.error.HTTPError as error:
            raise UserError(f"{self._url} refused: {_refusal(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = reason_of(getattr(error, "reason", error))
            raise UserError(f"cannot reach {self._url}: {reason}") from None
        except WRONG_FORMAT:
            raise UserError(f"{self._url} gave no answer in TensorFlow Serving's format") from None


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        return json.load(error)["error"].strip().splitlines()[0][:200]
    except WRONG_FORMAT:
        return f"{error.code} {error.reason}"


class LoadedNetwork:
    """A SavedModel that `mcattn_tf.export` wrote, without a server.

    Args:
        directory: Folder of the SavedModel, or of versions, of which the highest is loaded.
    """

    def __init__(self, directory: Path) -> None:
        import tensorflow as tf

        versions = [x.parent for x in directory.glob("*/saved_model.pb") if x.parent.name.isdigit()]
        if versions and not (directory / "saved_model.pb").is_file():
            directory = max(versions, key=lambda path: int(path.name))
        try:
            self._network = tf.saved_model.load(str(directory))
        except (OSError, ValueError, tf.errors.OpError):
            raise UserError(f"--saved_model {directory} is no SavedModel, or is damaged") from None
        if "explain_bytes" not in self._network.signatures:
            raise UserError(
                f"--saved_model {directory} has no endpoint explain_bytes; "
                "python -m mcattn_tf.commands.export writes one that has"
            )

    def ask(
        self, endpoint: str, image: bytes, attribute: Sequence[int] | None = None
    ) -> dict[str, np.ndarray]:
        """Asks about one image, as `RemoteNetwork.ask` does."""
        import tensorflow as tf

        from mcattn_tf.data.images import why

        inputs = {"image_bytes": tf.constant([image])}
        if attribute is not None:
            inputs["attribute"] = tf.constant([attribute], tf.int32)
        try:
            outputs = self._network.signatures[endpoint](**inputs)
        except tf.errors.InvalidArgumentError as error:
            raise UserError(why(error)) from None
        answer = {name: values[0].numpy() for name, values in outputs.items()}
        return answer | {"names": np.char.decode(answer["names"].astype(bytes), "utf-8")}


def describe(
    network: RemoteNetwork | LoadedNetwork,
    path: str,
    attributes: Sequence[str] | None = None,
    resize: str = "crop",
    thresholds: bool = False,
) -> tuple[str, "Figure"]:
    """Asks a network about a JPEG or PNG file.

    Returns:
        A table of the probabilities in per cent, the highest first, and a figure of the image and
        the maps of `attributes`; without them, of those above 0.5, or with `thresholds` of those
        that the network calls present; of the most probable one where none is.
    """
    try:
        image = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read image {path}: {error.strerror}") from None

    def ask(endpoint: str, *indices: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return network.ask(endpoint, image, *indices)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    answer = ask("predict_bytes")
    if thresholds and "present" not in answer:
        raise UserError(
            "--thresholds needs a network that was exported with thresholds: python -m "
            "mcattn_tf.commands.export --thresholds balanced_accuracy"
        )
    present = answer["present"] if thresholds else None
    explained = ask("explain_bytes", _indices(answer, attributes, present))
    return f"{path}\n{_table(answer, present)}", _figure(explained, path, resize)


def _probabilities(answer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the probabilities (K,) of each output, the main one first."""
    return {name: answer[name] for name in LABEL_OUTPUTS if name in answer}


def _indices(
    answer: dict[str, np.ndarray], attributes: Sequence[str] | None, present: np.ndarray | None
) -> np.ndarray:
    """Returns the indices of the attributes to draw, the most probable first."""
    names = answer["names"].tolist()
    if attributes is not None:
        return np.array([names.index(choose("attributes", name, names)) for name in attributes])
    order = _order(answer)
    if present is None:
        present = next(iter(_probabilities(answer).values())) > 0.5
    return order[present[order]] if present.any() else order[:1]


def _order(answer: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the indices (K,) of all attributes, the most probable first."""
    return np.argsort(-next(iter(_probabilities(answer).values())), kind="stable")


def _table(answer: dict[str, np.ndarray], present: np.ndarray | None) -> str:
    order = _order(answer)
    columns = [
        Column("", name, [percent(value) for value in values[order]])
        for name, values in _probabilities(answer).items()
    ]
    if present is not None:
        columns.append(Column("", "present", ["yes" if x else "no" for x in present[order]]))
    return "\n".join(lay_out(answer["names"][order].tolist(), columns))


def _figure(answer: dict[str, np.ndarray], path: str, resize: str) -> "Figure":
    from mcattn_tf.data.images import read_images
    from mcattn_tf.figures.panels import headings_of, maps_figure

    kind = next(name for name in DRAWN if name in answer)
    maps, (label, signed) = answer[kind], DRAWN[kind]
    probabilities = next(iter(_probabilities(answer).values()))
    if maps.ndim == 4:
        maps = maps.mean(axis=2)  # over colours
    return maps_figure(
        read_images([path], maps.shape[:2], resize)[0],
        np.moveaxis(maps, -1, 0),
        headings_of(answer["names"], [f"p = {p:.2f}" for p in probabilities], probabilities > 0.5),
        label,
        f"Maps that explain the answers: {Path(path).name}",
        signed=signed or maps.min() < 0,
    )


def ask(values: Any, paths: list[str]) -> None:
    """Asks about one image after another."""
    if (values.url is None) == (values.saved_model is None):
        raise UserError("name the network by either --url or --saved_model")
    if values.attributes == ():
        raise UserError("--attributes must name something or be left out")
    choose("resize", values.resize, RESIZE)
    if not paths:
        raise UserError("name at least one image file")
    environment.import_tensorflow_quietly()
    from mcattn_tf.figures import draw

    network = RemoteNetwork(values.url) if values.url else LoadedNetwork(Path(values.saved_model))
    for path, name in zip(paths, draw.unique_stems(paths), strict=True):
        text, figure = describe(network, path, values.attributes, values.resize, values.thresholds)
        (written,) = draw.save({f"explanation_{name}": figure}, Path(values.out))
        print(f"{text}\n{written}\n", flush=True)


main = flags.Command(
    "python -m mcattn_tf.commands.client", __doc__, {"client": FLAGS}, ask, takes_arguments=True
)


if __name__ == "__main__":
    flags.end(main())
