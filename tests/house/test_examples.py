"""The examples run to their end, and say nothing that a user cannot read."""

import csv
import re

import numpy as np
import pytest
from conftest import start_script
from PIL import Image


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
