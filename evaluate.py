"""Measures a trained network on every image of a split, its explanations or its feature space.

python evaluate.py --run runs/celeba --split test
python evaluate.py --run runs/celeba --explanations
python evaluate.py --run runs/celeba --analysis --channels 1,32,64
python evaluate.py --run runs/cnn --run runs/gcm --table decline
python evaluate.py --run runs/none --run runs/abn --table mechanisms
python evaluate.py --run runs/a --run runs/b --table intervals --identities DIR/identity_CelebA.txt
"""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mcattn_tf.commands import command_line
from mcattn_tf.errors import UserError, choose

if TYPE_CHECKING:
    import numpy as np

RUN = flags.DEFINE_multi_string(
    "run", None, "run directory that train.py made; several with --table", required=True
)
SPLIT = flags.DEFINE_string("split", "test", "train, validation or test")
located = command_line.define_places()
TABLE = flags.DEFINE_string(
    "table",
    None,
    "decline: accuracy where visual maps choose the class; of finished runs of abn: mechanisms, "
    "errors by attention mechanism, or errors, with and without attention; of any on attributes: "
    "attributes, means and wins of the first run, or intervals, accuracies and differences from "
    "the first run's, with intervals",
)
IDENTITIES = flags.DEFINE_string(
    "identities",
    None,
    "with --table intervals, a list like CelebA's identity_CelebA.txt: images of one person are "
    "drawn together",
)
PART = flags.DEFINE_multi_string(
    "part",
    [],
    "with --table intervals, NAME=FILE: measure apart those images that a list like CelebA's "
    "list_eval_partition.txt gives to the split; several with several flags",
)
EXPLANATIONS = flags.DEFINE_bool("explanations", False, "measure how true the explanations are")
ANALYSIS = flags.DEFINE_bool(
    "analysis", False, "measure how channels and attributes correlate: tables 1 and 2 of MCAttn"
)
CHANNELS = flags.DEFINE_list(
    "channels", None, "with --analysis, the channels of table 1; the most used by default"
)
PART_MASKS = flags.DEFINE_string(
    "part_masks", None, "folder with faces and part masks that explanations are measured on"
)
ATTRIBUTES = flags.DEFINE_list(
    "attributes", None, "whose explanations are measured or analysed; all by default"
)
EXPLAINED_IMAGES = flags.DEFINE_integer(
    "explained_images", None, "how many images explanations are measured on; 1,000 by default"
)
BASELINE = flags.DEFINE_string(
    "baseline", None, "what stands for what is taken away: blur (the default), mean or zero"
)

IMAGES = 1000


def departures() -> list[str]:
    """Returns what is not measured as by default, so that each setting has files of its own."""
    images, baseline = EXPLAINED_IMAGES.value or IMAGES, BASELINE.value or "blur"
    return [
        *(["part_masks"] if PART_MASKS.value else []),
        *([SPLIT.value] if SPLIT.value != "test" else []),
        *(ATTRIBUTES.value or []),
        *([f"{images}_images"] if images != IMAGES else []),
        *([baseline] if baseline != "blur" else []),
    ]


def measure_explanations(directory: Path) -> None:
    """Prints and draws the truth of a run's explanations and writes it as JSON."""
    from mcattn_tf import data, runs
    from mcattn_tf.explain.truth import measurement, summary
    from mcattn_tf.explain.truth.measurement import Settings
    from mcattn_tf.figures import draw as visualization
    from mcattn_tf.figures.explanations import explanations_figure

    settings = Settings(baseline=BASELINE.value or "blur")
    config, model = runs.read_config(directory), runs.load_model(directory)
    places = located(config).data
    split = None
    if not PART_MASKS.value:
        split = data.load_split(places, SPLIT.value, config.found)
    with data.naming_bad_images(*([split] if split else [])):
        regions = data.load_regions(places, SPLIT.value, PART_MASKS.value, split)
        result = measurement.measure(
            model,
            config.attributes,
            regions.take(EXPLAINED_IMAGES.value or IMAGES),
            settings,
            ATTRIBUTES.value,
        )
    print(summary.format_tables(result))
    name = runs.file_name(["explanations", *departures()])
    runs.write_json(directory / f"{name}.json", result)
    title = (
        f"{config.model.name}: explanations on {result['images']} images, {result['regions']}, "
        f"baseline {result['baseline']}"
    )
    methods = summary.rows_of(result)
    figure = explanations_figure(methods, result["default_method"], title)
    drawn = visualization.save({name: figure}, directory / runs.FIGURES)
    for path in (directory / f"{name}.json", *drawn):
        print(f"written to {path}")


def analyse(directory: Path) -> None:
    """Prints how channels and attributes of a run correlate and writes the analysis."""
    from mcattn_tf import data, runs
    from mcattn_tf.data.pipeline import evaluation_batches
    from mcattn_tf.explain.feature_space import analysis_tables, correlation
    from mcattn_tf.figures import draw as visualization

    config, model = runs.read_config(directory), runs.load_model(directory)
    if "attributes" not in model.output:
        raise UserError(
            f"--analysis is of sub-networks, which model {model.name!r} does not have; it has "
            "evaluate.py without --analysis, with --explanations, and visualize.py --what="
            f"{','.join([*visualization.figures_of(model), 'report'])}"
        )
    attributes, channels = config.attributes, chosen_channels(config.model.channels)
    wanted = ATTRIBUTES.value
    chosen = None if wanted is None else visualization.indices_of(attributes, wanted)
    split = data.load_split(located(config).data, SPLIT.value, config.found)
    with data.naming_bad_images(split):
        batches = evaluation_batches(split, correlation.BATCH_SIZE).as_numpy_iterator()
        analysis = correlation.analyze(model, attributes, batches, split.count)
    name = runs.ANALYSIS if SPLIT.value == "test" else f"analysis_{SPLIT.value}.npz"
    analysis.save(directory / name)
    print(f"{config.model.name} on {analysis.images} {SPLIT.value} images of {config.data.dataset}")
    print(analysis_tables.format_analysis(analysis, chosen, channels))
    print(f"written to {directory / name}")


def chosen_channels(count: int) -> list[int] | None:
    """Returns the channels that --channels gives, of so many."""
    if CHANNELS.value is None:
        return None
    valid = {str(channel): channel for channel in range(count)}
    if not CHANNELS.value or not set(CHANNELS.value) <= set(valid):
        raise UserError(
            f"--channels must be numbers from 0 to {count - 1}, such as 1,32,64. Received: "
            f"{','.join(CHANNELS.value)}"
        )
    return [valid[channel] for channel in CHANNELS.value]


def measure_answers(directory: Path) -> None:
    """Prints the accuracies of a run and writes them as JSON."""
    from mcattn_tf import data, runs
    from mcattn_tf.evaluation import answers
    from mcattn_tf.explain.truth import measurement

    config, model = runs.read_config(directory), runs.load_model(directory)
    settings = located(config).data
    attributes = config.attributes
    split = data.load_split(settings, SPLIT.value, config.found)
    with data.naming_bad_images(split):
        result = answers.evaluate(model, split, attributes, config.training.batch_size)
        regions = data.load_regions(settings, SPLIT.value, split=split)
        result |= measurement.where_it_looks(model, attributes, regions)
    print(f"{config.model.name} on {split.count} {SPLIT.value} images of {config.data.dataset}, %")
    print(answers.format_table(result))
    name = runs.EVALUATION if SPLIT.value == "test" else f"evaluation_{SPLIT.value}.json"
    runs.write_json(directory / name, result)
    print(f"written to {directory / name}")


def table_of_declines(directories: list[Path]) -> None:
    """Prints how much accuracy several runs lose when their maps decide and writes it as JSON."""
    from mcattn_tf import data, runs
    from mcattn_tf.data.pipeline import evaluation_batches
    from mcattn_tf.evaluation.decline_table import format_decline
    from mcattn_tf.explain.truth import decline

    results = {}
    # All of them first: what cannot be measured is refused before anything is.
    every = {path: decline.maps_of(runs.load_model(path)) for path in directories}
    for directory, maps_of in every.items():
        config = runs.read_config(directory)
        split = data.load_split(located(config).data, SPLIT.value, config.found)
        with data.naming_bad_images(split):
            batches = evaluation_batches(split, decline.BATCH_SIZE).as_numpy_iterator()
            results[str(directory)] = decline.measure_decline(maps_of, batches, split.count)
    print(format_decline(results))
    for directory, result in results.items():
        name = "decline.json" if SPLIT.value == "test" else f"decline_{SPLIT.value}.json"
        runs.write_json(Path(directory) / name, result)
        print(f"written to {Path(directory) / name}")


def networks_and_images(directories: list[Path]) -> tuple[dict, "np.ndarray"]:
    """Loads several runs and the split, of which they must have the same images.

    Returns:
        {directory: (network, split, batch size)}, and the names (N,), bytes, of the image files.
    """
    import numpy as np

    from mcattn_tf import data, models, runs
    from mcattn_tf.data import lists as image_lists

    loaded, asked = {}, None
    for directory in directories:
        config, model = runs.read_config(directory), runs.load_model(directory)
        if models.is_exclusive(model):
            raise UserError(f"{directory} answers by classes, not attributes; leave it out")
        attributes = config.attributes
        split = data.load_split(located(config).data, SPLIT.value, config.found)
        names = image_lists.file_names(split)
        answers = split.labels_of(np.arange(split.count))
        if asked and not all(map(np.array_equal, (attributes, names, answers), asked)):
            raise UserError(
                f"{directory} cannot be compared: its images, attributes or labels are not those "
                f"of {directories[0]}"
            )
        asked = attributes, names, answers
        loaded[directory] = model, split, config.training.batch_size
    return loaded, names


def table_of_intervals(directories: list[Path]) -> None:
    """Prints accuracies of several runs on the same images with intervals and writes them."""
    from mcattn_tf import data, runs
    from mcattn_tf.data import lists as image_lists
    from mcattn_tf.evaluation import intervals

    lists = {}
    for given in PART.value:
        part, equals, path = given.partition("=")
        if not (part and equals and path):
            raise UserError(f"--part must be NAME=FILE. Received: {given}")
        lists[part] = Path(path)
    loaded, names = networks_and_images(list(dict.fromkeys(directories)))
    parts = {part: image_lists.in_part(names, lists[part], SPLIT.value) for part in lists}
    people = None
    if IDENTITIES.value is not None:
        people = image_lists.read_people(names, Path(IDENTITIES.value))
    answers = {}
    for directory, (model, split, batch_size) in loaded.items():
        with data.naming_bad_images(split):
            present, called = intervals.answer(model, split, batch_size)
        answers |= {(directory, output): values for output, values in called.items()}
    results = {
        part: intervals.measure(
            present[chosen],
            {place: called[chosen] for place, called in answers.items()},
            None if people is None else people[chosen],
        )
        for part, chosen in (parts or {"all": slice(None)}).items()
    }
    print(intervals.format_intervals(results))
    for directory in loaded:
        name = "intervals.json" if SPLIT.value == "test" else f"intervals_{SPLIT.value}.json"
        runs.write_json(directory / name, intervals.of_run(results, directory))
        print(f"written to {directory / name}")


def table_of_runs(directories: list[Path]) -> None:
    """Prints a table of what finished runs have reached on the test images."""
    from mcattn_tf.evaluation import run_tables

    if SPLIT.value != "test":
        raise UserError(f"--table {TABLE.value} is of the test images; leave out --split")
    print(run_tables.TABLES[TABLE.value](directories))


TABLES = {
    "decline": table_of_declines,
    "mechanisms": table_of_runs,
    "errors": table_of_runs,
    "attributes": table_of_runs,
    "intervals": table_of_intervals,
}


def main(arguments: list[str]) -> None:
    """Measures what the flags ask for."""
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}; evaluate.py takes flags only")
    for flag in (PART_MASKS, EXPLAINED_IMAGES, BASELINE):
        if flag.value is not None and not EXPLANATIONS.value:
            raise UserError(f"--{flag.name} is of use with --explanations only")
    if ATTRIBUTES.value is not None and not (EXPLANATIONS.value or ANALYSIS.value):
        raise UserError("--attributes is of use with --explanations or --analysis only")
    if (IDENTITIES.value is not None or PART.value) and TABLE.value != "intervals":
        raise UserError("--identities and --part are of use with --table intervals only")
    if CHANNELS.value is not None and not ANALYSIS.value:
        raise UserError("--channels is of use with --analysis only")
    if (TABLE.value is not None) + EXPLANATIONS.value + ANALYSIS.value > 1:
        raise UserError("--table, --explanations and --analysis are asked for one at a time")
    if TABLE.value is not None:
        choose("table", TABLE.value, TABLES)
    elif len(RUN.value) > 1:
        raise UserError("--run is given once, or several times with --table")
    if EXPLAINED_IMAGES.value is not None and EXPLAINED_IMAGES.value < 1:
        raise UserError(f"--explained_images must be positive. Received: {EXPLAINED_IMAGES.value}")
    command_line.import_tensorflow_quietly()
    directories = [Path(run) for run in RUN.value]
    if TABLE.value is not None:
        TABLES[TABLE.value](directories)
    elif EXPLANATIONS.value:
        measure_explanations(*directories)
    elif ANALYSIS.value:
        analyse(*directories)
    else:
        measure_answers(*directories)


if __name__ == "__main__":
    command_line.run(main)
