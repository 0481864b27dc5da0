"""Keras finds the classes of this package in saved networks without importing it beforehand.

`load_model` of Keras takes custom classes from Keras' registry alone. Filling it at
`import mcattn_tf` would import Keras and its backend, which takes seconds, before a command could
set how. So names are registered the moment Keras is imported, and the classes behind them are
imported when a file asks for one.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Modules with registered classes; a test compares both lists with the decorators in the package.
MODULES = (
    *("layers.convolutions", "layers.factored_pooling", "layers.masked_pooling", "layers.masks"),
    *("layers.normalization", "layers.task_folding", "losses", "metrics", "optimizers"),
)
NAMES = (
    *("BatchNormalization", "CenterTap", "DilatedConv2D", "FactoredSoftmaxPooling", "FoldedTasks"),
    *("KnownAccuracy", "MaskL1", "MaskSparsity", "MaskedPooling", "MaskedSoftmaxPooling"),
    *("MeanBinaryCrossentropy", "MomentumSGD", "OneCycle", "PositionEmbedding"),
    *("ReconstructionError", "SoftmaxPooling", "SummedBinaryCrossentropy"),
)


class CallablePackage(ModuleType):
    """A package that is also the function of its name: `mcattn_tf.explain(model, images)`.

    A function in its place would be gone as soon as Python imports a module of the package.
    """

    function = ""  # MODULE:NAME

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls the function."""
        module, name = self.function.split(":")
        return getattr(importlib.import_module(module), name)(*arguments, **named)


class _StandIn:
    """Stands in Keras' registry for a class until a saved network asks for it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def from_config(self, config: dict[str, Any]) -> Any:
        for module in MODULES:  # each puts its classes in place of their stand-ins
            importlib.import_module(f"mcattn_tf.{module}")
        return sys.modules["keras"].saving.get_custom_objects()[self._key].from_config(config)


def _fill_registry() -> None:
    registry = sys.modules["keras"].saving.get_custom_objects()
    for name in NAMES:
        registry.setdefault(f"mcattn_tf>{name}", _StandIn(f"mcattn_tf>{name}"))


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Fills the registry as soon as Keras is imported, once."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_fill(module: ModuleType) -> None:
            execute(module)
            _fill_registry()

        spec.loader.exec_module = execute_and_fill
        return spec


def register() -> None:
    """Registers every layer, loss and optimizer with Keras: now, or when Keras is imported."""
    if "keras" in sys.modules:
        _fill_registry()
    else:
        sys.meta_path.insert(0, _AfterKeras())
