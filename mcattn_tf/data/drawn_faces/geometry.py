"""Poses, sizes and colours of the drawn faces, from labels and random parameters.

Only + - * /, floor, min, max and comparisons are used, in a fixed order and dtype, so that every
platform draws the same bytes; the same holds for `parts` and `drawing`.
"""

import numpy as np

Columns = dict[str, np.ndarray]
Numbers = np.ndarray | float

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
OF_BACKGROUND = np.array([name.startswith(("ground_", "stripe", "blob_")) for name in PARAMETERS])

# Sizes of the face in the picture: half its height as a fraction of the smaller side.
_SMALLEST, LARGEST = 0.21, 0.275
# What the picture always holds around the face's centre, in the face's units.
_ROOM_ABOVE, _ROOM_BELOW, _ROOM_ASIDE = 1.55, 1.75, 1.2


def hue_colour(hue: np.ndarray, saturation: Numbers, value: Numbers) -> np.ndarray:
    """Returns the RGB colours (n, 3) in 0 ... 255 of hues (n,) in turns from red."""
    turns = hue[:, None] + np.array([0.0, 2 / 3, 1 / 3])
    channels = np.clip(abs(6 * (turns - np.floor(turns)) - 3) - 1, 0, 1)
    saturation = np.broadcast_to(saturation, hue.shape)[:, None]
    value = np.broadcast_to(value, hue.shape)[:, None]
    return 255 * value * (1 - saturation * (1 - channels))


def _rows(colour: tuple[int, int, int], like: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.float64), (len(like), 3))


def _mix(first: np.ndarray, second: np.ndarray | tuple, amount: Numbers) -> np.ndarray:
    amount = np.broadcast_to(amount, first.shape[:1])[:, None]
    return first + amount * (np.asarray(second) - first)


def geometry_of(labels: Columns, p: Columns, image_size: tuple[int, int]) -> Columns:
    """Returns poses and sizes, float32 (n,), from labels and parameters in [0, 1)."""
    height, width = image_size
    side = min(image_size)
    scale = side * (_SMALLEST + (LARGEST - _SMALLEST) * p["scale"])
    half_tangent = 0.21 * (p["tilt"] - 0.5)
    face_width = 0.7 + 0.12 * p["face_width"]

    def sized(attribute: str, parameter: str, present: tuple, absent: tuple) -> np.ndarray:
        low, high = np.where(labels[attribute][:, None], present, absent).T
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
        "smile_width": 0.36 + 0.04 * p["mouth_width"],
        "smile_curve": 0.3 + 0.06 * p["mouth_curve"],
        "no_smile_width": 0.26 + 0.04 * p["mouth_width"],
        "no_smile_curve": -0.1 + 0.08 * p["mouth_curve"],
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
        pair = geometry["smile_" + size], geometry["no_smile_" + size]
        geometry["mouth_" + size] = np.where(labels["Smiling"], *pair)
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


def colours_of(labels: Columns, p: Columns) -> Columns:
    """Returns the colours of all parts, float32 (n, 3) in 0 ... 255, from labels and parameters."""
    like = p["skin"]
    skin = _mix(_rows((255, 224, 198), like), (132, 86, 60), p["skin"])
    skin = _mix(skin, (236, 170, 110), 0.3 * p["skin_warmth"])
    lipstick = hue_colour(0.88 + 0.12 * p["lip_hue"], 0.92, 0.78 + 0.18 * p["lip_value"])
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
        "iris": hue_colour(0.05 + 0.6 * p["eye_hue"], 0.75, 0.45),
        "pupil": _rows((12, 10, 14), like),
        "lips": np.where(labels["Wearing_Lipstick"][:, None], lipstick, lips),
        "gap": _rows((56, 8, 16), like),
        "teeth": _rows((255, 255, 250), like),
        "lens": _rows((214, 236, 255), like),
        "frame": hue_colour(p["frame_hue"], 0.75, 0.08 + 0.35 * p["frame_value"]),
        "earring": hue_colour(0.45 + 0.42 * p["earring_hue"], 0.85, 0.95),
        "hat": hue_colour(0.3 + 0.6 * p["hat_hue"], 0.75, 0.5 + 0.4 * p["hat_value"]),
        "band": hue_colour(p["band_hue"], 0.35, 0.95),
        "clothes": hue_colour(
            p["clothes_hue"], 0.3 * p["clothes_saturation"], 0.72 + 0.28 * p["clothes_value"]
        ),
        "tie": hue_colour(p["tie_hue"], 0.9, 0.3 + 0.35 * p["tie_value"]),
    }
    return {name: value.astype(np.float32) for name, value in colours.items()}
