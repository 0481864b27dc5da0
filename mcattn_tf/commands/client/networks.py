"""Networks that answer about image files: behind TensorFlow Serving, or loaded from their files."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from mcattn_tf.data.images import why
from mcattn_tf.errors import UserError, reason_of

TIMEOUT = 60  # seconds that a server may take


class RemoteNetwork:
    """A network behind the REST API of TensorFlow Serving.

    Args:
        url: of the model, `http://HOST:8501/v1/models/NAME`, or of a version of it.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"--url must be http://HOST:PORT/v1/models/NAME. Received: {url}")
        self._url = f"{url.rstrip('/')}:predict"

    def ask(
        self, endpoint: str, image: bytes, attribute: Sequence[int] | None = None
    ) -> dict[str, np.ndarray]:
        """Asks about one image.

        Args:
            endpoint: `predict_bytes` or `explain_bytes`.
            image: the bytes of a file.
            attribute: indices of the attributes that `explain_bytes` is asked about.

        Returns:
            {output: its value for this image}.

        Raises:
            UserError: if the server cannot be reached or refuses.
        """
        encoded = {"b64": base64.b64encode(image).decode()}
        # A single input is not named (TensorFlow Serving, RESTful API, row format).
        instance = encoded
        if attribute is not None:
            instance = {"image_bytes": encoded, "attribute": [int(index) for index in attribute]}
        body = {"signature_name": endpoint, "instances": [instance]}
        request = urllib.request.Request(
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                (outputs,) = json.load(response)["predictions"]
            return {name: np.asarray(values) for name, values in outputs.items()}
        except urllib.error.HTTPError as error:
            raise UserError(f"{self._url} refused: {_refusal(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = reason_of(getattr(error, "reason", error))
            raise UserError(f"cannot reach {self._url}: {reason}") from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(f"{self._url} gave no answer as TensorFlow Serving gives it") from None


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        return json.load(error)["error"].strip().splitlines()[0][:200]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return f"{error.code} {error.reason}"


class LoadedNetwork:
    """A SavedModel that `mcattn_tf.export` wrote, without a server.

    Args:
        directory: of the SavedModel, or a folder of versions, of which the highest is taken.
    """

    def __init__(self, directory: Path) -> None:
        versions = [
            path for path in directory.glob("*/saved_model.pb") if path.parent.name.isdigit()
        ]
        if versions and not (directory / "saved_model.pb").is_file():
            directory = max(versions, key=lambda path: int(path.parent.name)).parent
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
        """Asks about one image, as `RemoteNetwork.ask` does.

        Raises:
            UserError: if the image cannot be decoded.
        """
        inputs = {"image_bytes": tf.constant([image])}
        if attribute is not None:
            inputs["attribute"] = tf.constant([attribute], tf.int32)
        try:
            outputs = self._network.signatures[endpoint](**inputs)
        except tf.errors.InvalidArgumentError as error:
            raise UserError(why(error)) from None
        answer = {name: values[0].numpy() for name, values in outputs.items()}
        return answer | {"names": np.char.decode(answer["names"].astype(bytes), "utf-8")}
