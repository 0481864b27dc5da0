"""The script that trains what the papers report: its commands are valid, and it goes on."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT
from test_paper_tables import paper_tables
from test_result_tables import results

sys.path.insert(0, str(ROOT / "benchmarks" / "results"))
import published_operations

from mcattn_tf.commands import compare, evaluate
from mcattn_tf.commands.flags import parse
from mcattn_tf.settings.config import make_config

SCRIPT = ROOT / "benchmarks" / "results" / "reproduce.sh"
TARGETS = ("mcattn", "multitask_abn", "gcm_cifar10", "gcm_svhn", "abn_cifar100")


def commands(*targets):
    """Returns what a dry run prints, as lists of words."""
    printed = subprocess.run(
        ["bash", SCRIPT, "--dry_run", *targets],
        env=os.environ | {"OUT": "runs/published"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [shlex.split(line.removeprefix("$ ")) for line in printed.splitlines()]


def test_every_command_is_valid_and_has_the_papers_settings(monkeypatch):
    every = commands()
    table_script = "benchmarks/results/paper_tables.py"
    assert {words[1] for words in every} == {"train.py", "evaluate.py", "-m", table_script}
    monkeypatch.setenv("OUT", "runs/published")
    monkeypatch.setenv("CELEBA", "/some where/celeba")
    monkeypatch.setenv("FLAGS", "--seed 3 --ema 0.999 --label_smoothing 0.05")
    found = published_operations.configurations()
    configs = {name: json.loads(config.to_json()) for name, config in found.items()}
    assert set(configs) == set(results.training_tables.PUBLISHED_RUNS)
    for config in configs.values():
        training = config["training"]
        assert [training[x] for x in ("seed", "ema", "label_smoothing")] == [3, 0.999, 0.05]
    mcattn = configs["mcattn"]
    loss = {"attributes": 1, "multilabel": 1, "reconstruction": 4, "mask_l1": 1e-5}
    assert mcattn["loss"] == loss | {"positive_weight": None}
    assert mcattn["model"]["channels"] == 128
    assert mcattn["data"]["data_dir"] == "/some where/celeba"
    multitask = configs["multitask_abn"]["model"]
    assert (multitask["backbone"], multitask["task_units"]) == ("resnet101", 2)
    for data, dataset in (("cifar10", "cifar10"), ("svhn", "svhn_cropped")):
        for name, model in (("gcm", "gcm"), ("nonnegative", "gcm"), ("cnn", "cnn")):
            config = configs[f"{data}_{name}"]
            assert (config["model"]["name"], config["data"]["dataset"]) == (model, dataset)
            assert (config["training"]["epochs"], config["training"]["batch_size"]) == (180, 128)
        assert configs[f"{data}_nonnegative"]["model"]["nonnegative"]
    for depth in (20, 32, 44, 56, 110):
        for mechanism in ("none", "product", "residual"):
            config = configs[f"cifar100_resnet{depth}_{mechanism}"]
            model = config["model"]
            assert model["backbone"] == f"resnet{depth}"
            assert model["attention_mechanism"] == mechanism
            assert (config["training"]["epochs"], config["data"]["dataset"]) == (300, "cifar100")
    measured, tables = [], set()
    for words in every:
        if words[1] == "evaluate.py":
            values, others = parse(evaluate.main, words[2:])
            assert values.explanations and not others
            measured.append(values.run)
        elif words[1] == "-m":
            values, directories = parse(compare.main, words[3:])
            assert f"python -m {words[2]}" == compare.main.program
            measured += directories
            tables.add(values.table)
        elif words[1] == table_script:
            *of_runs, table_flag, table = words[2:]
            assert (set(of_runs[::2]), table_flag) == ({"--run"}, "--table")
            measured += of_runs[1::2]
            tables.add(table)
    assert set(measured) <= {f"runs/published/{name}" for name in configs}
    assert tables == {"attributes", "decline", "mechanisms"}
    assert tables < set(compare.TABLES) | set(paper_tables.TABLES)


def operations_of_tasks(count):
    """Counts a forward pass of as many tasks."""
    names = tuple(str(number) for number in range(count))
    model = {"name": "multitask_abn", "backbone": "resnet18"}
    settings = {"data": {"image_size": (64, 64)}, "model": model, "found": {"attributes": names}}
    return published_operations.forward_operations(make_config(settings))


def test_operations_are_counted_as_by_hand(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "speed")
    from peers.keras_models import configuration
    from peers.problem import Problem, operations_per_image

    problem = Problem("train", 3, 64, (256, 256), 1, "float32")
    counted = published_operations.forward_operations(configuration(problem))
    by_hand = operations_per_image(problem) / 3
    assert counted == pytest.approx(by_hand, rel=0.02)  # it counts element by element too
    assert by_hand < counted
    # Each task has three 3x3 convolutions of 512 channels on 2x2 cells of its own; the first one
    # and the shortcut of ResNet-18's last stage are linear in its map and shared by all.
    each = 3 * 2 * (3 * 3 * 512 * 512 * 2 * 2)
    difference = operations_of_tasks(4) - operations_of_tasks(2)
    assert difference == pytest.approx(2 * each, rel=0.01)


def test_a_target_is_run_by_itself():
    each = [words for target in TARGETS for words in commands(target)]
    assert each == commands()
    process = subprocess.run(["bash", SCRIPT, "gcm"], capture_output=True, text=True)
    assert process.returncode == 1
    assert "one of mcattn multitask_abn gcm_cifar10" in process.stderr


# In place of Python: trains in no time, and the second training is broken off once.
INTERPRETER = """#!/usr/bin/env bash
echo "$*" >> "$LOG"
[ "$1" = train.py ] || exit 0
directory="${!#}"
mkdir -p "$directory"
touch "$directory/config.json"
case "$directory $*" in *nonnegative*--resume*|*_gcm*|*_cnn*) touch "$directory/metrics.json" ;;
*) exit 143 ;; esac
"""


def test_what_was_interrupted_is_gone_on_with(tmp_path):
    interpreter, log = tmp_path / "python", tmp_path / "log"
    interpreter.write_text(INTERPRETER)
    interpreter.chmod(0o755)
    environment = os.environ | {"PYTHON": str(interpreter), "LOG": str(log)}
    environment |= {"OUT": str(tmp_path / "runs")}

    def run():
        log.write_text("")
        process = subprocess.run(["bash", SCRIPT, "gcm_svhn"], env=environment, text=True)
        return process.returncode, log.read_text().splitlines()

    status, first = run()
    assert (status, len(first)) == (143, 2) and "--resume" not in "".join(first)
    status, second = run()
    assert status == 0
    assert [line.partition(" ")[0] for line in second] == ["train.py", "train.py", "-m"]
    assert "--resume" in second[0] and "nonnegative" in second[0]
    assert "--resume" not in second[1] and "cnn" in second[1]
    _, third = run()
    assert third == second[2:]


@pytest.mark.parametrize("target", TARGETS)
def test_the_page_of_results_names_each_target(target):
    page = (ROOT / "docs" / "reproduction.md").read_text()
    assert f"benchmarks/results/reproduce.sh {target}\n" in page
