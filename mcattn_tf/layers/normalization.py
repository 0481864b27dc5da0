"""Batch normalisation by the statistics of each task in a batch of folded tasks."""

from keras import KerasTensor, layers, ops

from mcattn_tf.layers.fusion import with_gradients


def _moments(x: KerasTensor) -> KerasTensor:
    """Returns the means and variances of x (T, N, C), (T, 2, C), float32."""
    x = ops.cast(x, "float32")
    mean = ops.mean(x, axis=1, keepdims=True)
    return ops.concatenate([mean, ops.mean(ops.square(x - mean), axis=1, keepdims=True)], axis=1)


def _normalized(
    x: KerasTensor, mean: KerasTensor, scale: KerasTensor, gamma: KerasTensor, beta: KerasTensor
) -> KerasTensor:
    """Returns the normalised tensor; x (T, N, C), mean and scale (T, 1, C), gamma and beta (C,)."""
    factor = scale * gamma
    return ops.cast(ops.cast(x, "float32") * factor + (beta - mean * factor), x.dtype)


def _normalized_gradients(
    x: KerasTensor,
    mean: KerasTensor,
    scale: KerasTensor,
    gamma: KerasTensor,
    beta: KerasTensor,
    upstream: KerasTensor,
) -> tuple[KerasTensor, ...]:
    """Returns the gradients, that of x through mean and scale too (Ioffe & Szegedy 2015)."""
    upstream, count = ops.cast(upstream, "float32"), ops.cast(ops.shape(x)[1], "float32")
    normal = (ops.cast(x, "float32") - mean) * scale
    of_beta = ops.sum(upstream, axis=1, keepdims=True)  # (T, 1, C)
    of_gamma = ops.sum(upstream * normal, axis=1, keepdims=True)
    of_x = scale * gamma * (upstream - (of_beta + normal * of_gamma) / count)
    none = ops.zeros_like(mean)
    sums = (ops.sum(of_gamma, axis=(0, 1)), ops.sum(of_beta, axis=(0, 1)))
    return ops.cast(of_x, x.dtype), none, none, *sums


_trained = with_gradients(_normalized, _normalized_gradients)


def normalize(
    layer: layers.BatchNormalization, x: KerasTensor, task_count: int
) -> tuple[KerasTensor, KerasTensor]:
    """Normalises the tensors of each task by the statistics of its own batch.

    Args:
        layer: Batch normalisation over the last axis.
        x: (T B, h, w, C).
        task_count: T.

    Returns:
        (T B, h, w, C), and the means and variances, (T, 2, C), float32.
    """
    channels = x.shape[-1]
    grouped = ops.reshape(x, (task_count, -1, channels))
    statistics = _moments(ops.stop_gradient(grouped))
    mean, variance = statistics[:, :1], statistics[:, 1:]
    gamma = layer.gamma if layer.scale else ops.ones(channels)
    beta = layer.beta if layer.center else ops.zeros(channels)
    # As tensors: a custom gradient takes no variables.
    weights = (ops.cast(weight, "float32") for weight in (gamma, beta))
    normalized = _trained(grouped, mean, ops.rsqrt(variance + layer.epsilon), *weights)
    return ops.reshape(normalized, (-1, *x.shape[1:])), statistics


def move_averages(layer: layers.BatchNormalization, statistics: KerasTensor) -> None:
    """Updates the moving averages by one task after another, as a loop would.

    Args:
        layer: Batch normalisation whose averages move T times.
        statistics: Means and variances, (T, 2, C).
    """
    task_count, momentum = statistics.shape[0], layer.momentum
    powers = [momentum ** (task_count - 1 - task) for task in range(task_count)]
    weights = (1 - momentum) * ops.convert_to_tensor(powers, "float32")
    moved = ops.einsum("t,tsc->sc", weights, statistics)
    kept = momentum**task_count
    layer.moving_mean.assign(kept * layer.moving_mean + moved[0])
    layer.moving_variance.assign(kept * layer.moving_variance + moved[1])
