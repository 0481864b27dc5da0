"""Trains for a while and watches the memory and the open files of the process.

python benchmarks/speed/soak.py --minutes 30 --json soak.json
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import keras

from mcattn_tf import data
from mcattn_tf.settings.config import make_config
from mcattn_tf.training import fit
from mcattn_tf.training.callbacks import SaveProgress

SETTINGS = {
    "data": {"image_size": (32, 32), "train_examples": 512},
    "model": {"stem": ((8, 4, 2), (16, 2, 2)), "channels": 16},
    "training": {"epochs": 1_000_000, "batch_size": 32},
}


class Enough(Exception):
    """The time is over."""


def resident_mb() -> float:
    """Returns the memory that the process holds, in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(minutes: float) -> list[dict[str, float]]:
    """Trains and returns for each epoch `seconds`, `resident_mb` and `open_files`."""
    config = make_config(SETTINGS)
    every = data.load(config.data)
    few = data.Data(every.train, every.validation.take(100), every.test, every.attributes)
    begun, rows = time.monotonic(), []
    save = SaveProgress.on_epoch_end

    def watched(self: SaveProgress, epoch: int, logs: dict | None = None) -> None:
        save(self, epoch, logs)
        seconds = time.monotonic() - begun
        files = len(os.listdir("/proc/self/fd"))
        rows.append({"seconds": seconds, "resident_mb": resident_mb(), "open_files": files})
        if seconds > 60 * minutes:
            raise Enough

    SaveProgress.on_epoch_end = watched
    keras.utils.disable_interactive_logging()
    with tempfile.TemporaryDirectory() as folder:
        try:
            fit.train(config, few, Path(folder) / "run", checkpoint_minutes=0.05)
        except Enough:
            return rows
        finally:
            SaveProgress.on_epoch_end = save


def main() -> None:
    """Prints memory and open files after the first epoch, in the middle and at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = soak(options.minutes)
    for row in (rows[0], rows[len(rows) // 10], rows[len(rows) // 2], rows[-1]):
        print(
            f"after {row['seconds']:7.0f} s: {row['resident_mb']:8.1f} MB resident "
            f"({row['resident_mb'] / rows[0]['resident_mb'] - 1:+.2%}), "
            f"{row['open_files']} open files"
        )
    print(f"{len(rows)} epochs")
    if options.json:
        options.json.write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
