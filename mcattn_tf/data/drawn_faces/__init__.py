"""The generator behind the embedded data set `faces`; NumPy alone."""

from mcattn_tf.data.drawn_faces.generator import (
    ATTRIBUTES,
    CORRELATIONS,
    VERSION,
    draw_faces,
    draw_labels,
    draw_regions,
)

__all__ = ["ATTRIBUTES", "CORRELATIONS", "VERSION", "draw_faces", "draw_labels", "draw_regions"]
