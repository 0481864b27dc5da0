"""Street View House Numbers, cropped (Netzer et al. 2011), from `.npz` or tensorflow-datasets."""

from mcattn_tf.data.sets import arrays
from mcattn_tf.data.source import Source
from mcattn_tf.settings.data import DataConfig


def source(config: DataConfig) -> Source:
    """Reads SVHN's cropped digits; see `arrays.source`.

    Digits of one photo overlap. `photo_train` or `group_train` in the file says which these are.

    Args:
        config: Settings; `dataset` and `data_dir` are used.
    """
    return arrays.source(config, tuple("0123456789"), ("group_train", "photo_train"))
