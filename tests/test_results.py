"""The tables of README and docs are those that the kept figures make."""

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import result_tables as results

from mcattn_tf.errors import UserError

PAGE = """Before.
<!-- table accuracy faces_small -->
| old |
<!-- end of table -->
After.
"""
OF_OUTPUT = {"balanced_accuracy": 0.5, "f1": 0.25, "majority_accuracy": 0.9}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    directory = tmp_path / "run"
    directory.mkdir()
    config = {"data": {"dataset": "faces", "data_dir": "/private", "cache_dir": None}}
    config["data"]["no_cache"] = False
    single = {"Bald": {"accuracy": 0.75}, "Hat": {"accuracy": 1.0}}
    answers = {"mean": {"accuracy": 0.875, **OF_OUTPUT}, "per_attribute": single}
    masks = {"mean": {"mask_mean": 0.1}, "per_attribute": {"Bald": {"mask_mean": 0.1}}}
    (directory / "config.json").write_text(json.dumps(config))
    evaluation = {"attributes": answers, "masks": masks}
    (directory / "evaluation.json").write_text(json.dumps(evaluation))
    return directory


def keep(run, name):
    results.RESULTS.mkdir(exist_ok=True)
    (results.RESULTS / f"{name}.json").write_text(json.dumps(results.kept(run)))


@pytest.mark.parametrize("page", results.PAGES, ids=lambda path: path.name)
def test_every_table_is_what_the_kept_figures_make(page):
    text = page.read_text()
    assert results.filled(text) == text, "run python benchmarks/results.py"
    assert text.count("<!-- table ") == len(results.MARKED.findall(text))


def test_no_place_of_a_machine_and_nothing_of_single_attributes_is_kept():
    paths = list(results.RESULTS.glob("*.json"))
    assert paths
    for path in paths:
        text = path.read_text()
        assert "per_attribute" not in text and "_dir" not in text, path


def test_a_table_is_made_of_the_kept_figures_and_leaves_the_rest_alone(run):
    keep(run, "faces_small")
    page = results.filled(PAGE)
    assert page.startswith("Before.\n<!-- table accuracy faces_small -->\n| output | mean")
    assert "| `attributes` | 87.50 % | 75.00 % (Bald) | 50.00 % | 25.00 % | 90.00 % |\n<" in page
    assert "masks" not in page and "old" not in page and page.endswith("-->\nAfter.\n")
    assert results.filled(page) == page


def test_a_method_that_was_not_measured_says_so(run):
    def measured(pointing):
        values = {"pointing_game": pointing, "normalized_energy": -0.0001, "deletion_auc": 0.5}
        return values | {"intervals": {"pointing_game": [0.25, 0.75]}}

    explained = {"contributions": measured(0.5), "cam": measured(0.125), "images": 7}
    (run / "explanations.json").write_text(json.dumps(explained))
    keep(run, "faces_one")
    (run / "explanations.json").write_text(json.dumps({"contributions": measured(1.0)}))
    keep(run, "faces_other")
    heading, _, first, second = results.table("explanations faces_one faces_other").splitlines()
    assert heading.count("|") == 12 and "| one: pointing game | norm. energy |" in heading
    assert first.startswith("| `contributions` | 0.500 [0.250, 0.750] | 0.000 | 0.500 | not run |")
    assert second.startswith("| `cam` | 0.125 [0.250, 0.750] |")
    assert second.endswith("| not run | not run | not run | not run | not run |")


def test_what_cannot_be_filled_is_refused(run, tmp_path):
    results.RESULTS.mkdir()
    with pytest.raises(UserError, match="keep a run's figures by --run and --name faces_none"):
        results.table("accuracy faces_none")
    with pytest.raises(UserError, match="`table` must be one of accuracy, explanations"):
        results.table("precision faces_none")
    with pytest.raises(UserError, match="not a run that was evaluated"):
        results.kept(tmp_path)
