"""Thresholds of attributes, chosen on validation images and kept with the run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from mcattn_tf import runs
from mcattn_tf.data import Split
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation.intervals import answer
from mcattn_tf.evaluation.ranking import Steps, steps_of
from mcattn_tf.metrics import confusion_measures
from mcattn_tf.models import is_exclusive, label_outputs
from mcattn_tf.runs.checkpoints import weights_of
from mcattn_tf.settings.config import Config
from mcattn_tf.tables import listed

CRITERIA = ("balanced_accuracy", "f1")  # of `confusion_measures`
UNTOLD = 0.5  # threshold of an attribute whose known labels are all equal


class Chosen(NamedTuple):
    """Thresholds of a run by one of the criteria.

    Attributes:
        content: Content of `thresholds.json`, as `choose_thresholds` returns it.
        criterion: One of `CRITERIA`.
    """

    content: dict
    criterion: str

    def of(self, output: str, attributes: Sequence[str]) -> np.ndarray:
        """Returns the thresholds (K,), float32, of an output."""
        named = self.content["chosen"][self.criterion][output]
        return np.array([named[name] for name in attributes], np.float32)

    def described(self, output: str) -> dict:
        """Returns the thresholds of an output by attribute, and how they were chosen."""
        how = {name: self.content[name] for name in ("split", "images", "one_sided")}
        thresholds = self.content["chosen"][self.criterion][output]
        return {"chosen_by": self.criterion, **how, "output": output, "thresholds": thresholds}


def best_threshold(steps: Steps, criterion: str) -> float:
    """Returns the threshold above which an attribute is called present, in [0, 1].

    It is halfway between two neighbouring probabilities, so that the criterion is highest; of
    several such the one nearest to 0.5. It is 0.5 where all known labels are equal.
    """
    if steps.one_sided:
        return UNTOLD
    # Those called present: from step i on, for each i, and none.
    (true, missed), (false, rejected) = (
        (x.sum() - (below := np.append(0, np.cumsum(x))), below) for x in steps[1:]
    )
    measure = confusion_measures(true, rejected, false, missed)[criterion]
    if steps.values[0] <= 0:
        measure[0] = -1  # no threshold is below it
    low, high = np.append(np.float32(0), steps.values), np.append(steps.values, np.float32(1))
    middle = (low + high) / 2
    middle = np.where(middle < high, middle, low)  # no number may be between
    highest = measure >= measure.max() - 1e-12
    return float(middle[np.argmin(np.where(highest, np.abs(middle - UNTOLD), np.inf))])


def choose_thresholds(model: keras.Model, config: Config, split: Split) -> dict:
    """Chooses the thresholds of a network's answers.

    Args:
        model: Network of a run, as `runs.load_model` returns it.
        config: Settings of the run.
        split: Its validation images.

    Returns:
        The content of `thresholds.json`: `weights`, a digest of the network's; `split` and
        `images`, what they were chosen on; `trained_on`, whether the network was trained on these
        too; `one_sided`, attributes that all or none of the images have, whose threshold is 0.5;
        and `chosen`, {criterion: {output: {attribute: threshold}}}.
    """
    if is_exclusive(model):
        raise UserError(
            "thresholds are of attributes, and this network's classes exclude each other; leave "
            "out --thresholds"
        )
    labels, answers = answer(model, split, config.training.batch_size)
    steps = {output: list(steps_of(labels, values)) for output, values in answers.items()}
    first = zip(config.attributes, next(iter(steps.values())), strict=True)
    return {
        "weights": weights_of(model),
        "split": "validation",
        "images": split.count,
        "trained_on": config.data.train_on_validation,
        "one_sided": [name for name, x in first if x.one_sided],
        "chosen": {
            criterion: {
                output: {
                    name: best_threshold(x, criterion)
                    for name, x in zip(config.attributes, of_output, strict=True)
                }
                for output, of_output in steps.items()
            }
            for criterion in CRITERIA
        },
    }


def read_thresholds(directory: Path, model: keras.Model, config: Config) -> dict | None:
    """Returns the content of a run's `thresholds.json`; None where it has none.

    Raises:
        UserError: If it is damaged, or of another run or of other weights.
    """
    path = directory / runs.THRESHOLDS
    if not path.exists():
        return None
    mend = "delete it, and evaluate.py --thresholds chooses them anew"
    try:
        content = json.loads(path.read_text("utf-8"))
        weights = content["weights"]
        described = [
            Chosen(content, criterion).described(output)
            for criterion in CRITERIA
            for output in label_outputs(model)
        ]
        named = [set(x["thresholds"]) for x in described]
        if not all(0 <= value <= 1 for x in described for value in x["thresholds"].values()):
            raise ValueError("no probability")
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"cannot read {path}: it is damaged; {mend}") from None
    if weights != weights_of(model) or any(names != set(config.attributes) for names in named):
        raise UserError(f"{path} has the thresholds of another run or of other weights; {mend}")
    return content


def write_thresholds(directory: Path, content: dict) -> list[str]:
    """Writes `thresholds.json` into a run; returns lines that say what it holds, and warnings."""
    path = directory / runs.THRESHOLDS
    runs.write_json(path, content)
    where = f"{content['images']} {content['split']} images"
    lines = [f"thresholds by {' and by '.join(CRITERIA)}, chosen on {where}, written to {path}"]
    if content["one_sided"]:
        names = listed(content["one_sided"])
        lines.append(f"threshold 0.5 of {names}: all or none of the {where} have it")
    if content["trained_on"]:
        lines.append(f"warning: the network was trained on these {where} too")
    return lines
