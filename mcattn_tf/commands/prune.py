"""Makes a smaller network of a trained one: it keeps the channels that its answers use most.

python -m mcattn_tf.commands.prune --run runs/celeba --keep 0.5 --out runs/celeba-half
python -m mcattn_tf.commands.prune --run runs/celeba --by_attribute Smiling,Bald --out runs/two
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcattn_tf.commands import environment, flags
from mcattn_tf.commands.flags import PLACE_FLAGS, Flag, located
from mcattn_tf.errors import UserError, choose
from mcattn_tf.tables import paragraph, percent

if TYPE_CHECKING:
    import keras

    from mcattn_tf.training.pruning import Pruner, Smaller

AUTO = "auto"
SLOWER = 1 / 3  # factor of the run's learning rate: the weights are nearly good already
FLAGS = (
    Flag("run", str, None, "Run directory of train.py, of mcattn or baseline"),
    Flag("out", str, None, "Run directory of the smaller network, never overwritten"),
    Flag(
        "keep",
        str,
        "0.5",
        "Share of the channels to keep, above 0 and at most 1; or auto, the fewest that lose no "
        "more than --loss of the validation accuracy before fine-tuning",
    ),
    Flag("loss", float, 0.002, "Largest loss of validation accuracy with --keep auto, a share"),
    Flag(
        "by",
        str,
        "contributions",
        "Ranking of the channels: contributions (largest share of any attribute's absolute "
        "contributions), summed (absolute contributions), masks (mean mask), activation (mean "
        "absolute feature), norm (of filters) or random",
    ),
    Flag(
        "by_attribute",
        tuple[str, ...],
        None,
        "Attributes to keep with the channels that they use; the others' sub-networks are dropped",
        "all",
    ),
    Flag(
        "refit",
        bool,
        True,
        "Fit 1x1 layers and biases to the whole network, without gradients, before fine-tuning",
    ),
    Flag("epochs", int, 1, "Epochs of fine-tuning; 0 for none"),
    Flag("learning_rate", float, None, "Peak learning rate", "a third of the run's"),
    Flag("export", bool, True, "Write a SavedModel for TensorFlow Serving"),
    *PLACE_FLAGS,
)


def _check(values: Any) -> None:
    """Raises a UserError for a flag whose value is wrong whatever the run is."""
    if values.out is None:
        raise UserError("--out must name the run directory of the smaller network")
    if values.keep != AUTO and not 0 < _share(values.keep) <= 1:
        raise UserError(f"--keep must be above 0 and at most 1, or auto. Received: {values.keep}")
    if values.loss < 0:
        raise UserError(f"--loss must be zero or more. Received: {values.loss}")
    if values.epochs < 0:
        raise UserError(f"--epochs must be zero or more. Received: {values.epochs}")
    if values.learning_rate is not None and values.learning_rate <= 0:
        raise UserError(f"--learning_rate must be positive. Received: {values.learning_rate}")
    if values.by_attribute == ():
        raise UserError("--by_attribute must name something or be left out")


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # out of range


def prune(values: Any, _: list[str]) -> None:
    """Ranks the channels, makes the smaller network, fine-tunes, evaluates and exports it."""
    _check(values)
    environment.import_tensorflow_quietly()
    from mcattn_tf import data, runs
    from mcattn_tf.commands.train import finish
    from mcattn_tf.explain.feature_space.channel_ranking import RANKINGS
    from mcattn_tf.models.pruning import require_prunable
    from mcattn_tf.training import fit, pruning

    choose("by", values.by, RANKINGS)
    run, out = Path(values.run), Path(values.out)
    config = located(runs.read_config(run), values)
    require_prunable(config)
    for name in values.by_attribute or ():
        choose("by_attribute", name, config.attributes)
    runs.require_new(out)
    whole, loaded = runs.load_model(run), data.load(config.data, config.found)
    with data.naming_bad_images(loaded.train, loaded.validation, loaded.test):
        chosen = values.by, values.by_attribute, values.refit
        pruner = pruning.Pruner(whole, config, loaded, *chosen)
        if values.keep == AUTO:
            smaller = pruner.make_smallest(values.loss)
        else:
            count = max(1, round(_share(values.keep) * config.model.channels))
            smaller = pruner.make(count)
        result = {"run": str(run), "by": values.by, "refit": values.refit}
        result |= _compared(pruner, smaller)
        print(paragraph(_sentence(result)))
        # The settings keep one epoch, which --resume begins with.
        rate = values.learning_rate or SLOWER * config.training.learning_rate
        training = {"epochs": max(values.epochs, 1), "learning_rate": rate}
        config = smaller.config.replace("training", **training)
        loaded = data.load(config.data, config.found)  # of fewer attributes
        metrics = pruning.write_run(out, smaller, config)
        runs.write_json(out / runs.PRUNING, result)
        if values.epochs:
            metrics = fit.train(config, loaded, out, resume=True)
        finish(out, metrics, config, loaded, values.export)
    print(f"written to {out / runs.PRUNING}")


def _compared(pruner: "Pruner", smaller: "Smaller") -> dict[str, Any]:
    """Returns what was kept, and what the smaller network has beside the whole one."""
    sides = {"whole": (pruner.whole, pruner.accuracy), "smaller": (smaller.model, smaller.accuracy)}
    return {
        "attributes": list(smaller.config.attributes),
        "channels": smaller.channels,
        "of": len(pruner.order),
        **{
            name: {
                "validation_accuracy": accuracy,
                "parameters": model.count_params(),
                "operations": operations(model),
            }
            for name, (model, accuracy) in sides.items()
        },
    }


def operations(model: "keras.Model") -> int:
    """Returns the floating-point operations of the answers to one image, as TensorFlow counts."""
    import keras
    import tensorflow as tf

    from mcattn_tf.models import label_outputs

    answers = keras.Model(model.input, [model.output[name] for name in label_outputs(model)])
    profiler = tf.compat.v1.profiler
    image = tf.TensorSpec((1, *model.input_shape[1:]))
    graph = tf.function(answers).get_concrete_function(image).graph
    options = profiler.ProfileOptionBuilder.float_operation()
    options = profiler.ProfileOptionBuilder(options).with_empty_output().build()
    return profiler.profile(graph, cmd="op", options=options).total_float_ops


def _sentence(result: dict[str, Any]) -> str:
    """Returns the result in words."""
    whole, smaller = result["whole"], result["smaller"]
    accuracies = percent(smaller["validation_accuracy"]), percent(whole["validation_accuracy"])
    return (
        f"{len(result['channels'])} of {result['of']} channels and {len(result['attributes'])} "
        f"attributes: {smaller['parameters']:,} of {whole['parameters']:,} parameters, "
        f"{smaller['operations'] / 1e6:.1f} of {whole['operations'] / 1e6:.1f} million operations; "
        f"validation accuracy {accuracies[0]} % before fine-tuning, {accuracies[1]} % of the whole"
    )


main = flags.Command(
    "python -m mcattn_tf.commands.prune", __doc__, {"prune": FLAGS}, prune, required="run"
)


if __name__ == "__main__":
    flags.end(main())
