"""MCAttn's sub-networks on the features of any backbone."""

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from mcattn_tf.errors import UserError
from mcattn_tf.models.mcattn import outputs_of
from mcattn_tf.settings.config import make_config


def attach(
    features: KerasTensor | keras.Model, attribute_names: Sequence[str], **settings: object
) -> keras.Model:
    """Adds MCAttn's masked sub-networks, multi-label classifier and reconstructor to features.

    Source: Kimura & Tanaka 2019, fig. 2, with another extractor.

    Args:
        features: features (B, h, w, C) of a functional backbone, or the backbone whose output they
            are. It takes images (B, H, W, 3) of fixed size in [0, 1], which the reconstructor makes
            again; put `keras.layers.Rescaling` first where its weights expect others. H / h and
            W / w must be the same power of two.
        attribute_names: names of the K attributes.
        settings: fields of the section `model` of the settings, such as `pooling_sharpness=0`.

    Returns:
        A model from images to the dict of outputs of `build_mcattn`.

    Raises:
        UserError: for features, names or settings that do not fit.
    """
    if isinstance(features, keras.Model):
        [features] = features.outputs
    inputs = keras.utils.get_source_inputs(features)
    sizes = [*(inputs[0].shape[1:3] if len(inputs) == 1 else ()), *features.shape[1:]]
    if len(features.shape) != 4 or len(sizes) != 5 or None in sizes:
        raise UserError(
            "`features` must be (B, h, w, C) of a backbone of one input, images of fixed size. "
            f"Received: {tuple(features.shape)} of {len(inputs)} inputs"
        )
    height, width, rows, columns, channels = sizes
    if rows * columns == 1:
        raise UserError(
            "`features` must have more than one cell, or there is no place to look at; take an "
            "earlier layer, or larger images. Received: 1x1 cells"
        )
    stride = height // rows
    if (rows * stride, columns * stride) != (height, width) or stride & (stride - 1):
        raise UserError(
            "`features` must have cells of 1, 2, 4 ... pixels along each side; take another layer, "
            f"or images of another size. Received: {rows}x{columns} cells of {height}x{width}"
        )
    halvings = stride.bit_length() - 1
    # The stem tells nothing but the stride; shared masks need an even grid.
    shape = {"stem": ((1, 1, 2),) * halvings or ((1, 1, 1),), "channels": channels}
    shape |= {"mask_stride": 1} if rows % 2 or columns % 2 else {}
    config = make_config(
        {
            "data": {"image_size": (height, width)},
            "found": {"attributes": tuple(attribute_names)},
            "model": shape | settings,
        }
    )
    if not config.attributes:
        raise UserError("`attribute_names` must name at least one attribute. Received: none")
    grid = layers.Activation("linear", name="features")(features)
    model = keras.Model(inputs[0], outputs_of(grid, config), name="mcattn")
    model.attribute_names = config.attributes
    return model
