"""A run of an earlier version loads, is evaluated, exported and resumed by today's code.

`tests/old_run` was made at commit 0488819 by `train.py --preset demo --train_examples 320
--epochs 1 --set model.channels=16 --set 'model.stem=[[8,4,2],[8,3,1],[16,2,2]]' --seed 5
--deterministic --noexport`, and `evaluation.json` by `evaluate.py`. Its archive is compressed here,
and `best.keras` was the same file.
"""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import processes
import pytest

from mcattn_tf import data, runs
from mcattn_tf.commands import evaluate, train
from mcattn_tf.data.sets.faces import EXAMPLES
from mcattn_tf.runs import checkpoints
from mcattn_tf.training import distribution, fit

OLD_RUN = Path(__file__).parent.parent / "old_run"


@pytest.fixture
def run(tmp_path, monkeypatch):
    # It would hold for all later tests of this process.
    monkeypatch.setattr(distribution, "make_deterministic", lambda: None)
    directory = shutil.copytree(OLD_RUN, tmp_path / "run")
    shutil.copyfile(directory / runs.LAST, directory / runs.BEST)
    return directory


def test_it_gives_the_answers_that_the_code_of_its_time_gave(run):
    config = runs.read_config(run)
    assert config.found.receptive_field == 18 and len(config.attributes) == 16
    split = data.load_split(config.data, "test", config.found)
    images, _ = split.read(np.arange(3))
    outputs = runs.load_model(str(run)).predict_on_batch(images / np.float32(255))
    recorded = {  # the first three images, by the old code
        "attributes": [
            [0.07248511165380478, 0.08193109929561615, 0.06806839257478714, 0.22199416160583496],
            [0.05376259237527847, 0.34254729747772217, 0.042481034994125366, 0.09942162036895752],
            [0.05917959660291672, 0.08938591182231903, 0.0493011400103569, 0.13865256309509277],
        ],
        "multilabel": [
            [0.0836251974105835, 0.16675269603729248, 0.041904330253601074, 0.1877879947423935],
            [0.044563788920640945, 0.17857225239276886, 0.03345030918717384, 0.13871647417545319],
            [0.09779275953769684, 0.13704906404018402, 0.04014643281698227, 0.1394025683403015],
        ],
    }
    np.testing.assert_allclose(outputs["attributes"][:, :4], recorded["attributes"], rtol=1e-5)
    np.testing.assert_allclose(outputs["multilabel"][:, 12:], recorded["multilabel"], rtol=1e-5)
    means = outputs["reconstruction"].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, [0.51122016, 0.51567024, 0.50725096], rtol=1e-5)
    norms = [31478.572265625, 32085.21484375, 31619.4765625]
    np.testing.assert_allclose(outputs["mask_l1"], norms, rtol=1e-5)


def assert_close(values, expected, name=""):
    if isinstance(expected, dict):
        assert values.keys() >= expected.keys(), name  # later code measures more
        for key in expected:
            assert_close(values[key], expected[key], f"{name}/{key}")
    elif isinstance(expected, str | None):
        assert values == expected, name
    else:
        # A share of 2^20 entries, of which a few lie at the threshold to the last digit.
        at_the_threshold = 4 / 2**20 if name.endswith("mask_dead") else 1e-9
        assert values == pytest.approx(expected, rel=1e-6, abs=at_the_threshold), name


@pytest.mark.slow  # 2,000 images; the answers to the first of them are above
def test_evaluation_gives_the_digits_of_its_time(run):
    processes.run(evaluate.main, f"--run={run}")
    evaluation, expected = (
        json.loads((folder / runs.EVALUATION).read_text()) for folder in (run, OLD_RUN)
    )
    assert_close(evaluation, expected)


@pytest.mark.slow  # the tests around it evaluate the run and go on with it
def test_resuming_the_finished_run_evaluates_and_exports_it(run, monkeypatch):
    monkeypatch.setitem(EXAMPLES, "test", 20)
    printed = processes.run(train.main, "--resume", "--out", run)
    assert "learning rate" not in printed and f"exported to {run / runs.EXPORT / '1'}" in printed
    evaluation, expected = (
        json.loads((folder / runs.EVALUATION).read_text()) for folder in (run, OLD_RUN)
    )
    assert evaluation.keys() >= expected.keys()
    for output, measured in expected.items():
        for attribute, measures in measured["per_attribute"].items():
            assert evaluation[output]["per_attribute"][attribute].keys() >= measures.keys()
    assert (run / runs.HISTORY).read_text() == (OLD_RUN / runs.HISTORY).read_text()
    assert (run / runs.EXPORT / "1" / "saved_model.pb").is_file()


def as_the_first_of_two_epochs(run):
    """Makes it a run of two epochs that ended after the first; its rates were those of one."""
    settings = json.loads((run / runs.CONFIG).read_text())
    settings["training"]["epochs"] = 2
    (run / runs.CONFIG).write_text(json.dumps(settings))
    with zipfile.ZipFile(run / runs.LAST) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    training = json.loads(parts[checkpoints.TRAINING])
    training["settings"]["training"]["epochs"] = 2
    parts[checkpoints.TRAINING] = json.dumps(training)
    with zipfile.ZipFile(run / runs.LAST, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.eager
def test_training_goes_on_from_its_checkpoint_as_the_code_of_its_time_did(run):
    as_the_first_of_two_epochs(run)
    config = runs.read_config(run)
    loaded = data.load(config.data, config.found)
    few = data.Data(loaded.train, loaded.validation.take(40), loaded.test, loaded.attributes)
    result = fit.train(config, few, run, resume=True)
    assert (result["epochs"], result["parameters"]) == (2, 17595)
    first, second = checkpoints.read_progress(run / runs.LAST).history
    assert first["loss"] == 35.9991569519043
    recorded = {  # of the second epoch, by the old code from the same files
        "loss": 28.146337509155273,
        "attributes_loss": 13.07493782043457,
        "multilabel_loss": 14.87446403503418,
        "reconstruction_loss": 0.04129766300320625,
        "mask_l1_loss": 31747.93359375,
        "val_loss": 27.435510635375977,
        "val_mask_l1_loss": 31701.046875,
        "mask_std": 0.33601028118092874,
    }
    assert {name: second[name] for name in recorded} == pytest.approx(recorded, rel=1e-3)
