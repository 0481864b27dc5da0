"""Shapes, colours and rendering of the drawn faces (`mcattn_tf.data.faces`).

A face has its own frame: origin between the eyes, u to the right and v down in units of half the
face's height. A shape maps that frame to an approximate signed distance (negative inside) and is
painted, anti-aliased, in a small window of the picture. Only + - * /, floor, min, max and
comparisons are used, in a fixed order and dtype, so that every platform draws the same bytes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Columns = dict[str, np.ndarray]

# fmt: off
PARAMETERS = (
    "scale", "tilt", "centre_x", "centre_y", "face_width", "skin", "skin_warmth",
    "hair_kind", "hair_tone", "hair_width", "hair_length", "strands", "facial_hair_tone",
    "eye_hue", "eye_height", "gaze_x", "gaze_y", "brow_height", "brow_slope", "nose_width",
    "mouth_width", "mouth_curve", "lip_hue", "lip_value", "mustache_width", "mustache_bend",
    "goatee_width", "lens_width", "lens_shape", "frame_hue", "frame_value", "earring_hue",
    "hat_width", "hat_height", "hat_shape", "hat_hue", "hat_value", "band_hue",
    "tie_hue", "tie_value", "tie_width", "clothes_hue", "clothes_saturation", "clothes_value",
    "ground_hue", "ground_saturation", "ground_value", "ground_x", "ground_y",
    "ground_hue_2", "ground_saturation_2", "ground_value_2", "stripes", "stripe_x", "stripe_y",
    "blob_x", "blob_y", "blob_width", "blob_height", "blob_hue", "blob_value",
    "blob_x_2", "blob_y_2", "blob_width_2", "blob_height_2", "blob_hue_2", "blob_value_2",
    "light", "light_x", "light_y", "noise",
)
# fmt: on

# Sizes of the face in the picture: half its height as a fraction of the smaller side.
_SMALLEST, _LARGEST = 0.21, 0.275
# What the picture always holds around the face's centre, in the face's units.
_ROOM_ABOVE, _ROOM_BELOW, _ROOM_ASIDE = 1.55, 1.75, 1.2


class _Items:
    """The geometry of some images of a chunk, shaped (items, 1, 1) to meet their pixels."""

    def __init__(self, geometry: Columns, items: np.ndarray):
        self.geometry = geometry
        self.items = items

    def __getitem__(self, name: str) -> np.ndarray:
        return self.geometry[name][self.items][:, None, None]


def _triangle_wave(x: np.ndarray) -> np.ndarray:
    return abs(x - np.floor(x) - 0.5) * 2


def _hue_colour(
    hue: np.ndarray, saturation: np.ndarray | float, value: np.ndarray | float
) -> np.ndarray:
    """Returns the RGB colours (n, 3) in 0 ... 255 of hues (n,) in turns from red."""
    turns = hue[:, None] + np.array([0.0, 2 / 3, 1 / 3])
    channels = np.clip(abs(6 * (turns - np.floor(turns)) - 3) - 1, 0, 1)
    saturation = np.broadcast_to(saturation, hue.shape)[:, None]
    value = np.broadcast_to(value, hue.shape)[:, None]
    return 255 * value * (1 - saturation * (1 - channels))


def _rows(colour: tuple[int, int, int], like: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.float64), (len(like), 3))


def _mix(
    first: np.ndarray, second: np.ndarray | tuple[int, int, int], amount: np.ndarray | float
) -> np.ndarray:
    amount = np.broadcast_to(amount, first.shape[:1])[:, None]
    return first + amount * (np.asarray(second) - first)


def _geometry(labels: Columns, p: Columns, image_size: tuple[int, int]) -> Columns:
    """Returns poses and sizes, float32 (n,), from labels and parameters in [0, 1)."""
    height, width = image_size
    side = min(image_size)
    scale = side * (_SMALLEST + (_LARGEST - _SMALLEST) * p["scale"])
    half_tangent = 0.21 * (p["tilt"] - 0.5)
    face_width = 0.7 + 0.12 * p["face_width"]
    mouths = {
        "smile_width": 0.36 + 0.04 * p["mouth_width"],
        "smile_curve": 0.3 + 0.06 * p["mouth_curve"],
        "no_smile_width": 0.26 + 0.04 * p["mouth_width"],
        "no_smile_curve": -0.1 + 0.08 * p["mouth_curve"],
    }

    def sized(attribute: str, parameter: str, present: tuple, absent: tuple) -> np.ndarray:
        low, high = (
            np.where(labels[attribute], *pair) for pair in zip(present, absent, strict=True)
        )
        return low + (high - low) * p[parameter]

    geometry = {
        "scale": scale,
        "cos": (1 - half_tangent * half_tangent) / (1 + half_tangent * half_tangent),
        "sin": 2 * half_tangent / (1 + half_tangent * half_tangent),
        "x": _ROOM_ASIDE * scale + p["centre_x"] * (width - 2 * _ROOM_ASIDE * scale),
        "y": _ROOM_ABOVE * scale + p["centre_y"] * (height - (_ROOM_ABOVE + _ROOM_BELOW) * scale),
        "face_width": face_width,
        "hair_width": face_width + 0.22 + 0.06 * p["hair_width"],
        "hair_length": 0.3 + 0.75 * p["hair_length"],
        "strands": p["strands"],
        "eye_height": 0.11 + 0.03 * p["eye_height"],
        "gaze_x": 0.1 * (p["gaze_x"] - 0.5),
        "gaze_y": 0.06 * (p["gaze_y"] - 0.5),
        "brow_height": sized("Bushy_Eyebrows", "brow_height", (0.09, 0.11), (0.025, 0.035)),
        "brow_slope": 0.24 * (p["brow_slope"] - 0.5),
        "nose_width": sized("Big_Nose", "nose_width", (0.33, 0.4), (0.13, 0.17)),
        "nose_height": sized("Big_Nose", "nose_width", (0.16, 0.18), (0.085, 0.095)),
        "lip_height": sized("Mouth_Slightly_Open", "mouth_width", (0.185, 0.195), (0.125, 0.135)),
        "gap_height": sized("Mouth_Slightly_Open", "mouth_width", (0.105, 0.11), (0.028, 0.034)),
        "mustache_width": 0.3 + 0.06 * p["mustache_width"],
        "mustache_bend": 0.1 + 0.25 * p["mustache_bend"],
        "goatee_width": 0.2 + 0.05 * p["goatee_width"],
        "lens_width": 0.19 + 0.03 * p["lens_width"],
        "lens_square": np.where(p["lens_shape"] < 0.5, 0.0, 1.0),
        "hat_width": 0.68 + 0.08 * p["hat_width"],
        "hat_top": -1.3 - 0.2 * p["hat_height"],
        "hat_square": np.where(p["hat_shape"] < 0.5, 0.0, 1.0),
        "tie_width": 0.19 + 0.05 * p["tie_width"],
    }
    for size in ("width", "curve"):
        pair = (mouths["smile_" + size], mouths["no_smile_" + size])
        mouths["mouth_" + size] = np.where(labels["Smiling"], *pair)
    geometry |= mouths
    return {name: value.astype(np.float32) for name, value in geometry.items()}


def _hair_colour(labels: Columns, p: Columns) -> np.ndarray:
    tone = p["hair_tone"]
    kind = np.floor(3 * p["hair_kind"])
    # Brown hair would hardly show on the darkest skins.
    kind = np.where((kind == 0) & (p["skin"] > 0.6), 1.0, kind)[:, None]
    brown = _mix(_rows((120, 66, 30), tone), (150, 88, 48), tone)
    red = _mix(_rows((176, 60, 24), tone), (206, 88, 36), tone)
    grey = _mix(_rows((140, 142, 150), tone), (178, 180, 188), tone)
    other = np.where(kind == 0, brown, np.where(kind == 1, red, grey))
    black = _mix(_rows((14, 12, 16), tone), (38, 34, 44), tone)
    blond = _mix(_rows((238, 190, 50), tone), (255, 226, 110), tone)
    hair = np.where(labels["Black_Hair"][:, None], black, other)
    return np.where(labels["Blond_Hair"][:, None], blond, hair)


def _colours(labels: Columns, p: Columns) -> Columns:
    """Returns the colours of all parts, float32 (n, 3) in 0 ... 255, from labels and parameters."""
    like = p["skin"]
    skin = _mix(_rows((255, 224, 198), like), (132, 86, 60), p["skin"])
    skin = _mix(skin, (236, 170, 110), 0.3 * p["skin_warmth"])
    lipstick = _hue_colour(0.88 + 0.12 * p["lip_hue"], 0.92, 0.78 + 0.18 * p["lip_value"])
    lips = _mix(skin, (150, 70, 60), 0.15)
    colours = {
        "skin": skin,
        "ear": _mix(skin, (150, 60, 40), 0.18),
        "neck": _mix(skin, (70, 30, 30), 0.28),
        "nose": _mix(skin, (248, 118, 36), 0.55),
        "nose_shadow": skin * 0.5,
        "cheek": _mix(skin, (250, 30, 110), 0.68),
        "shine": _mix(skin, (255, 255, 255), 0.75),
        # A fixed ratio to the skin keeps the contrast on every skin.
        "facial_hair": _mix(skin * 0.16, skin * 0.3, p["facial_hair_tone"]),
        "hair": _hair_colour(labels, p),
        "outline": skin * 0.3,
        "eye": _rows((252, 252, 250), like),
        "iris": _hue_colour(0.05 + 0.6 * p["eye_hue"], 0.75, 0.45),
        "pupil": _rows((12, 10, 14), like),
        "lips": np.where(labels["Wearing_Lipstick"][:, None], lipstick, lips),
        "gap": _rows((56, 8, 16), like),
        "teeth": _rows((255, 255, 250), like),
        "lens": _rows((214, 236, 255), like),
        "frame": _hue_colour(p["frame_hue"], 0.75, 0.08 + 0.35 * p["frame_value"]),
        "earring": _hue_colour(0.45 + 0.42 * p["earring_hue"], 0.85, 0.95),
        "hat": _hue_colour(0.3 + 0.6 * p["hat_hue"], 0.75, 0.5 + 0.4 * p["hat_value"]),
        "band": _hue_colour(p["band_hue"], 0.35, 0.95),
        "clothes": _hue_colour(
            p["clothes_hue"], 0.3 * p["clothes_saturation"], 0.72 + 0.28 * p["clothes_value"]
        ),
        "tie": _hue_colour(p["tie_hue"], 0.9, 0.3 + 0.35 * p["tie_value"]),
    }
    return {name: value.astype(np.float32) for name, value in colours.items()}


def _ellipse(u: np.ndarray, v: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Exact across the shorter axis at the border, too small elsewhere: a wider soft edge."""
    u, v = u * (1 / width), v * (1 / height)
    return (u * u + v * v - 1) * (0.5 * np.minimum(width, height))


def _box(u: np.ndarray, v: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    return np.maximum(abs(u) - width, abs(v) - height)


def _face(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _ellipse(u + 0.12 * u * v, v, g["face_width"], np.float32(1))


def _hairline(u: np.ndarray) -> np.ndarray:
    return 0.3 * u * u - 0.74


def _hair(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An arch of the sampled length with holes for the face below the hairline and the neck."""
    outer = _ellipse(u, np.minimum(v + 0.2, 0), g["hair_width"], np.float32(0.97))
    face = np.maximum(_face(g, u, v), _hairline(u) - v)
    neck = np.maximum(abs(u) - 0.32, -v)
    return np.maximum(np.maximum(outer, v - g["hair_length"]), -np.minimum(face, neck))


def _bangs(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bottom = v + 0.42 + 0.07 * _triangle_wave(3.5 * u + g["strands"])
    return np.maximum(np.maximum(_face(g, u, v) - 0.04, _hairline(u) - 0.05 - v), bottom)


def _brows(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u = abs(u) - 0.33
    return _box(u, v + 0.31 + g["brow_slope"] * u, np.float32(0.19), g["brow_height"])


def _eyes(extra: float) -> Callable:
    def eyes(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return _ellipse(abs(u) - 0.32, v, np.float32(0.14 + extra), g["eye_height"] + extra)

    return eyes


def _pupils(radius: float) -> Callable:
    def pupils(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        u, v = abs(u - g["gaze_x"]) - 0.32, v - g["gaze_y"]
        return _ellipse(u, v, np.float32(radius), np.float32(radius))

    return pupils


def _spots(place: float, v0: float, width: float, height: float) -> Callable:
    """Two mirrored ellipses at `place` times the face's half width."""

    def spots(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        u = abs(u) - place * g["face_width"]
        return _ellipse(u, v - v0, np.float32(width), np.float32(height))

    return spots


def _nose(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _ellipse(u, v - 0.2, g["nose_width"], g["nose_height"])


def _nose_shadow(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _ellipse(u, v - 0.22, g["nose_width"] + 0.04, g["nose_height"] + 0.04)


def _mouth(
    g: _Items, u: np.ndarray, v: np.ndarray, height: str, kind: str = "mouth"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distance to a curved lens of the named height and v from its middle line."""
    width = g[kind + "_width"]
    across = u * (1 / width)
    profile = 1 - across * across
    line = v - 0.68 - g[kind + "_curve"] * (profile - 0.7)
    lens = abs(line) - g[height] * np.maximum(profile, 0)
    return np.maximum(lens, abs(u) - width), line


def _lips(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _mouth(g, u, v, "lip_height")[0]


def _gap(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _mouth(g, u, v, "gap_height")[0]


def _teeth(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    gap, line = _mouth(g, u, v, "gap_height")
    return np.maximum(gap, line + 0.01)


def _all_mouths(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The lips of the smile and of the other mouth that the face could have."""
    smile, other = (_mouth(g, u, v, "lip_height", kind)[0] for kind in ("smile", "no_smile"))
    return np.minimum(smile, other)


def _mustache(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u = abs(u) - 0.5 * g["mustache_width"]
    return _ellipse(
        u, v - 0.475 + g["mustache_bend"] * u, 0.58 * g["mustache_width"], np.float32(0.095)
    )


def _goatee(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _ellipse(u, v - 1.03, g["goatee_width"], np.float32(0.14))


def _lenses(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u = abs(u) - 0.32
    round_lens = _ellipse(u, v + 0.02, g["lens_width"], np.float32(0.16))
    square_lens = _box(u, v + 0.02, g["lens_width"], np.float32(0.14))
    return round_lens + g["lens_square"] * (square_lens - round_lens)


def _frames(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    outer = 0.32 + g["lens_width"]
    bridge = _box(u, v + 0.03, 0.32 - g["lens_width"], np.float32(0.04))
    sides = abs(abs(u) - 0.5 * (outer + g["face_width"])) - 0.5 * (g["face_width"] - outer)
    sides = np.maximum(sides, abs(v + 0.03) - 0.035)
    return np.minimum(np.minimum(abs(_lenses(g, u, v)) - 0.045, bridge), sides)


def _shine(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _ellipse(u + 0.2, v + 0.86, np.float32(0.13), np.float32(0.06))


def _crown(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    dome = _ellipse(u, np.minimum(v + 0.8, 0), g["hat_width"], -0.8 - g["hat_top"])
    tall = _box(u, v + 0.8, g["hat_width"], -0.8 - g["hat_top"])
    return np.maximum(dome + g["hat_square"] * (tall - dome), v + 0.7)


def _hat(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    brim = _box(u, v + 0.76, np.float32(0.98), np.float32(0.08))
    return np.minimum(brim, _crown(g, u, v))


def _band(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(_crown(g, u, v), abs(v + 0.9) - 0.06)


def _torso(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 1.18 + 0.45 * u * u - v


def _neck(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    round_end = _ellipse(u, np.maximum(v - 0.95, 0), np.float32(0.31), np.float32(0.31))
    return np.maximum(round_end, 0.65 - v)


def _tie(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    knot = 0.17 - 0.6 * (v - 1.2)
    blade = 0.08 + (v - 1.3) * (2.5 * g["tie_width"] - 0.2)
    end = v + 0.8 * abs(u) - 1.7
    return np.maximum(np.maximum(abs(u) - np.maximum(knot, blade), 1.18 - v), end)


def _nose_shade(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 1.2 - v


def _face_shade(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 1 - 0.3 * (_face(g, u, v) + 0.5 * g["face_width"])


def _hair_shade(g: _Items, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 1 - 0.28 * _triangle_wave(3.5 * u + g["strands"])


class _Part(NamedTuple):
    """A shape, its colour and the window (in the face's units) that always holds it."""

    shape: Callable
    colour: str
    centre: float
    half_width: float
    half_height: float
    shown: tuple[str, bool] | None = None
    opacity: float = 1.0
    shade: Callable | None = None


_EVERYWHERE = 99.0
# In the order of painting.
_PARTS = {
    "torso": _Part(_torso, "clothes", 0.0, _EVERYWHERE, _EVERYWHERE),
    "neck": _Part(_neck, "neck", 0.95, 0.36, 0.36),
    "face": _Part(_face, "skin", 0.0, 0.84, 1.02, shade=_face_shade),
    "shine": _Part(_shine, "shine", -0.86, 0.42, 0.12, ("Bald", True)),
    "hair": _Part(_hair, "hair", -0.06, 1.12, 1.13, ("Bald", False), shade=_hair_shade),
    "ears": _Part(_spots(1.06, 0.08, 0.12, 0.19), "ear", 0.08, 1.0, 0.21),
    "bangs": _Part(_bangs, "hair", -0.6, 0.84, 0.27, ("Bangs", True), shade=_hair_shade),
    "brows": _Part(_brows, "facial_hair", -0.31, 0.54, 0.16),
    "eye_outlines": _Part(_eyes(0.035), "outline", 0.0, 0.51, 0.19),
    "eyes": _Part(_eyes(0.0), "eye", 0.0, 0.48, 0.16),
    "irises": _Part(_pupils(0.09), "iris", 0.0, 0.47, 0.14),
    "pupils": _Part(_pupils(0.05), "pupil", 0.0, 0.43, 0.1),
    "cheeks": _Part(
        _spots(0.69, 0.38, 0.16, 0.13), "cheek", 0.38, 0.76, 0.17, ("Rosy_Cheeks", True)
    ),
    "nose_shadow": _Part(_nose_shadow, "nose_shadow", 0.22, 0.52, 0.28),
    "nose": _Part(_nose, "nose", 0.2, 0.46, 0.26, shade=_nose_shade),
    "lips": _Part(_lips, "lips", 0.71, 0.43, 0.29),
    "gap": _Part(_gap, "gap", 0.71, 0.43, 0.29),
    "teeth": _Part(_teeth, "teeth", 0.71, 0.43, 0.29, ("Mouth_Slightly_Open", True)),
    "mustache": _Part(_mustache, "facial_hair", 0.46, 0.41, 0.18, ("Mustache", True)),
    "goatee": _Part(_goatee, "facial_hair", 1.03, 0.31, 0.19, ("Goatee", True)),
    "lenses": _Part(_lenses, "lens", 0.0, 0.56, 0.19, ("Eyeglasses", True), 0.4),
    "frames": _Part(_frames, "frame", 0.0, 0.84, 0.23, ("Eyeglasses", True)),
    "earrings": _Part(
        _spots(1.1, 0.35, 0.105, 0.105), "earring", 0.35, 1.03, 0.13, ("Wearing_Earrings", True)
    ),
    "tie": _Part(_tie, "tie", 1.44, 0.26, 0.28, ("Wearing_Necktie", True)),
    "hat": _Part(_hat, "hat", -1.09, 1.0, 0.44, ("Wearing_Hat", True)),
    "band": _Part(_band, "band", -0.9, 0.84, 0.1, ("Wearing_Hat", True)),
}


def _always(name: str) -> _Part:
    return _PARTS[name]._replace(shown=None)


# Attributes that are seen at the same place, and the parts that make up their region.
_REGIONS = (
    (("Bald", "Black_Hair", "Blond_Hair"), (_always("hair"), _PARTS["bangs"])),
    (("Bangs",), (_always("bangs"),)),
    (("Big_Nose",), (_always("nose_shadow"),)),
    (("Bushy_Eyebrows",), (_always("brows"),)),
    (("Eyeglasses",), (_always("lenses"), _always("frames"))),
    (("Goatee",), (_always("goatee"),)),
    (
        ("Mouth_Slightly_Open", "Smiling", "Wearing_Lipstick"),
        (_PARTS["lips"]._replace(shape=_all_mouths),),
    ),
    (("Mustache",), (_always("mustache"),)),
    (("Rosy_Cheeks",), (_always("cheeks"),)),
    (("Wearing_Earrings",), (_always("earrings"),)),
    (("Wearing_Hat",), (_always("hat"),)),
    (("Wearing_Necktie",), (_always("tie"),)),
)


class _Window(NamedTuple):
    """Rectangles of one size in the pictures `items` and the face's frame (u, v) in them."""

    items: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    size: tuple[int, int]
    u: np.ndarray
    v: np.ndarray


def _window(
    part: _Part, geometry: Columns, items: np.ndarray, image_size: tuple[int, int]
) -> _Window:
    """Returns the part's rectangles, moved into the picture where they would leave it."""
    # 0.21 is the sine of the largest tilt; one pixel on either side is for the soft edge.
    largest = _LARGEST * min(image_size)
    reach = (part.half_height + 0.21 * part.half_width, part.half_width + 0.21 * part.half_height)
    size = tuple(
        min(length, 2 * int(half * largest + 1) + 2)
        for length, half in zip(image_size, reach, strict=True)
    )
    scale, cos, sin, x, y = (geometry[name][items] for name in ("scale", "cos", "sin", "x", "y"))
    middle = (y + cos * scale * part.centre, x - sin * scale * part.centre)
    rows, columns = (
        np.clip(np.floor(place - 0.5 * length + 0.5), 0, whole - length).astype(np.int64)
        for place, length, whole in zip(middle, size, image_size, strict=True)
    )
    down = (rows[:, None] + np.arange(size[0])).astype(np.float32) + 0.5 - y[:, None]
    right = (columns[:, None] + np.arange(size[1])).astype(np.float32) + 0.5 - x[:, None]
    down, right = down / scale[:, None], right / scale[:, None]
    cos, sin = cos[:, None], sin[:, None]
    u = (sin * down)[:, :, None] + (cos * right)[:, None, :]
    v = (cos * down)[:, :, None] - (sin * right)[:, None, :]
    return _Window(items, rows, columns, size, u, v)


def _coverage(part: _Part, geometry: Columns, window: _Window) -> np.ndarray:
    """Returns how much of each of the window's pixels the shape covers, in 0 ... 1."""
    g = _Items(geometry, window.items)
    coverage = part.shape(g, window.u, window.v)
    coverage *= -g["scale"]
    coverage += 0.5
    return np.clip(coverage, 0, 1, out=coverage)


def _paint(canvas: np.ndarray, window: _Window, coverage: np.ndarray, colours: np.ndarray) -> None:
    """Blends colours (items, 3, height, width) into the canvas (n, 3, height, width)."""
    view = sliding_window_view(canvas, window.size, axis=(2, 3), writeable=True)
    index = (window.items, slice(None), window.rows, window.columns)
    patch = view[index]
    # Not patch + coverage * (colours - patch): full coverage must leave nothing of the patch.
    patch *= (1 - coverage)[:, None]
    patch += colours * coverage[:, None]
    view[index] = patch


def _shown(part: _Part, labels: Columns) -> np.ndarray:
    """Returns the images that show the part."""
    if part.shown is None:
        return np.arange(len(labels["Bald"]))
    attribute, value = part.shown
    return np.flatnonzero(labels[attribute] == value)


def _paint_faces(canvas: np.ndarray, labels: Columns, p: Columns) -> None:
    geometry = _geometry(labels, p, canvas.shape[2:])
    colours = _colours(labels, p)
    for part in _PARTS.values():
        items = _shown(part, labels)
        window = _window(part, geometry, items, canvas.shape[2:])
        coverage = _coverage(part, geometry, window)
        colour = colours[part.colour][items][:, :, None, None]
        if part.shade:
            shade = part.shade(_Items(geometry, items), window.u, window.v)
            colour = colour * shade[:, None]
        if part.opacity < 1:
            coverage *= np.float32(part.opacity)
        _paint(canvas, window, coverage, colour)


def _pixelwise(values: np.ndarray) -> np.ndarray:
    """Shapes values (n,) to meet the pixels of n planes."""
    return values.astype(np.float32)[:, None, None]


def _pixel_axes(image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels' vertical (height, 1) and horizontal (width,) places in 0 ... 1."""
    height, width = image_size
    down = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    return down, (np.arange(width, dtype=np.float32) + 0.5) / width


def _background(p: Columns, image_size: tuple[int, int]) -> np.ndarray:
    """Returns two-colour gradients, some striped: float32 (n, 3, height, width)."""
    down, right = _pixel_axes(image_size)
    mix = _pixelwise(p["ground_x"] * 2 - 1) * (right - 0.5) + 0.5
    mix = mix + _pixelwise(p["ground_y"] * 2 - 1) * (down - 0.5)
    wave = _pixelwise(4 + 6 * p["stripe_x"]) * right + _pixelwise(10 * p["stripe_y"]) * down
    stripes = _pixelwise(np.maximum(p["stripes"] - 0.5, 0))
    mix += stripes * np.clip(6 * _triangle_wave(wave) - 3, 0, 1)
    near, far = (
        _hue_colour(
            p["ground_hue" + i], 0.7 * p["ground_saturation" + i], 0.3 + 0.7 * value
        ).astype(np.float32)[:, :, None, None]
        for i, value in (("", p["ground_value"]), ("_2", p["ground_value_2"]))
    )
    return near + (far - near) * mix[:, None]


def _paint_blob(canvas: np.ndarray, p: Columns, suffix: str) -> None:
    """Paints one distracting ellipse on every background."""
    height, width = canvas.shape[2:]
    side = min(height, width)
    x, y = p[f"blob_x{suffix}"] * width, p[f"blob_y{suffix}"] * height
    geometry = {"scale": np.ones_like(x), "cos": np.ones_like(x), "sin": np.zeros_like(x)}
    geometry |= {"x": x, "y": y}
    geometry |= {
        name: side * (0.03 + 0.12 * p[f"blob_{name}{suffix}"]) for name in ("width", "height")
    }
    geometry = {name: value.astype(np.float32) for name, value in geometry.items()}
    reach = 0.15 / _LARGEST
    part = _Part(lambda g, u, v: _ellipse(u, v, g["width"], g["height"]), "", 0.0, reach, reach)
    window = _window(part, geometry, np.arange(len(x)), (height, width))
    colour = _hue_colour(p[f"blob_hue{suffix}"], 0.6, 0.2 + 0.8 * p[f"blob_value{suffix}"])
    coverage = _coverage(part, geometry, window)
    _paint(canvas, window, coverage, colour.astype(np.float32)[:, :, None, None])


def _expose(canvas: np.ndarray, p: Columns, noise: np.ndarray) -> np.ndarray:
    """Applies light and noise and returns uint8 images (n, height, width, 3)."""
    down, right = _pixel_axes(canvas.shape[2:])
    light = _pixelwise(0.3 * (p["light_x"] - 0.5)) * (right - 0.5)
    light = light + _pixelwise(0.3 * (p["light_y"] - 0.5)) * (down - 0.5)
    light += _pixelwise(0.75 + 0.35 * p["light"])
    grain = (noise.astype(np.float32) - 127.5) * _pixelwise((2 + 8 * p["noise"]) / 127.5)
    # Half a level makes the truncation below round to nearest.
    grain += 0.5
    canvas *= light[:, None]
    canvas += grain[:, None]
    np.clip(canvas, 0, 255, out=canvas)
    return canvas.transpose(0, 2, 3, 1).astype(np.uint8)


def render(labels: Columns, parameters: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Draws faces.

    Args:
        labels: Attribute to boolean column (n,), exclusive hair attributes at most one at a time.
        parameters: Columns of `PARAMETERS` in [0, 1), float64 (n, parameters): all that varies
            besides the labels.
        noise: Noise bytes, uint8 (n, height, width).

    Returns:
        Images, uint8 (n, height, width, 3) in RGB.
    """
    p = dict(zip(PARAMETERS, parameters.T, strict=True))
    canvas = _background(p, noise.shape[1:])
    for suffix in ("", "_2"):
        _paint_blob(canvas, p, suffix)
    _paint_faces(canvas, labels, p)
    return _expose(canvas, p, noise)


def _hidden(
    covers: tuple[str, ...], labels: Columns, geometry: Columns, window: _Window
) -> np.ndarray:
    """Returns the window's pixels that one of the named parts covers completely."""
    hidden = np.zeros(window.u.shape, bool)
    for part in (_PARTS[name] for name in covers):
        shown = np.isin(window.items, _shown(part, labels))
        hidden |= (_coverage(part, geometry, window) == 1) & shown[:, None, None]
    return hidden


def render_regions(
    labels: Columns, parameters: np.ndarray, image_size: tuple[int, int]
) -> np.ndarray:
    """Draws the regions that the attributes depend on, for the faces of `render`.

    Args:
        labels: As for `render`; the order of its attributes is that of the regions.
        parameters: As for `render`.
        image_size: Height and width of the pictures.

    Returns:
        Regions, bool (n, height, width, attributes).
    """
    p = dict(zip(PARAMETERS, parameters.T, strict=True))
    present = np.ones(len(parameters), bool)
    # The larger variant of a part covers the smaller.
    larger = dict.fromkeys(("Big_Nose", "Bushy_Eyebrows", "Mouth_Slightly_Open"), present)
    geometry = _geometry(labels | larger, p, image_size)
    regions = np.zeros((len(parameters), *image_size, len(labels)), bool)
    order = list(labels)
    for attributes, parts in _REGIONS:
        for part in parts:
            items = _shown(part, labels)
            window = _window(part, geometry, items, image_size)
            inside = _coverage(part, geometry, window) > 0
            if part.colour == "hair":
                inside &= ~_hidden(("ears", "earrings", "hat"), labels, geometry, window)
            view = sliding_window_view(regions, window.size, axis=(1, 2), writeable=True)
            for attribute in attributes:
                view[items, window.rows, window.columns, order.index(attribute)] |= inside
    return regions
