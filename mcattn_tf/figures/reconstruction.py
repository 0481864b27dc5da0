"""Images above their reconstructions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mcattn_tf.figures.panels import two_rows_figure
from mcattn_tf.figures.scene import Scene


def reconstruction_figure(
    images: np.ndarray, reconstructions: np.ndarray, names: Sequence[str], title: str
) -> Figure:
    """Draws images (B, H, W, 3) above their reconstructions, with the mean squared error.

    Source: Kimura & Tanaka 2019, eq. 5.
    """
    errors = np.mean(np.square(images - reconstructions), axis=(1, 2, 3))
    headings = [f"MSE {error:.4f}" for error in errors]
    return two_rows_figure(images, reconstructions, names, headings, title)


def draw(scene: Scene) -> dict[str, Figure]:
    """Draws all images in one figure."""
    images, title = scene.pictures.images, "Images and their reconstructions"
    reconstructions = scene.model.predict_on_batch(images)["reconstruction"]
    figure = reconstruction_figure(images, reconstructions, scene.pictures.names, title)
    return {"reconstruction": figure}
