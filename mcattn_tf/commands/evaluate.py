"""Measures a trained network on every image of a split, its explanations or its feature space.

python evaluate.py --run runs/celeba --split test --thresholds balanced_accuracy
python evaluate.py --run runs/celeba --explanations
python evaluate.py --run runs/celeba --slices 'Male,Young,Male&Young'
python evaluate.py --run runs/celeba --analysis --channels 1,32,64

python -m mcattn_tf.commands.compare has tables over several runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcattn_tf.commands import environment, flags
from mcattn_tf.commands.flags import PLACE_FLAGS, Flag, located, result_words
from mcattn_tf.commands.results import bullets, keep, keep_answers
from mcattn_tf.errors import UserError, choose

if TYPE_CHECKING:
    import keras

    from mcattn_tf.evaluation.thresholds import Chosen
    from mcattn_tf.settings.config import Config

IMAGES, BASELINE = 1000, "blur"
# {flag: flags of which one must be given with it}.
NEEDS = {
    **dict.fromkeys(("explained_images", "baseline", "methods"), ("explanations",)),
    **dict.fromkeys(("part_masks", "attributes"), ("explanations", "analysis")),
    "channels": ("analysis",),
    "identities": ("slices",),
}
# Flags that exclude each other.
APART = (
    *(("explanations", "analysis"), ("slices", "analysis"), ("slices", "part_masks")),
    *(("slices", "attributes"), ("slices", "baseline"), ("thresholds", "analysis")),
)
NAMES = tuple[str, ...]
GROUPS = {
    "run": (
        Flag("run", str, None, "Run directory of train.py"),
        flags.SPLIT,
        Flag("full", bool, False, "Print whole tables, not their best and worst rows alone"),
        Flag(
            "thresholds",
            str,
            None,
            "Criterion of thresholds chosen on the validation images, to measure at beside 0.5: "
            "balanced_accuracy or f1",
        ),
        *PLACE_FLAGS,
    ),
    "explanations": (
        Flag("explanations", bool, False, "Measure how true the explanations are"),
        Flag("explained_images", int, None, "Number of images", IMAGES),
        Flag(
            "part_masks",
            str,
            None,
            "Folder with faces and part masks to measure on; with --analysis, to find parts on",
        ),
        Flag("baseline", str, None, "Replacement of removed pixels: blur, mean or zero", BASELINE),
        Flag("methods", NAMES, None, "Methods to measure, such as grad_cam,rise", "the quick ones"),
        Flag("attributes", NAMES, None, "Attributes to measure, or to analyse", "all"),
    ),
    "slices": (
        Flag(
            "slices",
            NAMES,
            None,
            "Groups of images to compare with all others, such as Male,not Young,Male&Young; with "
            "--explanations by the pointing game too, which is then the only measure of them",
        ),
        flags.IDENTITIES,
    ),
    "analysis": (
        Flag(
            "analysis",
            bool,
            False,
            "Correlate channels and attributes (MCAttn, tables 1 and 2), and say which part of the "
            "image each channel detects",
        ),
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
    from mcattn_tf.evaluation.verdicts import verdicts
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
    paths = [directory / f"{name}.txt", directory / f"{name}.json"]
    runs.write_json(paths[1], result)

    def text(full: bool) -> str:
        tables = summary.format_tables(result, full)
        return "\n\n".join([tables, bullets(verdicts(None, result))])

    keep(paths[:1], text, values.full)
    title = (
        f"{config.model.name}: explanations on {result['images']} images, {result['regions']}, "
        f"baseline {result['baseline']}"
    )
    figure = explanations_figure(summary.rows_of(result), result["default_method"], result, title)
    for path in (*paths, *draw.save({name: figure}, directory / runs.FIGURES)):
        print(f"written to {path}")


def analyse(values: Any) -> None:
    """Prints how channels and attributes correlate, and what channels detect, and writes both."""
    from mcattn_tf import data, runs
    from mcattn_tf.data.pipeline import evaluation_batches
    from mcattn_tf.explain.feature_space import analysis_tables, correlation
    from mcattn_tf.explain.feature_space.atlas import make_atlas
    from mcattn_tf.explain.feature_space.atlas_tables import format_atlas
    from mcattn_tf.figures.draw import figures_of, indices_of
    from mcattn_tf.settings.systems import system_of

    directory, split_name = Path(values.run), values.split
    stored, model = runs.read_config(directory), runs.load_model(directory)
    config = located(stored, values)
    if "extractor" not in system_of(model).parts:
        raise UserError(
            f"model {model.name!r} has no channels to analyse; leave out --analysis, take "
            f"--explanations, or draw it by visualize.py --what={','.join(figures_of(model))}"
        )
    attributes, channels = config.attributes, _channels(values.channels, config.model.channels)
    chosen = None if values.attributes is None else indices_of(attributes, values.attributes)
    split, analysis = data.load_split(config.data, split_name, config.found), None
    with data.naming_bad_images(split):
        regions = data.load_regions(config.data, split_name, values.part_masks, split, attributes)
        atlas = make_atlas(model, attributes, regions.take(IMAGES))
        if "subnetworks" in system_of(model).parts:
            batches = evaluation_batches(split, correlation.BATCH_SIZE).as_numpy_iterator()
            analysis = correlation.analyze(model, attributes, batches, split.count)
    print(f"{config.model.name} on {split.count} {split_name} images of {config.data.dataset}")
    results = {"analysis": analysis, "atlas": atlas}
    name, *_ = names = [runs.file_name(result_words(x, stored, values)) for x in results]
    paths = [directory / f"{name}.txt"]
    for stem, result in zip(names, results.values(), strict=True):
        if result is not None:
            paths.append(directory / f"{stem}.npz")
            result.save(paths[-1])

    def text(full: bool) -> str:
        parts = [format_atlas(atlas, analysis, full)]
        if analysis:
            parts.insert(0, analysis_tables.format_analysis(analysis, chosen, channels, full))
        return "\n\n".join(parts)

    keep(paths[:1], text, values.full)
    for path in paths:
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


def _thresholds(model: "keras.Model", config: "Config", values: Any) -> "Chosen | None":
    """Returns the thresholds that --thresholds asks for; chooses them where the run has none.

    They are chosen on the run's own validation images, whatever images are measured.
    """
    from mcattn_tf import data
    from mcattn_tf.evaluation import thresholds

    if values.thresholds is None:
        return None
    content = thresholds.read_thresholds(Path(values.run), model, config)
    if content is None:
        split = data.load_split(config.data, "validation", config.found)
        with data.naming_bad_images(split):
            content = thresholds.choose_thresholds(model, config, split)
        print("\n".join(thresholds.write_thresholds(Path(values.run), content)))
    return thresholds.Chosen(content, values.thresholds)


def measure_answers(values: Any) -> None:
    """Prints the accuracies of a run and writes them as JSON."""
    from mcattn_tf import data, runs
    from mcattn_tf.evaluation import answers

    directory, name = Path(values.run), values.split
    stored, model = runs.read_config(directory), runs.load_model(directory)
    config = located(stored, values)
    chosen = _thresholds(model, stored, values)
    split = data.load_split(config.data, name, config.found)
    with data.naming_bad_images(split):
        result = answers.evaluate_run(model, config, split, name, chosen)
    print(f"{config.model.name} on {split.count} {name} images of {config.data.dataset}, %")
    stem = runs.file_name(result_words("evaluation", stored, values))
    keep_answers(directory, stem, result, values.full)


def measure_slices(values: Any) -> None:
    """Measures slices beside all other images, and prints, draws and writes the result."""
    from mcattn_tf import data, runs
    from mcattn_tf.data import lists as image_lists
    from mcattn_tf.evaluation import slices
    from mcattn_tf.evaluation.intervals import answer
    from mcattn_tf.models import is_exclusive
    from mcattn_tf.runs.checkpoints import weights_of

    directory, name = Path(values.run), values.split
    stored, model = runs.read_config(directory), runs.load_model(directory)
    config, attributes = located(stored, values), stored.attributes
    if is_exclusive(model):
        raise UserError("--slices are of attributes, and this network's classes exclude each other")
    wanted = slices.parse_slices(values.slices, attributes)
    chosen = _thresholds(model, stored, values)
    split = data.load_split(config.data, name, config.found)
    slices.require_images(wanted, split.labels_of(np.arange(split.count)), name)
    people, pointing = None, None
    if values.identities is not None:
        people = image_lists.read_people(image_lists.file_names(split), Path(values.identities))
    with data.naming_bad_images(split):
        labels, answers = answer(model, split, config.training.batch_size)
        output, probabilities = next(iter(answers.items()))
        levels = chosen.of(output, attributes) if chosen else 0.5
        statistics = [slices.of_answers(labels, probabilities, levels)]
        if values.explanations:
            regions = data.load_regions(config.data, name, None, split, attributes)
            regions = regions.take(values.explained_images or IMAGES)
            hits, pointing = slices.pointing(model, attributes, regions)
            statistics.append(slices.of_pointing(hits))
    result = {
        "weights": weights_of(model),
        "split": name,
        "images": split.count,
        "people": None if people is None else len(np.unique(people)),
        "output": output,
        "chosen_by": values.thresholds,
        "pointing": pointing,
        "slices": slices.measure_slices(wanted, labels, attributes, statistics, people),
    }
    _keep_slices(result, stored, values)


def _keep_slices(result: dict[str, Any], stored: "Config", values: Any) -> None:
    """Prints and draws measured slices, and writes them into the run."""
    from mcattn_tf import runs
    from mcattn_tf.evaluation import slice_tables
    from mcattn_tf.figures import draw
    from mcattn_tf.figures.slices import slices_figure

    directory, levels = Path(values.run), [values.thresholds] if values.thresholds else []
    stem = runs.file_name([*result_words("slices", stored, values), *result["slices"], *levels])
    paths = [directory / f"{stem}.{ending}" for ending in ("json", "txt")]
    runs.write_json(paths[0], result)
    keep(paths[1:], lambda full: slice_tables.format_slices(result))
    images = f"{result['images']} {result['split']} images of {stored.data.dataset}"
    title = f"{stored.model.name}: slices of {images} at {slice_tables.levels(result)}"
    figure = slices_figure(result["slices"], title)
    for path in (*paths, *draw.save({stem: figure}, directory / runs.FIGURES)):
        print(f"written to {path}")


def evaluate(values: Any, _: list[str]) -> None:
    """Measures what the flags ask for."""
    for name, modes in NEEDS.items():
        if values[name].value is not None and not any(values[mode].value for mode in modes):
            raise UserError(f"--{name} needs {' or '.join(f'--{mode}' for mode in modes)}")
    for first, second in APART:
        if values[first].value not in (None, False) and values[second].value not in (None, False):
            raise UserError(f"--{first} and --{second} exclude each other")
    if values.explained_images is not None and values.explained_images < 1:
        raise UserError(f"--explained_images must be positive. Received: {values.explained_images}")
    if values.thresholds is not None and values.explanations and values.slices is None:
        raise UserError("--thresholds changes no explanation; leave it out, or give --slices too")
    environment.import_tensorflow_quietly()
    if values.thresholds is not None:
        from mcattn_tf.evaluation.thresholds import CRITERIA

        choose("thresholds", values.thresholds, CRITERIA)
    if values.slices is not None:
        measure_slices(values)
    elif values.explanations:
        measure_explanations(values)
    elif values.analysis:
        analyse(values)
    else:
        measure_answers(values)


main = flags.Command("evaluate.py", __doc__, GROUPS, evaluate, required="run")
