"""Benchmarks run as they stand; their figures are not looked at."""

import json

import numpy as np
import pytest
from conftest import run_script
from PIL import Image


def rows_of(tmp_path, *command):
    """Runs a benchmark; returns its rows, whose ratios are those of their seconds."""
    rows_file = tmp_path / "rows.json"
    run_script(*command, f"--json={rows_file}")
    rows = json.loads(rows_file.read_text())
    for row in rows:
        ratio = row["alternative_seconds"] / row["seconds"]
        assert row["throughput_ratio"] == pytest.approx(ratio)
    return rows


@pytest.mark.slow
def test_explanations_writes_a_row_for_each_comparison(tmp_path):
    arguments = ("--images=4", "--pairs=2", "--repeats=1")
    rows = rows_of(tmp_path, "benchmarks/explanations.py", *arguments)
    assert [row["what"] for row in rows] == [
        "deletion and insertion, 2 pairs, 16 steps",
        "localisation, 4 images, 16 attributes, 5 methods",
    ]
    assert rows[0]["alternative"] == "model.predict on as many pictures (66)"


@pytest.mark.slow
def test_analysis_writes_a_row_for_each_comparison(tmp_path):
    arguments = ("--images=70", "--attributes=3", "--image_size=16,12", "--repeats=1")
    rows = rows_of(tmp_path, "benchmarks/analysis.py", *arguments)
    assert {row["what"] for row in rows} == {"analysis, 70 images, 3 attributes"}
    assert [row["alternative"] for row in rows] == [
        "forward pass, attributes alone",
        "forward pass, all outputs",
    ]


@pytest.mark.slow
def test_gcm_writes_a_row_for_each_comparison(tmp_path):
    arguments = ("--batch_size=2", "--images=1", "--classes=2", "--repeats=1")
    rows = rows_of(tmp_path, "benchmarks/gcm.py", *arguments)
    assert [row["what"] for row in rows] == [
        "forward pass of gcm, 2 images",
        "cam of cnn, 1 images, 2 classes",
        "grad_cam of cnn, 1 images, 2 classes",
        "guided_backprop of cnn, 1 images, 2 classes",
        "guided_grad_cam of cnn, 1 images, 2 classes",
        "contribution_maps of gcm, 1 images, 2 classes",
    ]


@pytest.mark.slow
def test_dilated_convolution_writes_a_row_for_each_layer_and_the_network(tmp_path):
    arguments = ("--channels=2", "--batch_size=1", "--attributes=2", "--repeats=1")
    rows = rows_of(tmp_path, "benchmarks/dilated_convolution.py", *arguments)
    *layers, network = rows
    assert [row["what"] for row in layers] == [
        f"DilatedConv2D, {grid} cells, dilation {dilation}"
        for grid in ("16x13", "32x26")
        for dilation in (2, 4, 8, 16)
    ]
    assert {row["alternative"] for row in layers} == {"Conv2D"}
    assert network["what"] == "training step of paper, 64x52"


@pytest.mark.slow
def test_train_step_measures_ours_beside_textbook_keras_that_computes_the_same(tmp_path):
    rows_file = tmp_path / "rows.json"
    tiny = ("--attributes=2", "--image_size=16,12", "--batch_size=2", "--rounds=1")
    for mode in ((), ("--inference",)):
        flags = ("--peers=keras-graph", *tiny, *mode, f"--json={rows_file}")
        run_script("benchmarks/train_step.py", *flags)
        rows = json.loads(rows_file.read_text())["rows"]
        assert not any("not_run" in row for row in rows)
        assert len(rows) == 2 * (2 if mode else 1)
        for ours, peer in zip(rows[::2], rows[1::2], strict=True):
            assert (ours["implementation"], peer["implementation"]) == ("ours", "keras")
            np.testing.assert_allclose(ours["checks"], peer["checks"], rtol=1e-3)


@pytest.mark.slow
def test_abn_step_measures_ours_beside_a_loop_that_computes_the_same(tmp_path):
    rows_file = tmp_path / "rows.json"
    run_script(
        "benchmarks/abn_step.py",
        "--attributes=2",
        "--side=32",
        "--batch_size=2",
        "--rounds=1",
        f"--json={rows_file}",
    )
    rows = json.loads(rows_file.read_text())["rows"]
    names = [("ours", "float32"), ("ours", "bfloat16"), ("keras", "looped")]
    assert [(row["implementation"], row["variant"]) for row in rows] == 2 * names
    assert not any("not_run" in row for row in rows)


@pytest.mark.slow
def test_locality_measures_a_variant_and_does_not_train_it_again(tmp_path):
    rows_file = tmp_path / "rows.json"
    arguments = (
        "benchmarks/locality.py",
        "--variant=field 10",
        "--plain",
        "--train_examples=32",
        "--epochs=1",
        f"--runs={tmp_path}",
        f"--json={rows_file}",
    )
    assert "2/2 - " in run_script(*arguments)
    (row,) = json.loads(rows_file.read_text())
    assert (row["variant"], row["receptive_field"], row["split"]) == ("field 10", 10, "validation")
    assert set(row["accuracy"]) == {"multilabel"} and 0 < row["accuracy"]["multilabel"] < 1
    assert "2/2 - " not in run_script(*arguments)
    assert json.loads(rows_file.read_text()) == [row]


@pytest.mark.slow
def test_input_pipeline_writes_a_row_for_each_loader(tmp_path):
    random = np.random.default_rng(0)
    for index in range(10):
        pixels = random.integers(0, 256, (24, 20, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.jpg")
    rows_file = tmp_path / "rows.json"
    run_script(
        "benchmarks/input_pipeline.py",
        f"--images_dir={tmp_path}",
        "--images=100",
        "--image_size=12,10",
        "--rounds=1",
        "--turn_seconds=0.1",
        "--memory=120",
        f"--json={rows_file}",
    )
    rows = {row.pop("what"): row for row in json.loads(rows_file.read_text())}
    memory = rows.pop("memory, 120 images")
    assert 50 < memory["rss_anon_mb"] < 2000
    assert {"ours cached", "ours uncached", "pillow", "tf.data", "ours preparing"} <= set(rows)
    for name, row in rows.items():
        ratio = rows["ours cached"]["images_per_second"] / row["images_per_second"]
        assert row["ours_cached_ratio"] == pytest.approx(ratio), name


@pytest.mark.slow
def test_serving_latency_writes_a_row_for_each_comparison(tmp_path):
    arguments = ("--attributes=2", "--image_size=12,8", "--batch_sizes=1,3", "--images=3")
    rows = rows_of(tmp_path, "benchmarks/serving_latency.py", *arguments)
    assert [(row["what"], row["alternative"]) for row in rows] == [
        (f"{what}, batch {size}", alternative)
        for size in (1, 3)
        for what, alternative in (
            ("predict", "predict, Keras predict_on_batch"),
            ("predict", "predict, Keras call"),
            ("explain", "explain, Keras predict_on_batch"),
            ("explain", "predict"),
        )
    ]
    for row in rows:
        assert row["p99_seconds"] >= row["seconds"] > 0
