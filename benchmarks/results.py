"""Fills tables and sentences of README and docs with the figures of finished runs; draws curves.

python benchmarks/results.py --run runs/demo --name demo    # keep the figures of a run
python benchmarks/results.py                                # fill all of them again
"""

import json
from pathlib import Path

from absl import flags
from prose import with_figures
from result_figures import draw
from result_tables import PAGES, RESULTS, ROOT, filled, kept, read

from mcattn_tf.commands import flags as command_line
from mcattn_tf.errors import UserError

RUN = flags.DEFINE_string("run", None, "run directory whose figures are kept")
NAME = flags.DEFINE_string("name", None, "of the file in docs/results")


def main(arguments: list[str]) -> None:
    """Keeps the figures of a run, fills tables and sentences and draws the curves."""
    if (RUN.value is None) != (NAME.value is None):
        raise UserError("--run and --name are given together")
    if RUN.value:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(kept(Path(RUN.value)), indent=1)
        (RESULTS / f"{NAME.value}.json").write_text(text + "\n")
    for path in PAGES:
        page = path.relative_to(ROOT).as_posix()
        path.write_text(with_figures(page, filled(path.read_text()), read))
    draw()


if __name__ == "__main__":
    command_line.run_script(main)
