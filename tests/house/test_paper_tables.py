"""Tables over finished runs, in the papers' form."""

import json
import sys
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver
from conftest import ROOT, tiny_config_of

sys.path.insert(0, str(ROOT / "benchmarks" / "results"))
import paper_tables
import published_figures

from mcattn_tf import runs
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import published


def finished(directory, error, **model):
    config = tiny_config_of("abn", **{"backbone": "resnet14", "exclusive": True, **model})
    runs.create(directory, config)
    result = {"perception": {"mean": {"accuracy": 1 - error}, "per_attribute": {}}}
    runs.write_json(directory / runs.EVALUATION, result)
    runs.write_json(directory / runs.METRICS, {})
    return directory


def test_tables_are_of_the_errors_of_finished_runs(tmp_path):
    without = finished(tmp_path / "none", 0.5, attention_mechanism="none")
    seeds = [finished(tmp_path / name, e) for name, e in (("a", 0.25), ("b", 0.3))]
    known = finished(tmp_path / "c", 0.125, backbone="resnet20")
    text = paper_tables.format_mechanisms([without, *seeds, known]).splitlines()
    assert [" ".join(line.split()) for line in text[2:4]] == [
        "faces resnet14 50.00 - 27.50 (25.00, 30.00) - - -",
        "faces resnet20 - - 12.50 31.47 30.61 30.46",  # the paper's table 1
    ]
    text = paper_tables.format_errors([without, *seeds]).splitlines()
    assert [" ".join(line.split()) for line in text[2:4]] == [
        "resnet14 50.00 -",
        "resnet14 + ABN 27.50 (25.00, 30.00) -",
    ]
    product = finished(tmp_path / "product", 0.5, attention_mechanism="product")
    with pytest.raises(UserError, match="take --table mechanisms"):
        paper_tables.format_errors([product])
    other = finished(tmp_path / "other", 0.3, map_kernel=1)
    with pytest.raises(UserError, match=r"other differs .* in more than the seed"):
        paper_tables.format_mechanisms([*seeds, other])
    with pytest.raises(UserError, match="named once"):
        paper_tables.format_mechanisms([without, without])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "cnn"}, "has no place in this table: it must be of --model abn. Received: cnn"),
        ({"backbone": "resnet14", "exclusive": False}, "has no top-1 error"),
        (
            {"backbone": "resnet14", "exclusive": True},
            "is not trained to its end; go on with train.py",
        ),
    ],
)
def test_runs_that_have_no_place_in_a_table_are_named(model, message, tmp_path):
    config = tiny_config_of(model.pop("name", "abn"), **model)
    runs.create(tmp_path / "run", config)
    runs.write_json(tmp_path / "run" / runs.EVALUATION, {})
    if not config.model.exclusive:
        runs.write_json(tmp_path / "run" / runs.METRICS, {})
    with pytest.raises(UserError) as raised:
        paper_tables.format_mechanisms([tmp_path / "run"])
    assert str(raised.value).startswith(str(tmp_path / "run"))
    assert message in str(raised.value)


def test_a_run_that_was_not_evaluated_has_no_place_in_a_table(tmp_path):
    directory = finished(tmp_path / "run", 0.5)
    (directory / runs.EVALUATION).unlink()
    with pytest.raises(UserError, match="is not there yet; evaluate"):
        paper_tables.format_mechanisms([directory])


def write_run(directory, name, output, accuracies):
    runs.create(directory, tiny_config_of(name))
    per_attribute = {key: {"accuracy": value} for key, value in accuracies.items()}
    (directory / runs.EVALUATION).write_text(
        json.dumps({output: {"mean": {}, "per_attribute": per_attribute}})
    )
    (directory / runs.METRICS).write_text("{}")


def test_table_4_counts_the_attributes_that_the_first_run_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names: a wide table is in parts
    write_run(tmp_path / "a", "multitask_abn", "perception", {"P": 0.9, "Q": 0.7, "R": 0.5})
    write_run(tmp_path / "b", "mcattn", "attributes", {"P": 0.8, "Q": 0.7, "R": 0.9})
    lines = paper_tables.format_attributes([Path("a"), Path("b")]).splitlines()
    assert lines[-2].split()[-2:] == ["70.00", "-"]
    assert lines[-1].endswith("1/3 (1 equal)") and " 80.00 " in lines[-1]


def test_table_4_has_what_was_published_of_celebas_attributes(tmp_path):
    # A point more than FaceTracer of all but three attributes.
    accuracies = {
        name: values[3] / 100 + (0.01 if index > 2 else -0.01)
        for index, (name, values) in enumerate(published.ACCURACY.items())
    }
    write_run(tmp_path / "a", "multitask_abn", "perception", accuracies)
    lines = paper_tables.format_attributes([tmp_path / "a"]).splitlines()
    rows = {line.split("  ")[0].strip(): line for line in lines}
    assert rows["FaceTracer *"].endswith("37/40")
    assert rows["FaceTracer **"].endswith("40/40 of ABN")


def test_runs_of_other_attributes_are_not_compared(tmp_path):
    write_run(tmp_path / "a", "multitask_abn", "perception", {"P": 0.9})
    write_run(tmp_path / "b", "mcattn", "attributes", {"Q": 0.8})
    with pytest.raises(UserError, match="b cannot be compared"):
        paper_tables.format_attributes([tmp_path / "a", tmp_path / "b"])


def test_the_script_prints_a_table_of_the_runs_that_it_is_given(tmp_path, capsys):
    directories = [str(finished(tmp_path / name, 0.25)) for name in ("a", "b")]
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(table="errors", run=directories):
        paper_tables.main([])
    assert capsys.readouterr().out.count("error 25.00 %") == 2
    with flagsaver.flagsaver(table="best"), pytest.raises(UserError, match="`table` must be one"):
        paper_tables.main([])
    with flagsaver.flagsaver(table="errors"), pytest.raises(UserError, match="directory by --run"):
        paper_tables.main(directories)


def test_published_figures_are_those_of_the_papers():
    """Read in the papers' texts, not in the code."""
    assert published_figures.ERRORS["resnet110", "residual"]["cifar100"] == 22.82  # ABN, table 2
    assert published_figures.ERRORS["resnet110", "none"]["cifar100"] == 24.14
    assert published_figures.MECHANISM_ERRORS["resnet110"] == (24.14, 23.28, 22.82)  # ABN, table 1
    assert published_figures.ATTRIBUTE_MEANS["MOON"] == (90.93, 29)  # ABN, table 4
    assert published_figures.ATTRIBUTE_MEANS["ABN"][0] == 91.07
