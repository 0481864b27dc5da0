"""From a model and images to arrays that explain, and how far these can be trusted.

The package is also the function of its name: `mcattn_tf.explain(model, images)`.
"""

import sys
import types


class _Callable(types.ModuleType):
    """A package that is called as a function."""

    def __call__(self, *arguments: object, **named: object) -> object:
        """Calls `explaining.explain`."""
        from mcattn_tf.explain.explaining import explain

        return explain(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
