"""A network as one graph of layers, whatever it is made of."""

import inspect
import itertools
from collections.abc import Collection

import keras
from keras import KerasTensor

from mcattn_tf.errors import UserError, reason_of


class Inliner:
    """Calls the layers of a network one by one, also those of networks inside of it.

    Each layer is a copy that shares the weights and computes in float32.

    Args:
        reserved: names that no copy gets.

    Attributes:
        layers: {path: copy}; the path of a layer in a nested network is `OUTER/INNER`.
    """

    def __init__(self, reserved: Collection[str] = ()) -> None:
        self.layers: dict[str, keras.Layer] = {}
        self._copies: dict[int, keras.Operation] = {}
        self._names, self._outer = set(reserved), ()

    def run(self, model: keras.Model, *inputs: KerasTensor) -> KerasTensor | dict | list:
        """Returns the outputs of a network for its inputs, in the structure that it has."""
        if isinstance(model, keras.Sequential):
            [x] = inputs
            for layer in model.layers:
                x = self._call(layer, x)
            return x
        graph = model if isinstance(model, keras.Function) else _traced(model, inputs)
        # As in `clone_model`; calling the model would make it one layer again.
        return graph._run_through_graph(inputs, call_fn=self._call)

    def _call(self, operation: keras.Operation, *inputs, **arguments) -> KerasTensor:
        if not isinstance(operation, keras.Model):
            return self._copy(operation)(*inputs, **arguments)
        outer, self._outer = self._outer, (*self._outer, operation.name)
        outputs = self.run(operation, *inputs)
        self._outer = outer
        return outputs

    def _copy(self, operation: keras.Operation) -> keras.Operation:
        if id(operation) not in self._copies:
            # Not from the configuration, which many layers that users write do not have whole.
            names = (f"{operation.name}_{n}".removesuffix("_0") for n in itertools.count())
            name = next(name for name in names if name not in self._names)
            self._copies[id(operation)] = twin = copied(operation, name=name)
            self._names.add(name)
            if isinstance(twin, keras.Layer):
                self.layers["/".join((*self._outer, operation.name))] = twin
        return self._copies[id(operation)]


def copied(operation: keras.Operation, **changes: object) -> keras.Operation:
    """Returns a copy in float32, not yet called, with the same weights and other attributes."""
    twin = object.__new__(type(operation))  # Keras' own copies are made of files
    twin.__dict__.update(operation.__dict__)
    twin.__dict__.update(_inbound_nodes=[], _outbound_nodes=[], **changes)
    policy = getattr(twin, "_dtype_policy", None)
    if policy is not None and policy.compute_dtype in ("float16", "bfloat16"):
        whole = keras.DTypePolicy("float32")
        whole._variable_dtype = policy.variable_dtype  # half weights are cast where they are used
        twin.__dict__["_dtype_policy"] = whole
    return twin


def _traced(model: keras.Model, inputs: tuple[KerasTensor, ...]) -> keras.Function:
    """Returns the graph of a network that is a class with a method `call`."""
    symbols = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in inputs]
    takes_training = "training" in inspect.signature(model.call).parameters
    try:
        outputs = model.call(*symbols, **({"training": False} if takes_training else {}))
        return keras.Function(symbols, outputs)
    except Exception as error:  # whatever the user's own code raises
        raise UserError(
            f"the layers of model {model.name!r} cannot be read from its `call`; use layers and "
            f"keras.ops alone there, or give a functional model: {reason_of(error)}"
        ) from error


def inlined(model: keras.Model) -> keras.Model:
    """Returns a functional model with nested models replaced by their layers.

    It is the model itself if it has no nested models, else a copy that shares its weights.
    """
    if not any(isinstance(layer, keras.Model) for layer in model.layers):
        return model
    [given] = model.inputs
    images = keras.Input(batch_shape=given.shape, name=given.name)
    return keras.Model(images, Inliner().run(model, images), name=model.name)
