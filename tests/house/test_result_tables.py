"""Tables of attention mechanisms and of speeds are made of what was measured."""

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import result_tables as results

from mcattn_tf.errors import UserError


@pytest.fixture
def keep(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return lambda name, content: (tmp_path / f"{name}.json").write_text(json.dumps(content))


def rows_of(call):
    _, _, *rows = results.table(call).splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def classifier(mechanism, seed, accuracy, examples=10_000):
    model = {"backbone": "resnet20", "attention_mechanism": mechanism}
    data = {"dataset": "cifar10", "train_examples": examples}
    return {
        "config": {"data": data, "model": model, "training": {"seed": seed}},
        "metrics": {"epochs": 12},
        "evaluation": {"perception": {"mean": {"accuracy": accuracy}}},
    }


def test_a_mechanism_has_the_accuracy_of_each_seed_and_their_mean(keep):
    keep("none_1", classifier("none", 1, 0.75))
    keep("none_0", classifier("none", 0, 0.70))
    keep("product_0", classifier("product", 0, 0.725))
    keep("residual_0", classifier("residual", 0, 0.8, None))
    start = ["cifar10", "resnet20"]
    assert rows_of("mechanisms none_1 none_0 product_0 residual_0") == [
        [*start, "none, g", "10,000", "12", "70.00 %, 75.00 %", "72.50 %"],
        [*start, "eq. 1, M g", "10,000", "12", "72.50 %", "72.50 %"],
        [*start, "eq. 2, (1 + M) g", "all", "12", "80.00 %", "80.00 %"],
    ]


def test_runs_that_differ_not_in_their_seeds_alone_are_not_averaged(keep):
    keep("none_0", classifier("none", 0, 0.75))
    other = classifier("none", 1, 0.70)
    keep("none_1", other | {"config": other["config"] | {"loss": {"perception": 2}}})
    for call in ("none_0 none_1", "none_0 none_0_again"):
        keep("none_0_again", classifier("none", 0, 0.71))
        with pytest.raises(UserError, match="differs from another run of its row"):
            results.table(f"mechanisms {call}")


def measured(implementation, variant, speed, memory, mode="train"):
    row = {"implementation": implementation, "variant": variant, "mode": mode}
    row |= {"images_per_second": speed, "memory_after_import_mb": 100.0}
    return row | {"peak_memory_mb": 100.0 + memory}


def test_a_step_is_compared_with_the_authors_of_the_same_mode(keep):
    settings = {"backbone": "resnet18"}
    rows = [
        measured("ours", "float32", 3.6, 400.0),
        measured("official", "loop", 2.0, 500.0),
        measured("ours", "float32", 30.0, 150.0, "predict"),
        {"implementation": "keras", "variant": "looped", "mode": "predict", "not_run": "killed"},
        measured("official", "loop", 15.0, 100.0, "predict"),
    ]
    keep("abn_step", {"settings": settings, "rows": rows})
    ours = ["ours, float32", "3.60", "1.80", "400", "0.80"]
    assert rows_of("abn_step abn_step") == [
        ["resnet18", "train", *ours],
        ["resnet18", "train", "official, loop", "2.00", "1.00", "500", "1.00"],
        ["resnet18", "predict", "ours, float32", "30.00", "2.00", "150", "1.50"],
        ["resnet18", "predict", "keras, looped", "not run", "-", "-", "-"],
        ["resnet18", "predict", "official, loop", "15.00", "1.00", "100", "1.00"],
    ]


def test_without_the_authors_code_there_are_no_ratios(keep):
    rows = [
        measured("ours", "float32", 3.6, 400.0),
        {"implementation": "official", "variant": "loop", "mode": "train", "not_run": "no PyTorch"},
    ]
    keep("abn_step", {"settings": {"backbone": "resnet50"}, "rows": rows})
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


def test_comparisons_are_named_with_their_ratio(keep):
    keep("pools", [{"what": "ours", "alternative": "a loop", "throughput_ratio": 2.344}])
    assert rows_of("comparisons pools") == [["ours", "a loop", "2.34"]]


def test_steps_are_compared_with_ours(keep):
    rows = [
        step("ours-tensorflow", 40.0, 400.0, 3.5),
        step("keras-graph", 30.0, 600.0, 14.0),
        {"implementation": "torch", "variant": "wide", "not_run": "no PyTorch"},
    ]
    keep("train_step", {"rows": rows})
    assert rows_of("steps train_step") == [
        ["ours, tensorflow", "1.00", "50 %", "1.0 (3.5 s)", "1.0 (400 MB)"],
        ["keras, graph", "0.75", "38 %", "4.0", "1.5"],
        ["torch, wide", "not run", "-", "-", "-"],
    ]


def test_a_sweep_is_compared_with_40_attributes(keep):
    rows = [
        step("ours-tensorflow", 60.0, 300.0, 3.0, 1),
        step("ours-tensorflow", 40.0, 400.0, 2.0),
        step("ours-tensorflow", 8.0, 520.0, 5.0, 312),
    ]
    keep("sweep", {"rows": rows})
    assert rows_of("sweep sweep") == [
        ["1", "1.50", "75 %", "1.5", "0.8"],
        ["40", "1.00", "50 %", "1.0 (2.0 s)", "1.0 (400 MB)"],
        ["312", "0.20", "10 %", "2.5", "1.3"],
    ]
