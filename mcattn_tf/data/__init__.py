"""Data sets, one a file, behind one call."""

from mcattn_tf.config import DataConfig
from mcattn_tf.data import celeba, faces
from mcattn_tf.data.pipeline import Data

__all__ = ["Data", "load"]

LOADERS = {"faces": faces.load, "celeba": celeba.load}


def load(config: DataConfig) -> Data:
    """Loads the data set that `config.dataset` names.

    Args:
        config: the settings.

    Returns:
        Its three parts and the names of its attributes; images come at `config.image_size`.

    Raises:
        UserError: if the files are not there or cannot be read.
    """
    data = LOADERS[config.dataset](config)
    return Data(data.train.take(config.train_examples), data.validation, data.test, data.attributes)
