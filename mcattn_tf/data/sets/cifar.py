"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from an `.npz` file or tensorflow-datasets."""

from mcattn_tf.data.sets import arrays
from mcattn_tf.data.source import Source
from mcattn_tf.settings.data import DataConfig

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CLASSES = {"cifar10": CIFAR10_CLASSES, "cifar100": tuple(map(str, range(100)))}


def source(config: DataConfig) -> Source:
    """Reads CIFAR-10 or CIFAR-100 with its fine classes; see `arrays.source`.

    Args:
        config: Settings; `dataset` and `data_dir` are used.
    """
    return arrays.source(config, CLASSES[config.dataset])
