"""Draws what a trained network looks at.

python visualize.py --run runs/celeba --images face.jpg --attributes Smiling,Eyeglasses
python visualize.py --run runs/gcm --run runs/cnn --what compare
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mcattn_tf.commands import command_line
from mcattn_tf.errors import UserError, choose

if TYPE_CHECKING:
    import keras

    from mcattn_tf.report.gallery import Examples
    from mcattn_tf.settings.config import Config

RUN = flags.DEFINE_multi_string(
    "run",
    None,
    "run directory that train.py made; several with --what compare or feature_space",
    required=True,
)
WHAT = flags.DEFINE_list(
    "what",
    "all",
    "masks, mean_masks, channel_correlation, attribute_correlation, contributions, "
    "reconstruction, contribution_maps, nonnegative, attention, feature_space, compare, report or "
    "all that the network has (but feature_space)",
)
IMAGES = flags.DEFINE_list("images", None, "image files; some test images if left out")
ATTRIBUTES = flags.DEFINE_list("attributes", None, "names of the attributes to draw")
TOP = flags.DEFINE_integer("top", 3, "channels an attribute in the figure of masks")
ORDER = flags.DEFINE_string(
    "order", "channel", "of the channels in mean_masks: channel, sorted or clustered"
)
FORMAT = flags.DEFINE_string("format", "png", "of the figures: png, pdf or svg")
located = command_line.define_places()

TEST_IMAGES = 4
STATISTICS_BATCHES, STATISTICS_BATCH_SIZE = 16, 16
SCATTER_BATCHES = 64


def load_runs() -> tuple["Config", dict[str, "keras.Model"]]:
    """Returns the settings of the first run, and the networks of all."""
    from mcattn_tf import runs
    from mcattn_tf.figures import draw as visualization

    directories = [Path(run) for run in RUN.value]
    config = runs.read_config(directories[0])
    for other in directories[1:]:
        if runs.read_config(other).attributes != config.attributes:
            raise UserError(
                f"{other} cannot be compared: its labels are not those of {directories[0]}"
            )
    names = visualization.unique_stems([str(run) for run in directories])
    return config, dict(zip(names, map(runs.load_model, directories), strict=True))


def given_images(paths: list[str], config: "Config") -> tuple["Examples", Iterable]:
    """Returns the images in files, and the same as a batch without labels."""
    from mcattn_tf.data.images import read_images
    from mcattn_tf.figures import draw as visualization
    from mcattn_tf.report import page as report

    images = read_images(paths, config.data.image_size)
    return report.Examples(images, visualization.unique_stems(paths), None), [(images, None)]


@contextlib.contextmanager
def first_test_images(config: "Config") -> Iterator[tuple["Examples", Iterable]]:
    """Yields the first test images of a run, and the batches that what is measured is over."""
    from mcattn_tf import data
    from mcattn_tf.data.pipeline import evaluation_batches
    from mcattn_tf.report import page as report

    try:
        split = data.load_split(located(config).data, "test", config.found)
    except UserError as error:
        raise UserError(f"{error}; or draw images of your own: --images FILE") from None
    with data.naming_bad_images(split):
        test = evaluation_batches(split, STATISTICS_BATCH_SIZE)
        images, labels = next(test.as_numpy_iterator())
        names = [f"test_{index}" for index in range(len(images))]
        count = SCATTER_BATCHES if "feature_space" in WHAT.value else STATISTICS_BATCHES
        yield report.Examples(images, names, labels), test.take(count).as_numpy_iterator()


def main(arguments: list[str]) -> None:
    """Reads images, draws the figures and names the files."""
    command_line.import_tensorflow_quietly()
    from mcattn_tf import runs
    from mcattn_tf.explain.feature_space import correlation
    from mcattn_tf.figures import draw as visualization
    from mcattn_tf.report import page as report

    choose("format", FORMAT.value, visualization.FORMATS)
    for name in WHAT.value:
        choose("what", name, (*visualization.FIGURES, "report", "all"))
    if len(RUN.value) > 1 and not set(WHAT.value) <= set(visualization.OF_SEVERAL_RUNS):
        raise UserError("--run is given once, or several times with --what=compare,feature_space")
    if arguments and IMAGES.value is None:
        raise UserError(f"unexpected argument {arguments[0]!r}; name image files after --images")
    directory = Path(RUN.value[0])
    config, models = load_runs()
    model, attributes = next(iter(models.values())), config.attributes
    chosen = visualization.indices_of(attributes, ATTRIBUTES.value)
    figures = [name for name in WHAT.value if name != "report"]
    if figures or not WHAT.value:  # before images are read, which may take long
        visualization.drawable(models, figures, TOP.value, ORDER.value)
    analysis = correlation.made_before(directory / runs.ANALYSIS, model)
    written = []
    with contextlib.ExitStack() as stack:
        if IMAGES.value is not None:
            paths = [path for path in [*IMAGES.value, *arguments] if path]
            examples, batches = given_images(paths, config)
            count = len(paths)
        elif analysis and set(WHAT.value) <= set(visualization.OF_ANALYSIS):
            examples, batches, count = report.Examples((), (), None), (), 0  # none is looked at
        else:
            examples, batches = stack.enter_context(first_test_images(config))
            count = TEST_IMAGES
        if {"report", "all"} & set(WHAT.value):
            if analysis is None and "attributes" in model.output:
                analysis = correlation.analyze(model, attributes, batches)
            written.append(
                report.write_report(directory, config, model, examples, chosen, analysis)
            )
        if figures:
            pictures = visualization.Pictures(
                examples.images[:count], examples.names[:count], batches, analysis
            )
            drawn = visualization.draw(
                models, attributes, pictures, figures, ATTRIBUTES.value, TOP.value, ORDER.value
            )
            written += visualization.save(drawn, directory / runs.FIGURES, FORMAT.value)
    for path in written:
        print(path)


if __name__ == "__main__":
    command_line.run(main)
