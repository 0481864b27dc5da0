"""Verdicts in words on a network's answers, maps and masks, from the numbers of its results."""

import math
from collections.abc import Sequence

from mcattn_tf.explain.methods import YARDSTICKS
from mcattn_tf.explain.truth.summary import rows_of
from mcattn_tf.metrics import MaskStatistics, mask_warnings
from mcattn_tf.settings.systems import LABEL_OUTPUTS
from mcattn_tf.tables import listed, percent

SAME = 5e-5  # shares nearer than half a hundredth of a point are the same
HARDLY = 0.005  # gain over the more common answer up to which it is hardly one
FEWEST = 20  # images below which nothing is said about maps
NAMED = 5  # attributes that a sentence names
CLEARLY = 2.0  # times chance; maps that hit less often say little
NEGLIGIBLE = 0.005  # share of the answers that masks must change to matter
CLOSE = 0.02  # pointing games nearer than this are no better than one another
# Similarity to the maps of random weights above which maps hardly depend on the weights. On drawn
# and real faces guided Grad-CAM has an SSIM of 0.45 to 0.6, all others but GCM's are under 0.2.
ALIKE = {"sanity_ssim": 0.25, "sanity_rank_correlation": 0.4}
GAUSSIAN = "a Gaussian in the middle of the image"


def verdicts(evaluation: dict | None, explanations: dict | None = None) -> list[str]:
    """Returns what the results of a run say, a verdict a text.

    Args:
        evaluation: Result of `answers.evaluate_run`; None where the answers were not measured.
        explanations: Result of `measurement.measure`; None where it was not made.

    Returns:
        Verdicts on the answers, where the maps point, the masks, and the method to look at; those
        for which there are numbers.
    """
    texts = [] if evaluation is None else [*_on_answers(evaluation)]
    glance = (evaluation or {}).get("explanations")
    if explanations and _measured(explanations[explanations["default_method"]]):
        texts += _on_maps(explanations)
    elif glance and glance["intervals"]["pointing_game"]:
        mean, interval = glance["mean"], glance["intervals"]["pointing_game"]
        texts.append(_beside_chance(glance["method"], mean, interval, glance["images"]))
    else:
        texts.append(
            "Where the maps point was not measured: no regions are known in which the attributes "
            "of these images are seen."
        )
    if evaluation and "masks" in evaluation:
        texts += _on_masks(evaluation["masks"])
    return texts + ([_on_methods(explanations)] if explanations else [])


def _on_answers(evaluation: dict) -> list[str]:
    """Compares the answers with the more common answer, and names attributes never present."""
    output = next(name for name in LABEL_OUTPUTS if name in evaluation)
    mean, rows = evaluation[output]["mean"], evaluation[output]["per_attribute"]
    of_classes = "recall" in mean
    common = "the most common class" if of_classes else "the more common answer"
    accuracy, majority = mean["accuracy"], mean["majority_accuracy"]
    if accuracy is None:
        return ["The answers cannot be judged: no label of these images is known."]
    gain = accuracy - majority
    word = "Better" if gain > HARDLY else "Hardly better" if gain > SAME else "No better"
    word = "Worse" if gain < -SAME else word
    texts = [
        f"{word} than always answering {common}: {percent(accuracy)} % of the answers "
        f"({output}) are right, {percent(majority)} % of those; {100 * gain:+.2f} points."
    ]
    if of_classes:
        never = [x for x, row in rows.items() if row["precision"] is None and row["positives"]]
        if never:
            texts.append(f"Never answered: {_counted(never, rows)}, though images show them.")
        return texts
    known = {name: row for name, row in rows.items() if row["accuracy"] is not None}
    beaten = [x for x, row in known.items() if row["accuracy"] <= row["majority_accuracy"] + SAME]
    if beaten:
        texts.append(f"No better than the more common answer: {_counted(beaten, known)}.")
    else:
        texts.append(f"All {len(known)} attributes are answered better than that.")
    if never := [name for name, row in known.items() if _is_never_present(row)]:
        most = max(known[name]["positives"] for name in never)
        texts.append(
            f"Never answered present: {_counted(never, known)}, though up to {percent(most)} % of "
            "the images have one. Read their balanced accuracy and F1, not their accuracy."
        )
    return texts


def _is_never_present(row: dict) -> bool:
    """Returns whether all answers of an attribute that some images have are absent.

    Then no present label is right, so F1 is 0, and every absent one is.
    """
    absent = 1 - row["positives"]
    return row["positives"] > 0 and row["f1"] == 0 and abs(row["accuracy"] - absent) < 1e-9


def _counted(names: Sequence[str], rows: dict) -> str:
    return f"{len(names)} of {len(rows)} ({listed(names, NAMED)})"


def _measured(values: dict) -> bool:
    return (values.get("intervals") or {}).get("pointing_game") is not None


def _ends(interval: Sequence[float]) -> str:
    return f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _beside_chance(method: str, mean: dict, interval: Sequence[float], images: int) -> str:
    """Says whether the highest point is in the attribute's region more often than by chance."""
    chance, (low, high) = mean["chance"], interval
    numbers = (
        f"the highest point of {method} is in the attribute's region in "
        f"{100 * mean['pointing_game']:.1f} % of the cases ({_ends(interval)}; chance "
        f"{100 * chance:.1f} %)"
    )
    if images < FEWEST or (low <= chance and high >= _clear(chance)):
        return (
            f"Whether the maps point better than chance cannot be told from {images} images: "
            f"{numbers}."
        )
    if low > chance and high >= _clear(chance):
        return f"The maps point better than chance: {numbers}."
    if low > chance:
        return f"The maps point only somewhat better than chance: {numbers}."
    return (
        f"The maps point no better than chance: {numbers}. They are no evidence of where the "
        "network looks; a narrow receptive field helps (of mcattn and baseline: --dilations)."
    )


def _clear(chance: float) -> float:
    """Returns the pointing game that is clearly better than chance."""
    return min(CLEARLY * chance, (1 + chance) / 2)


def _on_maps(result: dict) -> list[str]:
    """Compares the default method with chance and with the Gaussian."""
    method, images = result["default_method"], result["images"]
    values = result[method]
    texts = [_beside_chance(method, values, values["intervals"]["pointing_game"], images)]
    compared = _gain_over_center(result)
    if compared is None:
        return texts
    mean, (low, high) = compared
    numbers = f"{100 * mean:+.1f} points ({_ends((low, high))})"
    if low > 0:
        text = f"The maps point better than {GAUSSIAN}: {numbers}."
    elif high < 0:
        text = f"The maps point worse than {GAUSSIAN}: {numbers}."
    elif high < CLOSE:
        text = f"The maps point no better than {GAUSSIAN}: {numbers}."
    else:
        text = (
            f"Whether the maps point better than {GAUSSIAN} cannot be told from {images} images: "
            f"{numbers}."
        )
    return [*texts, text]


def _gain_over_center(result: dict) -> tuple[float, Sequence[float]] | None:
    """Returns by how much the default method points better than the Gaussian, with its interval."""
    apart = result.get("center", {}).get("default_minus_this", {}).get("pointing_game")
    return (apart["mean"], apart["interval"]) if apart and apart["interval"] else None


def _on_masks(masks: dict) -> list[str]:
    """Says whether masks are dead or flat, and whether the answers need them."""
    mean, texts = masks["mean"], []
    for warning in mask_warnings(masks["per_attribute"]):
        text = warning.removeprefix("warning: ")
        texts.append(f"{text[0].upper()}{text[1:]}.")
    if not texts:
        texts.append(
            f"The masks are alive: {percent(1 - mean['mask_dead'])} % of their entries are "
            f"{MaskStatistics.DEAD_BELOW} or more, with a standard deviation over positions of "
            f"{mean['mask_std_positions']:.3f}."
        )
    carried = masks.get("carried")
    if carried and math.isfinite(carried["trained"]):
        trained, flat, none = (carried[x] for x in ("trained", "position_mean", "none"))
        numbers = (
            f"accuracy is {percent(trained)} % with them, {percent(flat)} % with each at its mean "
            f"over positions and {percent(none)} % without"
        )
        if trained - none < NEGLIGIBLE:
            texts.append(f"The answers do not need the masks: {numbers}.")
        elif trained - flat < NEGLIGIBLE:
            texts.append(f"The masks are flat in effect, their places hardly matter: {numbers}.")
        else:
            texts.append(f"The answers need the masks and their places: {numbers}.")
    return texts


def _on_methods(result: dict) -> str:
    """Names the method to look at, and one that points better but ignores the weights."""
    default, rows = result["default_method"], rows_of(result)
    own = {
        name: row
        for name, row in rows.items()
        if name not in YARDSTICKS and row["output"] == rows[default]["output"]
    }
    usable = [name for name in own if _depends_on_weights(own[name]) and _points(result, name)]
    better = [name for name in usable if name != default and _is_better(own[name])]
    if better:
        chosen = max(better, key=lambda name: own[name]["insertion_auc"])
        reason = f"it beats {default}"
    elif default in usable:
        chosen, reason = default, "no other method that depends on the weights beats it"
    elif usable:
        chosen = max(usable, key=lambda name: own[name].get("pointing_game") or 0)
        reason = f"{default} does not point better than chance and {GAUSSIAN}"
    else:
        return (
            "No method can be recommended: none both depends on the weights and points better "
            f"than chance and {GAUSSIAN}."
        )
    text = f"Look at {chosen}: {reason} ({_numbers(own[chosen])}"
    text += f"; {default}: {_numbers(own[default])})." if chosen != default else ")."
    row = own[chosen]
    if _measured(row) and row["intervals"]["pointing_game"][1] < _clear(row["chance"]):
        text += " It points only somewhat better than chance."
    edges = [name for name in own if not _depends_on_weights(own[name]) and _is_better(own[name])]
    if edges:
        text += (
            f" Beware of {listed(edges, NAMED)} ({_numbers(own[edges[0]])}): with random weights "
            "the maps stay alike, so they show the image rather than the network."
        )
    return text


def _depends_on_weights(values: dict) -> bool:
    """Returns whether maps change when the weights are randomised, as far as it was measured."""
    return all(values.get(name) is None or values[name] < most for name, most in ALIKE.items())


def _points(result: dict, name: str) -> bool:
    """Returns whether a method points better than chance and the Gaussian, where it is measured."""
    values = result[name]
    if not _measured(values):
        return True
    low = values["intervals"]["pointing_game"][0]
    if name == result["default_method"]:
        compared = _gain_over_center(result)
        over_center = compared is None or compared[1][0] > 0
    else:
        center = result.get("center", {}).get("intervals", {}).get("pointing_game")
        over_center = center is None or low > center[1]
    return low > values["chance"] and over_center


def _is_better(values: dict) -> bool:
    """Returns whether a method surely beats the default one in all that was measured of both."""
    apart = values.get("default_minus_this", {})
    signs = {"pointing_game": -1, "insertion_auc": -1, "deletion_auc": 1}  # of a worse default
    intervals = {x: apart[x]["interval"] for x in signs if apart.get(x, {}).get("interval")}
    return bool(intervals) and all(
        min(signs[name] * end for end in interval) > 0 for name, interval in intervals.items()
    )


def _numbers(values: dict) -> str:
    """Returns pointing, deletion and insertion, as far as they were measured."""
    words = []
    if values.get("pointing_game") is not None:
        words.append(f"pointing {100 * values['pointing_game']:.1f} %")
    for name in ("deletion", "insertion"):
        if values.get(f"{name}_auc") is not None:
            words.append(f"{name} {values[f'{name}_auc']:.3f}")
    return ", ".join(words)
