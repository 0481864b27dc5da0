"""A trained network as files that need nothing of this package: SavedModel, ONNX, TFLite."""

import sys

from mcattn_tf.registration import CallablePackage

sys.modules[__name__].__class__ = CallablePackage
function = "mcattn_tf.export.exporting:export"
