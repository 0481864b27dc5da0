"""Tables over seeds, of made-up numbers."""

import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "results"))

from training_tables import pruning, seed_pointing


def test_an_attribute_with_enough_pairs_in_every_run_has_a_row_with_its_extremes():
    def run(method, hats, bald_pairs):
        pointing = {
            "Wearing_Hat": {"pointing_game": hats, "chance": 0.25, "pairs": 50},
            "Bald": {"pointing_game": 1.0, "chance": 0.5, "pairs": bald_pairs},
        }
        return {"explanations": {"default_method": method, method: {"pointing": pointing}}}

    runs = {"real_ours_0": run("contributions", 0.5, 80), "real_ours_1": run("cam", 0.25, 80)}
    runs |= {"real_plain_0": run("cam", 0.75, 49)}
    assert list(seed_pointing(runs)) == [
        ["attribute", "by chance", "ours", "plain"],
        ["Wearing_Hat", "0.25", "0.25 to 0.50", "0.75 to 0.75"],
    ]


def test_rankings_of_channels_have_means_over_seeds_of_what_was_measured():
    def run(whole, tuned, **accuracies):
        rows = [
            {"by": by, "channels": count, "at_zero": at_zero, "fitted": at_zero + 0.25}
            for by, (at_zero, count) in accuracies.items()
        ]
        rows[0]["tuned"] = tuned
        return {"whole": whole, "rows": rows}

    runs = {
        "a_0": run(0.5, 0.75, norm=(0.25, 64), random=(0.125, 32)),
        "a_1": run(1.0, 0.5, norm=(0.75, 64), random=(0.125, 32)),
    }
    assert list(pruning(runs)) == [
        [
            "`--by` (whole: 75.00 (50.00 to 100.00))",
            *("32, others at 0", "64, others at 0", "32, fitted", "64, fitted", "64, fine-tuned"),
        ],
        [
            "`norm`",
            "not run",
            "50.00 (25.00 to 75.00)",
            "not run",
            "75.00 (50.00 to 100.00)",
            "62.50 (50.00 to 75.00)",
        ],
        [
            "`random`",
            "12.50 (12.50 to 12.50)",
            "not run",
            "37.50 (37.50 to 37.50)",
            "not run",
            "not run",
        ],
    ]
