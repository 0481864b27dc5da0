"""Measures a trained network on every image of a split, its explanations or its feature space.

python evaluate.py --run runs/celeba --split test
python evaluate.py --run runs/celeba --explanations
python evaluate.py --run runs/celeba --analysis --channels 1,32,64

python -m mcattn_tf.commands.compare has tables over several runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcattn_tf.commands import environment, flags
from mcattn_tf.commands.flags import PLACE_FLAGS, Flag, located, result_words
from mcattn_tf.errors import UserError

IMAGES, BASELINE = 1000, "blur"
# {flag: flags of which one must be given with it}.
NEEDS = {
    **dict.fromkeys(("part_masks", "explained_images", "baseline"), ("explanations",)),
    **{"attributes": ("explanations", "analysis"), "channels": ("analysis",)},
    "methods": ("explanations",),
}
NAMES = tuple[str, ...]
GROUPS = {
    "run": (
        Flag("run", str, None, "Run directory of train.py"),
        Flag("split", str, "test", "Split to measure: train, validation or test"),
        *PLACE_FLAGS,
    ),
    "explanations": (
        Flag("explanations", bool, False, "Measure how true the explanations are"),
        Flag("explained_images", int, None, "Number of images", IMAGES),
        Flag("part_masks", str, None, "Folder with faces and part masks to measure on"),
        Flag("baseline", str, None, "Replacement of removed pixels: blur, mean or zero", BASELINE),
        Flag("methods", NAMES, None, "Methods to measure, such as grad_cam,rise", "the quick ones"),
        Flag("attributes", NAMES, None, "Attributes to measure, or to analyse", "all"),
    ),
    "analysis": (
        Flag("analysis", bool, False, "Correlate channels and attributes (MCAttn, tables 1 and 2)"),
        Flag("channels", NAMES, None, "Channels of table 1, such as 1,32,64", "the most used"),
    ),
}


def _settings_words(values: Any) -> list[str]:
    """Returns what differs from the default measurement, for a file name of its own."""
    images, baseline = values.explained_images or IMAGES, values.baseline or BASELINE
    return [
        *(["part_masks"] if values.part_masks else []),
        *(values.methods or []),
        *(values.attributes or []),
        *([f"{images}_images"] if images != IMAGES else []),
        *([baseline] if baseline != BASELINE else []),
    ]


def measure_explanations(values: Any) -> None:
    """Prints and draws the truth of a run's explanations and writes it as JSON."""
    from mcattn_tf import data, runs
    from mcattn_tf.explain.truth import measurement, summary
    from mcattn_tf.figures import draw
    from mcattn_tf.figures.explanations import explanations_figure

    directory = Path(values.run)
    settings = measurement.Settings(baseline=values.baseline or BASELINE)
    stored, model = runs.read_config(directory), runs.load_model(directory)
    config = located(stored, values)
    masks, split, names = values.part_masks, None, config.attributes
    if not masks:
        split = data.load_split(config.data, values.split, config.found)
    with data.naming_bad_images(*([split] if split else [])):
        regions = data.load_regions(config.data, values.split, masks, split, names)
        regions = regions.take(values.explained_images or IMAGES)
        what = values.attributes, values.methods or None
        result = measurement.measure(model, names, regions, settings, *what)
    words = result_words("explanations", stored, values)
    name = runs.file_name([*words, *_settings_words(values)])
    runs.write_json(directory / f"{name}.json", result)
    print(summary.format_tables(result))
    title = (
        f"{config.model.name}: explanations on {result['images']} images, {result['regions']}, "
        f"baseline {result['baseline']}"
    )
    figure = explanations_figure(summary.rows_of(result), result["default_method"], title)
    drawn = draw.save({name: figure}, directory / runs.FIGURES)
    for path in (directory / f"{name}.json", *drawn):
        print(f"written to {path}")


def analyse(values: Any) -> None:
    """Prints how channels and attributes of a run correlate and writes the analysis."""
    from mcattn_tf import data, runs
    from mcattn_tf.data.pipeline import evaluation_batches
    from mcattn_tf.explain.feature_space import analysis_tables, correlation
    from mcattn_tf.figures.draw import figures_of, indices_of
    from mcattn_tf.settings.systems import system_of

    directory, split_name = Path(values.run), values.split
    stored, model = runs.read_config(directory), runs.load_model(directory)
    config = located(stored, values)
    if "subnetworks" not in system_of(model).parts:
        raise UserError(
            f"model {model.name!r} has no sub-networks to analyse; leave out --analysis, take "
            f"--explanations, or draw it by visualize.py --what={','.join(figures_of(model))}"
        )
    attributes, channels = config.attributes, _channels(values.channels, config.model.channels)
    chosen = None if values.attributes is None else indices_of(attributes, values.attributes)
    split = data.load_split(config.data, split_name, config.found)
    with data.naming_bad_images(split):
        batches = evaluation_batches(split, correlation.BATCH_SIZE).as_numpy_iterator()
        analysis = correlation.analyze(model, attributes, batches, split.count)
    path = directory / f"{runs.file_name(result_words('analysis', stored, values))}.npz"
    analysis.save(path)
    print(f"{config.model.name} on {analysis.images} {split_name} images of {config.data.dataset}")
    print(analysis_tables.format_analysis(analysis, chosen, channels))
    print(f"written to {path}")


def _channels(names: Sequence[str] | None, count: int) -> list[int] | None:
    """Returns the channels that --channels names, out of so many."""
    if names is None:
        return None
    valid = {str(channel): channel for channel in range(count)}
    if not names or not set(names) <= set(valid):
        raise UserError(
            f"--channels must be numbers from 0 to {count - 1}, such as 1,32,64. Received: "
            f"{','.join(names)}"
        )
    return [valid[channel] for channel in names]


def measure_answers(values: Any) -> None:
    """Prints the accuracies of a run and writes them as JSON."""
    from mcattn_tf import data, runs
    from mcattn_tf.evaluation import answers

    directory, name = Path(values.run), values.split
    stored, model = runs.read_config(directory), runs.load_model(directory)
    config = located(stored, values)
    split = data.load_split(config.data, name, config.found)
    with data.naming_bad_images(split):
        result = answers.evaluate_run(model, config, split, name)
    path = directory / f"{runs.file_name(result_words('evaluation', stored, values))}.json"
    runs.write_json(path, result)
    print(f"{config.model.name} on {split.count} {name} images of {config.data.dataset}, %")
    print(answers.format_table(result))
    print(f"written to {path}")


def evaluate(values: Any, _: list[str]) -> None:
    """Measures what the flags ask for."""
    for name, modes in NEEDS.items():
        if values[name].value is not None and not any(values[mode].value for mode in modes):
            raise UserError(f"--{name} needs {' or '.join(f'--{mode}' for mode in modes)}")
    if values.explanations and values.analysis:
        raise UserError("--explanations and --analysis exclude each other")
    if values.explained_images is not None and values.explained_images < 1:
        raise UserError(f"--explained_images must be positive. Received: {values.explained_images}")
    environment.import_tensorflow_quietly()
    if values.explanations:
        measure_explanations(values)
    elif values.analysis:
        analyse(values)
    else:
        measure_answers(values)


main = flags.Command("evaluate.py", __doc__, GROUPS, evaluate, required="run")
