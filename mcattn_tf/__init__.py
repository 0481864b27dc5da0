"""Convolutional networks that explain themselves, in Keras 3.

Public names are imported on first use, so that `import mcattn_tf` loads neither Keras nor
TensorFlow. After it `load_model` of Keras loads every network that was trained here.
"""

import importlib
from typing import Any

from mcattn_tf import registration

__version__ = "0.1.0"
_PLACES = {  # {public name: module, colon, name in it}
    "Attributor": "explain.methods:Attributor",
    "Config": "settings.config:Config",
    "PRESETS": "settings.presets:PRESETS",
    "Pairs": "explain.methods:Pairs",
    "UserError": "errors:UserError",
    "build": "models:build",
    "export": "export.exporting:export",
    "load_run": "runs:load_model",
    "make_config": "settings.config:make_config",
    "methods_of": "explain.methods:methods_of",
    "read_config": "runs:read_config",
    "read_images": "data.images:read_images",
}
__all__ = ["__version__", *_PLACES]
registration.register()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'mcattn_tf' has no attribute {name!r}")
    module, _, place = _PLACES[name].partition(":")
    return getattr(importlib.import_module(f"mcattn_tf.{module}"), place)


def __dir__() -> list[str]:
    return __all__
