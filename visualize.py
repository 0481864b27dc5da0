"""Draws what a trained network looks at.

python visualize.py --run runs/celeba --images face.jpg --attributes Smiling,Eyeglasses
python visualize.py --run runs/gcm --run runs/cnn --what compare
"""

import contextlib
from pathlib import Path

from absl import flags

from mcattn_tf import command_line
from mcattn_tf.errors import UserError, choose

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


def main(arguments: list[str]) -> None:
    """Reads images, draws the figures and names the files."""
    command_line.import_tensorflow_quietly()
    from mcattn_tf import data, report, runs, visualization
    from mcattn_tf.data.images import read_images
    from mcattn_tf.data.pipeline import evaluation_batches
    from mcattn_tf.explain import correlation

    choose("format", FORMAT.value, visualization.FORMATS)
    for name in WHAT.value:
        choose("what", name, (*visualization.FIGURES, "report", "all"))
    figures = [name for name in WHAT.value if name != "report"]
    if len(RUN.value) > 1 and not set(WHAT.value) <= set(visualization.OF_SEVERAL_RUNS):
        raise UserError("--run is given once, or several times with --what=compare,feature_space")
    directories = [Path(run) for run in RUN.value]
    directory = directories[0]
    config = runs.read_config(directory)
    for other in directories[1:]:
        if runs.read_config(other).model.attributes != config.model.attributes:
            raise UserError(f"{other} cannot be compared: its labels are not those of {directory}")
    names_of_runs = visualization.unique_stems([str(run) for run in directories])
    models = dict(zip(names_of_runs, map(runs.load_model, directories), strict=True))
    model, attributes = models[names_of_runs[0]], config.model.attributes
    chosen = visualization.indices_of(attributes, ATTRIBUTES.value)
    analysis = correlation.made_before(directory / runs.ANALYSIS, model)
    written = []
    with contextlib.ExitStack() as stack:
        if IMAGES.value is not None:
            paths = [path for path in [*IMAGES.value, *arguments] if path]
            images, labels = read_images(paths, config.data.image_size), None
            drawn_images, names = len(images), visualization.unique_stems(paths)
            batches = [(images, None)]
        elif arguments:
            raise UserError(
                f"unexpected argument {arguments[0]!r}; name image files after --images"
            )
        else:
            split = data.load_split(located(config).data, "test", attributes)
            stack.enter_context(data.naming_bad_images(split))
            test = evaluation_batches(split, STATISTICS_BATCH_SIZE)
            images, labels = next(test.as_numpy_iterator())
            drawn_images, names = TEST_IMAGES, [f"test_{index}" for index in range(len(images))]
            count = SCATTER_BATCHES if "feature_space" in WHAT.value else STATISTICS_BATCHES
            batches = test.take(count).as_numpy_iterator()
        if {"report", "all"} & set(WHAT.value):
            if analysis is None and "attributes" in model.output:
                analysis = correlation.analyze(model, attributes, batches)
            examples = report.Examples(images, names, labels)
            written.append(
                report.write_report(directory, config, model, examples, chosen, analysis)
            )
        if figures or not WHAT.value:
            drawn = visualization.draw(
                models,
                attributes,
                visualization.Pictures(
                    images[:drawn_images], names[:drawn_images], batches, analysis
                ),
                figures,
                ATTRIBUTES.value,
                TOP.value,
                ORDER.value,
            )
            written += visualization.save(drawn, directory / runs.FIGURES, FORMAT.value)
    for path in written:
        print(path)


if __name__ == "__main__":
    command_line.run(main)
