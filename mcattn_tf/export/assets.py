"""What exports of every format share: the files that travel along, and how answers are compared."""

from pathlib import Path

import numpy as np

from mcattn_tf.settings.config import Config

NAMES_ASSET = "attributes.txt"
CONFIG_ASSET = "config.json"
TOLERANCE = 1e-4  # of the largest value, or of 1 if that is more


def write_assets(config: Config, directory: Path) -> None:
    """Writes `attributes.txt`, the names of the K columns in order, and `config.json`.

    Args:
        config: the settings; where the data were is left out.
        directory: made here.
    """
    directory.mkdir()
    (directory / NAMES_ASSET).write_text("\n".join(config.attributes) + "\n")
    placeless = config.replace("data", data_dir=None, cache_dir=None, no_cache=False)
    (directory / CONFIG_ASSET).write_text(placeless.to_json())


def require_same(values: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Raises a RuntimeError if what was written answers differently from the Keras model.

    Args:
        values: of the file.
        expected: of the Keras model.
        what: was compared, for the message.
    """
    difference = float(np.max(np.abs(values - expected)))
    if not difference <= TOLERANCE * max(1.0, float(np.max(np.abs(expected)))):
        raise RuntimeError(f"{what} differs from the Keras model's by {difference:.2g}")
