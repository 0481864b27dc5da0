"""A branch of a network that runs once for each task, with all tasks folded into one batch.

Source: Fukui et al. 2019, section 3.4, eq. 4 and 5: the perception branch runs on M^t * g for each
of T maps M^t of one channel. The authors' loop is T passes over the same weights with a small
batch. Here the tasks are one large batch, and operations linear in the map are computed once for
all of them. A 1x1 convolution commutes with the product, conv(M * g) = M * conv(g). A convolution
of S taps is S products of g, weighted by shifted maps. Batch normalisation uses the statistics of
each task, as in the loop, over all devices that share a batch.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
from keras import KerasTensor, layers, ops

from mcattn_tf.devices import gpus
from mcattn_tf.layers.fusion import in_slices, sharing_devices, summed_over_devices, with_gradients

# Slices in prediction on a CPU: a quarter of the memory, for up to a sixth more time with a batch
# of a few small images.
PREDICTED_SLICES = 4


def _means(x: KerasTensor, *sums: KerasTensor) -> list[KerasTensor]:
    """Returns means over all rows of all devices from sums over the rows of x (T, N, C)."""
    count = ops.cast(ops.shape(x)[1], "float32")
    *sums, count = summed_over_devices(*sums, count)
    return [total / count for total in sums]


def _normalized(
    x: KerasTensor, mean: KerasTensor, scale: KerasTensor, gamma: KerasTensor, beta: KerasTensor
) -> KerasTensor:
    """Returns the normalised tensor; x (T, N, C), mean and scale (T, 1, C), gamma and beta (C,)."""
    factor = scale * gamma
    return ops.cast(ops.cast(x, "float32") * factor + (beta - mean * factor), x.dtype)


def _normalized_gradients(*inputs: KerasTensor) -> tuple[KerasTensor, ...]:
    """Returns the gradients, that of x through mean and scale too (Ioffe & Szegedy 2015)."""
    x, mean, scale, gamma, _, upstream = inputs
    upstream = ops.cast(upstream, "float32")
    normal = (ops.cast(x, "float32") - mean) * scale
    of_beta = ops.sum(upstream, axis=1, keepdims=True)  # (T, 1, C)
    of_gamma = ops.sum(upstream * normal, axis=1, keepdims=True)
    # Mean and scale depend on the rows of all devices; gamma and beta get the sums of this one,
    # because the optimizer adds those of all.
    mean_upstream, mean_product = _means(x, of_beta, of_gamma)
    of_x = scale * gamma * (upstream - mean_upstream - normal * mean_product)
    none = ops.zeros_like(mean)
    sums = (ops.sum(of_gamma, axis=(0, 1)), ops.sum(of_beta, axis=(0, 1)))
    return ops.cast(of_x, x.dtype), none, none, *sums


_trained = with_gradients(_normalized, _normalized_gradients)


def _normalize(
    layer: layers.BatchNormalization, x: KerasTensor, task_count: int
) -> tuple[KerasTensor, KerasTensor]:
    """Returns (T B, h, w, C), normalised for each task, and its statistics, (T, 2, C), float32."""
    channels = x.shape[-1]
    grouped = ops.reshape(x, (task_count, -1, channels))
    values = ops.cast(ops.stop_gradient(grouped), "float32")
    (mean,) = _means(values, ops.sum(values, axis=1, keepdims=True))
    (variance,) = _means(values, ops.sum(ops.square(values - mean), axis=1, keepdims=True))
    gamma = layer.gamma if layer.scale else ops.ones(channels)
    beta = layer.beta if layer.center else ops.zeros(channels)
    # As tensors: a custom gradient takes no variables.
    weights = (ops.cast(weight, "float32") for weight in (gamma, beta))
    normalized = _trained(grouped, mean, ops.rsqrt(variance + layer.epsilon), *weights)
    statistics = ops.concatenate([mean, variance], axis=1)
    return ops.reshape(normalized, (-1, *x.shape[1:])), statistics


def _move_averages(layer: layers.BatchNormalization, statistics: KerasTensor) -> None:
    """Updates the moving averages by one task after another, as a loop would."""
    task_count, momentum = statistics.shape[0], layer.momentum
    powers = [momentum ** (task_count - 1 - task) for task in range(task_count)]
    weights = (1 - momentum) * ops.convert_to_tensor(powers, "float32")
    moved = ops.einsum("t,tsc->sc", weights, statistics)
    kept = momentum**task_count
    layer.moving_mean.assign(kept * layer.moving_mean + moved[0])
    layer.moving_variance.assign(kept * layer.moving_variance + moved[1])


class Weighted(NamedTuple):
    """Tensors of all tasks before folding; that of task t is sum_s maps[s, t] products[s]."""

    products: KerasTensor  # (S, B, h, w, C)
    maps: KerasTensor  # (S, T, B, h, w)


def _shifted(grid: KerasTensor, layer: layers.Conv2D) -> KerasTensor:
    """Returns the cells of a grid (B, h, w, C) under each of S taps, (S, B, h', w', C)."""
    cells, margins = [], []
    for side, taps, stride in zip(grid.shape[1:3], layer.kernel_size, layer.strides, strict=True):
        same = layer.padding == "same"
        cells.append(-(-side // stride) if same else (side - taps) // stride + 1)
        missing = max((cells[-1] - 1) * stride + taps - side, 0) if same else 0
        margins.append((missing // 2, missing - missing // 2))
    grid = ops.pad(grid, ((0, 0), *margins, (0, 0)))
    (rows, columns), strides = layer.kernel_size, layer.strides
    ends = [(count - 1) * stride + 1 for count, stride in zip(cells, strides, strict=True)]
    return ops.stack(
        [
            grid[:, row : row + ends[0] : strides[0], column : column + ends[1] : strides[1]]
            for row in range(rows)
            for column in range(columns)
        ]
    )


def _convolve(layer: layers.Conv2D, x: Weighted) -> Weighted:
    """Applies a linear, ungrouped convolution of S taps to the tensors of all tasks at once.

    `x` has one product. The result has S, and one more for the bias if there is one.
    """
    features, maps = x.products[0], ops.transpose(x.maps[0], (1, 2, 3, 0))
    features, maps = _shifted(features, layer), _shifted(maps, layer)
    taps, _, height, width, channels = features.shape
    kernel = ops.reshape(ops.cast(layer.kernel, features.dtype), (taps, channels, -1))
    products = ops.matmul(ops.reshape(features, (taps, -1, channels)), kernel)
    products = ops.reshape(products, (taps, -1, height, width, kernel.shape[-1]))
    maps = ops.transpose(maps, (0, 4, 1, 2, 3))
    if layer.use_bias:
        bias = ops.cast(layer.bias, products.dtype) + ops.zeros_like(products[:1])
        products = ops.concatenate([products, bias])
        maps = ops.concatenate([maps, ops.ones_like(maps[:1])])
    return Weighted(products, maps)


def _subsample(layer: layers.AveragePooling2D, x: Weighted) -> Weighted:
    """Takes every `strides`-th row and column, as a pooling of size 1 does."""
    rows, columns = layer.strides
    return Weighted(x.products[:, :, ::rows, ::columns], x.maps[:, :, :, ::rows, ::columns])


def _pad(layer: layers.ZeroPadding2D, x: Weighted) -> Weighted:
    """Pads the grids; what a map has beside the products' zeros does not matter."""
    margins = layer.padding
    products = ops.pad(x.products, ((0, 0), (0, 0), *margins, (0, 0)))
    return Weighted(products, ops.pad(x.maps, ((0, 0), (0, 0), (0, 0), *margins)))


def _fold(x: Weighted) -> KerasTensor:
    """Returns the tensors of all tasks as one batch, (T B, h, w, C), task after task."""
    height, width, channels = x.products.shape[2:]
    if x.maps.shape[0] == 1:
        folded = ops.expand_dims(x.maps[0], -1) * x.products  # (T, B, h, w, C)
    else:
        maps = ops.transpose(x.maps, (2, 3, 4, 1, 0))  # (B, h, w, T, S)
        products = ops.transpose(x.products, (1, 2, 3, 0, 4))  # (B, h, w, S, C)
        folded = ops.transpose(ops.matmul(maps, products), (3, 0, 1, 2, 4))
    return ops.reshape(folded, (-1, height, width, channels))


def _shared_rule(operation: keras.Operation) -> Callable | None:
    """Returns the rule for an operation on `Weighted`; None if it is not linear in the map."""
    if type(operation) is layers.Conv2D:
        linear = operation.activation is keras.activations.linear
        plain = operation.groups == 1 and operation.dilation_rate == (1, 1)
        return _convolve if linear and plain else None
    if type(operation) is layers.ZeroPadding2D:
        return _pad
    single = isinstance(operation, layers.AveragePooling2D) and operation.pool_size == (1, 1)
    return _subsample if single else None


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The operations of a branch in their order: those for all tasks at once, and for each task.

    `border` has the identities of the tensors that the first pass on to the others.
    """

    once: tuple[keras.Operation, ...]
    border: tuple[int, ...]
    each: tuple[keras.Operation, ...]

    @property
    def normalizations(self) -> list[layers.BatchNormalization]:
        return [layer for layer in self.each if isinstance(layer, layers.BatchNormalization)]


def _plan(branch: keras.Model) -> _Plan:
    start = id(branch.input)
    once, each = [], []
    ready, single = {start}, {start}  # shared tensors, and those of one product
    for operation in keras.Function(branch.input, branch.output).operations:
        inputs = [id(tensor) for tensor in keras.tree.flatten(operation.input)]
        if isinstance(operation, layers.InputLayer):
            continue
        rule = _shared_rule(operation)
        if rule is None or inputs[0] not in single:
            each.append(operation)
            continue
        once.append(operation)
        ready.add(id(operation.output))
        if rule is not _convolve or (operation.kernel_size == (1, 1) and not operation.use_bias):
            single.add(id(operation.output))
    used = {id(tensor) for operation in each for tensor in keras.tree.flatten(operation.input)}
    return _Plan(tuple(once), tuple(sorted(ready & used)), tuple(each))


@keras.saving.register_keras_serializable(package="mcattn_tf")
class FoldedTasks(keras.layers.Layer):
    """Runs a branch on the features times each of T maps, and averages its output.

    The numbers are those of a loop over the tasks, including the moving averages of batch
    normalisation, which move T times a step. Slices of tasks are computed one after another, and in
    training again in the backward pass. The size of a slice changes the memory, but no number.

    Args:
        branch: Functional model from features (B, h, w, C) to (B, h', w', C').
        task_slice: Maximum number of tasks computed together; None for all.

    Input: features g (B, h, w, C) and maps M (B, h, w, T).
    Output: (B, T, C'), float32, the averages over positions of the branch's output on M^t * g.
    """

    def __init__(self, branch: keras.Model, task_slice: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.branch = branch
        self.task_slice = task_slice
        self.predicted_slices = PREDICTED_SLICES
        self._plan = _plan(branch)
        self.built = True  # all weights are the branch's

    def call(
        self, features: KerasTensor, maps: KerasTensor, training: bool | None = None
    ) -> KerasTensor:
        """Returns the averages."""
        features = ops.cast(features, self.compute_dtype)
        maps = ops.transpose(ops.cast(maps, self.compute_dtype), (3, 0, 1, 2))
        values = {id(self.branch.input): Weighted(features[None], maps[None])}
        for operation in self._plan.once:
            rule = _shared_rule(operation)
            values[id(operation.output)] = rule(operation, values[id(operation.input)])
        border = [values[key] for key in self._plan.border]
        pooled, statistics = self._in_slices(border, bool(training))
        for layer, moments in zip(self._plan.normalizations, statistics, strict=False):
            _move_averages(layer, moments)
        return ops.transpose(pooled, (1, 0, 2))

    def selected(
        self, features: KerasTensor, maps: KerasTensor, attributes: KerasTensor
    ) -> KerasTensor:
        """Returns the averages (P, C') of one task (P,) of each image."""
        own = ops.take_along_axis(maps, attributes[:, None, None, None], axis=3)
        return ops.mean(self.branch(features * own), axis=(1, 2))

    def _tasks(
        self, products: list[KerasTensor], maps: list[KerasTensor], training: bool
    ) -> list[KerasTensor]:
        """Returns the averages of t tasks, (t, B, C'), and the statistics of each normalisation."""
        task_count = maps[0].shape[1]
        values = {
            key: _fold(Weighted(*pair))
            for key, *pair in zip(self._plan.border, products, maps, strict=True)
        }
        statistics = []
        for operation in self._plan.each:
            inputs = keras.tree.map_structure(lambda x: values[id(x)], operation.input)
            if training and isinstance(operation, layers.BatchNormalization):
                output, moments = _normalize(operation, inputs, task_count)
                statistics.append(moments)
            elif isinstance(operation, keras.Layer):
                output = operation(inputs)
            else:
                output = operation(*keras.tree.flatten(inputs))
            pairs = keras.tree.flatten(operation.output), keras.tree.flatten(output)
            values.update({id(key): result for key, result in zip(*pairs, strict=True)})
        output = ops.cast(values[id(self.branch.output)], "float32")
        pooled = ops.mean(output, axis=(1, 2))
        return [ops.reshape(pooled, (task_count, -1, pooled.shape[-1])), *statistics]

    def _in_slices(
        self, border: list[Weighted], training: bool
    ) -> tuple[KerasTensor, list[KerasTensor]]:
        """Returns the averages of all tasks, (T, B, C'), and the statistics, (T, 2, C) each."""
        products = [x.products for x in border]
        task_count, batch = border[0].maps.shape[1], ops.shape(border[0].maps)[2]
        length = task_count if training or gpus() else -(-task_count // self.predicted_slices)
        length = min(self.task_slice or length, length)
        if length == task_count:
            pooled, *statistics = self._tasks(products, [x.maps for x in border], training)
            return pooled, statistics
        # TensorFlow computes nothing twice in a loop that reads variables: they come as tensors.
        variables = self.branch.weights
        weights = [ops.convert_to_tensor(variable.value) for variable in variables]

        def one_slice(
            products: list[KerasTensor], weights: list[KerasTensor], *maps: KerasTensor
        ) -> list[KerasTensor]:
            with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
                return self._tasks(products, [ops.moveaxis(x, 0, 1) for x in maps], training)

        computed = keras.remat(one_slice) if training else one_slice
        normalizations = self._plan.normalizations if training else []
        pooled, *statistics = in_slices(
            lambda *maps: computed(products, weights, *maps),
            [ops.moveaxis(x.maps, 1, 0) for x in border],
            length,
            [(batch, self.branch.output.shape[-1])]
            + [(2, layer.moving_mean.shape[0]) for layer in normalizations],
            # Devices cannot wait for each other's statistics in a loop of TensorFlow's.
            unrolled=bool(gpus()) or (training and sharing_devices() > 1),
        )
        return pooled, statistics

    def compute_output_spec(
        self, features: KerasTensor, maps: KerasTensor, training: bool | None = None
    ) -> KerasTensor:
        """Returns the shape and dtype of the output."""
        shape = (features.shape[0], maps.shape[-1], self.branch.output.shape[-1])
        return KerasTensor(shape, "float32")

    def get_config(self) -> dict:
        """Returns the arguments that rebuild the layer."""
        branch = keras.saving.serialize_keras_object(self.branch)
        return {**super().get_config(), "branch": branch, "task_slice": self.task_slice}

    @classmethod
    def from_config(cls, config: dict) -> "FoldedTasks":
        """Returns the layer that `get_config` describes."""
        branch = keras.saving.deserialize_keras_object(config.pop("branch"))
        return cls(branch, **config)


@contextlib.contextmanager
def all_together(model: keras.Model) -> Iterator[None]:
    """Computes all tasks of a network together, for exporters that cannot handle its loops."""
    folded = [layer for layer in model.layers if isinstance(layer, FoldedTasks)]
    before = [(layer.task_slice, layer.predicted_slices) for layer in folded]
    for layer in folded:
        layer.task_slice, layer.predicted_slices = None, 1
    try:
        yield
    finally:
        for layer, sizes in zip(folded, before, strict=True):
            layer.task_slice, layer.predicted_slices = sizes
