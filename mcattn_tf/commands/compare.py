"""Prints a table over several trained networks.

python -m mcattn_tf.commands.compare runs/cnn runs/gcm --table decline
python -m mcattn_tf.commands.compare runs/a runs/b --table intervals --identities DIR/LIST

decline: accuracy where visual maps choose the class (GCM, table 8), of one run or more.
intervals: accuracies and differences from the first run, with 95 % intervals.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcattn_tf.commands import environment, flags
from mcattn_tf.commands.flags import PLACE_FLAGS, Flag, located, result_words
from mcattn_tf.commands.results import keep
from mcattn_tf.errors import UserError, choose

if TYPE_CHECKING:
    import numpy as np

GROUPS = {
    "table": (Flag("table", str, None, "Table: decline or intervals"), flags.SPLIT, *PLACE_FLAGS),
    "intervals": (
        flags.IDENTITIES,
        Flag(
            "part",
            list[str],
            [],
            "NAME=FILE, report separately the images that a list like CelebA's "
            "list_eval_partition.txt "
            "gives to the split; may be given several times",
        ),
    ),
}


def print_decline(directories: Sequence[Path], values: Any) -> None:
    """Prints how much accuracy runs lose when their maps decide, and writes it as JSON."""
    from mcattn_tf import data, runs
    from mcattn_tf.data.pipeline import evaluation_batches
    from mcattn_tf.evaluation.decline_table import format_decline
    from mcattn_tf.explain.truth import decline

    results = {}
    # All networks first: what cannot be measured is refused before anything is measured.
    maps = {path: decline.maps_of(runs.load_model(path)) for path in directories}
    for directory, maps_of_model in maps.items():
        config = located(runs.read_config(directory), values)
        split = data.load_split(config.data, values.split, config.found)
        with data.naming_bad_images(split):
            batches = evaluation_batches(split, decline.BATCH_SIZE).as_numpy_iterator()
            results[directory] = decline.measure_decline(maps_of_model, batches, split.count)
    named = {str(path): result for path, result in results.items()}
    _write("decline", results, values, lambda: format_decline(named))


def _write(kind: str, results: dict[Path, dict], values: Any, table: Callable[[], str]) -> None:
    """Writes the results and the table into each run directory, then prints the table."""
    from mcattn_tf import runs

    texts = []
    for directory, result in results.items():
        words = result_words(kind, runs.read_config(directory), values)
        path = directory / f"{runs.file_name(words)}.json"
        runs.write_json(path, result)
        texts.append(path.with_suffix(".txt"))
    keep(texts, lambda _: table())
    for path in texts:
        print(f"written to {path} and {path.with_suffix('.json').name}")


def _networks(directories: Sequence[Path], values: Any) -> tuple[dict, "np.ndarray"]:
    """Returns {directory: (network, split, batch size)} and the names (N,) of the image files."""
    import numpy as np

    from mcattn_tf import data, models, runs
    from mcattn_tf.data import lists as image_lists

    networks, first = {}, None
    for directory in directories:
        config, model = located(runs.read_config(directory), values), runs.load_model(directory)
        if models.is_exclusive(model):
            raise UserError(f"{directory} answers by classes, not attributes; leave it out")
        split = data.load_split(config.data, values.split, config.found)
        names, labels = image_lists.file_names(split), split.labels_of(np.arange(split.count))
        if first and not all(map(np.array_equal, (config.attributes, names, labels), first)):
            raise UserError(
                f"{directory} cannot be compared: its images, attributes or labels are not those "
                f"of {directories[0]}"
            )
        first = config.attributes, names, labels
        networks[directory] = model, split, config.training.batch_size
    return networks, names


def print_intervals(directories: Sequence[Path], values: Any) -> None:
    """Prints accuracies of runs on the same images with intervals, and writes them as JSON."""
    from mcattn_tf import data
    from mcattn_tf.data import lists as image_lists
    from mcattn_tf.evaluation import intervals

    lists = {}
    for words in values.part:
        part, equals, path = words.partition("=")
        if not (part and equals and path):
            raise UserError(f"--part must be NAME=FILE. Received: {words}")
        lists[part] = Path(path)
    networks, names = _networks(directories, values)
    parts = {part: image_lists.in_part(names, lists[part], values.split) for part in lists}
    people, answers = None, {}
    if values.identities is not None:
        people = image_lists.read_people(names, Path(values.identities))
    for directory, (model, split, batch_size) in networks.items():
        with data.naming_bad_images(split):
            labels, of_outputs = intervals.answer(model, split, batch_size)
        answers |= {(directory, output): x > 0.5 for output, x in of_outputs.items()}
    results = {
        part: intervals.measure(
            labels[chosen],
            {place: called[chosen] for place, called in answers.items()},
            None if people is None else people[chosen],
        )
        for part, chosen in (parts or {"all": slice(None)}).items()
    }
    of_runs = {directory: intervals.of_run(results, directory) for directory in networks}
    _write("intervals", of_runs, values, lambda: intervals.format_intervals(results))


TABLES = {"decline": print_decline, "intervals": print_intervals}


def compare(values: Any, arguments: list[str]) -> None:
    """Prints the table that the flags ask for."""
    choose("table", values.table, TABLES)
    if not arguments:
        raise UserError("name at least one run directory")
    if (values.identities is not None or values.part) and values.table != "intervals":
        raise UserError("--identities and --part need --table intervals")
    environment.import_tensorflow_quietly()
    TABLES[values.table]([Path(run) for run in arguments], values)


main = flags.Command(
    "python -m mcattn_tf.commands.compare", __doc__, GROUPS, compare, "table", True
)


if __name__ == "__main__":
    flags.end(main())
