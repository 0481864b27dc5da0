"""Pixels that the fast ways of our decoder change, of 255.

python benchmarks/speed/decoder.py --images_dir DIR --json decoder.json

Images are the first ones of the folder. Each is decoded whole by libjpeg's accurate DCT and resized
by `images.resize_whole`. Beside it are `ours`, which has the fast DCT and shrinks while it decodes,
and `fast DCT`, which decodes whole.
"""

import itertools
import json
from pathlib import Path

import numpy as np
from absl import flags

from mcattn_tf.commands import flags as command_line
from mcattn_tf.errors import UserError

IMAGES_DIR = flags.DEFINE_string("images_dir", None, "folder of JPEG files", required=True)
IMAGES = flags.DEFINE_integer("images", 20, "number of images to decode", 1)
SIZES = flags.DEFINE_list(
    "sizes", ["24x20", "32x26", "48x40", "52x42", "64x52", "128x104"], "sizes, HxW"
)
JSON = flags.DEFINE_string("json", None, "output file for the rows")


def rows_of(files: list[bytes], size: tuple[int, int]) -> list[dict]:
    """Returns the differences of each way of decoding from the accurate one."""
    import tensorflow as tf

    from mcattn_tf.data.images import decode, resize_whole

    def whole(file: bytes, method: str) -> tf.Tensor:
        return resize_whole(tf.io.decode_jpeg(file, channels=3, dct_method=method), size)

    ways = {
        "ours": lambda file: decode(file, size),
        "fast DCT": lambda file: whole(file, "INTEGER_FAST"),
    }
    accurate = np.array([whole(file, "INTEGER_ACCURATE") for file in files], int)
    rows = []
    for name, way in ways.items():
        changes = np.abs(np.array([way(file) for file in files], int) - accurate)
        rows.append(
            {
                "size": "x".join(map(str, size)),
                "decoder": name,
                "mean": round(float(changes.mean()), 2),
                "mean of the worst image": round(float(changes.mean(axis=(1, 2, 3)).max()), 2),
                "above 10, %": round(100 * float((changes > 10).mean()), 2),
                "highest": int(changes.max()),
            }
        )
    return rows


def main(_: list[str]) -> None:
    """Prints a table and may write its rows."""
    paths = itertools.islice(sorted(Path(IMAGES_DIR.value).glob("*.jpg")), IMAGES.value)
    files = [path.read_bytes() for path in paths]
    if not files:
        raise UserError(f"--images_dir {IMAGES_DIR.value} holds no .jpg files")
    command_line.import_tensorflow_quietly()
    sizes = [tuple(map(int, size.split("x"))) for size in SIZES.value]
    rows = [row for size in sizes for row in rows_of(files, size)]
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(map(str, row.values())))
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    command_line.run_script(main)
