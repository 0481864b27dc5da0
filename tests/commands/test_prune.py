"""Pruning of runs as a user asks for it."""

import json
import shutil

import numpy as np
import processes
import pytest
from conftest import tiny_config_of
from PIL import Image
from processes import call

from mcattn_tf import data, models, runs
from mcattn_tf.commands import evaluate, prune, train, visualize
from mcattn_tf.data.drawn_faces import ATTRIBUTES
from mcattn_tf.settings.config import make_config
from mcattn_tf.training.pruning import bisect

pytestmark = pytest.mark.eager
KEPT = ("Smiling", "Bald")
SHAPE = {"channels": 8, "pointwise_layers": 1}


@pytest.fixture(autouse=True, scope="module")
def few_faces():
    with processes.drawing_fewer(validation=24, test=24):
        yield


def write_run(directory, name):
    """Writes a run that has initial weights."""
    config = make_config(
        {
            "data": {"image_size": (32, 36), "train_examples": 40},
            "model": {"name": name, "stem": ((4, 4, 2), (8, 2, 2)), **SHAPE},
            "training": {"epochs": 4, "batch_size": 16},
            "found": {"attributes": ATTRIBUTES, "receptive_field": 14},
        }
    )
    runs.create(directory, config)
    models.build(config).save(directory / "best.keras")
    return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("prune") / "run", "mcattn")


def test_a_pruned_run_is_a_run_like_any_other(run, tmp_path):
    out = tmp_path / "half"
    arguments = (f"--run={run}", f"--out={out}", "--keep=0.5", f"--by_attribute={','.join(KEPT)}")
    printed = processes.run(prune.main, *arguments, "--noexport")
    assert "4 of 8 channels and 2 attributes" in printed
    config, model = runs.read_config(out), runs.load_model(out)
    assert config.attributes == KEPT and config.model.channels == 4
    assert config.training.learning_rate == pytest.approx(2e-3 / 3)
    result = json.loads((out / "pruning.json").read_text())
    assert len(result["channels"]) == 4 and result["attributes"] == list(KEPT)
    assert result["smaller"]["parameters"] == model.count_params()
    assert result["smaller"]["operations"] < result["whole"]["operations"]
    assert len((out / "history.csv").read_text().splitlines()) == 2
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert tuple(evaluation["attributes"]["per_attribute"]) == KEPT
    assert 0 < evaluation["explanations"]["mean"]["chance"] < 1  # regions are known
    split = data.load_split(config.data, "test", config.found)
    whole = data.load_split(runs.read_config(run).data, "test")
    columns = [ATTRIBUTES.index(name) for name in KEPT]
    np.testing.assert_array_equal(split.read([5, 2])[1], whole.read([5, 2])[1][:, columns])


@pytest.mark.slow
def test_the_smallest_network_of_a_baseline_is_found_and_not_trained(tmp_path):
    run, out = write_run(tmp_path / "run", "baseline"), tmp_path / "small"
    arguments = (f"--run={run}", f"--out={out}", "--keep=auto", "--loss=1", "--epochs=0")
    printed = processes.run(prune.main, *arguments, "--noexport")
    assert "1 of 8 channels and 16 attributes" in printed and "1 channels: valid" in printed
    assert runs.load_model(out).get_layer("features").output.shape[-1] == 1
    processes.run(train.main, "--resume", f"--out={out}", "--epochs=1", "--noexport")
    assert len((out / "history.csv").read_text().splitlines()) == 2


def test_an_analysis_has_an_atlas_that_is_drawn(run, tmp_path):
    whole = shutil.copytree(run, tmp_path / "run")
    printed = processes.run(evaluate.main, f"--run={whole}", "--analysis")
    assert "8 detect a part" in printed and " uses and " in printed
    assert printed.endswith(f"written to {whole / 'atlas.npz'}\n")
    assert "Wearing_Hat" in (whole / "analysis.txt").read_text().split("detect a part")[1]
    drawn = processes.run(visualize.main, f"--run={whole}", "--what=channels").split()
    assert drawn[0] == str(whole / "figures" / "channels.png") and len(drawn) == 1 + 6
    shutil.rmtree(whole / "figures")
    (whole / "atlas.npz").unlink()
    image = tmp_path / "image.png"
    Image.fromarray(np.zeros((32, 36, 3), np.uint8)).save(image)
    arguments = (f"--run={whole}", "--what=channels", f"--images={image}")
    status, _, errors = call(visualize.main, *arguments)
    assert status == 1 and "run evaluate.py --analysis first" in errors


def test_bisection_asks_about_few_numbers():
    for smallest in range(1, 129):
        asked = []
        assert bisect(lambda n: asked.append(n) or n >= smallest, 128) == smallest  # noqa: B023
        assert len(asked) <= 7 and 128 not in asked


def test_bad_input_is_one_line(run, tmp_path):
    gcm = tmp_path / "gcm"
    runs.create(gcm, tiny_config_of("gcm"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    new = f"--out={tmp_path / 'new'}"
    cases = {
        "--keep must be above 0 and at most 1, or auto. Received: 0": (new, "--keep=0"),
        "or auto. Received: 1.5": (new, "--keep=1.5"),
        "or auto. Received: half": (new, "--keep=half"),
        "--loss must be zero or more": (new, "--keep=auto", "--loss=-1"),
        "--epochs must be zero or more": (new, "--epochs=-1"),
        "--out must name": (),
        "--by_attribute must be one of Bald, Bangs": (new, "--by_attribute=Smile"),
        "--by_attribute must name something": (new, "--by_attribute="),
        "--by must be one of contributions, summed": (new, "--by=size"),
        "exists and is not overwritten": (f"--out={tmp_path / 'there'}",),
        "a run of gcm cannot be pruned": (new, f"--run={gcm}"),
    }
    for message, arguments in cases.items():
        status, _, errors = call(prune.main, f"--run={run}", *arguments)
        assert status == 1 and message in errors, (message, errors)
        assert errors.count("\n") == 1 and errors.startswith("error: ")
    assert not (tmp_path / "new").exists()
