import contextlib
import csv
import dataclasses
import io
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import NAMES, he_weights, random_split, tiny_config, tiny_config_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from terminals import terminal

from mcattn_tf import models, runs
from mcattn_tf.data.split import Data
from mcattn_tf.errors import Stopped, UserError
from mcattn_tf.evaluation.intervals import answer
from mcattn_tf.evaluation.ranking import measures_of
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.metrics import MaskStatistics
from mcattn_tf.optimizers import optimizer_of
from mcattn_tf.runs import checkpoints
from mcattn_tf.settings.config import make_config
from mcattn_tf.training import compiling, fit
from mcattn_tf.training.callbacks import SaveProgress

# For tests to which the kind of network is all the same: the fewest layers.
SMALL = {"name": "baseline", "stem": ((4, 2, 2),), "channels": 5}


@pytest.mark.parametrize(
    "precision", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_a_step_in_mixed_precision_is_finite_and_near_float32(precision, tiny_data, images):
    losses = {}
    for policy in ("float32", precision):
        config = tiny_config(training={"precision": policy})
        model = models.build(config)
        exact = models.build(tiny_config())
        weights = [np.linspace(-0.3, 0.4, w.size).reshape(w.shape) for w in exact.get_weights()]
        model.set_weights([np.abs(w) + 0.5 if w.ndim == 1 else w for w in weights])
        compiling.compile_model(model, config, optimizer_of(config.training, 4))
        labels = np.ones((6, 3), np.float32)
        goals = compiling.targets(list(model.output), images, labels)
        losses[policy] = model.train_on_batch(images, goals, return_dict=True)
    for name, value in losses[precision].items():
        assert np.isfinite(value), name
        assert value == pytest.approx(losses["float32"][name], rel=0.1, abs=0.02), name


@pytest.fixture(scope="module")
def screen():
    """The terminal of 60 columns that the run's errors go to."""
    with terminal(60) as opened:
        yield opened


@pytest.fixture(scope="module")
def finished(tmp_path_factory, screen):
    """A run of two epochs, its data, what `train` returned and what it printed."""
    data = Data(random_split(10, 0), random_split(6, 1), random_split(7, 2), NAMES)
    directory, printed = tmp_path_factory.mktemp("finished") / "run", io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(screen.stream):
        result = fit.train(tiny_config(), data, directory)
    return directory, data, result, printed.getvalue()


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def read_history(directory):
    with (directory / runs.HISTORY).open(newline="") as lines:
        return list(csv.DictReader(lines))


def check_same_run(first, second):
    assert read_history(first) == read_history(second)
    weights = [runs.load_model(run, runs.LAST).get_weights() for run in (first, second)]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.graphs
def test_a_run_directory_holds_the_run(finished):
    directory, _, result, _ = finished
    # A field of 5 pixels after the stem; dilations 1 and 2 on a grid of 2 pixels add 4 and 8.
    filled_in = tiny_config().replace("found", receptive_field=17)
    assert runs.read_config(directory) == filled_in
    history = read_history(directory)
    assert [row["epoch"] for row in history] == ["0", "1"]
    accuracies = [float(row["val_attributes_accuracy"]) for row in history]
    assert result["validation"]["val_attributes_accuracy"] == max(accuracies)
    assert result["best_epoch"] == 1 + int(np.argmax(accuracies))
    assert "val_mask_l1_loss" in history[0]
    for name in (runs.BEST, runs.LAST):
        assert runs.load_model(directory, name).output.keys() == {
            "attributes",
            "multilabel",
            "reconstruction",
            "mask_l1",
        }


def test_an_epoch_is_a_bar_and_then_one_line(finished, screen):
    directory, _, _, printed = finished
    headings = "epoch loss accuracy balanced masks alive learning rate seconds"
    lines = printed.splitlines()
    (top,) = [index for index, line in enumerate(lines) if line.split() == headings.split()]
    assert all(len(line) <= 100 for line in lines) and "\r" not in printed
    history = read_history(directory)
    stars = [line.endswith("*") for line in lines[top + 1 :]]
    accuracies = [float(row["val_attributes_accuracy"]) for row in history]
    assert stars == [True, accuracies[1] > accuracies[0]]
    # 2 steps an epoch: all 4 steps end a rise of none; the rate is that of the epoch's last step.
    rates = [0.01 * (1 + np.cos(np.pi * step / 4)) / 2 for step in (1, 3)]
    for number, (line, row, rate) in enumerate(zip(lines[top + 1 :], history, rates, strict=True)):
        values = line.split()
        assert values[:2] == [f"{number + 1}/2", f"{float(row['loss']):.5g}"]
        shares = row["val_attributes_accuracy"], row["val_attributes_balanced_accuracy"]
        expected = [100 * float(share) for share in (*shares, 1 - float(row["mask_dead"]))]
        assert list(map(float, values[2:5])) == pytest.approx(expected, abs=0.006)
        assert float(values[5]) == pytest.approx(rate, rel=0.01)
    shown = screen.lines()
    assert max(map(len, shown)) <= 60 and "\n" not in screen.text
    assert any(line.startswith("epoch 2/2 |") and "0/2" in line for line in shown)
    (first, *_) = [line for line in shown if line.startswith("epoch 1/2 |") and "1/2, 00:" in line]
    assert "loss" in first and "%" in first and first.rstrip().endswith("/s")
    assert any(line.startswith("validation |") and "2/2" in line for line in shown)
    assert screen.text.split("\r")[-2].strip() == ""


def test_the_balanced_accuracy_is_that_of_the_evaluation(finished):
    directory, data, _, _ = finished
    images, labels = data.validation.read(range(6))
    outputs = runs.load_model(directory, runs.LAST).predict_on_batch(images / np.float32(255))
    for name in ("attributes", "multilabel"):
        expected = np.nanmean(measures_of(labels, outputs[name])["balanced_accuracy"])
        row = read_history(directory)[-1]
        assert float(row[f"val_{name}_balanced_accuracy"]) == pytest.approx(expected)


def test_tensorboard_has_the_history(finished):
    directory, *_ = finished
    events = EventAccumulator(str(directory / "tensorboard" / "train"), {"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"epoch_loss", "epoch_mask_mean"} <= set(tags)
    assert all(tag.startswith("epoch_") for tag in tags)
    for name in ("loss", "mask_mean"):
        written = events.Tensors(f"epoch_{name}")
        assert [event.step for event in written] == [0, 1]
        values = [float(make_ndarray(event.tensor_proto)) for event in written]
        history = [float(row[name]) for row in read_history(directory)]
        np.testing.assert_allclose(values, history, rtol=1e-6)


def test_best_is_the_epoch_with_the_highest_validation_accuracy(tmp_path, tiny_data):
    config = tiny_config(model=SMALL, training={"epochs": 4, "learning_rate": 0.05})
    result = fit.train(config, tiny_data, tmp_path / "run")
    model = runs.load_model(tmp_path / "run")
    batches = fit.evaluation_batches(tiny_data.validation, 6)
    images, labels = next(batches.as_numpy_iterator())
    accuracy = np.mean((model.predict_on_batch(images)["multilabel"] > 0.5) == labels)
    assert accuracy == pytest.approx(result["validation"]["val_multilabel_accuracy"])


def test_the_best_epoch_is_by_the_monitor_and_patience_ends_a_training(tmp_path, tiny_data):
    of_training = {"epochs": 9, "learning_rate": 0.05, "patience": 2}
    of_training["monitor"] = "average_precision"
    config = tiny_config(model=SMALL, training=of_training, loss={"positive_weight": 3.0})
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = fit.train(config, tiny_data, tmp_path / "run")
    history = read_history(tmp_path / "run")
    scores = [float(row["val_multilabel_average_precision"]) for row in history]
    best = int(np.argmax(scores))
    assert result["best_epoch"] == best + 1 and result["epochs"] == len(history) == best + 3 < 9
    assert "the training ends: no better epoch in the last 2 (--patience)" in printed.getvalue()
    assert "*: best validation average precision so far" in " ".join(printed.getvalue().split())
    # The numbers of the history are those of the network that was kept.
    labels, answers = answer(runs.load_model(tmp_path / "run"), tiny_data.validation, 4)
    measures = measures_of(labels, answers["multilabel"])
    for name in ("average_precision", "roc_auc", "balanced_accuracy"):
        value = result["validation"][f"val_multilabel_{name}"]
        assert value == pytest.approx(np.nanmean(measures[name]), rel=1e-5)
    labels = tiny_data.train.labels.astype(int)
    weights = np.clip((1 - labels).sum(axis=0) / labels.sum(axis=0), 1 / 3, 3)
    assert runs.read_config(tmp_path / "run").found.positive_weights == pytest.approx(weights)
    # Resumed, it has ended still.
    again = fit.train(runs.read_config(tmp_path / "run"), tiny_data, tmp_path / "run", resume=True)
    assert again["epochs"] == result["epochs"] and read_history(tmp_path / "run") == history


def test_a_training_that_ends_at_its_last_epoch_does_not_end_early(tmp_path, tiny_data):
    for epochs, ended in ((3, True), (2, False)):  # without a rate, the first epoch is the best
        of_training = {"epochs": epochs, "learning_rate": 1e-12, "patience": 1}
        config = tiny_config(model=SMALL, training=of_training)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = fit.train(config, tiny_data, tmp_path / str(epochs))
        assert result["epochs"] == 2
        assert ("the training ends:" in printed.getvalue()) == ended


def test_monitors_and_weights_that_the_data_cannot_have_are_refused(tmp_path, tiny_classes):
    for section, name, value in (
        ("training", "monitor", "balanced_accuracy"),
        ("loss", "positive_weight", 5.0),
    ):
        config = tiny_config_of("cnn").replace(section, **{name: value})
        with pytest.raises(UserError, match=f"`{name}` must be left out .* one class"):
            fit.train(config, tiny_classes, tmp_path / "run")
    with pytest.raises(UserError, match="`monitor` must be one of accuracy, balanced_accuracy"):
        tiny_config(training={"monitor": "f1"})
    always = random_split(6, 1)
    always.labels[:] = 1
    data = Data(random_split(10, 0), always, random_split(7, 2), NAMES)
    config = tiny_config(training={"monitor": "average_precision"})
    with pytest.raises(UserError, match="`monitor` must be accuracy where no attribute is both"):
        fit.train(config, data, tmp_path / "run")


@pytest.mark.slow  # `test_resume.py` has it with real interruptions
def test_resume_equals_no_interruption(tmp_path, tiny_data):
    config = tiny_config(training={"epochs": 3})
    fit.train(config, tiny_data, tmp_path / "whole")

    class Interrupted(Exception):
        pass

    reads = 0

    def images_until_interrupted(indices):
        nonlocal reads
        reads += len(indices)
        if reads > 2 * 8 + 4:  # two epochs of two steps of four images, and a little more
            raise Interrupted
        return tiny_data.train.images(indices)

    broken = dataclasses.replace(tiny_data.train, images=images_until_interrupted)
    data = Data(broken, tiny_data.validation, tiny_data.test, NAMES)
    with pytest.raises(tf.errors.OpError):
        fit.train(config, data, tmp_path / "parts")
    assert 1 <= len(read_history(tmp_path / "parts")) < 3
    fit.train(config, tiny_data, tmp_path / "parts", resume=True)

    check_same_run(tmp_path / "parts", tmp_path / "whole")


class RecordWeights(keras.callbacks.Callback):
    """Keeps the trained weights of every step, as the training has them."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        variables = self.model.trainable_variables
        self.steps.append([keras.ops.convert_to_numpy(variable).copy() for variable in variables])


def test_averages_of_the_weights_are_saved_and_training_goes_on_with_the_weights(
    tmp_path, tiny_data, monkeypatch
):
    momentum, settings = 0.75, {"epochs": 3, "batch_size": 2}  # 5 steps an epoch
    config = dataclasses.replace(tiny_config(), model=make_config({"model": SMALL}).model)
    config = config.replace("training", **settings)
    plain, averaged = RecordWeights(), RecordWeights()
    fit.train(config, tiny_data, tmp_path / "plain", callbacks=[plain])
    averages, expected = plain.steps[0], []
    for weights in plain.steps:
        both = zip(averages, weights, strict=True)
        averages = [momentum * average + (1 - momentum) * new for average, new in both]
        expected.append(averages)
    assert np.abs(expected[-1][0] - plain.steps[-1][0]).max() > 1e-3

    config = config.replace("training", ema=momentum)
    directory = tmp_path / "averaged"
    for stop in (5, 8):  # at the end of an epoch, and within one
        monkeypatch.setattr(
            SaveProgress, "_stop_is_asked_for", lambda _, at=stop: len(averaged.steps) >= at - 1
        )
        with pytest.raises(Stopped):
            fit.train(config, tiny_data, directory, resume=stop > 5, callbacks=[averaged])
        averaged.steps += plain.steps[len(averaged.steps) : stop]  # it left before it was told
    monkeypatch.undo()
    fit.train(config, tiny_data, directory, resume=True, callbacks=[averaged])
    for step, theirs in zip(averaged.steps, plain.steps, strict=True):
        for a, b in zip(step, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    best = checkpoints.read_progress(directory / runs.BEST).epochs
    for name, epochs in ((runs.LAST, 3), (runs.BEST, best)):
        saved = runs.load_model(directory, name).trainable_variables
        for variable, average in zip(saved, expected[5 * epochs - 1], strict=True):
            np.testing.assert_allclose(variable.numpy(), average, atol=1e-5)


@pytest.mark.slow  # `test_resume.py` has it with processes that are killed
@pytest.mark.parametrize(
    ("killed_epoch", "precision"), [(1, "float32"), (0, "float32"), (1, "mixed_float16")]
)
def test_an_epoch_that_was_not_saved_is_trained_again(
    killed_epoch, precision, tmp_path, tiny_data, monkeypatch
):
    config = tiny_config(training={"epochs": 3, "precision": precision})
    fit.train(config, tiny_data, tmp_path / "whole")
    save = checkpoints.save

    class Killed(Exception):
        pass

    def killed(model, path, config, progress):
        if progress.epochs == killed_epoch + 1:
            raise Killed
        save(model, path, config, progress)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoints, "save", killed)
        fit.train(config, tiny_data, tmp_path / "parts")
    assert (tmp_path / "parts" / runs.LAST).exists() == (killed_epoch > 0)
    fit.train(config, tiny_data, tmp_path / "parts", resume=True)
    check_same_run(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.graphs
def test_tensorflow_traces_the_first_step_once(images):
    config = tiny_config_of("cnn")
    model = models.build(config)
    compiling.compile_model(model, config, optimizer_of(config.training, 2))
    compiling.make_variables(model)
    traced, step = [], model.train_step
    model.train_step = lambda data: traced.append(1) or step(data)
    labels = np.ones((len(images), len(NAMES)), np.float32)
    model.train_on_batch(images, compiling.targets(list(model.output), images, labels))
    assert len(traced) == 1


def test_variables_that_are_there_are_left_alone():
    config = tiny_config(model=SMALL, training={"precision": "mixed_float16"})
    model = models.build(config)
    compiling.compile_model(model, config, optimizer_of(config.training, 2))
    compiling.make_variables(model)
    before = [variable.path for variable in model.optimizer.variables]
    model.optimizer.dynamic_scale.assign(8.0)
    compiling.make_variables(model)
    assert [variable.path for variable in model.optimizer.variables] == before
    assert float(model.optimizer.dynamic_scale) == 8.0


def test_the_learning_rate_rises_for_a_tenth_and_falls_as_half_a_cosine():
    config = tiny_config(model=SMALL, training={"learning_rate": 0.4})
    model = models.build(config)
    compiling.compile_model(model, config, optimizer_of(config.training, 100))
    schedule = model.optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 55, 100)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.2, 0], abs=1e-6)
    compiling.compile_model(model, config, optimizer_of(config.training, 1))
    assert float(model.optimizer._learning_rate(0)) == pytest.approx(0.4)


def test_the_logged_mask_statistics_are_those_of_all_attributes(finished):
    directory, data, _, _ = finished
    model = runs.load_model(directory, runs.LAST)
    images = next(fit.evaluation_batches(data.validation, 6).as_numpy_iterator())[0]
    masks = build_explainer(model, range(3)).predict_on_batch(images)["masks"]
    statistics = MaskStatistics(3)
    statistics.update(masks)
    row = read_history(directory)[-1]
    logged = {name: float(value) for name, value in row.items() if name in statistics.result()}
    assert logged == pytest.approx(statistics.result(), rel=1e-4)


def test_masks_that_the_l1_term_kills_are_named_below_the_epoch(
    tmp_path, tiny_data, finished, capsys
):
    loss = {"mask_l1": 1e3}
    training, own_masks = {"epochs": 3, "learning_rate": 0.5}, {"mask_rank": None}
    config = tiny_config(loss=loss, training=training, model=own_masks)
    fit.train(config, tiny_data, tmp_path / "killed")
    printed = capsys.readouterr().out.splitlines()
    line = "warning: the masks of Smiling, Bald and Eyeglasses are dead: "
    places = [index for index, text in enumerate(printed) if text.startswith("warning: ")]
    assert len(places) <= 2 and printed[places[-1]].startswith(line)
    dead = [row for row in read_history(tmp_path / "killed") if float(row["mask_dead"]) > 0.95]
    assert int(printed[places[0] - 1].split("/")[0]) <= 1 + int(dead[0]["epoch"])
    healthy = finished[3]
    assert "2/2" in healthy and "warning" not in healthy


def test_resume_of_a_finished_run_trains_no_further(finished, copied):
    _, data, first, _ = finished
    assert fit.train(tiny_config(), data, copied, resume=True) == first


def test_weights_that_training_did_not_write_are_not_gone_on_with(finished, copied):
    for name in (runs.LAST, runs.PREVIOUS, runs.BEST):
        runs.load_model(copied).save(copied / name)
    history = (copied / runs.HISTORY).read_text()
    with pytest.raises(UserError, match=r"train\.py did not write all of last\.keras"):
        fit.train(tiny_config(), finished[1], copied, resume=True)
    assert (copied / runs.HISTORY).read_text() == history


def test_a_run_directory_is_not_overwritten(tmp_path, tiny_data):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not overwritten"):
        fit.train(tiny_config(), tiny_data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_loss_that_is_not_a_number_stops_with_a_message(tmp_path, tiny_data):
    config = tiny_config(model=SMALL, training={"learning_rate": 1e30, "epochs": 3})
    with pytest.raises(UserError) as raised:
        fit.train(config, tiny_data, tmp_path / "run")
    assert "became NaN or infinite in epoch" in str(raised.value)
    assert "lower --learning_rate" in str(raised.value)


def test_a_batch_larger_than_the_data_is_refused(tmp_path, tiny_data):
    with pytest.raises(UserError, match="at most the number of training images, 10"):
        fit.train(tiny_config(training={"batch_size": 11}), tiny_data, tmp_path / "run")


def test_the_best_epoch_of_classes_is_by_top_1_accuracy(tmp_path, tiny_classes, capsys):
    config = tiny_config_of("cnn").replace("training", learning_rate=0.05)
    result = fit.train(config, tiny_classes, tmp_path / "run")
    assert runs.read_config(tmp_path / "run").model.exclusive
    images, labels = tiny_classes.validation.read(range(6))
    model = runs.load_model(tmp_path / "run")
    answers = model.predict_on_batch(images / np.float32(255))["probabilities"].argmax(axis=1)
    accuracy = np.mean(answers == labels.argmax(axis=1))
    assert result["validation"]["val_probabilities_accuracy"] == pytest.approx(accuracy)
    # Without masks the line has no column of them; the mean recall of three classes stands there.
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    headings = ["epoch", "loss", "accuracy", "balanced", "learning", "rate", "seconds"]
    epochs = lines[lines.index(headings) + 1 :]
    best = epochs[result["best_epoch"] - 1]
    recall = np.mean([np.mean(answers[labels.argmax(axis=1) == k] == k) for k in range(3)])
    assert best[2:4] == [f"{100 * accuracy:.2f}", f"{100 * recall:.2f}"]
    assert [line[-1] == "*" for line in epochs][result["best_epoch"] - 1]


def test_training_goes_on_with_the_optimizer_and_schedule_of_the_run(tmp_path):
    config = tiny_config_of("cnn", exclusive=True).replace(
        "training", optimizer="sgd", schedule="one_cycle", learning_rate=0.3
    )
    model = models.build(config)
    compiling.compile_model(model, config, optimizer_of(config.training, 10))
    compiling.make_variables(model)
    model.optimizer.iterations.assign(3)
    progress = checkpoints.with_state(checkpoints.Progress(epochs=1), model)
    checkpoints.save(model, tmp_path / runs.LAST, config, progress)
    loaded = models.build(config)
    compiling.compile_model(loaded, config, optimizer_of(config.training, 10))
    compiling.make_variables(loaded)
    checkpoints.load_weights(loaded, tmp_path / runs.LAST, config, to_train_on=True)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.3)  # the peak, at step 3
    assert loaded.optimizer.momentum == 0.9
    loaded.optimizer.iterations.assign(10)
    assert float(loaded.optimizer.learning_rate) == 0


def test_a_softmax_is_not_trained_on_attributes(tmp_path, tiny_data):
    config = tiny_config_of("gcm", exclusive=True)
    with pytest.raises(UserError, match="take --preset default --model gcm") as raised:
        fit.train(config, tiny_data, tmp_path / "run")
    assert "`exclusive`" in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_gcm_learns_attributes_by_a_sigmoid_each(images):
    config = tiny_config_of("gcm")
    model = he_weights(models.build(config))
    compiling.compile_model(model, config, optimizer_of(config.training, 4))
    labels = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]] * 2, np.float32)
    goals = compiling.targets(list(model.output), images, labels)
    loss = model.test_on_batch(images, goals, return_dict=True)["loss"]
    scores = model.predict_on_batch(images)["scores"].astype(np.float64)
    by_hand = np.sum(np.log1p(np.exp(scores)) - labels * scores, axis=1).mean()
    assert loss == pytest.approx(by_hand, rel=1e-4)


def test_gcm_learns_classes_by_the_cross_entropy_of_its_scores(images):
    config = tiny_config_of("gcm", exclusive=True)
    model = he_weights(models.build(config))
    compiling.compile_model(model, config, optimizer_of(config.training, 4))
    classes = np.array([0, 1, 2, 2, 1, 0])
    goals = compiling.targets(list(model.output), images, np.eye(3, dtype=np.float32)[classes])
    logs = model.test_on_batch(images, goals, return_dict=True)
    scores = model.predict_on_batch(images)["scores"].astype(np.float64)
    by_hand = np.log(np.exp(scores).sum(axis=1)) - scores[range(6), classes]
    assert logs["loss"] == pytest.approx(by_hand.mean(), rel=1e-4)
    right = scores.argmax(axis=1) == classes
    assert logs["probabilities_accuracy"] == pytest.approx(right.mean())


def test_names_of_files_are_safe_short_and_apart():
    assert runs.file_name(["explanations", "test", "5_o_Clock"]) == "explanations_test_5_o_Clock"
    many = [f"attribute {index}" for index in range(60)]
    names = {runs.file_name(words) for words in (["hat/cap"], ["hat_cap"], many, many[:-1])}
    assert len(names) == 4 and all(len(x) < 120 and "/" not in x and " " not in x for x in names)
