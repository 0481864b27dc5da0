"""Text of a measurement of explanations: a row for each method, and for each attribute."""

from collections.abc import Callable

from mcattn_tf.explain.methods import METHODS
from mcattn_tf.tables import Column, extremes, lay_out, legend, paragraph

# {metric: heading}.
LOCALISATION = {
    "pointing_game": "pointing",
    "chance": "chance",
    "energy_in_region": "energy",
    "normalized_energy": "norm.",
    "coverage": "coverage",
    "average_precision": "AP",
}
FAITHFULNESS = {
    "deletion_auc": "deletion",
    "insertion_auc": "insertion",
    "average_drop": "drop",
    "average_increase": "increase",
    "average_gain": "gain",
}
INTERVENTIONS = {
    "single_deletion": "single deletion",
    "single_deletion_tied": "tied",
    "distractors": "distractors",
    "background_independence": "background",
    "completeness": "complete",
}
SANITY = {"sanity_rank_correlation": "rank corr.", "sanity_ssim": "SSIM"}
MEANINGS = {
    "pointing [95 %]": "share of maps whose highest point is in the region, with its interval",
    "pointing": "share of maps whose highest point is in the region",
    "game": "share of maps whose highest point is in the region",
    "centre": "the same of a Gaussian in the middle of the image",
    "chance": "the same of a random map",
    "energy": "share of the map inside the region",
    "norm.": "energy scaled so that 0 is chance and 1 is all of it",
    "coverage": "overlap of the marked cells and the region",
    "AP": "average precision of the cells' order",
    "deletion": "answer while the highest cells are removed first",
    "insertion": "answer while the highest cells are put back first",
    "drop": "loss of the answer when only what the map marks is shown",
    "increase": "how often it rises then",
    "gain": "by how much it rises then",
    "single deletion": "agreement with the drops when single parts are switched",
    "tied": "the same with small drops counted as equal",
    "distractors": "share of the map in parts that change nothing",
    "background": "likeness of the maps on two backgrounds",
    "complete": "how often the answer stays when the other parts are switched",
    "rank corr.": "likeness to the maps of random weights",
    "SSIM": "the same by structural similarity",
}
COMPARED = (
    *("pointing_game", "normalized_energy", "deletion_auc", "insertion_auc"),
    "single_deletion",
)


def _text(values: dict, metric: str) -> str:
    value = values.get(metric)
    return "-" if value is None else f"{value:.3f}"


def _with_interval(values: dict, metric: str) -> str:
    interval = values["intervals"].get(metric)
    if interval is None:
        return _text(values, metric)
    return f"{_text(values, metric)} [{interval[0]:.3f}, {interval[1]:.3f}]"


def rows_of(result: dict) -> dict[str, dict]:
    """Returns {method: values} in a result of `measurement.measure`."""
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
    """Returns the columns of the table of methods, with the rows of `rows_of`."""
    rows = list(rows_of(result).values())
    where = f"in the region, {result['scored']}"
    pointing, *others = LOCALISATION
    columns = [Column("", "explains", [values["output"] for values in rows])]
    columns += _columns(where, {pointing: "pointing [95 %]"}, rows, text=_with_interval)
    columns += _columns(where, {name: LOCALISATION[name] for name in others}, rows)
    columns += _columns("present attributes", FAITHFULNESS, rows)
    absent = {name: FAITHFULNESS[name] for name in ("deletion_auc", "insertion_auc")}
    columns += _columns("absent attributes", absent, rows, "_absent")
    columns += _columns("interventions", INTERVENTIONS, rows)
    return columns + _columns("random weights", SANITY, rows)


def _difference_lines(result: dict) -> list[str]:
    """Returns the differences between the default method and each other."""
    default = result["default_method"]
    rows = {k: v["default_minus_this"] for k, v in rows_of(result).items() if k != default}

    def text(values: dict, metric: str) -> str:
        low, high = values[metric]["interval"]
        return f"{values[metric]['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"

    columns = [
        Column("", heading, [text(values, metric) for values in rows.values()])
        for metric, heading in (LOCALISATION | FAITHFULNESS | INTERVENTIONS).items()
        if metric in COMPARED
        and all(values.get(metric, {}).get("interval") is not None for values in rows.values())
    ]
    if not rows or not columns:
        return []
    return ["", f"{default} minus the others, pair by pair [95 %]:", *lay_out(list(rows), columns)]


def _group_lines(result: dict) -> list[str]:
    """Returns the localisation of each group of labels, if there are several."""
    methods = rows_of(result)
    groups = next(iter(methods.values())).get("groups", {})
    if len(groups) < 2:
        return []
    columns = []
    for group in groups:
        rows = [values["groups"][group] for values in methods.values()]
        pairs = sum(values["pairs"] for values in rows[0]["per_attribute"].values())
        for name in ("pointing_game", "chance", "normalized_energy"):
            text = _text if name == "chance" else _with_interval
            headings = {name: LOCALISATION[name]}
            columns += _columns(f"{group}, {pairs} pairs", headings, rows, text=text)
    return ["", "by group of labels:", *lay_out(list(methods), columns)] if columns else []


def attribute_columns(result: dict) -> tuple[list[str], list[Column]]:
    """Returns localised attributes, and columns of the default method, chance and centre."""
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
    energy = {"energy_in_region": "in region", "region_share": "chance"}
    energy["normalized_energy"] = "normalized"
    return list(attributes), columns + _columns("energy", energy, rows)


def _attribute_lines(result: dict, full: bool) -> list[str]:
    names, columns = attribute_columns(result)
    if not names:
        return []
    if not full:
        rows = result[result["default_method"]]["per_attribute"]
        names, columns = extremes(names, columns, [rows[name]["pointing_game"] for name in names])
    return ["", f"{result['default_method']} by attribute:", *lay_out(names, columns)]


def notes(result: dict) -> list[str]:
    """Returns what the headings mean, the number of images and steps, and what is better."""
    lines = [
        legend([*method_columns(result), *attribute_columns(result)[1]], MEANINGS),
        f"{result['images']} images, {result['regions']}; faithfulness on one attribute of each "
        f"of {result['faithfulness_images']} images, by the network's own answer, "
        f"{result['steps']} steps, baseline {result['baseline']}",
        "higher is better: pointing, energy, insertion, increase, gain; lower is better: deletion, "
        "drop and similarity to the map of random weights",
    ]
    if rows_of(result)[result["default_method"]].get("single_deletion") is not None:
        lines.append(
            "interventions draw the present attributes' images anew with a part or the background "
            "changed; higher is better, but for distractors"
        )
    if rows_of(result)[result["default_method"]].get("pointing_game") is None:
        reason = f"no attribute is present in the group {result['scored']}"
        if result["scored"] is None:
            reason = "no regions are known; pass masks or boxes as `regions` of `measure`"
            reason += ", or use data that have them (docs/explanations.md)"
        lines.append(f"localisation was not measured: {reason}")
    return lines


def format_tables(result: dict, full: bool = True) -> str:
    """Returns the text of a result of `measurement.measure`.

    Without `full` it has no differences of pairs, and of many attributes the best and worst five by
    the pointing game.
    """
    lines = lay_out(list(rows_of(result)), method_columns(result))
    if full:
        lines += _difference_lines(result)
    lines += [*_group_lines(result), *_attribute_lines(result, full)]
    return "\n".join([*lines, "", *map(paragraph, notes(result))])
