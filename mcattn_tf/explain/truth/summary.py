"""A measurement of explanations as text: a row for each method, and for each attribute."""

from collections.abc import Callable

from mcattn_tf.explain.methods import METHODS
from mcattn_tf.tables import Column, lay_out

LOCALISATION = {
    "pointing_game": "pointing",
    "chance": "chance",
    "energy_in_region": "energy",
    "normalized_energy": "norm.",
}
FAITHFULNESS = {
    "deletion_auc": "deletion",
    "insertion_auc": "insertion",
    "average_drop": "drop",
    "average_increase": "increase",
    "average_gain": "gain",
}
ENERGY = {
    "energy_in_region": "in region",
    "region_share": "chance",
    "normalized_energy": "normalized",
}
COMPARED = ("pointing_game", "normalized_energy", "deletion_auc", "insertion_auc")
SANITY = {"sanity_rank_correlation": "rank corr.", "sanity_ssim": "SSIM"}


def _text(values: dict, metric: str) -> str:
    value = values.get(metric)
    return "-" if value is None else f"{value:.3f}"


def _with_interval(values: dict, metric: str) -> str:
    interval = values["intervals"].get(metric)
    if interval is None:
        return _text(values, metric)
    return f"{_text(values, metric)} [{interval[0]:.3f}, {interval[1]:.3f}]"


def rows_of(result: dict) -> dict[str, dict]:
    """Returns {method: values} out of the result of `measurement.measure`."""
    return {name: values for name, values in result.items() if name in METHODS}


def _columns(
    group: str,
    headings: dict[str, str],
    rows: list[dict],
    suffix: str = "",
    text: Callable[[dict, str], str] = _text,
) -> list[Column]:
    return [
        Column(group, heading, [text(values, f"{metric}{suffix}") for values in rows])
        for metric, heading in headings.items()
        if any(values.get(f"{metric}{suffix}") is not None for values in rows)
    ]


def method_columns(result: dict) -> list[Column]:
    """Returns the columns of the table of methods, with the rows of `rows_of`.

    Args:
        result: result of `measurement.measure`.
    """
    rows = list(rows_of(result).values())
    columns = [Column("", "explains", [values["output"] for values in rows])]
    localisation = _columns(f"in the region, {result['scored']}", LOCALISATION, rows)
    if localisation:
        pointing = [_with_interval(values, "pointing_game") for values in rows]
        localisation[0] = localisation[0]._replace(heading="pointing [95 %]", cells=pointing)
    columns += localisation + _columns("present attributes", FAITHFULNESS, rows)
    absent = {name: FAITHFULNESS[name] for name in ("deletion_auc", "insertion_auc")}
    columns += _columns("absent attributes", absent, rows, "_absent")
    columns += _columns("random weights", SANITY, rows)
    return columns


def _difference_lines(result: dict) -> list[str]:
    """Returns the differences of the default method from each other, pair by pair."""
    rows = {
        name: values["default_minus_this"]
        for name, values in rows_of(result).items()
        if "default_minus_this" in values
    }

    def text(values: dict, metric: str) -> str:
        low, high = values[metric]["interval"]
        return f"{values[metric]['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"

    columns = [
        Column("", heading, [text(values, metric) for values in rows.values()])
        for metric, heading in (LOCALISATION | FAITHFULNESS).items()
        if metric in COMPARED
        and all(values.get(metric, {}).get("interval") is not None for values in rows.values())
    ]
    if not rows or not columns:
        return []
    heading = f"{result['default_method']} minus the others, pair by pair [95 %]:"
    return ["", heading, *lay_out(list(rows), columns)]


def _group_lines(result: dict) -> list[str]:
    """Returns the localisation of each group of labels, where there are several."""
    methods = rows_of(result)
    groups = next(iter(methods.values())).get("groups", {})
    if len(groups) < 2:
        return []
    columns = []
    for group in groups:
        rows = [values["groups"][group] for values in methods.values()]
        pairs = sum(values["pairs"] for values in rows[0]["per_attribute"].values())
        heading = f"{group}, {pairs} pairs"
        chance = _columns(heading, {"chance": "chance"}, rows)
        main = {name: LOCALISATION[name] for name in ("pointing_game", "normalized_energy")}
        pointing, *energy = _columns(heading, main, rows, text=_with_interval) or [None]
        columns += [pointing, *chance, *energy] if pointing else []
    return ["", "by group of labels:", *lay_out(list(methods), columns)] if columns else []


def attribute_columns(result: dict) -> tuple[list[str], list[Column]]:
    """Returns the localised attributes and the columns of the default method, chance and centre.

    Args:
        result: result of `measurement.measure`.
    """
    attributes = {
        attribute: values
        for attribute, values in result[result["default_method"]]["per_attribute"].items()
        if values.get("pointing_game") is not None
    }
    rows = list(attributes.values())
    columns = [Column("", "pairs", [str(values["pairs"]) for values in rows])]
    columns += _columns("pointing", {"pointing_game": "game", "chance": "chance"}, rows)
    if "center" in result:
        others = [result["center"]["per_attribute"][attribute] for attribute in attributes]
        columns += _columns("pointing", {"pointing_game": "centre"}, others)
    return list(attributes), columns + _columns("energy", ENERGY, rows)


def _attribute_lines(result: dict) -> list[str]:
    names, columns = attribute_columns(result)
    heading = f"{result['default_method']} by attribute:"
    return ["", heading, *lay_out(names, columns)] if names else []


def notes(result: dict) -> list[str]:
    """Returns the number of images and steps, and which end of each column is the better one."""
    lines = [
        f"{result['images']} images, {result['regions']}; faithfulness on one attribute of each "
        f"of {result['faithfulness_images']} images, by the network's own answer, "
        f"{result['steps']} steps, baseline {result['baseline']}",
        "better if higher: pointing, energy, insertion, increase, gain; if lower: deletion, drop, "
        "and similarity to the map of random weights",
    ]
    if rows_of(result)[result["default_method"]].get("pointing_game") is None:
        reason = f"no attribute is present in the group {result['scored']}"
        if result["scored"] is None:
            reason = (
                "no regions are known; CelebA's landmark file list_landmarks_align_celeba.txt or "
                "--part_masks would give some"
            )
        lines.append(f"localisation was not measured: {reason}")
    return lines


def format_tables(result: dict) -> str:
    """Returns the result of `measurement.measure` as text."""
    lines = lay_out(list(rows_of(result)), method_columns(result))
    lines += [*_difference_lines(result), *_group_lines(result), *_attribute_lines(result)]
    return "\n".join([*lines, "", *notes(result)])
