"""What can go wrong in a training: each gives its line and loses nothing."""

import contextlib
import json
import re
import shutil
import subprocess
import zipfile
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, tiny_config

from mcattn_tf import models, runs
from mcattn_tf.errors import UserError
from mcattn_tf.runs import checkpoints
from mcattn_tf.runs.record import recorded
from mcattn_tf.training import fit
from mcattn_tf.training.faults import naming_faults

# The fewest layers that the tests below tell apart.
SMALL = tiny_config(model={"name": "baseline", "stem": ((7, 3, 2),)})


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """A finished run of two epochs and its data."""
    from conftest import NAMES, random_split

    data = fit.Data(random_split(10, 0), random_split(6, 1), random_split(7, 2), NAMES)
    directory = tmp_path_factory.mktemp("faults") / "run"
    fit.train(SMALL, data, directory)
    return directory, data


@pytest.fixture
def run(two_epochs, tmp_path):
    directory, _ = two_epochs
    return shutil.copytree(directory, tmp_path / "run")


def flip_a_bit(path):
    """Changes a weight in the archive: its structure stays whole."""
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("model.weights.h5")
        start = place.header_offset + place.file_size // 2
    content = bytearray(path.read_bytes())
    content[start] ^= 1
    path.write_bytes(content)


def let_the_second_epoch_be_the_best(run):
    with zipfile.ZipFile(run / runs.LAST) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    training_json = json.loads(parts[checkpoints.TRAINING])
    training_json["history"][1]["val_multilabel_accuracy"] = 2.0
    parts[checkpoints.TRAINING] = json.dumps(training_json)
    with zipfile.ZipFile(run / runs.LAST, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def cut_in_half(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("damage", [flip_a_bit, pytest.param(cut_in_half, marks=pytest.mark.slow)])
def test_the_checkpoint_before_a_damaged_one_is_used(damage, run, two_epochs, capsys):
    whole, data = two_epochs
    damage(run / runs.LAST)
    damage(run / runs.BEST)
    with pytest.raises(UserError, match=r"best\.keras: it is damaged"):
        runs.load_model(run)
    fit.train(SMALL, data, run, resume=True)
    printed = capsys.readouterr().out
    assert f"warning: {run / runs.LAST} is damaged (" in printed
    assert " 2/2 " in printed and " 1/2 " not in printed
    ours, theirs = (runs.load_model(directory).get_weights() for directory in (run, whole))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert checkpoints.read_progress(run / runs.PREVIOUS).epochs == 1


def test_no_single_bit_of_an_archives_directory_is_a_traceback(run):
    """Bits of its end record and of the entries before it; what they do not spoil is read."""
    expected = checkpoints.read_progress(run / runs.PREVIOUS)
    content = (run / runs.LAST).read_bytes()
    last, fallen_back = checkpoints.read_progress(run / runs.LAST), 0
    for place in range(len(content) - 200, len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            (run / runs.LAST).write_bytes(damaged)
            path, progress = checkpoints.newest([run / runs.LAST, run / runs.PREVIOUS])
            assert progress == (last if path.name == runs.LAST else expected)
            fallen_back += path.name == runs.PREVIOUS
    assert fallen_back > 100


def test_one_process_at_a_time_trains_in_a_directory(run, two_epochs, monkeypatch):
    before = (run / runs.LAST).read_bytes()
    with runs.alone_in(run), pytest.raises(UserError, match=r"run is in use: another process"):
        fit.train(SMALL, two_epochs[1], run, resume=True)
    assert (run / runs.LAST).read_bytes() == before
    looked, newest = [], fit.newest

    def look(paths):
        with pytest.raises(UserError, match="is in use"), runs.alone_in(run):
            pass
        looked.append(paths)
        return newest(paths)

    with monkeypatch.context() as patched:  # nothing may change between looking and going on
        patched.setattr(fit, "newest", look)
        fit.train(SMALL, two_epochs[1], run, resume=True)
    assert len(looked) == 1
    with runs.alone_in(run):
        pass


def test_what_is_no_run_directory_is_not_trained_in(two_epochs, tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not a run directory"):
        fit.train(SMALL, two_epochs[1], tmp_path / "nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()


def test_weights_of_another_program_are_put_aside_not_written_over(run, two_epochs, capsys):
    runs.load_model(run).save(run / runs.LAST)
    foreign = (run / runs.LAST).read_bytes()
    fit.train(SMALL, two_epochs[1], run, resume=True)
    assert "did not write all of last.keras" in capsys.readouterr().out
    assert (run / runs.DAMAGED).read_bytes() == foreign
    assert checkpoints.read_progress(run / runs.LAST).epochs == 2


def test_a_best_network_that_cannot_be_written_is_one_line(run, two_epochs):
    let_the_second_epoch_be_the_best(run)
    (run / runs.BEST).unlink()
    (run / runs.BEST).mkdir()
    with pytest.raises(UserError, match=r"cannot write to .*; last\.keras is kept"):
        fit.train(SMALL, two_epochs[1], run, resume=True)


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(run, two_epochs):
    for name in (runs.LAST, runs.PREVIOUS, runs.BEST):
        cut_in_half(run / name)
    with pytest.raises(UserError, match=r"cannot resume: .*last\.keras is damaged") as raised:
        fit.train(SMALL, two_epochs[1], run, resume=True)
    assert "\n" not in str(raised.value)


def test_the_best_network_is_made_again_from_a_checkpoint_of_its_epoch(run, two_epochs):
    let_the_second_epoch_be_the_best(run)
    (run / runs.BEST).unlink()
    fit.train(SMALL, two_epochs[1], run, resume=True)
    assert checkpoints.read_progress(run / runs.BEST).epochs == 2


def poisoned(batches, step):
    """Labels of one batch are not numbers."""

    def poison(number, batch):
        images, labels = batch
        return images, tf.where(number == step, np.nan, labels)

    return batches.enumerate().map(poison)


def test_the_terms_of_the_loss_that_are_no_numbers_are_named_not_their_sum():
    save = SimpleNamespace(kept=lambda: "all is lost", epoch=6, first_step=4, steps_per_epoch=9)
    guard = fit.StopOnNaN(save)
    logs = {"loss": np.nan, "a_loss": np.inf, "b_loss": 1.0, "c_loss": np.nan}
    with pytest.raises(UserError) as raised:
        guard.on_train_batch_end(1, logs)
    line = "a_loss, c_loss became NaN or infinite in epoch 7, step 6 of 9; all is lost. Start again"
    assert str(raised.value).startswith(line)


def test_a_nan_in_the_data_names_step_and_keeps_the_checkpoint(tmp_path, two_epochs, monkeypatch):
    whole, data = two_epochs  # 2 steps an epoch
    make = fit.training_batches
    with monkeypatch.context() as patched, pytest.raises(UserError) as raised:
        patched.setattr(fit, "training_batches", lambda *a: poisoned(make(*a), 2))
        fit.train(SMALL, data, tmp_path / "run")
    assert str(raised.value).startswith("loss became NaN or infinite in epoch 2, step 1 of 2; the ")
    record = json.loads((tmp_path / "run" / runs.RECORD).read_text())["sessions"]
    assert record[0]["end"].startswith("UserError: loss became NaN")
    assert checkpoints.read_progress(tmp_path / "run" / runs.LAST).epochs == 1
    fit.train(SMALL, data, tmp_path / "run", resume=True)
    ours, theirs = (
        runs.load_model(run, runs.LAST).get_weights() for run in (tmp_path / "run", whole)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_weights_that_are_not_numbers_become_no_checkpoint(tmp_path, two_epochs, monkeypatch):
    measure = fit.Validate.on_epoch_end

    def spoil(self, epoch, logs=None):
        measure(self, epoch, logs)
        weight = self.model.trainable_variables[0]
        weight.assign(weight * np.nan)

    with monkeypatch.context() as patched, pytest.raises(UserError, match="became NaN") as raised:
        patched.setattr(fit.Validate, "on_epoch_end", spoil)
        fit.train(SMALL, two_epochs[1], tmp_path / "run")
    assert "there was no checkpoint before it" in str(raised.value)
    assert not (tmp_path / "run" / runs.LAST).exists()


def test_memory_that_does_not_suffice_is_named(tmp_path):
    config = tiny_config(training={"batch_size": 512})
    for shortage in (
        lambda: tf.fill([2**45], 1.0),
        lambda: np.empty(2**50),
        lambda: next(iter(tf.data.Dataset.range(1).map(in_numpy))),
    ):
        with (
            pytest.raises(UserError, match="out of memory with --batch_size 512") as raised,
            naming_faults(tmp_path, config, workers=False),
        ):
            shortage()
        assert "\n" not in str(raised.value) and "--precision mixed_bfloat16" in str(raised.value)


def in_numpy(index):
    return tf.numpy_function(lambda _: np.empty(2**50), [index], tf.float64)


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (tf.errors.UnavailableError(None, None, "gone"), KeyError("x"), UserError("y")):
        with pytest.raises(type(error)), naming_faults(tmp_path, tiny_config(), workers=False):
            raise error
    full = tf.errors.ResourceExhaustedError(None, None, "x; No space left on device")
    with (
        pytest.raises(UserError, match="free some space, then resume"),
        naming_faults(tmp_path, tiny_config(), workers=False),
    ):
        raise full


def test_a_config_that_does_not_fit_the_weights_is_named_field_by_field(run, two_epochs):
    config = runs.read_config(run)
    changed = config.replace("model", channels=6, dilations=(1, 1))
    (run / runs.CONFIG).write_text(changed.to_json())
    with pytest.raises(UserError) as raised:
        runs.load_model(run)
    assert str(raised.value) == (
        f"config.json beside {run / runs.BEST} does not fit it: `model.channels` is 6, but 5 in "
        "the checkpoint; `model.dilations` is [1, 1], but [1, 2] in the checkpoint; restore these "
        "settings"
    )
    faster = config.replace("training", learning_rate=0.02).replace("loss", multilabel=2.0)
    (run / runs.CONFIG).write_text(faster.to_json())
    runs.load_model(run)  # the network is the same
    with pytest.raises(
        UserError, match=r"`loss\.multilabel` is 2\.0, .* `training\.learning_rate`"
    ):
        fit.train(faster, two_epochs[1], run, resume=True)


def test_weights_of_another_network_are_not_loaded(run):
    models.build(tiny_config(model={"channels": 6})).save(run / runs.BEST)
    with pytest.raises(UserError, match=r"not those of the network in config\.json"):
        runs.load_model(run)


def test_a_run_directory_cannot_run_code(run, tmp_path):
    """The network of an archive is never read, so that nothing in it is run."""
    trace, name = tmp_path / "trace", str(tmp_path / "trace")
    inputs = keras.Input((12, 8, 3))
    spied = keras.layers.Lambda(lambda x: __import__("os").makedirs(name, exist_ok=True) or x)(
        inputs
    )
    keras.Model(inputs, spied).save(run / runs.BEST)
    trace.rmdir()
    with contextlib.suppress(ValueError):  # what is being guarded against
        keras.saving.load_model(run / runs.BEST, safe_mode=False)(np.zeros((1, 12, 8, 3)))
    assert trace.exists()
    trace.rmdir()
    with pytest.raises(UserError, match=r"cannot load .*best\.keras"):
        runs.load_model(run)
    assert not trace.exists()


def test_the_package_names_nothing_that_runs_what_it_reads():
    unsafe = re.compile(
        r"import pickle|Lambda\(|marshal|enable_unsafe|\beval\(|\bexec\(|keras\S*load_model"
    )
    data = ROOT / "mcattn_tf" / "data"  # CIFAR's own files are pickles, read without its classes
    for path in {*(ROOT / "mcattn_tf").rglob("*.py"), *ROOT.glob("*.py")} - {*data.rglob("*.py")}:
        assert not unsafe.search(path.read_text()), path


def test_a_damaged_record_is_begun_anew(tmp_path, capsys):
    (tmp_path / runs.RECORD).write_text('{"sessions"')
    with recorded(tmp_path, "CPU"):
        pass
    assert "record.json is damaged" in capsys.readouterr().out
    (session,) = json.loads((tmp_path / runs.RECORD).read_text())["sessions"]
    assert session["end"] == "finished"


def test_the_record_says_what_a_run_was_made_with(run):
    (session,) = json.loads((run / runs.RECORD).read_text())["sessions"]
    assert session["end"] == "finished" and session["seconds"] > 0
    assert session["versions"]["tensorflow"] == tf.__version__
    assert session["versions"]["keras"] == keras.__version__
    assert session["command"] and session["hardware"]["processors"] >= 1
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert (session["git_revision"] or "").removesuffix("-dirty") == head.stdout.strip()
