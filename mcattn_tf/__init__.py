"""Convolutional networks that explain themselves, in Keras 3.

Public names are imported on first use, so that `import mcattn_tf` loads neither Keras nor
TensorFlow. After it `load_model` of Keras loads every network that was trained here.
"""

import importlib
from typing import Any

from mcattn_tf import registration

__version__ = "0.1.0"
# MODULE:NAME, and :PUBLIC_NAME if that is another; `explain` and `export` are callable packages.
_PLACES = (
    *("errors:UserError", "settings.config:Config", "settings.config:make_config"),
    *("settings.presets:PRESETS", "runs:load_model:load_run", "runs:read_config"),
    *("data.images:read_images", "models:build", "export", "explain"),
    *("data.drawn_faces:drawn_faces", "models.attaching:attach"),
    *("training.compiling:compile_model",),
    *("explain.explaining:Explanations", "explain.methods:Attributor", "explain.methods:Pairs"),
    *("explain.methods:methods_of", "explain.measuring:measure", "figures.compare:plot"),
)
_PARTS = {place.split(":")[-1]: place.split(":") for place in _PLACES}
__all__ = ["__version__", *sorted(_PARTS)]
registration.register()


def __getattr__(name: str) -> Any:
    if name not in _PARTS:
        raise AttributeError(f"module 'mcattn_tf' has no attribute {name!r}")
    module, *names = _PARTS[name]
    found = importlib.import_module(f"mcattn_tf.{module}")
    return getattr(found, names[0]) if names else found


def __dir__() -> list[str]:
    return __all__
