"""Changes to the default network whose worth `locality.py` measures."""

# Changes to the default settings, {section: {field: value}}; the default's field is 18 pixels.
VARIANTS: dict[str, dict[str, dict]] = {
    "default": {},
    "own masks": {"model": {"mask_rank": None, "reconstructor": "transposed"}},
    "masks without L1": {"loss": {"mask_l1": 0.0}},
    "masks with the published L1": {"loss": {"mask_l1": 1e-5}},
    "one-channel masks": {"model": {"mask_rank": None, "channel_masks": False}},
    "sharpness 0.1": {"model": {"pooling_sharpness": 0.1}},
    "sharpness 1": {"model": {"pooling_sharpness": 1.0}},
    "no position": {"model": {"position_embedding": False}},
    "2 pointwise layers": {"model": {"pointwise_layers": 2}},
    "off-centre stem": {"model": {"stem": ((32, 3, 2), (64, 3, 1), (128, 3, 2))}},
    "field 6": {"model": {"stem": ((32, 4, 2), (64, 1, 1), (128, 2, 2)), "dilations": ()}},
    "field 10": {"model": {"dilations": ()}},
    "field 14": {
        "model": {"stem": ((32, 4, 2), (64, 3, 1), (64, 3, 1), (128, 2, 2)), "dilations": ()}
    },
    "field 34": {"model": {"dilations": (1, 2)}},
    "field 66": {"model": {"dilations": (1, 2, 4)}},
    "field 130": {"model": {"dilations": (1, 2, 4, 8)}},
}
