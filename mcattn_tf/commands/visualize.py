"""Draws what a trained network looks at.

python visualize.py --run runs/celeba --images face.jpg --attributes Smiling,Eyeglasses
python visualize.py --run runs/gcm --run runs/cnn --what compare
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mcattn_tf.commands import environment, flags
from mcattn_tf.commands.flags import PLACE_FLAGS, Flag, located
from mcattn_tf.errors import UserError, choose

if TYPE_CHECKING:
    import keras

    from mcattn_tf.explain.feature_space.atlas import Atlas
    from mcattn_tf.explain.feature_space.correlation import Analysis
    from mcattn_tf.report.gallery import Examples
    from mcattn_tf.settings.config import Config

TEST_IMAGES = 4
REPORTED, MOST_WRONG = 12, 4  # images of a report: the first, and the most wrong of many
STATISTICS_BATCHES, STATISTICS_BATCH_SIZE = 16, 16
SCATTER_BATCHES = 64
NAMES = tuple[str, ...]
FLAGS = (
    Flag(
        "run",
        list[str],
        None,
        "Run directory of train.py; several times with --what compare or feature_space",
    ),
    Flag(
        "what",
        NAMES,
        ("all",),
        "Figures: masks, mean_masks, channel_correlation, attribute_correlation, contributions, "
        "local_probabilities, reconstruction, contribution_maps, nonnegative, attention, "
        "feature_space, compare, reliability, channels, report or all that the network has (but "
        "feature_space, reliability and channels)",
    ),
    Flag("images", NAMES, None, "Image files", f"the first {TEST_IMAGES} test images"),
    Flag("attributes", NAMES, None, "Attributes to draw", "all; of masks the 8 most probable"),
    Flag("top", int, 3, "Channels of each attribute in the figure of masks"),
    Flag("order", str, "channel", "Order of channels in mean_masks: channel, sorted or clustered"),
    Flag("format", str, "png", "File format of the figures: png, pdf or svg"),
    *PLACE_FLAGS,
)


def _load_runs(directories: list[Path]) -> tuple["Config", dict[str, "keras.Model"]]:
    """Returns the settings of the first run, and the networks of all."""
    from mcattn_tf import runs
    from mcattn_tf.figures.draw import unique_stems

    config = runs.read_config(directories[0])
    for other in directories[1:]:
        if runs.read_config(other).attributes != config.attributes:
            raise UserError(
                f"{other} cannot be compared: its labels are not those of {directories[0]}"
            )
    names = unique_stems([str(directory) for directory in directories])
    return config, dict(zip(names, map(runs.load_model, directories), strict=True))


class _Images(NamedTuple):
    """Images of the figures, those of a report, batches for statistics, and a reader of all."""

    drawn: "Examples"
    reported: "Examples"
    batches: Iterable
    read_all: Callable[[], Iterable] | None = None


@contextlib.contextmanager
def _images(
    config: "Config",
    values: Any,
    paths: list[str],
    model: "keras.Model",
    analysis: "Analysis | None",
) -> Iterator[_Images]:
    """Yields the images in `paths`, or the test images; none where the analysis is all it needs."""
    from mcattn_tf import data
    from mcattn_tf.data.images import read_images
    from mcattn_tf.data.pipeline import evaluation_batches
    from mcattn_tf.figures.draw import OF_ANALYSIS, unique_stems
    from mcattn_tf.report.gallery import Examples

    if values.images is not None or (analysis and set(values.what) <= set(OF_ANALYSIS)):
        how = config.data.image_size, config.data.resize
        images = () if values.images is None else read_images(paths, *how)
        examples = Examples(images, unique_stems(paths), None)
        yield _Images(examples, examples, [(images, None)])
        return
    try:
        split = data.load_split(located(config, values).data, "test", config.found)
    except UserError as error:
        raise UserError(f"{error}; or draw images of your own: --images FILE") from None
    with data.naming_bad_images(split):
        test = evaluation_batches(split, STATISTICS_BATCH_SIZE)
        images, labels = next(test.as_numpy_iterator())
        files = [split.name_of(index) for index in range(len(images))]
        # A split without files names its images by sentences.
        names = [x if Path(x).suffix else f"test_{index}" for index, x in enumerate(files)]
        examples = reported = Examples(images, unique_stems(names), labels)
        if {"report", "all"} & set(values.what):
            many = test.take(STATISTICS_BATCHES).as_numpy_iterator()
            reported = examples.with_most_wrong(model, many, REPORTED, MOST_WRONG)
        drawn = Examples(*(field[:TEST_IMAGES] for field in examples))
        count = SCATTER_BATCHES if "feature_space" in values.what else STATISTICS_BATCHES
        batches = test.take(count).as_numpy_iterator()
        yield _Images(drawn, reported, batches, test.as_numpy_iterator)


def _atlas(directory: Path, config: "Config", values: Any, model: "keras.Model") -> "Atlas | None":
    """Returns the atlas of a run's channels; makes one of test images where none was made."""
    from mcattn_tf import data, runs
    from mcattn_tf.explain.feature_space import atlas

    made = atlas.atlas_made_before(directory / runs.ATLAS, model)
    if made or values.images is not None:
        return made
    attributes = config.attributes
    regions = data.load_regions(located(config, values).data, "test", attributes=attributes)
    return atlas.make_atlas(model, attributes, regions.take(atlas.IMAGES))


def _check(values: Any, arguments: list[str]) -> None:
    """Raises a UserError for flags that are wrong whatever the runs are."""
    from mcattn_tf.figures import draw

    choose("format", values.format, draw.FORMATS)
    for name in values.what:
        choose("what", name, (*draw.FIGURES, "report", "all"))
    if len(values.run) > 1 and not set(values.what) <= set(draw.OF_SEVERAL_RUNS):
        raise UserError("--run is given once, or several times with --what=compare,feature_space")
    if arguments and values.images is None:
        raise UserError(f"unexpected argument {arguments[0]!r}; name image files after --images")


def visualize(values: Any, arguments: list[str]) -> None:
    """Reads images, draws the figures and prints the names of the files."""
    environment.import_tensorflow_quietly()
    from mcattn_tf import runs
    from mcattn_tf.explain.feature_space import correlation
    from mcattn_tf.figures import draw
    from mcattn_tf.report.page import write_report
    from mcattn_tf.settings.systems import system_of

    _check(values, arguments)
    directory, wanted = Path(values.run[0]), values.attributes
    config, models = _load_runs([Path(run) for run in values.run])
    model, attributes = next(iter(models.values())), config.attributes
    chosen = draw.indices_of(attributes, wanted)
    figures = [name for name in values.what if name != "report"]
    if figures or not values.what:  # before images are read, which may take long
        draw.drawable(models, figures, values.top, values.order)
    analysis, written = correlation.made_before(directory / runs.ANALYSIS, model), []
    paths = [*(values.images or ()), *arguments]
    with _images(config, values, paths, model, analysis) as images:
        if {"report", "all"} & set(values.what):
            if analysis is None and "subnetworks" in system_of(model).parts:
                analysis = correlation.analyze(model, attributes, images.batches)
            of_report = images.reported, chosen, analysis, wanted is not None
            written.append(write_report(directory, config, model, *of_report))
        if figures:
            atlas = _atlas(directory, config, values, model) if "channels" in figures else None
            shown, names, labels = images.drawn
            seen = shown, names, images.batches, analysis, labels, images.read_all
            pictures = draw.Pictures(*seen, atlas)
            how = figures, wanted, values.top, values.order
            drawn = draw.draw(models, attributes, pictures, *how)
            written += draw.save(drawn, directory / runs.FIGURES, values.format)
    for path in written:
        print(path)


main = flags.Command("visualize.py", __doc__, {"figures": FLAGS}, visualize, "run", True)
