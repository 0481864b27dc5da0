"""Assets that travel with an export, and the comparison of its answers."""

from pathlib import Path

import numpy as np

from mcattn_tf.settings.config import Config

TOLERANCE = 1e-4  # of the largest value, or of 1 if that is larger


def write_assets(config: Config, directory: Path) -> None:
    """Writes `attributes.txt`, the names of the K columns in order, and `config.json`.

    Args:
        config: Settings; the paths of the data are left out.
        directory: New folder.
    """
    directory.mkdir()
    (directory / "attributes.txt").write_text("\n".join(config.attributes) + "\n")
    placeless = config.replace("data", data_dir=None, cache_dir=None, no_cache=False)
    (directory / "config.json").write_text(placeless.to_json())


def require_same(values: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Raises a RuntimeError if an exported output differs from the Keras model's."""
    difference = float(np.max(np.abs(values - expected)))
    if not difference <= TOLERANCE * max(1.0, float(np.max(np.abs(expected)))):
        raise RuntimeError(f"{name} differs from the Keras model's by {difference:.2g}")
