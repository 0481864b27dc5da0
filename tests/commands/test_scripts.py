"""The commands as a user gives them, most of them in this process."""

import collections
import functools
import json
import shutil

import conftest
import numpy as np
import processes
import pytest
from conftest import NAMES, he_weights, tiny_config
from PIL import Image
from processes import call

from mcattn_tf import models, runs
from mcattn_tf.commands import compare, evaluate, flags, train, visualize
from mcattn_tf.data.drawn_faces import ATTRIBUTES, draw_faces, draw_labels
from mcattn_tf.data.sets.arrays import CLASSES
from mcattn_tf.data.sets.faces import EXAMPLES, SEEDS
from mcattn_tf.evaluation.answers import format_table
from mcattn_tf.evaluation.verdicts import verdicts
from mcattn_tf.explain.feature_space.correlation import analyze
from mcattn_tf.explain.truth import measurement
from mcattn_tf.figures.draw import unique_stems
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.presets import PRESETS


@pytest.fixture(autouse=True, scope="module")
def few_faces():
    """Fewer images to draw and measure, yet more than the 256 that some measures stop at."""
    with processes.drawing_fewer(validation=48, test=260):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two short epochs on small drawn faces, and what train.py printed."""
    directory = tmp_path_factory.mktemp("scripts") / "run"
    printed = processes.run(
        train.main,
        "--image_size=32,36",
        "--train_examples=96",
        "--batch_size=32",
        "--epochs=2",
        "--set=model.stem=[[4,4,2],[8,2,2]]",
        "--dilations=1",
        "--channels=24",
        "--set=loss.mask_l1=2e-6",
        f"--out={directory}",
    )
    return directory, printed


def test_train_writes_the_run_directory(run):
    directory, printed = run
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "config.json",
        "best.keras",
        "last.keras",
        "previous.keras",
        "history.csv",
        ".lock",
        "record.json",
        "metrics.json",
        "findings.json",
        "evaluation.json",
        "evaluation.txt",
        "thresholds.json",
        "tensorboard",
        "export",
    }
    assert (directory / "export" / "1" / "saved_model.pb").is_file()
    config = json.loads((directory / "config.json").read_text())
    assert config["data"]["image_size"] == [32, 36]
    found = json.loads((directory / "findings.json").read_text())
    assert found["receptive_field"] == 14 and found["held_out"] is None
    assert config["model"]["dilations"] == [1] and config["loss"]["mask_l1"] == 2e-6
    before_training, line, _ = printed.partition("receptive field of a feature cell: 14 pixels\n")
    assert line and " 1/2 " not in before_training
    metrics = json.loads((directory / "metrics.json").read_text())
    accuracy = metrics["test"]["attributes"]["accuracy"]
    assert f"{100 * accuracy:.2f}" in printed
    assert 0 < metrics["test"]["masks"]["mask_mean"] < 1


def test_resume_of_what_is_finished_takes_its_settings_and_keeps_its_export(run, tmp_path):
    directory = shutil.copytree(run[0], tmp_path / "run")
    model = directory / "export" / "1" / "saved_model.pb"
    before, exported = (directory / "history.csv").read_text(), model.stat().st_mtime_ns
    printed = processes.run(train.main, "--resume", "--epochs=2", f"--out={directory}")
    assert "best epoch" in printed
    assert (directory / "history.csv").read_text() == before
    assert model.stat().st_mtime_ns == exported
    assert "export/1 exists and is kept; python -m mcattn_tf.commands.export --run" in printed


def test_evaluate_gives_again_what_train_measured_and_writes_it_first(run, monkeypatch):
    directory, _ = run
    stored = json.loads((directory / "evaluation.json").read_text())
    (directory / "evaluation.json").unlink()
    written = []

    def printed_table(result: dict, full: bool) -> str:
        written.append(json.loads((directory / "evaluation.json").read_text()))
        return format_table(result, full)

    monkeypatch.setattr("mcattn_tf.evaluation.answers.format_table", printed_table)
    printed = processes.run(evaluate.main, f"--run={directory}")
    assert written == [stored, stored]  # for the file, for the console
    assert "... 6 more" in printed and "reconstruction MSE" in printed
    assert max(map(len, printed.splitlines())) <= max(100, len(f"written to {directory}") + 20)
    whole = (directory / "evaluation.txt").read_text()
    assert "Wearing_Hat" in whole and "more" not in whole.split("acc.:")[0]
    judged = verdicts(stored)
    assert len(judged) >= 4
    for text in (whole, printed):
        assert all(verdict in " ".join(text.split()) for verdict in judged)
    labels = ["attributes", "multilabel"]
    assert list(stored) == [*labels, "reconstruction", "mask_l1", "masks", "explanations"]
    pointing = stored["explanations"]["mean"]["pointing_game"]
    assert f"hits the attribute's region in {100 * pointing:.2f} %" in " ".join(printed.split())
    assert "masks of the first 256 images" in printed
    assert len(stored["attributes"]["per_attribute"]) == 16


@pytest.fixture(scope="module")
def explained(run):
    """What evaluate.py printed of the run's explanations."""
    directory, _ = run
    words = f"--run={directory}", "--explanations", "--explained_images=12"
    with pytest.MonkeyPatch.context() as patch:
        few_draws = functools.partial(measurement.Settings, draws=2)
        patch.setattr(measurement, "Settings", few_draws)
        return processes.run(evaluate.main, *words)


@pytest.mark.graphs
def test_evaluate_measures_explanations_by_every_method(run, explained):
    directory, _ = run
    printed = explained
    result = json.loads((directory / "explanations_12_images.json").read_text())
    assert result["default_method"] == "contributions" and result["images"] == 12
    methods = {name: values for name, values in result.items() if isinstance(values, dict)}
    assert {"contributions", "mask_mean", "cam", "grad_cam", "random", "center"} <= set(methods)
    shares = ("pointing_game", "energy_in_region", "deletion_auc", "insertion_auc")
    shares += ("single_deletion", "single_deletion_tied", "distractors", "completeness")
    lines = collections.defaultdict(str)  # of a method's row in all tables
    for line in filter(str.strip, printed.splitlines()):
        lines[line.split()[0]] += f" {line}"
    assert max(map(len, printed.split("written to")[0].splitlines())) <= 100
    assert "by attribute:" in printed and "minus the others" not in printed
    assert "minus the others" in (directory / "explanations_12_images.txt").read_text()
    assert all(x in " ".join(printed.split()) for x in verdicts(None, result))
    for name, values in methods.items():
        assert all(0 <= values[metric] <= 1 for metric in shares), name
        assert values["normalized_energy"] <= values["energy_in_region"], name
        assert -1 <= values["sanity_ssim"] <= 1 + 1e-6, name
        assert 0 <= values["sanity_rank_correlation"] <= 1 + 1e-6, name
        assert -1 <= values["background_independence"] <= 1 + 1e-6, name
        measured = "sanity_rank_correlation", "background_independence"
        for metric in ("pointing_game", *shares[2:], *measured):
            assert f"{values[metric]:.3f}" in lines[name], (name, metric)
    assert methods["center"]["background_independence"] == pytest.approx(1)
    fixed = methods.pop("center")["sanity_rank_correlation"]
    assert fixed == pytest.approx(1)
    assert max(values["sanity_rank_correlation"] for values in methods.values()) < 0.9
    drawn = Image.open(directory / "figures" / "explanations_12_images.png")
    assert min(drawn.size) > 200 and len(drawn.convert("RGB").getcolors(1 << 20)) > 50


def test_evaluate_measures_slices_with_pointing_and_at_thresholds(run):
    directory, printed = run
    assert (
        f"thresholds by balanced_accuracy and by f1, chosen on {EXAMPLES['validation']} validation"
        in printed
    )
    flags = ("--slices=Bald,Smiling&not Bald", "--thresholds=f1")
    of_maps = ("--explanations", "--explained_images=500")  # enough of bald ones
    printed = processes.run(evaluate.main, f"--run={directory}", *flags, *of_maps)
    (path,) = directory.glob("slices_Bald*.json")
    result = json.loads(path.read_text())
    count = EXAMPLES["test"]
    assert result["chosen_by"] == "f1" and result["pointing"]["images"] == count
    bald = draw_labels(SEEDS["test"], 0, count)[:, ATTRIBUTES.index("Bald")]
    measured = result["slices"]["Bald"]
    assert (measured["images"], measured["rest_images"]) == (bald.sum(), count - bald.sum())
    pointing = measured["mean"]["pointing_game"]
    assert 0 <= pointing["slice"] <= 1 and f"{100 * pointing['slice']:.2f}" in printed
    assert "Bald" not in measured["per_attribute"] and str(path) in printed
    drawn = Image.open(directory / "figures" / f"{path.stem}.png")
    assert min(drawn.size) > 200 and len(drawn.convert("RGB").getcolors(1 << 20)) > 50


def test_visualize_draws_test_images_and_given_ones(run, explained, tmp_path):
    directory, _ = run
    result = json.loads((directory / "explanations_12_images.json").read_text())
    shutil.rmtree(directory / "figures", ignore_errors=True)
    Image.new("RGB", (50, 60), (200, 100, 50)).save(tmp_path / "one.jpg")
    Image.new("L", (40, 40), 128).save(tmp_path / "two.png")
    what = "--what=mean_masks,reconstruction,report"
    processes.run(visualize.main, f"--run={directory}", what)
    processes.run(
        visualize.main,
        *(f"--run={directory}", "--what=masks,contributions", "--attributes=Smiling,Bald"),
        *("--top=2", "--images", tmp_path / "one.jpg", tmp_path / "two.png"),
    )
    page = (directory / "report.html").read_text()
    for method in ("contributions", "random"):
        assert f"{result[method]['pointing_game']:.3f}" in page, method
    assert page.count('name="image"') == 16 and page.count('name="attribute"') == 16
    drawn = {path.stem: Image.open(path) for path in (directory / "figures").iterdir()}
    whole = {"masks_Smiling_Bald", "mean_masks", "mean_masks_clustered", "reconstruction"}
    assert set(drawn) == whole | {
        f"{what}_{name}_Smiling_Bald"
        for what in ("masks", "contributions")
        for name in ("one", "two")
    }
    for name, image in drawn.items():
        assert min(image.size) > 200 and len(image.convert("RGB").getcolors(1 << 20)) > 50, name


@pytest.mark.slow  # the table and the figures have tests of their own
def test_finished_runs_of_gcm_and_cnn_give_their_table_and_figures(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)
    arrays = {"x_train": images, "x_test": images[:21]}
    labels = {"y_train": np.arange(40) % 10, "y_test": np.arange(21) % 10}
    np.savez(tmp_path / "cifar10.npz", **arrays, **labels)
    places = {"data_dir": str(tmp_path), "no_cache": True, "image_size": (12, 8)}
    for name, options in (("gcm", {"nonnegative": True}), ("cnn", {})):
        sections = {"data": places, "model": {"name": name, **options}}
        found = {"found": {"attributes": CLASSES["cifar10"]}}
        config = make_config(PRESETS["gcm-cifar10-short"], sections, found)
        runs.create(tmp_path / name, config)
        he_weights(models.build(config)).save(tmp_path / name / "best.keras")
    both = [tmp_path / name for name in ("cnn", "gcm")]
    output = processes.run(compare.main, "--table=decline", *both)
    processes.run(visualize.main, f"--run={both[1]}")
    result = json.loads((tmp_path / "gcm" / "decline.json").read_text())
    assert result["images"] == 21
    product = result["methods"]["gcm"]["product"]
    assert product == {"accuracy": result["accuracy"], "decline": 0}
    *_, row = [line for line in output.splitlines() if line.startswith("gcm, ")]
    assert row.endswith(f" {100 * result['accuracy']:.2f} (0.00)")
    assert max(map(len, output.split("written to")[0].splitlines())) <= 100
    assert output.split("written to")[0] == (tmp_path / "gcm" / "decline.txt").read_text()
    assert len(json.loads((tmp_path / "cnn" / "decline.json").read_text())["methods"]) == 4
    drawn = {path.stem for path in (tmp_path / "gcm" / "figures").iterdir()}
    maps = {f"contribution_maps_test_{index}" for index in range(4)}
    assert drawn == maps | {"compare", "nonnegative"}


def test_statistics_count_and_train_nothing(tmp_path):
    out = tmp_path / "run"
    lines = processes.run(train.main, "--statistics", "--train_examples=30", f"--out={out}")
    rows = {line.split()[0]: line.split()[1:] for line in lines.splitlines()}
    assert rows["images"] == ["30", "100.00", "48", "100.00", "260", "100.00"]
    labels = draw_faces(SEEDS["test"], 0, 260, (32, 32))[1].mean(axis=0)
    assert rows["Bald"][-1] == f"{100 * labels[ATTRIBUTES.index('Bald')]:.2f}"
    assert not out.exists()


def write_run_without_data(directory):
    """Writes a run of MCAttn whose data are not there any more, and returns its network."""
    data = {"dataset": "celeba", "data_dir": str(directory / "nowhere")}
    config = tiny_config(data=data)
    runs.create(directory, config)
    model = he_weights(models.build(config))
    model.save(directory / "best.keras")
    return model


def test_without_data_what_was_analysed_is_drawn(tmp_path):
    model = write_run_without_data(tmp_path / "run")
    images = np.random.default_rng(0).random((5, 12, 8, 3), np.float32)
    analyze(model, NAMES, [(images, None)]).save(tmp_path / "run" / "analysis.npz")
    what = ("mean_masks", "attribute_correlation")
    drawn = processes.run(
        visualize.main, f"--run={tmp_path / 'run'}", f"--what={','.join(what)}", "--format=svg"
    )
    names = ("mean_masks", "mean_masks_clustered", "attribute_correlation")
    paths = [tmp_path / "run" / "figures" / f"{name}.svg" for name in names]
    assert drawn.split() == list(map(str, paths))
    for path in paths:
        assert path.read_text().count("<image") >= 1 + (path != paths[1]) * 2, path


def bad_inputs(directory, folder):
    (folder / "empty").mkdir()
    (folder / "broken.jpg").write_text("this is no image")
    bald = {"found": {"attributes": ("Bald",)}}
    for name in ("unfinished", "damaged"):
        runs.create(folder / name, make_config(bald))
    (folder / "damaged" / "best.keras").write_bytes(b"half a file")
    runs.create(folder / "moved", make_config({"data": {"dataset": "celeba"}}, bald))
    images = folder / "images"
    for name in ("cat", "dog"):
        (images / name).mkdir(parents=True)
        for index in range(15):
            Image.new("RGB", (9, 12), (8 * index, 0, 0)).save(images / name / f"{index}.png")
    (images / "dog" / "7.png").write_bytes((images / "dog" / "7.png").read_bytes()[:60])
    on_images = ("train.py", "--dataset=folder", f"--data_dir={images}", "--batch_size=4")
    explanations = ("evaluate.py", f"--run={directory}", "--explanations")
    visualize = ("visualize.py", f"--run={directory}")
    analysis = ("evaluate.py", f"--run={directory}", "--analysis")
    multitask = {"name": "multitask_abn", "backbone": "resnet50"}
    runs.create(folder / "multitask", make_config({"model": multitask}, bald))
    gcm = make_config({"model": {"name": "gcm"}}, bald)
    runs.create(folder / "gcm", gcm)
    models.build(gcm).save(folder / "gcm" / "best.keras")
    write_run_without_data(folder / "without_data")
    without_data = f"--run={folder / 'without_data'}"
    out = f"--out={folder / 'new'}"
    return {
        ("train.py", "--dataset=mnist", out): "--dataset must be one of faces, celeba",
        ("train.py", "--model=resnet", out): "--model must be one of mcattn, baseline",
        ("train.py", "--preset=fast", out): "--preset must be one of default, paper, demo",
        ("train.py", "--image_size=64,50", out): "--image_size must be divisible by 4",
        (
            *("train.py", "--model=gcm", "--image_size=64,50"),
            out,
        ): "--image_size must be divisible by 4",
        (
            *("train.py", "--model=abn", "--backbone=resnet21"),
            out,
        ): "--backbone must be resnet and a depth of 6 n + 2, or of 18, 34",
        ("train.py", "--model=gcm", "--preset=paper", out): "`stem` must be left out for gcm",
        (
            *("train.py", "--preset=gcm-cifar10", "--dataset=faces"),
            out,
        ): "take --preset default --model gcm",
        (
            "train.py",
            "--image_size=large",
            out,
        ): "--image_size must be whole numbers with commas",
        ("train.py", "--image_size=16,16", out): "--image_size must be (height, width) of at least",
        ("train.py", "--epochs=0", out): "--epochs must be positive",
        ("train.py", "--eval_examples=0", out): "--eval_examples must be positive",
        ("train.py", "--epochs=many", out): "--epochs must be an integer. Received: 'many'",
        ("train.py", "--flip=left", out): "--flip must be true or false. Received: 'left'",
        ("train.py", "--noflip=1", out): "--noflip=1 does not take an argument",
        ("train.py", "--pictures_every=-1", out): "--pictures_every must be zero or more",
        ("train.py", "--epoch=3", out): "Unknown command line flag 'epoch'",
        (
            *("train.py", "--resume", "--model=multitask_abn", "--batch_size=9"),
            f"--out={folder / 'multitask'}",
        ): "--batch_size contradicts",  # and not the preset, whose backbone is another
        ("train.py", "--set=epochs", out): "--set must be SECTION.FIELD=VALUE. Received: epochs",
        ("train.py", "--set=data.data_dir=5", out): "--data_dir must be a text. Received: 5",
        (
            "train.py",
            "--image_size=64,9999",
            out,
        ): "--image_size must be two numbers from 1 to 8192",
        (
            *("train.py", "--channels=16", "--set=model.channels=8"),
            out,
        ): "model.channels is set twice; give one flag for it. Received: --set model.channels=8",
        ("train.py", "--set=model.depth=3", out): "`field of --set model` must be one of",
        ("train.py", "--set=found.attributes=[]", out): "`section of --set` must be one of data",
        ("train.py", "--loss_mask_l1=-1", out): "--loss_mask_l1 must be zero or more",
        ("train.py", "--resume", "--epochs=1", f"--out={directory}"): "--epochs contradicts",
        ("train.py", "--resume", "--preset=paper", f"--out={directory}"): "--preset contradicts",
        (
            *("train.py", "--resume", "--set=model.pointwise_layers=3"),
            f"--out={directory}",
        ): "--set model.pointwise_layers contradicts",
        ("train.py", "--set=model.name=[1]", out): "--model must be one of mcattn, baseline",
        ("train.py", "--set=model.name={}", out): "--model must be one of mcattn, baseline",
        ("train.py", "--set=data.dataset={}", out): "--dataset must be one of faces, celeba",
        ("train.py", "--color_jitter=1", out): "--color_jitter must be from 0 to less than 1",
        ("train.py", "--set=data.flip=no", out): "--flip must be true or false. Received: 'no'",
        (
            *("train.py", "--resume", "--set=training.epoch=3"),
            f"--out={directory}",
        ): "`field of --set training` must be one of",
        ("train.py", "faces", out): "unexpected argument 'faces'",
        ("train.py", f"--out={directory}"): "exists and is not overwritten",
        ("train.py", "--out=/proc/run"): "cannot write to --out /proc/run: ",
        ("train.py", "--strategy=all", out): "--strategy must be one of auto, none, mirrored",
        ("train.py", "--strategy=multiworker", out): "--strategy multiworker needs TF_CONFIG",
        ("train.py", "--checkpoint_minutes=0", out): "--checkpoint_minutes must be positive",
        ("train.py", "--resume", out): "is not a run directory",
        (
            "train.py",
            "--resume",
            f"--data_dir={folder / 'empty'}",
            f"--out={folder / 'moved'}",
        ): "must hold img_align_celeba/",
        (
            "train.py",
            "--dataset=celeba",
            f"--data_dir={folder / 'empty'}",
            out,
        ): "must hold img_align_celeba/",
        (
            "train.py",
            "--dataset=celeba",
            f"--data_dir={folder / 'nowhere'}",
            out,
        ): "does not exist",
        (*on_images, out): "cannot use the folder train image dog/7.png: truncated or damaged",
        (
            *(*on_images, "--no_cache", "--model=baseline", "--image_size=12,8"),
            f"--out={folder / 'started'}",
        ): "image dog/7.png: truncated",
        (*on_images, "--skip_bad_images", out): "1 of the 30 folder train images are bad",
        (*on_images, f"--cache_dir={folder / 'broken.jpg'}", out): "in --cache_dir",
        ("evaluate.py", f"--run={folder / 'empty'}"): "is not a run directory",
        ("evaluate.py", f"--run={folder / 'unfinished'}"): "has no best.keras yet",
        ("evaluate.py", f"--run={folder / 'damaged'}"): "it is damaged or not a network of ours",
        ("evaluate.py", f"--run={directory}", "--split=all"): "--split must be one of train",
        (*explanations, f"--part_masks={folder / 'empty'}"): "has no parts.csv",
        (*explanations, "--attributes=Young"): "--attributes must be one of Bald, Bangs",
        (*explanations, "--baseline=grey"): "--baseline must be one of blur, mean, zero",
        (*explanations, "--explained_images=0"): "--explained_images must be positive",
        (
            "evaluate.py",
            f"--run={directory}",
            f"--part_masks={folder / 'empty'}",
        ): "--part_masks needs --explanations or --analysis",
        ("evaluate.py",): "--run must be given",
        ("compare", directory, "--table=best"): "--table must be one of decline",
        ("compare", directory): "--table must be given",
        ("compare", "--table=decline"): "name at least one run directory",
        ("compare", directory, "--table=decline", "--part=a=b"): "--part need --table intervals",
        ("compare", directory, "--table=intervals", "--part=a"): "--part must be NAME=FILE",
        (
            *("compare", directory),
            "--table=decline",
        ): "the labels of model 'mcattn' do not exclude each other",
        (*visualize, f"--run={folder}"): "several times with --what=compare",
        (*visualize, "--what=contribution_maps"): "has no contribution_maps to draw",
        (*analysis, f"--part_masks={folder / 'empty'}"): "has no parts.csv",
        (*analysis, "--channels=1,x"): "--channels must be numbers from 0 to 23",
        (*analysis, "--channels=1,24"): "--channels must be numbers from 0 to 23",
        (*analysis, "--attributes=Young"): "--attributes must be one of Bald, Bangs",
        (*analysis, "--explanations"): "exclude each other",
        ("evaluate.py", f"--run={directory}", "--channels=1"): "--channels needs --analysis",
        ("evaluate.py", f"--run={directory}", "--thresholds=0.3"): "--thresholds must be one of",
        ("evaluate.py", f"--run={directory}", "--slices=Old"): "'Old' is no attribute of the run",
        (
            *("evaluate.py", f"--run={directory}"),
            "--slices=Black_Hair&Blond_Hair",
        ): "Black_Hair&Blond_Hair cannot be compared: none of the 260 test images are such",
        (*explanations, "--thresholds=f1"): "--thresholds changes no explanation; leave it out",
        (*analysis, "--slices=Bald"): "--slices and --analysis exclude each other",
        ("evaluate.py", f"--run={directory}", "--identities=x"): "--identities needs --slices",
        ("train.py", "--monitor=loss", out): "--monitor must be one of accuracy, balanced",
        ("train.py", "--patience=-1", out): "--patience must be zero or more",
        ("train.py", "--loss_attributes=-1", out): "--loss_attributes must be zero or more",
        ("train.py", "--set=loss.attributes=-1", out): "`attributes` must be zero or more",
        ("train.py", "--loss_positive_weight=0.5", out): "--loss_positive_weight must be 1 or more",
        (
            "evaluate.py",
            f"--run={folder / 'gcm'}",
            "--analysis",
        ): "--what=contribution",
        (
            "evaluate.py",
            without_data,
            "--analysis",
        ): "nowhere does not exist; name the place where the data are now",
        ("visualize.py", without_data): "are now; or draw images of your own: --images FILE",
        ("visualize.py", without_data, "--what=report"): "nowhere does not exist; name",
        # Before images are looked for.
        ("visualize.py", without_data, "--what=attention"): "has no attention to draw, but masks",
        (*visualize, "--order=random"): "--order must be one of channel, sorted, clustered",
        (*visualize, "--format=gif"): "--format must be one of png, pdf, svg",
        (*visualize, "--what=grids"): "--what must be one of masks, mean_masks",
        (*visualize, "--attributes=Young"): "--attributes must be one of Bald, Bangs",
        (*visualize, "--attributes="): "--what and --attributes must each name something",
        (*visualize, "--top=0"): "--top must be from 1 to 24",
        (*visualize, "--images="): "the list of images is empty",
        (*visualize, "--images=nothing.jpg"): "cannot read image nothing.jpg",
        (*visualize, f"--images={folder / 'broken.jpg'}"): "cannot decode image",
    }


def test_bad_input_is_one_line_and_a_non_zero_exit(run, tmp_path):
    directory, _ = run
    before = (directory / "history.csv").read_text()
    commands = {
        **{"train.py": train, "evaluate.py": evaluate, "visualize.py": visualize},
        "compare": compare,
    }
    for (script, *arguments), text in bad_inputs(directory, tmp_path).items():
        code, _, errors = call(commands[script].main, *arguments)
        assert code == 1, (script, arguments, errors)
        assert errors.startswith("error: ") and errors.count("\n") == 1, (arguments, errors)
        assert text in errors, (arguments, errors)
    assert not (tmp_path / "new").exists()
    assert (directory / "history.csv").read_text() == before


SCRIPTS = """
import runpy, sys
for words in {commands}:
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        print(words[0], "ends with", end.code)
    from mcattn_tf.data.sets.faces import EXAMPLES  # once the command has imported TensorFlow
    EXAMPLES["validation"] = 48
"""


def test_scripts_in_a_process_of_their_own_print_nothing_else(run, tmp_path):
    """As a user runs them: nothing that libraries print stands beside."""
    directory, _ = run
    Image.new("RGB", (50, 60), (200, 100, 50)).save(tmp_path / "one.jpg")
    commands = [
        ["train.py", "--statistics", "--train_examples=30"],
        ["evaluate.py", f"--run={directory}", "--split=validation", "--full"],
        [
            *("visualize.py", f"--run={directory}", "--what=contributions", "--attributes=Bald"),
            *("--images", str(tmp_path / "one.jpg")),
        ],
        ["train.py", "--dataset=celeba", "--data_dir=nowhere"],
    ]
    process = conftest.start_script("-c", SCRIPTS.format(commands=commands))
    printed, errors = process.communicate(timeout=240)
    statistics, *measured = printed.split("train.py ends with 0\n")
    answers, drawn = "".join(measured).split("evaluate.py ends with 0\n")
    assert "Bald" in statistics and "reconstruction MSE" in answers
    whole = answers.split("acc.:")[0]
    assert {*ATTRIBUTES, "mean"} <= {*whole.split()} and "more" not in whole
    path = directory / "figures" / "contributions_one_Bald.png"
    assert drawn == f"{path}\nvisualize.py ends with 0\ntrain.py ends with 1\n"
    assert errors.startswith("error: ") and errors.count("\n") == 1, errors


def test_what_may_not_be_read_or_written_is_one_line(capsys):
    def deny():
        raise PermissionError(13, "Permission denied", "config.json")

    assert flags.status_of(deny) == 1
    line = "error: cannot read or write config.json: Permission denied\n"
    assert capsys.readouterr().err == line


def test_help_answers_without_tensorflow_and_wrong_flags_too():
    script = (
        "import sys\n"
        "from mcattn_tf.commands import client, compare, evaluate, export, train, visualize\n"
        "for command in (client, compare, evaluate, export, train, visualize):\n"
        "    assert command.main(['--help']) == 0 and command.main(['--wrong']) == 1\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    printed, errors = conftest.start_script("-c", script).communicate(timeout=60)
    assert errors.count("\n") == 6 == errors.count("error: Unknown command line flag 'wrong'")
    assert "--learning_rate  Peak of the learning rate. Default: 0.002." in printed
    for heading in ("data", "model", "loss", "training", "run"):
        assert f"\n{heading}\n" in printed


def test_a_call_leaves_no_flags_for_the_next_one():
    values, _ = flags.parse(train.main, ["--epochs=3", "--noflip", "--image_size=8,4"])
    assert train.settings_of(values)[0].training.epochs == 3
    assert (values.flip, values.image_size) == (False, (8, 4))
    values, _ = flags.parse(train.main, [])
    assert values.epochs is None and train.settings_of(values)[0] == make_config()


def test_given_images_of_the_same_name_get_figures_of_their_own():
    assert unique_stems(["a/me.jpg", "b/me.png", "you.jpg"]) == ["me_0", "me_1", "you"]
