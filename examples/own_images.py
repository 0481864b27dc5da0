"""From your own images and a CSV file of their labels to a network that is served.

python examples/own_images.py --images DIR --size 128,128     # labels.csv: docs/data.md
python examples/own_images.py                                 # on a small folder that it draws

Prints each command before it runs it: take what you need.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

from absl import flags

from mcattn_tf.commands.environment import import_tensorflow_quietly
from mcattn_tf.commands.flags import run_script
from mcattn_tf.errors import UserError

IMAGES = flags.DEFINE_string("images", None, "Folder with labels.csv; drawn without it")
SIZE = flags.DEFINE_string("size", "64,64", "Height and width in pixels, divisible by 4")
OUT = flags.DEFINE_string("out", "runs/own", "Run directory")
EPOCHS = flags.DEFINE_integer("epochs", 6, "Passes over the training images")

ROOT = Path(__file__).parent.parent
# A copy: importing TensorFlow sets variables that would make the scripts print its messages.
ENVIRONMENT = os.environ.copy()
DRAWN = 2000
SHOWN = ("Smiling", "Eyeglasses", "Wearing_Hat", "Bangs")


def draw_folder(directory: Path) -> None:
    """Writes images and `labels.csv` as a user would bring them."""
    import_tensorflow_quietly()
    from matplotlib import image

    from mcattn_tf.data.drawn_faces import ATTRIBUTES, draw_faces

    directory.mkdir(parents=True)
    images, labels = draw_faces(0, 0, DRAWN)
    columns = [ATTRIBUTES.index(name) for name in SHOWN]
    with open(directory / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", *SHOWN])
        for index, pixels in enumerate(images):
            image.imsave(directory / f"face_{index}.png", pixels)
            table.writerow([f"face_{index}.png", *labels[index, columns]])


def run(*command: str | Path) -> None:
    """Prints a command and runs it; ends with its status where it fails."""
    words = [str(word) for word in command]
    print(f"\n$ python {' '.join(words)}", flush=True)
    if status := subprocess.run([sys.executable, *words], cwd=ROOT, env=ENVIRONMENT).returncode:
        sys.exit(status)


def main(arguments: list[str]) -> None:
    """Trains, measures, draws, exports and asks the exported network."""
    directory, out = Path(IMAGES.value or f"{OUT.value}_images").absolute(), Path(OUT.value)
    if not IMAGES.value and not directory.exists():
        draw_folder(directory)
    table = directory / "labels.csv"
    if not table.is_file():
        raise UserError(f"--images {directory} must hold labels.csv, see docs/data.md")
    data = ("--dataset", "folder", "--data_dir", directory)
    schedule = ("--epochs", f"{EPOCHS.value}", "--batch_size", "16", "--learning_rate", "3e-3")
    run("train.py", *data, "--image_size", SIZE.value, *schedule, "--out", out)
    with open(table, encoding="utf-8-sig", newline="") as file:  # training has found it in order
        rows = csv.DictReader(file)
        example = directory / next(rows)[rows.fieldnames[0]]
    run("evaluate.py", "--run", out, "--explanations", "--explained_images", "64")
    run("visualize.py", "--run", out, "--what", "contributions,masks", "--images", example)
    served = ("--saved_model", out / "export", "--out", out / "answers")
    run("-m", "mcattn_tf.commands.client", *served, example)
    print(f"\nTensorFlow Serving reads {out / 'export'}; README, Serving, has its command.")


if __name__ == "__main__":
    run_script(main)
