"""Data sets, one a file in `sets`, behind one call."""

from mcattn_tf.data.loading import load, load_regions, load_split
from mcattn_tf.data.regions.region_set import RegionSet
from mcattn_tf.data.split import Data, Split, format_statistics, naming_bad_images, one_sided_labels

__all__ = [
    "Data",
    "RegionSet",
    "Split",
    "format_statistics",
    "load",
    "load_regions",
    "load_split",
    "naming_bad_images",
    "one_sided_labels",
]
