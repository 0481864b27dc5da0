"""Images per second of the input pipeline, of Pillow with NumPy and of plain `tf.data`.

python benchmarks/speed/input_pipeline.py --images_dir DIR --json input_pipeline.json

Each loader returns shuffled batches of 64 images, half of them mirrored, float32 in [0, 1], and
their labels. Loaders take turns; the table shows the median round.

- `ours cached`: prepared images; `shifted` adds pad-and-crop by 4 pixels.
- `ours uncached`: `no_cache`, each image decoded and resized when it is read.
- `pillow`: one thread of Pillow and NumPy that opens, resizes (bilinear, antialiased) and mirrors.
- `tf.data`: decode_jpeg, tf.image.resize and random_flip_left_right in one parallel map;
  `antialias` with antialiased resizing, as Pillow and ours have.
- `tensors`: uint8 images in memory, from_tensor_slices and random_flip_left_right.

`ours preparing` measures writing the cache. Memory is RssAnon, without mapped files, of a process
that has read 200 batches of 1,000 or 12,000 images (the files, repeated).
"""

import csv
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from mcattn_tf.commands import flags as command_line
from mcattn_tf.commands.environment import import_tensorflow_quietly
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

if TYPE_CHECKING:
    import tensorflow as tf

IMAGES_DIR = flags.DEFINE_string("images_dir", None, "folder of JPEG files", required=True)
IMAGES = flags.DEFINE_integer("images", 4000, "number of images to read", 100)
IMAGE_SIZE = flags.DEFINE_list("image_size", ["128", "104"], "height and width")
ROUNDS = flags.DEFINE_integer("rounds", 5, "number of turns for each loader", 1)
TURN_SECONDS = flags.DEFINE_float("turn_seconds", 4.0, "length of a turn in seconds")
MEMORY = flags.DEFINE_list("memory", ["1000", "12000"], "numbers of images to measure memory for")
READ_ONLY = flags.DEFINE_bool(
    "read_only", False, "read the prepared --images_dir and print RssAnon"
)
JSON = flags.DEFINE_string("json", None, "output file for the rows")

BATCH = 64
LABELS = 40


def make_folder(directory: Path, count: int) -> Path:
    """Makes a data set of `count` links to the files, in turn, with drawn labels."""
    files = sorted(Path(IMAGES_DIR.value).glob("*.jpg"))
    if not files:
        raise UserError(f"--images_dir {IMAGES_DIR.value} holds no .jpg files")
    directory.mkdir()
    labels = np.random.default_rng(0).integers(0, 2, (count, LABELS))
    with (directory / "labels.csv").open("w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["file", "split", *(f"label_{number}" for number in range(LABELS))])
        for index, file in enumerate(itertools.islice(itertools.cycle(files), count)):
            name = f"{index:06d}.jpg"
            (directory / name).symlink_to(file.absolute())
            split = {0: "validation", 1: "test"}.get(index, "train")
            rows.writerow([name, split, *labels[index]])
    return directory


def config_of(folder: Path, **fields: object) -> DataConfig:
    """Returns the settings under which `folder` is read."""
    height, width = map(int, IMAGE_SIZE.value)
    return DataConfig(
        dataset="folder",
        data_dir=str(folder),
        cache_dir=str(folder.parent / "cache"),
        image_size=(height, width),
        **fields,
    )


def ours(config: DataConfig) -> Callable[[], "tf.data.Dataset"]:
    """Returns what makes our batches."""
    from mcattn_tf import data
    from mcattn_tf.data.pipeline import training_batches

    split = data.load_split(config, "train")
    return lambda: training_batches(split, BATCH, range(1_000_000), 0, config)


def pillow(paths: list[str], labels: np.ndarray, size: tuple[int, int]) -> Iterator:
    """Yields batches that one thread of Pillow and NumPy makes."""
    from PIL import Image

    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(paths))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            images = []
            for index in chosen:
                with Image.open(paths[index]) as file:
                    resized = file.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
                image = np.asarray(resized, np.float32) / 255
                images.append(image[:, ::-1] if random.random() < 0.5 else image)
            yield np.stack(images), labels[chosen]


def plain_tf_data(
    paths: list[str], labels: np.ndarray, size: tuple[int, int], antialias: bool
) -> "tf.data.Dataset":
    """Returns `tf.data` as it is usually written."""
    import tensorflow as tf

    def read(path: "tf.Tensor", label: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        image = tf.image.resize(image, size, antialias=antialias) / 255.0
        return tf.image.random_flip_left_right(image), label

    examples = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths)).repeat()
    examples = examples.map(read, num_parallel_calls=tf.data.AUTOTUNE)
    return examples.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def tensors(images: np.ndarray, labels: np.ndarray) -> "tf.data.Dataset":
    """Returns `tf.data` over images in memory."""
    import tensorflow as tf

    def mirror(image: "tf.Tensor", label: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        image = tf.image.random_flip_left_right(image)
        return tf.cast(image, tf.float32) / 255.0, label

    examples = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images)).repeat()
    examples = examples.map(mirror, num_parallel_calls=tf.data.AUTOTUNE)
    return examples.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def images_per_second(batches: Iterable) -> float:
    """Reads batches for a turn, after a third of one in which `tf.data` may tune itself."""
    iterator = iter(batches)
    for seconds in (TURN_SECONDS.value / 3, TURN_SECONDS.value):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            next(iterator)
            count += BATCH
    return count / (time.perf_counter() - start)


def measure_speed(directory: Path) -> list[dict]:
    """Returns a row a loader: images a second, and those of `ours cached` in its units."""
    from mcattn_tf import data

    folder = make_folder(directory / "speed", IMAGES.value)
    size = tuple(map(int, IMAGE_SIZE.value))
    start = time.perf_counter()
    split = data.load_split(config_of(folder), "train")
    prepared = IMAGES.value / (time.perf_counter() - start)
    paths = [str(folder / split.name_of(index)) for index in range(split.count)]
    images, labels = split.read(range(split.count))
    loaders = {
        "ours cached": ours(config_of(folder)),
        "ours cached, shifted": ours(config_of(folder, pad_and_crop=4)),
        "ours uncached": ours(config_of(folder, no_cache=True)),
        "pillow": lambda: pillow(paths, labels, size),
        "tf.data": lambda: plain_tf_data(paths, labels, size, antialias=False),
        "tf.data, antialias": lambda: plain_tf_data(paths, labels, size, antialias=True),
        "tensors": lambda: tensors(images, labels),
    }
    seen: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(ROUNDS.value):
        for name, loader in loaders.items():
            seen[name].append(images_per_second(loader()))
    speeds = {name: statistics.median(values) for name, values in seen.items()}
    speeds["ours preparing"] = prepared
    return [
        {
            "what": name,
            "images_per_second": speed,
            "ours_cached_ratio": speeds["ours cached"] / speed,
            "ours_uncached_ratio": speeds["ours uncached"] / speed,
        }
        for name, speed in speeds.items()
    ]


def anonymous_memory() -> float:
    """Returns this process's RssAnon in MB."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 1024


def read_batches(folder: Path) -> None:
    """Reads 200 batches of a prepared folder, in epochs, and prints the process's RssAnon."""
    from mcattn_tf import data
    from mcattn_tf.data.pipeline import training_batches

    config = config_of(folder)
    split = data.load_split(config, "train")
    for _ in training_batches(split, BATCH, range(1_000_000), 0, config).take(200):
        pass
    print(anonymous_memory())


def measure_memory(directory: Path) -> list[dict]:
    """Returns a row a number of images: RssAnon after preparing, and after reading prepared ones.

    Each is of a process of its own.
    """
    rows = []
    for count in map(int, MEMORY.value):
        folder = make_folder(directory / f"memory_{count}", count)
        command = [sys.executable, __file__, f"--images_dir={folder}", "--read_only"]
        command.append(f"--image_size={','.join(IMAGE_SIZE.value)}")
        megabytes = [
            float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()[-1])
            for _ in ("preparing", "reading")
        ]
        rows.append(
            {
                "what": f"memory, {count} images",
                "rss_anon_mb_preparing": megabytes[0],
                "rss_anon_mb": megabytes[1],
            }
        )
    return rows


def main(arguments: list[str]) -> None:
    """Prints the rows and writes them."""
    import_tensorflow_quietly()
    if READ_ONLY.value:
        read_batches(Path(IMAGES_DIR.value))
        return
    with tempfile.TemporaryDirectory() as directory:
        speeds = measure_speed(Path(directory))
        memory = measure_memory(Path(directory))
    for row in speeds:
        print(
            f"{row['what']:22} {row['images_per_second']:8.0f} images/s; ours cached "
            f"{row['ours_cached_ratio']:6.2f} times, uncached {row['ours_uncached_ratio']:5.2f}"
        )
    for row in memory:
        print(
            f"{row['what']:22} RssAnon {row['rss_anon_mb']:.0f} MB "
            f"({row['rss_anon_mb_preparing']:.0f} MB in the process that prepared them)"
        )
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(speeds + memory, indent=2) + "\n")


if __name__ == "__main__":
    command_line.run_script(main)
