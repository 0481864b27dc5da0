"""Fills the tables of README and docs from docs/results, and draws the curves.

python benchmarks/results/fill.py --run runs/demo --name demo    # keep the numbers of a run first
python benchmarks/results/fill.py                                # fill every table again
python benchmarks/results/fill.py --front runs/demo              # draw the first picture of README
"""

import json
from pathlib import Path

from absl import flags
from result_figures import draw, front
from result_tables import PAGES, RESULTS, ROOT, filled, kept

from mcattn_tf.commands import flags as command_line
from mcattn_tf.errors import UserError

RUN = flags.DEFINE_string("run", None, "run directory to keep the numbers of")
NAME = flags.DEFINE_string("name", None, "name of the file in docs/results")
FRONT = flags.DEFINE_string("front", None, "run of drawn faces that the first picture is of")


def main(arguments: list[str]) -> None:
    """Keeps the numbers of a run, fills the tables and draws the curves."""
    if (RUN.value is None) != (NAME.value is None):
        raise UserError("--run and --name must be given together")
    if RUN.value:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(kept(Path(RUN.value)), indent=1)
        (RESULTS / f"{NAME.value}.json").write_text(text + "\n")
    for page in PAGES:
        page.write_text(filled(page.read_text()))
    draw()
    if FRONT.value:
        picture = front(Path(FRONT.value))
        picture.savefig(ROOT / "docs" / "front.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    command_line.run_script(main)
