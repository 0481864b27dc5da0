"""A trained network as files that need nothing of this package: SavedModel, ONNX, TFLite.

The package is also the function of its name: `mcattn_tf.export(model, config, directory)`.
"""

import sys
import types


class _Callable(types.ModuleType):
    """A package that is called as a function."""

    def __call__(self, *arguments: object, **named: object) -> object:
        """Calls `exporting.export`."""
        from mcattn_tf.export.exporting import export

        return export(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
