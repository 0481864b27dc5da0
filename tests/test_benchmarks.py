"""Benchmarks run as they stand; their figures are not looked at."""

import json

import pytest
from conftest import run_script


def test_explanations_writes_a_row_for_each_comparison(tmp_path):
    rows_file = tmp_path / "rows.json"
    run_script(
        "benchmarks/explanations.py",
        "--images=4",
        "--pairs=2",
        "--repeats=1",
        f"--json={rows_file}",
    )
    rows = json.loads(rows_file.read_text())
    assert [row["what"] for row in rows] == [
        "deletion and insertion, 2 pairs, 16 steps",
        "localisation, 4 images, 16 attributes, 5 methods",
        "analysis pass, 4 images, 16 attributes",
    ]
    assert rows[0]["alternative"] == "model.predict on as many pictures (66)"
    for row in rows:
        ratio = row["alternative_seconds"] / row["seconds"]
        assert row["throughput_ratio"] == pytest.approx(ratio)
