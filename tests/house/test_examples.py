"""Examples, and the Python of README and docs, run to their end."""

import csv
import json
import re

import numpy as np
import pytest
from conftest import ROOT, start_script
from PIL import Image

from mcattn_tf import models, runs
from mcattn_tf.data.drawn_faces import ATTRIBUTES
from mcattn_tf.settings.config import make_config


def chains(page: str) -> list[str]:
    """The Python of a page; a block without an import goes on where the one before it ended."""
    joined: list[str] = []
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S):
        if block.startswith(("import ", "from ")) or not joined:
            joined.append(block)
        else:
            joined[-1] += block
    return joined


BLOCKS = [
    pytest.param(
        block, id=f"{page}-{number}", marks=[pytest.mark.slow] if "fit.train" in block else []
    )
    for page in ("README.md", "docs/library.md")
    for number, block in enumerate(chains(page))
]
# Notebook: values in place of those of its cell with the tag `parameters`.
NOTEBOOKS = {
    "explain_your_model": {
        **{"COUNT": 64, "EPOCHS": 1, "SHOWN": 1, "MEASURED": 6},
        "METHODS": ["cam", "occlusion"],
    },
    "celeba_attributes": {"TRAIN_EXAMPLES": 64, "EPOCHS": 1, "TEST_EXAMPLES": 8, "SHOWN": 1},
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder with what the pages have: the default network in runs/demo, and an image."""
    folder = tmp_path_factory.mktemp("demo")
    config = make_config({"found": {"attributes": ATTRIBUTES}})
    runs.create(folder / "runs" / "demo", config)
    models.build(config).save(folder / "runs" / "demo" / runs.BEST)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "face.png")
    return folder


@pytest.mark.eager
@pytest.mark.parametrize("block", BLOCKS)
def test_python_of_the_pages_runs(block, demo, monkeypatch):
    monkeypatch.chdir(demo)
    names = {}
    exec(block, names)
    # What comments say of shapes.
    if "(1, 64, 64, 3)" in block:
        assert names["images"].shape == (1, 64, 64, 3)
        assert names["explanations"]["contributions"][0, 0].shape == (16, 16)
    if "(4, 2, 16, 16)" in block:
        assert names["shape"] == (4, 2, 16, 16)
    if "(1, 16, 16, 1, 128)" in block:
        assert names["explanation"]["masks"].shape == (1, 16, 16, 1, 128)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["explain_your_model", "celeba_attributes"])
def test_a_notebook_runs_from_top_to_bottom_and_is_stored_without_outputs(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text())["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            lines = [line for line in cell["source"] if not line.startswith("%")]
            exec("".join(lines), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                assert NOTEBOOKS[name].keys() <= names.keys()
                names |= NOTEBOOKS[name]
    # It ends with what to trust, and with a served answer.
    printed = capsys.readouterr().out
    assert {"explain_your_model": "occlusion: beats", "celeba_attributes": "Smiling: ["}[
        name
    ] in printed


@pytest.mark.slow
def test_own_images_end_in_a_network_that_answers_from_its_export(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    with open(tmp_path / "images" / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "Bright", "Red"])
        for index in range(60):
            bright, red = random.integers(0, 2, 2)
            pixels = random.integers(0, 60, (20, 18, 3)) + 100 * bright
            pixels[..., 0] += 90 * red
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / f"{index}.png")
            table.writerow([f"{index}.png", bright, red])
    out = tmp_path / "run"
    flags = (f"--images={tmp_path / 'images'}", "--size=16,12", "--epochs=1", f"--out={out}")
    output, errors = start_script("examples/own_images.py", *flags).communicate(timeout=1500)
    commands = re.findall(r"^\$ python (\S+ ?\S*)", output, re.MULTILINE)
    scripts = ["train.py", "evaluate.py", "visualize.py", "-m mcattn_tf.commands.client"]
    assert [name.partition(" -")[0] for name in commands] == scripts, errors
    assert "TensorFlow Serving reads" in output.splitlines()[-1]
    answered = output.partition("mcattn_tf.commands.client")[2]
    assert re.search(r"Bright +\d", answered) and re.search(r"Red +\d", answered)
    assert (out / "export" / "1" / "saved_model.pb").is_file()
    assert (out / "answers" / "explanation_0.png").is_file()
    assert (out / "explanations_64_images.json").is_file()
    native = re.compile(r"^[IWE]\d{4}|^WARNING: All log", re.MULTILINE)
    assert not native.search(output + errors)
