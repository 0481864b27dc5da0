"""Text of measured slices: a table for each, and what to keep in mind."""

from mcattn_tf.evaluation.slices import FEW, FEWEST, MEASURES
from mcattn_tf.tables import Column, lay_out, paragraph, percent

LARGEST = 5  # attributes whose gaps are listed


def _gap_columns(rows: list[dict], name: str, rest: str) -> list[Column]:
    gaps = [percent(x["gap"], x["interval"], signed=x["gap"] is not None) for x in rows]
    return [
        Column("", name, [percent(x["slice"]) for x in rows]),
        Column("", rest, [percent(x["rest"]) for x in rows]),
        Column("", "gap [95 %]", gaps),
    ]


def tables(result: dict) -> dict[str, list[tuple[str, list[str], list[Column]]]]:
    """Returns the tables of each slice of a result, in per cent: (caption, names, columns).

    The first has the means over attributes. The second has the largest gaps of single attributes
    whose interval does not hold 0, if there are any.
    """
    shown = {}
    for name, values in result["slices"].items():
        names = [measure for measure in MEASURES if measure in values["mean"]]
        columns = _gap_columns([values["mean"][x] for x in names], name, values["rest"])
        caption = (
            f"{values['images']} images of {name}, {values['rest_images']} of {values['rest']}; "
            f"means over attributes at {levels(result)}"
        )
        shown[name] = [(caption, [MEASURES[x] for x in names], columns)]
        apart = [
            (f"{attribute}: {MEASURES[measure]}", gap)
            for attribute, measures in values["per_attribute"].items()
            for measure, gap in measures.items()
            if gap["interval"] and (gap["interval"][0] > 0 or gap["interval"][1] < 0)
        ]
        apart.sort(key=lambda pair: -abs(pair[1]["gap"]))
        if apart:
            rows, gaps = zip(*apart[:LARGEST], strict=True)
            columns = _gap_columns(list(gaps), name, values["rest"])
            which = f"the largest of {len(apart)} gaps" if len(apart) > LARGEST else "gaps"
            caption = f"{which} of attributes whose interval leaves out 0"
            shown[name].append((caption, list(rows), columns))
    return shown


def levels(result: dict) -> str:
    """Returns which thresholds a result is of."""
    if not result["chosen_by"]:
        return "the threshold 0.5"
    return f"the thresholds chosen by {result['chosen_by'].replace('_', ' ')}"


def notes(result: dict) -> list[str]:
    """Returns how the slices were measured, and warnings of slices with few images."""
    unit = "images" if result["people"] is None else f"{result['people']} people"
    lines = [
        f"{result['output']} at {levels(result)} on {result['images']} {result['split']} images",
        f"intervals are over {unit}",
        "a gap is the slice minus the others; attributes that define a slice are left out",
        "of single attributes without a gap, the interval of one in twenty leaves out 0 by chance",
        f"rates of fewer than {FEWEST} labels are left out; the calibration error is corrected for "
        "its bias",
    ]
    for name, values in result["slices"].items():
        for side, count in ((name, values["images"]), (values["rest"], values["rest_images"])):
            if count < FEW:
                lines.append(f"warning: few images: {count} of {side}; its rates are rough")
        if values["untold"]:
            lines.append(f"{values['untold']} images tell neither {name} nor {values['rest']}")
    if result["pointing"]:
        lines.append(
            "pointing game: {method} on {images} images, {regions}".format_map(result["pointing"])
        )
    return lines


def format_slices(result: dict) -> str:
    """Returns a result of `evaluate.py --slices` as text."""
    lines = []
    for of_slice in tables(result).values():
        for caption, names, columns in of_slice:
            lines += [caption, *lay_out(names, columns), ""]
    return "\n".join([*lines, *map(paragraph, notes(result))])
