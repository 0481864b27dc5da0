import dataclasses
import json
import os

import pytest

from mcattn_tf.commands import train
from mcattn_tf.commands.flags import SETTING_FLAGS, given_settings, parse
from mcattn_tf.errors import UserError
from mcattn_tf.settings.config import Config, LossConfig, TrainingConfig, make_config
from mcattn_tf.settings.data import DataConfig
from mcattn_tf.settings.model import ModelConfig
from mcattn_tf.settings.presets import PRESETS, preset_for
from mcattn_tf.settings.systems import MODELS, SYSTEMS


def test_json_gives_back_the_same_settings():
    config = make_config(PRESETS["demo"], {"model": {"dilations": [1, 2]}})
    assert Config.from_json(config.to_json()) == config
    assert config.model.dilations == (1, 2)


def test_settings_from_before_a_field_was_added_can_be_read():
    stored = json.loads(make_config().to_json())
    del stored["training"]["ema"]
    assert Config.from_json(json.dumps(stored)) == make_config()


def test_settings_that_may_be_left_open_can_be_read():
    left_open = {
        "data": {"dataset": "celeba", "data_dir": None, "train_examples": None},
        "model": {"name": "multitask_abn", "stage": None, "task_slice": None},
    }
    stored = json.loads(make_config(left_open).to_json())
    assert stored["model"]["task_slice"] is None and stored["data"]["train_examples"] is None
    assert Config.from_json(json.dumps(stored)) == make_config(
        {"data": {"dataset": "celeba"}, "model": {"name": "multitask_abn"}}
    )
    stored["model"]["task_slice"] = stored["data"]["train_examples"] = 3
    read = Config.from_json(json.dumps(stored))
    assert (read.model.task_slice, read.data.train_examples) == (3, 3)


def test_later_sources_win_and_the_data_set_sets_the_image_size():
    assert make_config({"data": {"dataset": "celeba"}}).data.image_size == (128, 104)
    config = make_config(
        PRESETS["demo"], {"training": {"epochs": 1}, "data": {"image_size": (8, 4)}}
    )
    assert (config.training.epochs, config.data.image_size) == (1, (8, 4))
    assert config.training.batch_size == PRESETS["demo"]["training"]["batch_size"]


def test_stride_and_feature_size_follow_the_stem():
    config = make_config(
        {
            "data": {"image_size": (48, 32)},
            "model": {"stem": ((8, 3, 2), (8, 3, 1), (8, 2, 2), (8, 4, 2))},
        }
    )
    assert (config.model.stride, config.feature_size) == (8, (6, 4))


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("data", {"dataset": "mnist"}, "`dataset` must be one of faces, celeba, folder, cifar10, "),
        ("data", {"image_size": (64, 50)}, "`image_size` must be divisible by 4"),
        ("data", {"image_size": (64,)}, "`image_size` must be two numbers from 1 to 8192"),
        ("data", {"pad_and_crop": 64}, "`pad_and_crop` must be from 0 to less than the image's"),
        ("data", {"color_jitter": 1.0}, "`color_jitter` must be from 0 to less than 1"),
        ("data", {"hold_out": 0.5}, "`hold_out` must be above 0 and below 0.5. Received: 0.5"),
        ("data", {"no_cache": True}, "`no_cache` must be left out for faces. Received: True"),
        ("data", {"train_examples": 0}, "`train_examples` must be positive. Received: 0"),
        ("model", {"name": "resnet"}, "`model` must be one of mcattn, baseline, gcm, cnn"),
        ("model", {"stem": ((8, 2),)}, "`stem` must be triples of positive filters"),
        ("model", {"stem": ((8, 3, 4),)}, "`stem` must be triples of positive filters"),
        ("model", {"pooling_sharpness": -1.0}, "`pooling_sharpness` must be zero or more"),
        ("model", {"head": "mlp"}, "`pooling_sharpness` must be 0 with the head `mlp`"),
        (
            "model",
            {"channel_masks": False},
            "`mask_rank` must be none with channel_masks False (--s",
        ),
        ("model", {"mask_context": 2}, "`mask_context` must be odd and positive. Received: 2"),
        ("model", {"mask_rank": 0}, "`mask_rank` must be positive. Received: 0"),
        ("data", {"color_jitter": "much"}, "`color_jitter` must be a number. Received: 'much'"),
        ("training", {"deterministic": "False"}, "`deterministic` must be true or false"),
        ("training", {"learning_rate": float("inf")}, "`learning_rate` must be a number"),
        ("training", {"epochs": 2.5}, "`epochs` must be a whole number. Received: 2.5"),
        ("data", {"train_examples": 2.5}, "`train_examples` must be a whole number. Received: 2.5"),
        ("data", {"image_size": [64.0, 64]}, "`image_size` must be a list of whole numbers. Rec"),
        ("data", {"image_size": 64}, "`image_size` must be a list of whole numbers. Received: 64"),
        ("model", {"exclusive": "no"}, "`exclusive` must be true or false. Received: 'no'"),
        ("model", {"exclusive": 1}, "`exclusive` must be true or false. Received: 1"),
        ("model", {"task_slice": 1.5}, "`task_slice` must be a whole number. Received: 1.5"),
        ("model", {"channels": None}, "`channels` must be a whole number. Received: None"),
        ("model", {"dilations": [1.5]}, "`dilations` must be a list of whole numbers"),
        ("model", {"dilations": [True]}, "`dilations` must be a list of whole numbers"),
        ("model", {"stem": [[32, 4.5, 2]]}, "`stem` must be a list of lists of whole numbers"),
        ("model", {"stem": 5}, "`stem` must be a list of lists of whole numbers. Received: 5"),
        ("found", {"attributes": "Bald"}, "`attributes` must be a list of names"),
        ("model", {"mask_kernel": 3}, "`mask_kernel` must be 1 or left out: it is retired"),
        ("model", {"mask_l1_reduction": "per_position"}, "`mask_l1_reduction` must be 'sum'"),
        ("loss", {"reconstruction_reduction": "sum"}, "`reconstruction_reduction` must be 'mean'"),
        ("found", {"attributes": ("A", "A")}, "`attributes` must be names without repeats"),
        ("found", {"receptive_field": 0}, "`receptive_field` must be positive. Received: 0"),
        ("model", {"depth": 3}, "must be one of name, stem"),
        ("model", {"name": "gcm", "dilations": (1, 2)}, "`dilations` must be left out for gcm"),
        ("model", {"name": "cnn", "nonnegative": True}, "`nonnegative` must be left out for cnn"),
        ("model", {"shared_decoder": False}, "`shared_decoder` must be left out for mcattn"),
        ("model", {"exclusive": True}, "`exclusive` must be left out for mcattn. Received: True"),
        ("model", {"name": "baseline", "head": "mlp"}, "`head` must be left out for baseline"),
        ("training", {"optimizer": "lion"}, "`optimizer` must be one of adam, sgd"),
        ("training", {"label_smoothing": -0.1}, "`label_smoothing` must be from 0 to less than 1"),
        ("training", {"ema": 1.0}, "`ema` must be from 0 to less than 1. Received: 1.0"),
        ("training", {"schedule": "flat"}, "`schedule` must be one of cosine, step, one_cycle"),
        ("loss", {"mask_l1": -1.0}, "`mask_l1` must be zero or more"),
        ("training", {"precision": "float8"}, "`precision` must be one of float32"),
        ("training", {"seed": 2**32}, "`seed` must be from 0 to"),
        ("data", {"data_dir": "x"}, "`data_dir` must be left out for faces"),
        ("data", {"train_on_validation": True}, "`train_on_validation` must be left out"),
        ("optimizer", {}, "must be one of data, model, loss, training"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_valid(section, fields, message):
    with pytest.raises(UserError) as raised:
        make_config({section: fields})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"image_size": (64, 50)}}, "`image_size` must be divisible by 4"),
        ({"loss": {"mask_l1": 0.1}}, "`mask_l1` must be left out for gcm. Received: 0.1"),
    ],
)
def test_what_gcm_cannot_be_made_with_is_named(sections, message):
    with pytest.raises(UserError) as raised:
        make_config({"model": {"name": "gcm"}}, sections)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"training": {"epochs": "many"}}', "`epochs` must be a whole number. Received: 'many'"),
        ("[1]", "a value of the wrong kind"),
    ],
)
def test_damaged_settings_are_said_to_be(text, message):
    with pytest.raises(UserError, match=message):
        Config.from_json(text)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_keeps_only_settings_that_its_network_has(model):
    config = make_config({"model": {"name": model}})
    stored = json.loads(config.to_json())
    assert set(stored["loss"]) == set(SYSTEMS[model].loss)
    assert ("stem" in stored["model"]) == (model in ("mcattn", "baseline"))
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize("model", ["mcattn", "baseline"])
def test_the_paper_preset_serves_its_plain_network_too(model):
    config = make_config(preset_for("paper", model), {"model": {"name": model}})
    assert (config.model.name, config.model.pooling_sharpness) == (model, 0)
    assert config.loss.mask_l1 == (1e-5 if model == "mcattn" else LossConfig.mask_l1)


def test_the_presets_of_abn_have_the_papers_schedules():
    every = {name: make_config(preset).training for name, preset in PRESETS.items()}
    multitask = every["multitask-abn-celeba"]  # 10 epochs, the authors' steps after 4 and 8
    assert (multitask.epochs, multitask.milestones) == (10, (0.4, 0.8))
    for name, training in every.items():
        assert training.weight_decay == (1e-4 if "abn" in name else 0.0), name


def test_every_setting_has_a_help_text_and_stands_in_its_docstring():
    for section in (DataConfig, ModelConfig, LossConfig, TrainingConfig):
        for field in dataclasses.fields(section):
            assert field.metadata["help"][0].isupper(), field.name
            assert f"        {field.name}: {field.metadata['help'][:20]}" in section.__doc__


def test_a_flag_of_a_setting_has_its_name_type_and_default():
    flags = SETTING_FLAGS
    assert flags["training"]["learning_rate"][:3] == ("learning_rate", float, None)
    assert flags["training"]["learning_rate"].shown == 2e-3
    assert (flags["data"]["data_dir"].kind, flags["model"]["exclusive"].kind) == (str, bool)
    assert flags["data"]["image_size"].kind == tuple[int, int]
    assert (flags["model"]["name"].name, flags["loss"]["mask_l1"].name) == ("model", "loss_mask_l1")
    assert "stem" not in flags["model"] and "found" not in flags
    assert "One of adam, sgd. Default: adam." in flags["training"]["optimizer"].text()


def test_flags_become_settings():
    words = [
        *("--model=abn", "--loss_mask_l1=0.5", "--image_size=8,4", "--nodeterministic"),
        *("--milestones=", "--dilations=1,2", "--data_dir=here", "--set=training.epochs=7"),
        *('--set=model.weights="imagenet"', "--set=model.stage=stage_1"),
    ]
    given = given_settings(parse(train.main, words)[0])
    assert given == {
        "data": {"data_dir": os.path.abspath("here"), "image_size": (8, 4)},
        "model": {
            **{"name": "abn", "dilations": (1, 2)},
            **{"weights": "imagenet", "stage": "stage_1"},
        },
        "loss": {"mask_l1": 0.5},
        "training": {"milestones": (), "deterministic": False, "epochs": 7},
    }
