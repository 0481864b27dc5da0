"""Benchmarks run as they stand; their numbers are not looked at."""

import json
import os
import subprocess
import sys

import conftest
import numpy as np
import pytest
from conftest import QUICK_XLA, ROOT, run_script
from PIL import Image

from mcattn_tf import models, runs
from mcattn_tf.data.drawn_faces import ATTRIBUTES
from mcattn_tf.explain.feature_space.channel_ranking import RANKINGS
from mcattn_tf.settings.config import make_config

pytestmark = pytest.mark.slow
# {benchmark and flags: what each row measures, beside what}
COMPARISONS = {
    "explanations --images=4 --pairs=2 --repeats=1": [
        ("deletion and insertion, 2 pairs, 16 steps", "model.predict on as many pictures (66)"),
        ("localisation, 4 images, 16 attributes, 5 methods", None),
    ],
    "analysis --images=70 --attributes=3 --image_size=16,12 --repeats=1": [
        ("analysis, 70 images, 3 attributes", "forward pass, attributes alone"),
        ("analysis, 70 images, 3 attributes", "forward pass, all outputs"),
    ],
    "gcm --batch_size=2 --images=1 --classes=2 --repeats=1": [
        ("forward pass of gcm, 2 images", None),
        ("cam of cnn, 1 images, 2 classes", None),
        ("grad_cam of cnn, 1 images, 2 classes", None),
        ("guided_backprop of cnn, 1 images, 2 classes", None),
        ("guided_grad_cam of cnn, 1 images, 2 classes", None),
        ("contribution_maps of gcm, 1 images, 2 classes", None),
    ],
    "dilated_convolution --channels=2 --batch_size=1 --attributes=2 --repeats=1": [
        *(
            (f"DilatedConv2D, {grid} cells, dilation {dilation}", "Conv2D")
            for grid in ("16x13", "32x26")
            for dilation in (2, 4, 8, 16)
        ),
        ("training step of paper, 64x52", "with Conv2D"),
    ],
    "serving_latency --attributes=2 --image_size=12,8 --batch_sizes=1,3 --images=3": [
        (f"{what}, batch {size}", alternative)
        for size in (1, 3)
        for what, alternative in (
            ("predict", "predict, Keras predict_on_batch"),
            ("predict", "predict, Keras call"),
            ("explain", "explain, Keras predict_on_batch"),
            ("explain", "predict"),
        )
    ],
}


@pytest.fixture
def rows_of(tmp_path):
    """Runs a benchmark and returns what it wrote."""

    def run(script, *flags):
        run_script(f"benchmarks/{script}.py", *flags, f"--json={tmp_path / 'rows.json'}")
        return json.loads((tmp_path / "rows.json").read_text())

    return run


@pytest.mark.parametrize("command", COMPARISONS, ids=lambda command: command.split()[0])
def test_a_benchmark_writes_a_row_for_each_comparison(rows_of, command):
    script, *flags = command.split()
    rows = rows_of(f"speed/{script}", *flags)
    for row, (what, alternative) in zip(rows, COMPARISONS[command], strict=True):
        assert row["what"] == what and alternative in (None, row["alternative"])
        ratio = row["alternative_seconds"] / row["seconds"]
        assert row["throughput_ratio"] == pytest.approx(ratio)
        assert row.get("p99_seconds", row["seconds"]) >= row["seconds"] > 0


@pytest.mark.parametrize(
    "mode", [(), ("--inference",), ("--masks=factored",), ("--masks=factored", "--inference")]
)
def test_train_step_measures_ours_beside_textbook_keras_that_computes_the_same(rows_of, mode):
    tiny = ("--attributes=2", "--image_size=16,24", "--batch_size=2", "--rounds=1")
    rows = rows_of("speed/train_step", "--peers=keras-graph", *tiny, *mode)["rows"]
    assert not any("not_run" in row for row in rows)
    assert len(rows) == 2 * (2 if "--inference" in mode else 1)
    for ours, peer in zip(rows[::2], rows[1::2], strict=True):
        assert (ours["implementation"], peer["implementation"]) == ("ours", "keras")
        np.testing.assert_allclose(ours["checks"], peer["checks"], rtol=1e-3)


@pytest.mark.slow
def test_train_step_measures_the_default_beside_the_plain_network(tmp_path):
    written = tmp_path / "rows.json"
    tiny = ("--attributes=2", "--image_size=16,12", "--batch_size=2", "--rounds=1")
    run_script("benchmarks/speed/train_step.py", "--plain", *tiny, f"--json={written}")
    results = json.loads(written.read_text())
    speeds = {(x["variant"], x["precision"]): x["images_per_second"] for x in results["rows"]}
    assert len(speeds) == 4 and results["step_to_plain"].keys() == {"float32", "mixed_bfloat16"}
    for precision, ratio in results["step_to_plain"].items():
        expected = speeds["plain", precision] / speeds["default", precision]
        assert ratio == pytest.approx(expected)


def test_gpu_measures_a_setting_where_tensorflow_is_missing_and_another_when_called_again(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('it is not installed')")
    written = tmp_path / "gpu.json"
    command = ["bash", ROOT / "benchmarks/speed/gpu.sh", "--tiny", "--seconds=1", "--json", written]
    without = {"PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    environment = os.environ | QUICK_XLA | without
    for count in (1, 2):
        subprocess.run(command, env=environment, check=True)
        results = json.loads(written.read_text())
        assert len(results["rows"]) == 3 * count and len(results["left"]) == 32 - count
    settings = [(row["mode"], row["masks"], row["precision"]) for row in results["rows"]]
    expected = [("train", "own", precision) for precision in ("mixed_bfloat16", "float32")]
    assert settings[::3] == expected
    for row in results["rows"][::3]:
        peak = results["matrix_product_operations_per_second"][row["precision"]]
        assert row["implementation"] == "ours" and "not_run" not in row
        # The network has over 1e5 operations: 2 images of 16x24, a stem of 32, 64 and 128 filters.
        assert row["share_of_peak"] * peak > 1e5 * row["images_per_second"] > 0
        assert row["first_step_seconds"] > row["build_seconds"] > 0 < row["peak_memory_mb"]


def test_abn_step_measures_ours_beside_a_loop_that_computes_the_same(rows_of):
    flags = ("--attributes=2", "--side=32", "--batch_size=2", "--rounds=1")
    rows = rows_of("speed/abn_step", *flags)["rows"]
    names = [("ours", "float32"), ("ours", "bfloat16"), ("keras", "looped")]
    assert [(row["implementation"], row["variant"]) for row in rows] == 2 * names
    assert not any("not_run" in row for row in rows)


def test_locality_measures_a_variant_and_does_not_train_it_again(tmp_path):
    script, written = "benchmarks/results/locality.py", tmp_path / "rows.json"
    flags = ("--variant=field 10", "--plain", "--train_examples=32", "--epochs=1")
    command = (script, *flags, f"--runs={tmp_path}", f"--json={written}")
    run_script(*command)
    (row,) = rows = json.loads(written.read_text())
    assert (row["variant"], row["receptive_field"], row["split"]) == ("field 10", 10, "validation")
    assert set(row["accuracy"]) == {"multilabel"} and 0 < row["accuracy"]["multilabel"] < 1
    (weights,) = tmp_path.glob("*/best.keras")
    trained = weights.stat().st_mtime_ns
    run_script(*command)
    assert weights.stat().st_mtime_ns == trained and json.loads(written.read_text()) == rows


def test_pruning_keeps_the_accuracy_of_the_whole_with_all_channels(tmp_path):
    written, directory = tmp_path / "rows.json", tmp_path / "run"
    network = {"channels": 6, "dilations": (1,), "stem": ((4, 4, 2), (6, 2, 2))}
    found = {"attributes": ATTRIBUTES}
    data = {"image_size": (32, 32), "train_examples": 64}
    config = make_config({"model": network, "found": found, "data": data})
    runs.create(directory, config)
    conftest.he_weights(models.build(config)).save(directory / runs.BEST)
    flags = ("--shares=0.5,1", "--epochs=1", "--tuned=norm")
    run_script("benchmarks/results/pruning.py", f"--run={directory}", *flags, f"--json={written}")
    result = json.loads(written.read_text())
    assert [row["by"] for row in result["rows"][::2]] == list(RANKINGS)
    for half, whole in zip(result["rows"][::2], result["rows"][1::2], strict=True):
        assert (half["channels"], whole["channels"]) == (3, 6)
        assert whole["at_zero"] == pytest.approx(result["whole"])
        assert ("tuned" in half) == (half["by"] == "norm")
    accuracies = {row["at_zero"] for row in result["rows"][::2]}
    assert len(accuracies) > 1 and result["whole"] not in accuracies


def test_input_pipeline_writes_a_row_for_each_loader(tmp_path, rows_of):
    random = np.random.default_rng(0)
    for index in range(10):
        pixels = random.integers(0, 256, (24, 20, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.jpg")
    flags = ("--images=100", "--image_size=12,10", "--rounds=1", "--turn_seconds=0.1")
    rows = rows_of("speed/input_pipeline", f"--images_dir={tmp_path}", *flags, "--memory=120")
    rows = {row.pop("what"): row for row in rows}
    assert 50 < rows.pop("memory, 120 images")["rss_anon_mb"] < 2000
    assert {"ours cached", "ours uncached", "pillow", "tf.data", "ours preparing"} <= set(rows)
    for name, row in rows.items():
        ratio = rows["ours cached"]["images_per_second"] / row["images_per_second"]
        assert row["ours_cached_ratio"] == pytest.approx(ratio), name


def test_soak_writes_a_row_for_each_epoch(rows_of):
    rows = rows_of("speed/soak", "--minutes=0.01")
    assert rows and set(rows[0]) == {"seconds", "resident_mb", "open_files"}


def test_decoder_writes_a_row_for_each_size_and_way(tmp_path, rows_of):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.jpg")
    rows = rows_of("speed/decoder", f"--images_dir={tmp_path}", "--sizes=12x10,48x40")
    ours, fast, whole, same = rows
    assert (ours["size"], fast["decoder"], whole["size"]) == ("12x10", "fast DCT", "48x40")
    assert ours["mean"] >= fast["mean"] and ours["highest"] >= fast["highest"]
    assert whole | {"decoder": ""} == same | {"decoder": ""}  # decoded whole too
