"""Parts of a face that show CelebA's attributes, fixed before anything was measured."""

import numpy as np

# Values of a part mask from 0 on, named as in CelebAMask-HQ (Lee et al. 2020); l_ and r_ are the
# person's, eye_g are glasses, mouth is between the lips, ear_r an earring, neck_l a necklace.
_NAMES = (
    *("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear"),
    *("r_ear", "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
PARTS: dict[str, int] = {name: value for value, name in enumerate(_NAMES)}
IGNORED = 255

EYES = ("l_eye", "r_eye")
EARS = ("l_ear", "r_ear")
BROWS = ("l_brow", "r_brow")
LIPS = ("u_lip", "l_lip")
MOUTH = ("mouth", *LIPS)
HAIR = ("hair", "forehead")

# Regions and the attributes seen there. A region is the first of several sets of parts that the
# face shows. `forehead`, `under_eyes`, `cheeks`, `sides`, `mustache_area`, `lower_face` and `chin`
# are pieces of the skin (`skin_pieces`). Attributes of the whole face or picture (Attractive,
# Blurry, Chubby, Heavy_Makeup, Male, Oval_Face, Pale_Skin, Young) have no region.
_REGIONS: tuple[tuple[tuple[tuple[str, ...], ...], tuple[str, ...]], ...] = (
    ((HAIR,), ("Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair")),
    ((HAIR,), ("Gray_Hair", "Receding_Hairline")),
    ((("hair",),), ("Straight_Hair", "Wavy_Hair")),
    ((("hat",), ("hair",)), ("Wearing_Hat",)),
    ((BROWS,), ("Arched_Eyebrows", "Bushy_Eyebrows")),
    ((EYES,), ("Narrow_Eyes",)),
    ((("eye_g",), EYES), ("Eyeglasses",)),
    ((("under_eyes",),), ("Bags_Under_Eyes",)),
    ((("nose",),), ("Big_Nose", "Pointy_Nose")),
    ((("cheeks",),), ("High_Cheekbones", "Rosy_Cheeks")),
    ((("sides", *EARS),), ("Sideburns",)),
    ((("ear_r",), EARS), ("Wearing_Earrings",)),
    ((MOUTH,), ("Mouth_Slightly_Open", "Smiling")),
    ((LIPS,), ("Big_Lips", "Wearing_Lipstick")),
    ((("mustache_area", "u_lip"),), ("Mustache",)),
    ((("lower_face",),), ("5_o_Clock_Shadow",)),
    ((("lower_face", *LIPS),), ("Goatee", "No_Beard")),
    ((("chin", "neck"),), ("Double_Chin",)),
    ((("neck_l",), ("neck",)), ("Wearing_Necklace",)),
    ((("cloth",), ("neck",)), ("Wearing_Necktie",)),
)
ATTRIBUTE_PARTS: dict[str, tuple[tuple[str, ...], ...]] = dict(
    sorted((attribute, parts) for parts, attributes in _REGIONS for attribute in attributes)
)

# Attributes whose label is the presence of a part.
PART_LABELS: dict[str, str] = {
    **{"Eyeglasses": "eye_g", "Wearing_Earrings": "ear_r"},
    **{"Wearing_Hat": "hat", "Wearing_Necklace": "neck_l"},
}


def _extent(mask: np.ndarray, parts: tuple[str, ...]) -> tuple[int, int, int, int] | None:
    """Returns first and last row, first and last column of some parts; None if there are none."""
    rows, columns = np.nonzero(np.isin(mask, [PARTS[name] for name in parts]))
    return (rows.min(), rows.max(), columns.min(), columns.max()) if len(rows) else None


def skin_pieces(mask: np.ndarray) -> dict[str, np.ndarray]:
    """Cuts the skin of an upright face into pieces by the rows of its other parts.

    Takes a part mask (H, W) and returns {piece: bool (H, W)}; a piece is missing where a part
    that bounds it is not seen.
    """
    skin = mask == PARTS["skin"]
    rows = np.arange(mask.shape[0])[:, None]
    columns = np.arange(mask.shape[1])[None, :]
    eyes = _extent(mask, EYES) or _extent(mask, ("eye_g",))
    brows = _extent(mask, BROWS) or eyes
    nose, mouth = _extent(mask, ("nose",)), _extent(mask, MOUTH)
    pieces = {}
    if brows:  # where none is seen, eyes or glasses
        pieces["forehead"] = skin & (rows < brows[0])
    if eyes and nose:  # down to the middle of the nose
        pieces["under_eyes"] = skin & (rows > eyes[1]) & (rows <= (nose[0] + nose[1]) // 2)
    if eyes and mouth:
        outside = (columns < eyes[2]) | (columns > eyes[3])
        pieces["cheeks"] = skin & (rows > eyes[1]) & (rows < mouth[0])
        pieces["sides"] = skin & (rows > eyes[1]) & (rows <= mouth[1]) & outside
    if nose and mouth:
        pieces["mustache_area"] = skin & (rows > nose[1]) & (rows < mouth[0])
    if nose:
        pieces["lower_face"] = skin & (rows > nose[1])
    if mouth:
        pieces["chin"] = skin & (rows > mouth[1])
    return pieces


def attribute_regions(mask: np.ndarray, attributes: tuple[str, ...]) -> np.ndarray:
    """Returns the region of each attribute in a part mask (H, W), bool (H, W, k).

    It is empty where the face shows none of the attribute's parts in `ATTRIBUTE_PARTS`.
    """
    pieces = skin_pieces(mask)

    def region(attribute: str) -> np.ndarray:
        for parts in ATTRIBUTE_PARTS[attribute]:
            there = np.isin(mask, [PARTS[part] for part in parts if part in PARTS])
            for part in parts:
                there = there | pieces.get(part, False)
            if there.any():
                break
        return there

    return np.stack([region(attribute) for attribute in attributes], axis=-1)
