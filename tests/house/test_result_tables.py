"""The tables of README and docs are those that the kept numbers make."""

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "results"))
import result_figures
import result_tables as results
from locality_variants import VARIANTS

from mcattn_tf import models
from mcattn_tf.errors import UserError
from mcattn_tf.settings.config import make_config

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


@pytest.mark.parametrize("page", results.PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_table_is_what_the_kept_figures_make(page):
    text = page.read_text()
    assert results.filled(text) == text, "run python benchmarks/results/fill.py"
    assert text.count("<!-- table ") == len(results.MARKED.findall(text))


def test_no_place_of_a_machine_and_nothing_of_single_attributes_is_kept():
    paths = list(results.RESULTS.glob("*.json"))
    assert paths
    for path in paths:
        text = path.read_text()
        assert "per_attribute" not in text and "_dir" not in text, path


def test_the_command_and_commit_of_a_run_are_kept_without_its_places(run):
    session = {
        "command": "/private/train.py --data_dir '/x y' --no_cache --seed 3 --out=/x --flip",
        "git_revision": "0123456789",
        "hardware": {"host": "private", "processors": 2},
    }
    (run / "record.json").write_text(json.dumps({"sessions": [session]}))
    text = json.dumps(results.kept(run))
    assert "private" not in text and "_dir" not in text and "0123456789" in text
    assert '"command": "train.py --seed 3 --flip"' in text and '"processors": 2' in text


def of_training(**training):
    return {
        "config": {"model": {"name": "baseline", "attributes": ["A"]}, "training": training},
        "metrics": {
            **{"epochs": 20, "best_epoch": 18, "parameters": 12345, "seconds": 150.0},
            "validation": {"val_loss": 9.0, "val_multilabel_accuracy": 0.875},
        },
        "evaluation": {"multilabel": {"mean": {"accuracy": 0.75}}, "masks": {}},
        "record": {"sessions": [{"git_revision": None}, {"git_revision": "0123456789-dirty"}]},
    }


def rows_of(call):
    _, _, *rows = results.table(call).splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.fixture
def figures(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)

    def write(name, content):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))

    return write


def test_runs_that_are_still_to_be_made_have_a_row(figures):
    figures("real_plain", of_training(seed=3, precision="mixed_bfloat16"))
    first = ["plain", "`baseline`", "20", "18", "3", "mixed_bfloat16", "12,345", "2 min", "0123456"]
    assert rows_of("trainings real_plain real_wide") == [first, ["wide", "not run", *[""] * 7]]
    changed = of_training(seed=3, precision="mixed_bfloat16", ema=0.999)
    changed["metrics"]["validation"]["val_multilabel_accuracy"] = 0.885
    figures("real_ema", changed)
    assert rows_of("levers real_plain real_ema real_wide") == [
        ["plain", "-", "87.50", "-", "2 min"],
        ["ema", "`training.ema=0.999`", "88.50", "+1.00", "2 min"],
        ["wide", "not run", "", "", ""],
    ]
    figures("published_mcattn", of_training())
    counts = {"mcattn": 3.6e16, "svhn_cnn": 1.8e15, "svhn_gcm": 2.175e15}
    counts = {name: {"training_operations": count} for name, count in counts.items()}
    (results.RESULTS / "published_operations.json").write_text(json.dumps(counts))
    assert rows_of("published published_mcattn published_svhn_cnn published_svhn_gcm") == [
        ["`mcattn`", "90.17", "75.00", "36", "1", "2 min"],
        ["`svhn_cnn`", "", "not run", "1.8", "0.05", "not measured"],
        ["`svhn_gcm`", "96.19", "not run", "2.17", "0.06", "not measured"],
    ]


def test_intervals_and_maps_have_a_row_for_what_was_measured(figures):
    values = {"accuracy": 0.9, "balanced_accuracy": 0.75, "f1": None, "majority_accuracy": 0.8}
    values["intervals"] = {"accuracy": [0.89, 0.91], "balanced_accuracy": [0.7, 0.8], "f1": None}
    difference = {"accuracy": {"mean": -0.001, "interval": [-0.002, 0.0005]}}
    first = {"first": "a: attributes", "answers": {"attributes": values}}
    other = {"first": "a: attributes"}
    other["answers"] = {"multilabel": values | {"differences": difference}}
    figures("real_a", of_training() | {"intervals": {"half": first, "sample": first}})
    figures("real_b", of_training() | {"intervals": {"half": other}})
    figures("real_c", of_training())
    measured = ["90.00 [89.00, 91.00]", "-", "75.00 [70.00, 80.00]", "-", "80.00"]
    assert rows_of("intervals:half real_a real_b real_c") == [
        ["a", "`attributes`", *measured],
        ["b", "`multilabel`", measured[0], "-0.10 [-0.20, +0.05]", *measured[2:]],
        ["c", "not run", *[""] * 5],
    ]
    other["first"] = "b: attributes"
    figures("real_b", of_training() | {"intervals": {"half": other}})
    with pytest.raises(UserError, match="differences from several first runs"):
        results.table("intervals:half real_a real_b")
    shown = {"pointing_game": 0.5, "chance": 0.2, "normalized_energy": -0.0001}
    shown["deletion_auc"] = 0.25
    maps = {"default_method": "cam", "cam": shown | {"sanity_rank_correlation": None}}
    maps["center"] = {"deletion_auc": 0.125, "insertion_auc": None}
    figures("real_c", of_training() | {"explanations": maps})
    assert rows_of("maps real_a real_c") == [
        ["a", "not run", *[""] * 8],
        ["c", "`cam`", "0.500", "0.200", "0.000", "0.250", "-", "-", "0.125", "-"],
    ]
    attributes = {
        name: {"pointing_game": hits, "chance": 0.25, "pairs": 7, "region_share": 0.1}
        for name, hits in (("Bald", 0.5), ("Young", None), ("Smiling", 0.75))
    }
    maps["cam"]["per_attribute"] = attributes
    assert results.kept_explanations(maps)["cam"]["pointing"] == {
        name: {"pointing_game": hits, "chance": 0.25, "pairs": 7}
        for name, hits in (("Bald", 0.5), ("Smiling", 0.75))
    }


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

    first = {"default_method": "contributions"}
    explained = first | {"contributions": measured(0.5), "cam": measured(0.125), "images": 7}
    (run / "explanations.json").write_text(json.dumps(explained))
    keep(run, "faces_one")
    (run / "explanations.json").write_text(json.dumps(first | {"contributions": measured(1.0)}))
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


def test_a_curve_goes_through_the_means_of_seeds_and_shows_each():
    def row(field, accuracy, pointing):
        maps = {"cam": {"pointing_game": pointing, "normalized_energy": pointing / 2}}
        return {"receptive_field": field, "accuracy": {"multilabel": accuracy}, "maps": maps}

    rows = [row(34, 0.5, 0.25), row(10, 0.75, 0.5), row(10, 1.0, 1.0)]
    figure = result_figures.trade_off(rows)
    expected = {
        "accuracy": ([0.875, 0.5], [0.75, 1.0, 0.5]),
        "pointing game": ([0.75, 0.25], [0.5, 1.0, 0.25]),
        "normalised energy": ([0.375, 0.125], [0.25, 0.5, 0.125]),
    }
    assert [axis.get_title() for axis in figure.axes] == list(expected)
    for axis, (means, every) in zip(figure.axes, expected.values(), strict=True):
        line, points = (drawn.get_xydata().tolist() for drawn in axis.lines)
        assert line == [[10, means[0]], [34, means[1]]]
        assert points == [[10, every[0]], [10, every[1]], [34, every[2]]]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith("field ")])
def test_a_variant_has_the_field_of_its_name(name):
    config = make_config({"found": {"attributes": ("Bald",)}}, VARIANTS[name])
    assert models.receptive_field(models.build(config)).side == int(name.split()[1])


def classifier(mechanism, seed, accuracy, examples=10_000):
    model = {"backbone": "resnet20", "attention_mechanism": mechanism}
    data = {"dataset": "cifar10", "train_examples": examples}
    return {
        "config": {"data": data, "model": model, "training": {"seed": seed}},
        "metrics": {"epochs": 12},
        "evaluation": {"perception": {"mean": {"accuracy": accuracy}}},
    }


def test_a_mechanism_has_the_accuracy_of_each_seed_and_their_mean(figures):
    figures("none_1", classifier("none", 1, 0.75))
    figures("none_0", classifier("none", 0, 0.70))
    figures("product_0", classifier("product", 0, 0.725))
    figures("residual_0", classifier("residual", 0, 0.8, None))
    start = ["cifar10", "resnet20"]
    assert rows_of("mechanisms none_1 none_0 product_0 residual_0") == [
        [*start, "none, g", "10,000", "12", "70.00 %, 75.00 %", "72.50 %"],
        [*start, "eq. 1, M g", "10,000", "12", "72.50 %", "72.50 %"],
        [*start, "eq. 2, (1 + M) g", "all", "12", "80.00 %", "80.00 %"],
    ]


def test_runs_that_differ_not_in_their_seeds_alone_are_not_averaged(figures):
    figures("none_0", classifier("none", 0, 0.75))
    other = classifier("none", 1, 0.70)
    figures("none_1", other | {"config": other["config"] | {"loss": {"perception": 2}}})
    for call in ("none_0 none_1", "none_0 none_0_again"):
        figures("none_0_again", classifier("none", 0, 0.71))
        with pytest.raises(UserError, match="differs from another run of its row"):
            results.table(f"mechanisms {call}")


def measured(implementation, variant, speed, memory, mode="train"):
    row = {"implementation": implementation, "variant": variant, "mode": mode}
    row |= {"images_per_second": speed, "memory_after_import_mb": 100.0}
    return row | {"peak_memory_mb": 100.0 + memory}


def test_a_step_is_compared_with_the_authors_of_the_same_mode(figures):
    settings = {"backbone": "resnet18"}
    rows = [
        measured("ours", "float32", 3.6, 400.0),
        measured("official", "loop", 2.0, 500.0),
        measured("ours", "float32", 30.0, 150.0, "predict"),
        {"implementation": "keras", "variant": "looped", "mode": "predict", "not_run": "killed"},
        measured("official", "loop", 15.0, 100.0, "predict"),
    ]
    figures("abn_step", {"settings": settings, "rows": rows})
    ours = ["ours, float32", "3.60", "1.80", "400", "0.80"]
    assert rows_of("abn_step abn_step") == [
        ["resnet18", "train", *ours],
        ["resnet18", "train", "official, loop", "2.00", "1.00", "500", "1.00"],
        ["resnet18", "predict", "ours, float32", "30.00", "2.00", "150", "1.50"],
        ["resnet18", "predict", "keras, looped", "not run", "-", "-", "-"],
        ["resnet18", "predict", "official, loop", "15.00", "1.00", "100", "1.00"],
    ]


def test_without_the_authors_code_there_are_no_ratios(figures):
    rows = [
        measured("ours", "float32", 3.6, 400.0),
        {"implementation": "official", "variant": "loop", "mode": "train", "not_run": "no PyTorch"},
    ]
    figures("abn_step", {"settings": {"backbone": "resnet50"}, "rows": rows})
    first, second = rows_of("abn_step abn_step")
    assert first == ["resnet50", "train", "ours, float32", "3.60", "-", "400", "-"]
    assert second[3:] == ["not run", "-", "-", "-"]


def step(name, speed, memory, first, attributes=40):
    implementation, variant = name.split("-")
    row = measured(implementation, variant, speed, memory)
    return row | {
        "attributes": attributes,
        "first_step_seconds": first,
        "share_of_peak": speed / 80,
    }


def test_comparisons_are_named_with_their_ratio(figures):
    figures("pools", [{"what": "ours", "alternative": "a loop", "throughput_ratio": 2.344}])
    assert rows_of("comparisons pools") == [["ours", "a loop", "2.34"]]


def test_steps_are_compared_with_ours(figures):
    rows = [
        step("ours-tensorflow", 40.0, 400.0, 3.5),
        step("keras-graph", 30.0, 600.0, 14.0),
        {"implementation": "torch", "variant": "wide", "not_run": "no PyTorch"},
    ]
    figures("train_step", {"rows": rows})
    assert rows_of("steps train_step") == [
        ["ours, tensorflow", "1.00", "50 %", "1.0 (3.5 s)", "1.0 (400 MB)"],
        ["keras, graph", "0.75", "38 %", "4.0", "1.5"],
        ["torch, wide", "not run", "-", "-", "-"],
    ]


def test_a_sweep_is_compared_with_40_attributes(figures):
    rows = [
        step("ours-tensorflow", 60.0, 300.0, 3.0, 1),
        step("ours-tensorflow", 40.0, 400.0, 2.0),
        step("ours-tensorflow", 8.0, 520.0, 5.0, 312),
    ]
    figures("sweep", {"rows": rows})
    assert rows_of("sweep sweep") == [
        ["1", "1.50", "75 %", "1.5", "0.8"],
        ["40", "1.00", "50 %", "1.0 (2.0 s)", "1.0 (400 MB)"],
        ["312", "0.20", "10 %", "2.5", "1.3"],
    ]


def test_seeds_of_a_network_are_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    for seed, accuracy in ((0, 0.88), (1, 0.9), (2, 0.92)):
        mean = {"accuracy": accuracy, "balanced_accuracy": 0.7, "f1": 0.5, "roc_auc": 0.8}
        maps = {"default_method": "cam", "cam": {"pointing_game": accuracy - 0.4, "coverage": 0.3}}
        run = {"evaluation": {"multilabel": {"mean": mean}, "mask_l1": {}}, "explanations": maps}
        (tmp_path / f"real_plain_{seed}.json").write_text(json.dumps(run))
    names = "real_plain_0 real_plain_1 real_plain_2 real_other_0"
    same = "70.00 (70.00 to 70.00)", "50.00 (50.00 to 50.00)", "80.00 (80.00 to 80.00)"
    assert rows_of(f"seeds {names}") == [
        ["plain", "`multilabel`", "3", "90.00 (88.00 to 92.00)", *same, "not run"],
        ["other", "not run", *[""] * 6],
    ]
    pointing, coverage = "0.500 (0.480 to 0.520)", "0.300 (0.300 to 0.300)"
    assert rows_of(f"seed_maps {names}") == [
        ["plain", "`cam`", "3", pointing, "not run", coverage, "not run", "not run"],
        ["other", "not run", *[""] * 6],
    ]
