"""Verdicts on made-up numbers, every branch."""

import copy

import pytest

from mcattn_tf.evaluation.verdicts import verdicts


def row(positives, right_present, right_absent):
    """Measures of an attribute from the shares of its present and absent labels that are right."""
    accuracy = positives * right_present + (1 - positives) * right_absent
    called = positives * right_present + (1 - positives) * (1 - right_absent)
    total = positives + called
    return {
        "accuracy": accuracy,
        "balanced_accuracy": (right_present + right_absent) / 2,
        "f1": 2 * positives * right_present / total if total else None,
        "positives": positives,
        "majority_accuracy": max(positives, 1 - positives),
    }


def evaluation_of(rows, **others):
    names = ("accuracy", "majority_accuracy")
    mean = {name: sum(x[name] for x in rows.values()) / len(rows) for name in names}
    return {"attributes": {"mean": mean, "per_attribute": rows}, **others}


GOOD = {"Hat": row(0.4, 0.9, 0.8), "Bald": row(0.02, 0.5, 0.999)}
MISSED = {
    "Hat": row(0.4, 0.9, 0.8),
    "Bald": row(0.02, 0, 1),  # never answered present
    "Chubby": row(0.1, 0, 0.99),  # answered present, always wrongly
    "Goatee": row(0, 0, 1),  # no image has it
}


def found(texts, beginning):
    (text,) = [text for text in texts if text.startswith(beginning)]
    return text


def test_better_than_the_majority_answer_in_all():
    texts = verdicts(evaluation_of(GOOD))
    # Hat: 0.4 * 0.9 + 0.6 * 0.8 = 0.84; Bald: 0.01 + 0.98 * 0.999 = 0.98902; majority 0.6, 0.98.
    assert texts[:2] == [
        "Better than always answering the more common answer: 91.45 % of the answers (attributes) "
        "are right, 79.00 % of those; +12.45 points.",
        "All 2 attributes are answered better than that.",
    ]
    assert texts[2].startswith("Where the maps point was not measured")
    assert len(texts) == 3


def test_attributes_that_are_no_better_or_never_present_are_named():
    texts = verdicts(evaluation_of(MISSED))
    assert (
        found(texts, "No better than the more common")
        == "No better than the more common answer: 3 of 4 (Bald, Chubby and Goatee)."
    )
    assert found(texts, "Never answered present: 1 of 4 (Bald), though up to 2.00 % of the images")
    many = {f"a{index}": row(0.1, 0, 1) for index in range(9)}
    assert "9 of 9 (a0, a1, a2, a3 and 5 more)" in found(
        verdicts(evaluation_of(many)), "Never answered present"
    )


@pytest.mark.parametrize(
    ("right", "beginning", "points"),
    [(0.98, "No better", "+0.00"), (0.90, "Worse", "-8.00")],
)
def test_no_better_and_worse_than_the_majority_answer(right, beginning, points):
    answers = {"Bald": row(0.02, 0, 1) | {"accuracy": right}}
    text = verdicts(evaluation_of(answers))[0]
    assert text.startswith(f"{beginning} than always") and f"; {points} points." in text


def test_unknown_labels_leave_the_answers_unjudged():
    unknown = dict.fromkeys(GOOD["Hat"])
    result = {"attributes": {"mean": unknown, "per_attribute": {"Hat": unknown}}}
    assert verdicts(result)[0].startswith("The answers cannot be judged")
    partly = evaluation_of(GOOD)
    partly["attributes"]["per_attribute"] = GOOD | {"Wig": unknown}
    assert "All 2 attributes" in verdicts(partly)[1]


def test_classes_that_are_never_answered_are_named():
    rows = {
        "cat": {"recall": 1.0, "precision": 0.5, "f1": 0.6, "positives": 0.5},
        "dog": {"recall": 0.0, "precision": None, "f1": 0.0, "positives": 0.5},
        "cow": {"recall": None, "precision": None, "f1": None, "positives": 0.0},
    }
    mean = {"accuracy": 0.5, "majority_accuracy": 0.5, "recall": 0.5}
    texts = verdicts({"probabilities": {"mean": mean, "per_attribute": rows}})
    assert texts[0].startswith("No better than always answering the most common class: 50.00 %")
    assert texts[1] == "Never answered: 1 of 3 (dog), though images show them."


def glance(pointing, interval, chance=0.2):
    mean = {"pointing_game": pointing, "chance": chance}
    where = {"method": "cam", "images": 50, "mean": mean, "intervals": {"pointing_game": interval}}
    return evaluation_of(GOOD, explanations=where)


@pytest.mark.parametrize(
    ("pointing", "interval", "chance", "beginning"),
    [
        (0.6, [0.5, 0.7], 0.2, "The maps point better than chance: the highest point of cam is"),
        (0.38, [0.3, 0.46], 0.2, "The maps point better than chance"),  # it may be twice chance
        (0.3, [0.25, 0.35], 0.2, "The maps point only somewhat better than chance"),
        (0.2, [0.15, 0.25], 0.2, "The maps point no better than chance"),
        (0.1, [0.05, 0.15], 0.2, "The maps point no better than chance"),
        (0.3, [0.1, 0.5], 0.2, "Whether the maps point better than chance cannot be told from 50"),
        (0.8, [0.72, 0.9], 0.5, "The maps point better than chance"),  # twice chance is always
        (0.6, [0.52, 0.7], 0.5, "The maps point only somewhat better than chance"),
    ],
)
def test_the_interval_decides_whether_maps_point_better_than_chance(
    pointing, interval, chance, beginning
):
    text = verdicts(glance(pointing, interval, chance))[2]
    assert text.startswith(beginning)
    ends = f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
    assert f"in {100 * pointing:.1f} % of the cases ({ends}; chance {100 * chance:.1f} %)" in text


def test_maps_that_scored_nothing_were_not_measured():
    assert verdicts(glance(None, None))[2].startswith("Where the maps point was not measured")


def method(pointing, deletion, insertion, apart=None, output="attributes", ssim=0.1, ranks=0.1):
    """Numbers of a method; `apart`: intervals of the default's pointing, deletion, insertion."""
    names = ("pointing_game", "deletion_auc", "insertion_auc")
    values = dict(zip(names, (pointing, deletion, insertion), strict=True))
    values |= {"output": output, "sanity_ssim": ssim, "sanity_rank_correlation": ranks}
    values |= {"chance": 0.1} | {"intervals": {"pointing_game": None}}
    if pointing is not None:
        values["intervals"] = {"pointing_game": [pointing - 0.02, pointing + 0.02]}
    if apart:
        pairs = zip(names, apart, strict=True)
        values["default_minus_this"] = {
            name: {"mean": ends and sum(ends) / 2, "interval": ends} for name, ends in pairs
        }
    return values


BETTER = ([-0.1, -0.05], [0.01, 0.05], [-0.3, -0.1])  # the default is worse in all three
UNSURE = ([-0.1, 0.05], [0.01, 0.05], [-0.3, -0.1])
FAR = ([0.4, 0.6], [-0.5, -0.3], [0.1, 0.2])
RESULT = {
    "default_method": "contributions",
    "images": 200,
    "contributions": method(0.7, 0.1, 0.9),
    "grad_cam": method(0.72, 0.09, 0.93, UNSURE),
    "cam": method(0.9, 0.01, 0.99, BETTER, output="multilabel"),  # explains another answer
    "random": method(0.1, 0.5, 0.5, FAR),
    "center": method(0.2, 0.3, 0.8, FAR),
}


def changed(**rows):
    return copy.deepcopy(RESULT) | rows


def test_the_default_method_is_looked_at_where_none_surely_beats_it():
    texts = verdicts(None, RESULT)
    assert texts == [
        "The maps point better than chance: the highest point of contributions is in the "
        "attribute's region in 70.0 % of the cases (95 % interval 68.0 to 72.0; chance 10.0 %).",
        "The maps point better than a Gaussian in the middle of the image: +50.0 points (95 % "
        "interval 40.0 to 60.0).",
        "Look at contributions: no other method that depends on the weights beats it (pointing "
        "70.0 %, deletion 0.100, insertion 0.900).",
    ]


def test_a_method_that_beats_the_default_one_in_all_is_looked_at():
    text = verdicts(None, changed(grad_cam=method(0.8, 0.05, 0.95, BETTER)))[-1]
    assert text == (
        "Look at grad_cam: it beats contributions (pointing 80.0 %, deletion 0.050, insertion "
        "0.950; contributions: pointing 70.0 %, deletion 0.100, insertion 0.900)."
    )


@pytest.mark.parametrize("alike", [{"ssim": 0.3}, {"ranks": 0.5}])
def test_a_better_method_that_ignores_the_weights_is_warned_of(alike):
    text = verdicts(None, changed(grad_cam=method(0.8, 0.05, 0.95, BETTER, **alike)))[-1]
    assert text.startswith("Look at contributions: ")
    assert "Beware of grad_cam (pointing 80.0 %, deletion 0.050, insertion 0.950)" in text


def test_a_method_that_points_only_somewhat_better_is_looked_at_with_care():
    weak = changed(contributions=method(0.7, 0.1, 0.9) | {"chance": 0.6})
    text = verdicts(None, weak)[-1]
    assert text.startswith("Look at contributions: ")
    assert text.endswith("0.900). It points only somewhat better than chance.")


def center(*interval):
    return method(0.2, 0.3, 0.8, (list(interval), *FAR[1:]))


@pytest.mark.parametrize(
    ("interval", "beginning"),
    [
        ((0.01, 0.3), "The maps point better than a Gaussian"),
        ((-0.3, -0.01), "The maps point worse than a Gaussian"),
        ((-0.03, 0.01), "The maps point no better than a Gaussian"),
        (
            (-0.2, 0.2),
            "Whether the maps point better than a Gaussian",
        ),
    ],
)
def test_the_interval_decides_whether_maps_point_better_than_the_gaussian(interval, beginning):
    text = verdicts(None, changed(center=center(*interval)))[1]
    assert text.startswith(beginning)
    assert f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}" in text


def test_another_method_is_looked_at_where_the_default_one_points_nowhere():
    nowhere = {"contributions": method(0.1, 0.1, 0.9), "center": center(-0.2, -0.1)}
    text = verdicts(None, changed(**nowhere))[-1]
    assert text.startswith(
        "Look at grad_cam: contributions does not point better than chance and a Gaussian in the "
        "middle of the image (pointing 72.0 %, "
    )
    nowhere["grad_cam"] = method(0.21, 0.1, 0.9, UNSURE)  # within the Gaussian's interval
    assert verdicts(None, changed(**nowhere))[-1].startswith("No method can be recommended: none ")


def test_without_regions_methods_are_compared_by_deletion_and_insertion():
    result = changed(
        contributions=method(None, 0.1, 0.9),
        grad_cam=method(None, 0.05, 0.95, (None, *BETTER[1:])),
        center=method(None, 0.3, 0.8, (None, *FAR[1:])),
    )
    texts = verdicts(None, result)
    assert texts[0].startswith("Where the maps point was not measured") and len(texts) == 2
    assert texts[1].startswith("Look at grad_cam: it beats contributions (deletion 0.050, ins")


def masks(dead=0.3, spread=0.1, carried=None):
    measures = {"mask_dead": dead, "mask_std_positions": spread}
    names = ("trained", "position_mean", "none")
    result = {"mean": measures, "per_attribute": {"Hat": measures, "Bald": measures}}
    if carried:
        result["carried"] = dict(zip(names, carried, strict=True))
    return evaluation_of(GOOD, masks=result)


@pytest.mark.parametrize(
    ("result", "beginnings"),
    [
        (masks(), ["The masks are alive: 70.00 % of their entries are 0.05 or more, with a"]),
        (masks(dead=0.99), ["The masks of Hat and Bald are dead: 99.0 %"]),
        (masks(spread=0.001), ["The masks of Hat and Bald are constant: "]),
        (masks(carried=(0.9, 0.8, 0.7)), ["The masks are alive", "The answers need the masks and"]),
        (masks(carried=(0.9, 0.899, 0.7)), ["The masks are alive", "The masks are flat in effect"]),
        (masks(carried=(0.9, 0.9, 0.899)), ["The masks are alive", "The answers do not need the"]),
        (masks(carried=(float("nan"),) * 3), ["The masks are alive"]),
    ],
)
def test_masks_are_alive_dead_or_flat_and_needed_or_not(result, beginnings):
    texts = verdicts(result)[3:]
    assert len(texts) == len(beginnings) and not any("nan" in text for text in texts)
    for text, beginning in zip(texts, beginnings, strict=True):
        assert text.startswith(beginning) and text.endswith(".")
    if len(texts) == 2:
        shares = result["masks"]["carried"].values()
        assert all(f"{100 * share:.2f} %" in texts[1] for share in shares)
