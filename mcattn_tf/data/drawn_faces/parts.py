"""Shapes of the drawn faces, the parts painted of them, and the regions of attributes.

A face has its own frame: origin between the eyes, u to the right and v down in units of half the
face's height. A shape maps that frame and the face's geometry g, (items, 1, 1), to an
approximate signed distance, negative inside.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mcattn_tf.data.drawn_faces.geometry import Columns


def triangle_wave(x: np.ndarray) -> np.ndarray:
    """Returns 1 at whole numbers, 0 half way between, and straight lines between them."""
    return abs(x - np.floor(x) - 0.5) * 2


def ellipse(u: np.ndarray, v: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Exact across the shorter axis at the border, too small elsewhere: a wider soft edge."""
    u, v = u * (1 / width), v * (1 / height)
    return (u * u + v * v - 1) * (0.5 * np.minimum(width, height))


def _box(u: np.ndarray, v: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    return np.maximum(abs(u) - width, abs(v) - height)


def _face(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ellipse(u + 0.12 * u * v, v, g["face_width"], np.float32(1))


def _hairline(u: np.ndarray) -> np.ndarray:
    return 0.3 * u * u - 0.74


def _hair(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An arch of the sampled length with holes for the face below the hairline and the neck."""
    outer = ellipse(u, np.minimum(v + 0.2, 0), g["hair_width"], np.float32(0.97))
    face = np.maximum(_face(g, u, v), _hairline(u) - v)
    neck = np.maximum(abs(u) - 0.32, -v)
    return np.maximum(np.maximum(outer, v - g["hair_length"]), -np.minimum(face, neck))


def _bangs(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bottom = v + 0.42 + 0.07 * triangle_wave(3.5 * u + g["strands"])
    return np.maximum(np.maximum(_face(g, u, v) - 0.04, _hairline(u) - 0.05 - v), bottom)


def _eyes(extra: float) -> Callable:
    width = np.float32(0.14 + extra)
    return lambda g, u, v: ellipse(abs(u) - 0.32, v, width, g["eye_height"] + extra)


def _pupils(radius: float) -> Callable:
    size = np.float32(radius)
    return lambda g, u, v: ellipse(abs(u - g["gaze_x"]) - 0.32, v - g["gaze_y"], size, size)


def _spots(place: float, v0: float, width: float, height: float) -> Callable:
    """Two mirrored ellipses at `place` times the face's half width."""
    size = np.float32(width), np.float32(height)
    return lambda g, u, v: ellipse(abs(u) - place * g["face_width"], v - v0, *size)


def _nose(extra: float, v0: float) -> Callable:
    return lambda g, u, v: ellipse(u, v - v0, g["nose_width"] + extra, g["nose_height"] + extra)


def _mouth(
    g: Columns, u: np.ndarray, v: np.ndarray, height: str, kind: str = "mouth"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distance to a curved lens of the named height, and v from its middle line."""
    width = g[kind + "_width"]
    across = u * (1 / width)
    profile = 1 - across * across
    line = v - 0.68 - g[kind + "_curve"] * (profile - 0.7)
    lens = abs(line) - g[height] * np.maximum(profile, 0)
    return np.maximum(lens, abs(u) - width), line


def _teeth(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    gap, line = _mouth(g, u, v, "gap_height")
    return np.maximum(gap, line + 0.01)


def _all_mouths(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The lips of the smile and of the other mouth that the face could have."""
    smile, other = (_mouth(g, u, v, "lip_height", kind)[0] for kind in ("smile", "no_smile"))
    return np.minimum(smile, other)


def _mustache(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u = abs(u) - 0.5 * g["mustache_width"]
    return ellipse(
        u, v - 0.475 + g["mustache_bend"] * u, 0.58 * g["mustache_width"], np.float32(0.095)
    )


def _lenses(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u = abs(u) - 0.32
    round_lens = ellipse(u, v + 0.02, g["lens_width"], np.float32(0.16))
    square_lens = _box(u, v + 0.02, g["lens_width"], np.float32(0.14))
    return round_lens + g["lens_square"] * (square_lens - round_lens)


def _frames(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    outer = 0.32 + g["lens_width"]
    bridge = _box(u, v + 0.03, 0.32 - g["lens_width"], np.float32(0.04))
    sides = abs(abs(u) - 0.5 * (outer + g["face_width"])) - 0.5 * (g["face_width"] - outer)
    sides = np.maximum(sides, abs(v + 0.03) - 0.035)
    return np.minimum(np.minimum(abs(_lenses(g, u, v)) - 0.045, bridge), sides)


def _crown(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    dome = ellipse(u, np.minimum(v + 0.8, 0), g["hat_width"], -0.8 - g["hat_top"])
    tall = _box(u, v + 0.8, g["hat_width"], -0.8 - g["hat_top"])
    return np.maximum(dome + g["hat_square"] * (tall - dome), v + 0.7)


def _tie(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    knot = 0.17 - 0.6 * (v - 1.2)
    blade = 0.08 + (v - 1.3) * (2.5 * g["tie_width"] - 0.2)
    end = v + 0.8 * abs(u) - 1.7
    return np.maximum(np.maximum(abs(u) - np.maximum(knot, blade), 1.18 - v), end)


class Part(NamedTuple):
    """A shape, its colour and the window (in the face's units) that always holds it."""

    shape: Callable
    colour: str
    centre: float
    half_width: float
    half_height: float
    shown: tuple[str, bool] | None = None
    opacity: float = 1.0
    shade: Callable | None = None


def _brows(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u = abs(u) - 0.33
    return _box(u, v + 0.31 + g["brow_slope"] * u, np.float32(0.19), g["brow_height"])


def _hat(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    brim = _box(u, v + 0.76, np.float32(0.98), np.float32(0.08))
    return np.minimum(brim, _crown(g, u, v))


def _neck(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    round_end = ellipse(u, np.maximum(v - 0.95, 0), np.float32(0.31), np.float32(0.31))
    return np.maximum(round_end, 0.65 - v)


_LIPS = Part(lambda g, u, v: _mouth(g, u, v, "lip_height")[0], "lips", 0.71, 0.43, 0.29)


def _hair_shade(g: Columns, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 1 - 0.28 * triangle_wave(3.5 * u + g["strands"])


_EVERYWHERE = 99.0
# In the order of painting.
PARTS = {
    "torso": Part(
        lambda g, u, v: 1.18 + 0.45 * u * u - v, "clothes", 0.0, _EVERYWHERE, _EVERYWHERE
    ),
    "neck": Part(_neck, "neck", 0.95, 0.36, 0.36),
    "face": Part(
        *(_face, "skin", 0.0, 0.84, 1.02),
        shade=lambda g, u, v: 1 - 0.3 * (_face(g, u, v) + 0.5 * g["face_width"]),
    ),
    "shine": Part(
        lambda g, u, v: ellipse(u + 0.2, v + 0.86, np.float32(0.13), np.float32(0.06)),
        *("shine", -0.86, 0.42, 0.12, ("Bald", True)),
    ),
    "hair": Part(_hair, "hair", -0.06, 1.12, 1.13, ("Bald", False), shade=_hair_shade),
    "ears": Part(_spots(1.06, 0.08, 0.12, 0.19), "ear", 0.08, 1.0, 0.21),
    "bangs": Part(_bangs, "hair", -0.6, 0.84, 0.27, ("Bangs", True), shade=_hair_shade),
    "brows": Part(_brows, "facial_hair", -0.31, 0.54, 0.16),
    "eye_outlines": Part(_eyes(0.035), "outline", 0.0, 0.51, 0.19),
    "eyes": Part(_eyes(0.0), "eye", 0.0, 0.48, 0.16),
    "irises": Part(_pupils(0.09), "iris", 0.0, 0.47, 0.14),
    "pupils": Part(_pupils(0.05), "pupil", 0.0, 0.43, 0.1),
    "cheeks": Part(
        _spots(0.69, 0.38, 0.16, 0.13), "cheek", 0.38, 0.76, 0.17, ("Rosy_Cheeks", True)
    ),
    "nose_shadow": Part(_nose(0.04, 0.22), "nose_shadow", 0.22, 0.52, 0.28),
    "nose": Part(_nose(0.0, 0.2), "nose", 0.2, 0.46, 0.26, shade=lambda g, u, v: 1.2 - v),
    "lips": _LIPS,
    "gap": _LIPS._replace(shape=lambda g, u, v: _mouth(g, u, v, "gap_height")[0], colour="gap"),
    "teeth": Part(_teeth, "teeth", 0.71, 0.43, 0.29, ("Mouth_Slightly_Open", True)),
    "mustache": Part(_mustache, "facial_hair", 0.46, 0.41, 0.18, ("Mustache", True)),
    "goatee": Part(
        lambda g, u, v: ellipse(u, v - 1.03, g["goatee_width"], np.float32(0.14)),
        *("facial_hair", 1.03, 0.31, 0.19, ("Goatee", True)),
    ),
    "lenses": Part(_lenses, "lens", 0.0, 0.56, 0.19, ("Eyeglasses", True), 0.4),
    "frames": Part(_frames, "frame", 0.0, 0.84, 0.23, ("Eyeglasses", True)),
    "earrings": Part(
        _spots(1.1, 0.35, 0.105, 0.105), "earring", 0.35, 1.03, 0.13, ("Wearing_Earrings", True)
    ),
    "tie": Part(_tie, "tie", 1.44, 0.26, 0.28, ("Wearing_Necktie", True)),
    "hat": Part(_hat, "hat", -1.09, 1.0, 0.44, ("Wearing_Hat", True)),
    "band": Part(
        lambda g, u, v: np.maximum(_crown(g, u, v), abs(v + 0.9) - 0.06),
        *("band", -0.9, 0.84, 0.1, ("Wearing_Hat", True)),
    ),
}


def _always(*names: str) -> tuple[Part, ...]:
    return tuple(PARTS[name]._replace(shown=None) for name in names)


# Attributes that are seen at the same place, and the parts that make up their region.
REGIONS = (
    (("Bald", "Black_Hair", "Blond_Hair"), (*_always("hair"), PARTS["bangs"])),
    (("Bangs",), _always("bangs")),
    (("Big_Nose",), _always("nose_shadow")),
    (("Bushy_Eyebrows",), _always("brows")),
    (("Eyeglasses",), _always("lenses", "frames")),
    (("Goatee",), _always("goatee")),
    (
        ("Mouth_Slightly_Open", "Smiling", "Wearing_Lipstick"),
        (PARTS["lips"]._replace(shape=_all_mouths),),
    ),
    (("Mustache",), _always("mustache")),
    (("Rosy_Cheeks",), _always("cheeks")),
    (("Wearing_Earrings",), _always("earrings")),
    (("Wearing_Hat",), _always("hat")),
    (("Wearing_Necktie",), _always("tie")),
)
