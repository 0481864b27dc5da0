"""Sentences of README and docs with figures of finished runs, and where each figure comes from."""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """A number of the results that are kept in docs/results.

    Attributes:
        name: of the results.
        path: to the number in them, with dots between names.
        digits: behind the point.
        percent: whether it is a share that is shown in per cent.
        minus: name of results whose number is taken off; none if empty.
    """

    name: str
    path: str
    digits: int = 1
    percent: bool = True
    minus: str = ""

    def shown(self, read: Callable[[str], dict | list]) -> str:
        """Returns the number as the sentence has it.

        Args:
            read: from the name of results to them.
        """
        value = self._value(read(self.name))
        if self.minus:
            value -= self._value(read(self.minus))
        return f"{100 * value if self.percent else value:,.{self.digits}f}"

    def _value(self, results: dict | list) -> float:
        keys = (int(key) if key.isdigit() else key for key in self.path.split("."))
        return functools.reduce(lambda values, key: values[key], keys, results)


def _accuracy(name: str, output: str = "attributes", minus: str = "") -> Figure:
    return Figure(name, f"evaluation.{output}.mean.accuracy", minus=minus)


def _where(measure: str, name: str = "faces_default") -> Figure:
    return Figure(name, f"evaluation.explanations.mean.{measure}")


def _chance(name: str, measured: str, digits: int) -> Figure:
    return Figure(name, f"{measured}.contributions.chance", digits, percent=False)


def _drop(method: str) -> Figure:
    return Figure("faces_default", f"explanations.{method}.average_drop", 0)


def _masked(method: str, metric: str, name: str = "real_default") -> Figure:
    return Figure(name, f"{MASKED}.{method}.{metric}", 3, percent=False)


def _dead(name: str) -> Figure:
    return Figure(name, "evaluation.masks.mean.mask_dead", 0)


def _balanced(part: str) -> tuple[Figure, ...]:
    """Returns the default's lead over the plain network in as many epochs, and its interval."""
    path = f"intervals.{part}.answers.multilabel.differences.balanced_accuracy"
    places = ("mean", "interval.0", "interval.1")
    return tuple(Figure("real_baseline_14", f"{path}.{place}", 2) for place in places)


def _count(path: str) -> Figure:
    return Figure("real_default", path, 0, percent=False)


def _training(name: str) -> Figure:
    return Figure(name, "metrics.validation.probabilities_accuracy")


def _best(name: str) -> tuple[Figure, Figure]:
    """Returns the best epoch, and the training accuracy in it."""
    accuracy = Figure(name, "metrics.validation.multilabel_accuracy")
    return Figure(name, "metrics.best_epoch", 0, percent=False), accuracy


def _ratio(name: str, path: str) -> Figure:
    return Figure(name, path, 2, percent=False)


def _field(number: int) -> Figure:
    return _ratio("locality_curve", f"{number}.maps.cam.pointing_game")


def _with_maps(implementation: str) -> Figure:
    return _ratio("step_inference", f"time_with_maps.{implementation}, K = 40")


VALIDATION = "metrics.validation.val_probabilities_accuracy"
MASKED = "explanations_part_masks"
DIFFERENCE = "answers.attributes.differences.accuracy.mean"
MULTITASK_RUNS = tuple(f"variants_{name}" for name in ("default", "published", "product"))
# {page: [(sentence with {} for each figure, figures)]}
SENTENCES: dict[str, list[tuple[str, tuple[Figure, ...]]]] = {
    "README.md": [
        (
            "hits the attribute's region in {} % (chance {} %), and {} % of the map's energy lies "
            "in it (chance {} %)",
            tuple(map(_where, ("pointing_game", "chance", "energy_in_region", "region_share"))),
        ),
        (
            "the one on the Zen 3 had {} %, and of its maps {} % and {} %",
            (
                Figure("faces_again", "evaluation.attributes.mean.accuracy", 2),
                _where("pointing_game", "faces_again"),
                _where("energy_in_region", "faces_again"),
            ),
        ),
        ("the default (`make demo`, accuracy {} %,", (_accuracy("faces_default"),)),
        ("for 4 epochs of as many images ({} %,", (_accuracy("faces_paper"),)),
        (
            "Chance is {} in the pointing game and 0 in the energy",
            (_chance("faces_default", "explanations", 3),),
        ),
        ("hit earrings in {} %", (Figure("locality_faces", "1.maps.contributions.lowest", 0),)),
        (
            "the network loses {} % of its answer (`average_drop`; Grad-CAM, whose map is wider, "
            "{} %)",
            (_drop("contributions"), _drop("grad_cam")),
        ),
        ("measured on {} faces with [part masks]", (_count(f"{MASKED}.images"),)),
        (
            "The test accuracy is {} % with the default and {} % with `paper`, {} % of always "
            "answering",
            (
                _accuracy("real_default"),
                _accuracy("real_paper"),
                Figure("real_default", "evaluation.attributes.mean.majority_accuracy"),
            ),
        ),
        (
            "the default minus `paper` is {} points on one part of the test faces, {} on the other",
            tuple(
                Figure("real_paper", f"intervals.{part}.{DIFFERENCE}", 2)
                for part in ("half", "sample")
            ),
        ),
        (
            "Chance in the pointing game is {} with both (hair is large)",
            (_chance("real_default", MASKED, 2),),
        ),
        (
            "deletion {} against the contributions' {}, insertion {} against {}",
            tuple(
                _masked(method, metric)
                for metric in ("deletion_auc", "insertion_auc")
                for method in ("center", "contributions")
            ),
        ),
        ("ours is {} times as fast as", (_ratio("step_float32", "ratio_to_best_peer"),)),
        ("maps takes {} times as long as one without", (_with_maps("ours-tensorflow"),)),
        ("(pointing game on drawn faces {} at 6 pixels, {} at 130)", (_field(0), _field(6))),
    ],
    "benchmarks/README.md": [
        ("ours predicts {} times as fast", (_ratio("step_inference", "ratio_to_best_peer"),)),
        (
            "takes {} times as long with all 40 contribution maps as without (textbook Keras {})",
            (_with_maps("ours-tensorflow"), _with_maps("keras-graph")),
        ),
    ],
    "docs/abn.md": [
        (
            "the default answers {} % right, the published network {} %, and with a sigmoid and "
            "one unit but no residual {} %; on the first 256 the highest point of a map hits the "
            "attribute's part in {} %, {} % and {} % (chance {} %). Of a map's energy {} %, {} % "
            "and {} % lie in the part (chance {} %)",
            (
                *(_accuracy(name, "perception") for name in MULTITASK_RUNS),
                *(_where("pointing_game", name) for name in MULTITASK_RUNS),
                _where("chance", MULTITASK_RUNS[0]),
                *(_where("energy_in_region", name) for name in MULTITASK_RUNS),
                _where("region_share", MULTITASK_RUNS[0]),
            ),
        ),
    ],
    "docs/gcm.md": [
        (
            "On CIFAR-10 the gap of {} points between GCM and CNN",
            (_accuracy("cifar10_cnn", "probabilities", minus="cifar10_gcm"),),
        ),
        (
            "({} % with augmentation, CNN {} %), on validation images the gap is {}.",
            (
                _training("cifar10_gcm"),
                _training("cifar10_cnn"),
                Figure("cifar10_cnn", VALIDATION, minus="cifar10_gcm"),
            ),
        ),
        (
            "own mean, too, tells nothing here ({} % where",
            (Figure("cifar10_cnn", "decline.methods.guided_backprop.map.accuracy"),),
        ),
    ],
    "docs/locality.md": [
        (
            "(../README.md#can-the-explanations-be-trusted)) has {} and {} at {} %,",
            (
                _masked("contributions", "pointing_game", "real_paper"),
                _masked("contributions", "normalized_energy", "real_paper"),
                _accuracy("real_paper"),
            ),
        ),
        (
            "{} % of the entries are under 0.05 after 6 epochs on drawn faces, {} % after 14 on "
            "real ones",
            tuple(map(_dead, ("faces_default", "real_default"))),
        ),
    ],
    "docs/results.md": [
        (
            "*half*, {} faces of {} people",
            (_count("intervals.half.images"), _count("intervals.half.people")),
        ),
        (
            "*sample*, {} of CelebA's own test faces, of {} people",
            (_count("intervals.sample.images"), _count("intervals.sample.people")),
        ),
        ("by default, on {} faces with [part masks]", (_count(f"{MASKED}.images"),)),
        ("{} % of the entries of its masks are under 0.05", (_dead("real_paper"),)),
        (
            "higher by {} points [{}, {}] on *half* and by {} [{}, {}] on *sample* (paired)",
            (*_balanced("half"), *_balanced("sample")),
        ),
        (
            "The best epoch without shifts is number {}, at which {} % of the training labels are "
            "answered right; with them number {}, and {} %",
            (*_best("levers_baseline"), *_best("levers_shifts")),
        ),
    ],
}


def with_figures(page: str, text: str, read: Callable[[str], dict | list]) -> str:
    """Returns a page with the figures of its sentences made anew.

    Args:
        page: path of its file in the repository.
        text: of the page.
        read: from the name of results to them.

    Raises:
        ValueError: if a sentence does not stand in the page exactly once.
    """
    for sentence, figures in SENTENCES.get(page, ()):
        pieces = [re.sub(r"\\?\s+", r"\\s+", re.escape(piece)) for piece in sentence.split("{}")]
        found = list(re.finditer(r"([-+\d.,]*\d)".join(pieces), text))
        if len(found) != 1:
            raise ValueError(f"{page} has {len(found)} times, and not once: {sentence}")
        for number in range(len(figures), 0, -1):  # from the last, so that places stay
            start, end = found[0].span(number)
            text = text[:start] + figures[number - 1].shown(read) + text[end:]
    return text
