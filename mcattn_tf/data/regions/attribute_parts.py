"""Which parts of a face show each of CelebA's attributes: written before anything was measured."""

import numpy as np

# Values of a part mask, named as in CelebAMask-HQ (Lee et al. 2020); l_ and r_ are the person's.
PARTS: dict[str, int] = {
    "background": 0,
    "skin": 1,
    "nose": 2,
    "eye_g": 3,  # glasses
    "l_eye": 4,
    "r_eye": 5,
    "l_brow": 6,
    "r_brow": 7,
    "l_ear": 8,
    "r_ear": 9,
    "mouth": 10,  # between the lips
    "u_lip": 11,
    "l_lip": 12,
    "hair": 13,
    "hat": 14,
    "ear_r": 15,  # earring
    "neck_l": 16,  # necklace
    "neck": 17,
    "cloth": 18,
}
IGNORED = 255

EYES = ("l_eye", "r_eye")
EARS = ("l_ear", "r_ear")
BROWS = ("l_brow", "r_brow")
LIPS = ("u_lip", "l_lip")
MOUTH = ("mouth", *LIPS)
HAIR = ("hair", "forehead")

# Attribute: sets of parts of which the first that the face shows is the region. `forehead`,
# `under_eyes`, `cheeks`, `sides`, `mustache_area`, `lower_face` and `chin` are pieces of the skin
# (`skin_pieces`). Attributes of the whole face or picture (Attractive, Blurry, Chubby,
# Heavy_Makeup, Male, Oval_Face, Pale_Skin, Young) have no region.
ATTRIBUTE_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "5_o_Clock_Shadow": (("lower_face",),),
    "Arched_Eyebrows": (BROWS,),
    "Bags_Under_Eyes": (("under_eyes",),),
    "Bald": (HAIR,),
    "Bangs": (HAIR,),
    "Big_Lips": (LIPS,),
    "Big_Nose": (("nose",),),
    "Black_Hair": (HAIR,),
    "Blond_Hair": (HAIR,),
    "Brown_Hair": (HAIR,),
    "Bushy_Eyebrows": (BROWS,),
    "Double_Chin": (("chin", "neck"),),
    "Eyeglasses": (("eye_g",), EYES),
    "Goatee": (("lower_face", *LIPS),),
    "Gray_Hair": (HAIR,),
    "High_Cheekbones": (("cheeks",),),
    "Mouth_Slightly_Open": (MOUTH,),
    "Mustache": (("mustache_area", "u_lip"),),
    "Narrow_Eyes": (EYES,),
    "No_Beard": (("lower_face", *LIPS),),
    "Pointy_Nose": (("nose",),),
    "Receding_Hairline": (HAIR,),
    "Rosy_Cheeks": (("cheeks",),),
    "Sideburns": (("sides", *EARS),),
    "Smiling": (MOUTH,),
    "Straight_Hair": (("hair",),),
    "Wavy_Hair": (("hair",),),
    "Wearing_Earrings": (("ear_r",), EARS),
    "Wearing_Hat": (("hat",), ("hair",)),
    "Wearing_Lipstick": (LIPS,),
    "Wearing_Necklace": (("neck_l",), ("neck",)),
    "Wearing_Necktie": (("cloth",), ("neck",)),
}

# Attributes whose label is the presence of a part.
PART_LABELS: dict[str, str] = {
    "Eyeglasses": "eye_g",
    "Wearing_Earrings": "ear_r",
    "Wearing_Hat": "hat",
    "Wearing_Necklace": "neck_l",
}


def _rows_and_columns(mask: np.ndarray, parts: tuple[str, ...]) -> tuple[int, int, int, int] | None:
    """Returns first and last row, first and last column of some parts; None if there are none."""
    there = np.isin(mask, [PARTS[name] for name in parts])
    if not there.any():
        return None
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def skin_pieces(mask: np.ndarray) -> dict[str, np.ndarray]:
    """Cuts the skin of an upright face into pieces by the rows of its other parts.

    Args:
        mask: (H, W), values of `PARTS` or `IGNORED`.

    Returns:
        {piece: bool (H, W)}; a piece is missing where a part that bounds it is not seen:
        `forehead`, above the brows (above the eyes or glasses where no brow is seen);
        `under_eyes`, from the eyes down to the middle of the nose; `cheeks`, between eyes and
        mouth; `sides`, from the eyes down to the lower end of the mouth, outside of the eyes'
        columns; `mustache_area`, between nose and mouth; `lower_face`, below the nose; `chin`,
        below the mouth.
    """
    skin = mask == PARTS["skin"]
    rows = np.arange(mask.shape[0])[:, None]
    columns = np.arange(mask.shape[1])[None, :]
    eyes = _rows_and_columns(mask, EYES) or _rows_and_columns(mask, ("eye_g",))
    brows = _rows_and_columns(mask, BROWS) or eyes
    nose, mouth = _rows_and_columns(mask, ("nose",)), _rows_and_columns(mask, MOUTH)
    pieces = {}
    if brows:
        pieces["forehead"] = skin & (rows < brows[0])
    if eyes and nose:
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
    """Returns where each attribute is seen, by `ATTRIBUTE_PARTS`.

    Args:
        mask: (H, W), values of `PARTS` or `IGNORED`.
        attributes: k names out of `ATTRIBUTE_PARTS`.

    Returns:
        Bool (H, W, k); empty where the face shows none of an attribute's parts.
    """
    pieces = skin_pieces(mask)

    def region(attribute: str) -> np.ndarray:
        there = np.zeros(mask.shape, bool)
        for parts in ATTRIBUTE_PARTS[attribute]:
            there = np.isin(mask, [PARTS[part] for part in parts if part in PARTS])
            for part in parts:
                there = there | pieces.get(part, False)
            if there.any():
                break
        return there

    return np.stack([region(attribute) for attribute in attributes], axis=-1)
