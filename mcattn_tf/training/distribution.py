"""Training on several devices of a machine, and on several machines, by tf.distribute.

Everything below takes any strategy. TensorFlow's default strategy is that of one device.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Sequence

import keras
import tensorflow as tf
from tensorflow.python.ops import gen_math_ops

from mcattn_tf.errors import UserError, choose

Dataset = tf.data.Dataset
Strategy = tf.distribute.Strategy
STRATEGIES = ("auto", "none", "mirrored", "multiworker")
_ADD_N = gen_math_ops.add_n


def _worker_count() -> int:
    """Returns the number of workers in TF_CONFIG, the chief among them; 0 without TF_CONFIG."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        return sum(len(cluster.get(job, ())) for job in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError):
        raise UserError(
            "TF_CONFIG must be JSON such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            '"task": {"type": "worker", "index": 0}}. '
            f"Received: {os.environ['TF_CONFIG'][:100]!r}"
        ) from None


def choose_strategy(name: str) -> Strategy:
    """Returns the strategy that divides batches; call it before TensorFlow computes anything.

    Args:
        name: `none`, one device; `mirrored`, all GPUs of this machine (without a GPU its logical
            CPUs); `multiworker`, all machines in TF_CONFIG with all their GPUs; `auto`,
            `multiworker` where TF_CONFIG names more than one worker, else `mirrored` where there
            is more than one GPU, else `none`.

    Raises:
        UserError: For another name, a TF_CONFIG that is missing or cannot be read, or workers
            that cannot be reached.
    """
    choose("strategy", name, STRATEGIES)
    if name == "auto":
        several_gpus = len(tf.config.list_physical_devices("GPU")) > 1
        name = "multiworker" if _worker_count() > 1 else "mirrored" if several_gpus else "none"
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multiworker":
        if not _worker_count():
            raise UserError("--strategy multiworker needs TF_CONFIG, which names the workers")
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except (tf.errors.OpError, RuntimeError, ValueError) as error:
            raise UserError(f"cannot join the workers of TF_CONFIG: {error}") from None
    return tf.distribute.get_strategy()


def make_deterministic() -> None:
    """Makes every later operation give the same bits for the same input, or fail.

    `enable_op_determinism` is not enough: TensorFlow adds three or more gradients of one tensor by
    AddN, which begins with the input whose memory it can reuse, and that depends on the timing of
    threads. Here gradients are added one after another.
    """
    tf.config.experimental.enable_op_determinism()
    gen_math_ops.add_n = _add_in_order


def _add_in_order(inputs: Sequence[tf.Tensor], name: str | None = None) -> tf.Tensor:
    """Replaces `gen_math_ops.add_n`, by which TensorFlow adds gradients, without a setting for it.

    Only lists of tensors, of `tf.while_loop`, are left to it.
    """
    if inputs[0].dtype == tf.variant:
        return _ADD_N(inputs, name)
    # The graph optimizer would join sums of sums to an AddN; it does not see through EnsureShape.
    shape, total = inputs[0].shape, inputs[0]
    for x in inputs[1:]:
        pair = (tf.ensure_shape(term, shape) for term in (total, x))
        total = gen_math_ops.add_v2(*pair)
    return tf.ensure_shape(total, shape)


def of_several_workers(strategy: Strategy) -> bool:
    """Returns whether other processes compute too."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: Strategy) -> bool:
    """Returns whether this process is the one that writes and prints."""
    if not of_several_workers(strategy):
        return True
    resolver = strategy.cluster_resolver
    with_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker" and resolver.task_id == 0 and not with_chief
    )


def describe(strategy: Strategy) -> str:
    """Describes the division of a batch, for the log; empty for one device."""
    count = strategy.num_replicas_in_sync
    workers = f" of {_worker_count()} workers" if of_several_workers(strategy) else ""
    return f"each batch is divided among {count} devices{workers}" if count > 1 else ""


@tf.autograph.experimental.do_not_convert  # which takes as long as all the rest
def divided(strategy: Strategy, batches_of: Callable[[range, int], Dataset]) -> Iterable:
    """Returns batches for the devices of this process.

    `batches_of` is a function from the numbers of some of R devices, and R, to the shares of these
    devices: those of the first batch in turn, then those of the second.
    """
    if strategy.num_replicas_in_sync == 1:
        return batches_of(range(1), 1)

    def of_worker(context: tf.distribute.InputContext) -> Dataset:
        count = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * count
        return batches_of(range(first, first + count), context.num_replicas_in_sync)

    return strategy.distribute_datasets_from_function(of_worker)


def agreed(strategy: Strategy, *flags: bool) -> tuple[bool, ...]:
    """Returns whether each flag is set in any worker; all workers must call it equally often."""
    if not of_several_workers(strategy):
        return flags
    values = [float(flag) for flag in flags]
    parts = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(values))
    return tuple(count > 0 for count in strategy.reduce("SUM", parts, axis=None).numpy().tolist())


def wait_for_all(strategy: Strategy) -> None:
    """Waits until all workers are here or gone; one that left early would take its results."""
    with contextlib.suppress(tf.errors.OpError):
        agreed(strategy, False)


def evaluation_step(strategy: Strategy, model: keras.Model, outputs: Sequence[str]) -> Callable:
    """Returns a function that adds a batch to the metrics of a model, as `test_step` does.

    It returns {output: (labels, answers)} of `outputs`, each (B, K) over all devices. TensorFlow
    traces it for each batch size, because Keras weights batches by their static size. A network
    that Keras runs without graphs is run so here too.
    """
    mean_loss = next(metric for metric in model.metrics if metric.name == "loss")

    def test(batch: tuple) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        images, goals = batch
        answers = model(images, training=False)
        # Keras divides a loss by the number of devices.
        loss = model.compute_loss(images, goals, answers, training=False)
        loss *= strategy.num_replicas_in_sync
        mean_loss.update_state(loss, sample_weight=tf.shape(images)[0])
        model.compute_metrics(images, goals, answers)
        return {name: (goals[name], answers[name]) for name in outputs}

    def run(batch: tuple) -> dict:
        return strategy.run(test, args=(batch,))

    on_devices = run if model.run_eagerly else tf.function(run, autograph=False)

    def step(batch: tuple) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        answers = on_devices(batch)
        if strategy.num_replicas_in_sync == 1:
            return answers
        return tf.nest.map_structure(lambda values: strategy.gather(values, axis=0), answers)

    return step


def results(model: keras.Model) -> dict[str, float]:
    """Returns the current metrics of a model, over all devices."""
    return {name: float(value) for name, value in model.get_metrics_result().items()}


def fit(
    strategy: Strategy,
    model: keras.Model,
    batches: Iterable,
    epochs: range,
    all_epochs: int,
    steps_per_epoch: int,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Trains by `keras.Model.fit`, or by a loop of its own for several workers, where that fails.

    The network was compiled under the strategy. `batches` has `len(epochs) * steps_per_epoch` of
    `divided`. Callbacks get the same logs in all workers, and may end the training by
    `model.stop_training`.
    """
    if of_several_workers(strategy):
        sizes = {"epochs": all_epochs, "steps": steps_per_epoch}
        called = keras.callbacks.CallbackList(callbacks, model=model, **sizes)
        _fit_workers(strategy, model, batches, epochs, steps_per_epoch, called)
        return

    def stop_after_the_last(epoch: int, _: dict) -> None:
        model.stop_training |= epoch + 1 == epochs.stop

    model.fit(
        batches,
        epochs=all_epochs,
        initial_epoch=epochs.start,
        steps_per_epoch=steps_per_epoch,
        callbacks=[*callbacks, keras.callbacks.LambdaCallback(on_epoch_end=stop_after_the_last)],
        shuffle=False,  # the pipeline shuffles
        verbose=0,
    )


def _fit_workers(
    strategy: Strategy,
    model: keras.Model,
    batches: Iterable,
    epochs: range,
    steps_per_epoch: int,
    callbacks: keras.callbacks.CallbackList,
) -> None:
    names: list[str] = []

    @tf.function(autograph=False)
    def step(batch: tuple) -> tf.Tensor:
        def train(batch: tuple) -> tf.Tensor:
            logs = model.train_step(batch)
            names[:] = logs
            return tf.stack([tf.cast(value, tf.float32) for value in logs.values()])

        return strategy.reduce("MEAN", strategy.run(train, args=(batch,)), axis=None)

    iterator, model.stop_training = iter(batches), False
    callbacks.on_train_begin()
    for epoch in epochs:
        model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        for batch in range(steps_per_epoch):
            callbacks.on_train_batch_begin(batch)
            values = step(next(iterator)).numpy().tolist()
            callbacks.on_train_batch_end(batch, dict(zip(names, values, strict=True)))
        callbacks.on_epoch_end(epoch, results(model))
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_weights)
    callbacks.on_train_end()
