"""Settings that belong together, by name."""

from typing import Any

from mcattn_tf.errors import choose
from mcattn_tf.settings.config import used_settings
from mcattn_tf.settings.model import ModelConfig
from mcattn_tf.settings.systems import SUBNETWORKS


def _mapping_preset(dataset: str, **training: Any) -> dict[str, dict[str, Any]]:
    """Returns how GCM is trained on classes (its paper's table 4, but for the schedule).

    On SVHN too (section 4.5: by the settings before), which includes mirrored digits.
    """
    return {
        "data": {"dataset": dataset, **SHIFTED},
        "model": {"name": "gcm", "exclusive": True},
        "training": {"batch_size": 128, "optimizer": "sgd", "learning_rate": 0.1, **training},
    }


def _attention_preset(data: dict[str, Any], backbone: str, **training: Any) -> dict[str, dict]:
    """Returns how ABN is trained on classes (Fukui et al. 2019, sections 4.1 and 4.3).

    The paper does not name the weight decay; it is that of its authors' commands for ResNet-110
    and DenseNet.
    """
    return {
        "data": data,
        "model": {"name": "abn", "exclusive": True, "backbone": backbone},
        "training": {
            "optimizer": "sgd",
            "learning_rate": 0.1,
            "schedule": "step",
            "milestones": (1 / 2, 3 / 4),
            "weight_decay": 1e-4,
            **training,
        },
    }


# Both papers mirror SVHN's digits, too.
SHIFTED = {"pad_and_crop": 4, "flip": True}
PUBLISHED_SCHEDULE = {"epochs": 180, "schedule": "step"}
SHORT_SCHEDULE = {"epochs": 18, "schedule": "one_cycle"}

# `default` is what was found to explain best at about equal accuracy (docs/locality.md): a field of
# 18 pixels, evidence that one place can decide. `paper` sees the whole face, as published.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "paper": {
        "model": {
            "stem": ((32, 3, 1), (64, 3, 2), (128, 3, 2)),
            "dilations": (1, 1, 2, 4, 8, 16, 1),
            "centered_context": False,
            "position_embedding": False,
            "pointwise_layers": 0,
            "pooling_sharpness": 0.0,
            "mask_rank": None,
            "reconstructor": "transposed",
        },
        "loss": {"mask_l1": 1e-5},
    },
    "demo": {
        "data": {"dataset": "faces", "train_examples": 5500},
        "training": {"epochs": 6, "batch_size": 16, "learning_rate": 3e-3},
    },
    "gcm-cifar10": _mapping_preset("cifar10", **PUBLISHED_SCHEDULE),
    "gcm-cifar10-short": _mapping_preset("cifar10", **SHORT_SCHEDULE),
    "gcm-svhn": _mapping_preset("svhn_cropped", **PUBLISHED_SCHEDULE),
    "gcm-svhn-short": _mapping_preset("svhn_cropped", **SHORT_SCHEDULE),
    **{
        f"abn-{name}": _attention_preset(
            {"dataset": dataset, **SHIFTED}, "resnet110", epochs=epochs, batch_size=256
        )
        for name, dataset, epochs in (
            *(("cifar10", "cifar10", 300), ("cifar100", "cifar100", 300)),
            ("svhn", "svhn_cropped", 40),
        )
    },
    "abn-cifar10-short": _attention_preset(
        {"dataset": "cifar10", **SHIFTED}, "resnet20", epochs=10, batch_size=64
    ),
    # A folder a class: Yang et al. 2015 give the images on request.
    "abn-compcars": _attention_preset(
        {"dataset": "folder", "image_size": (224, 323)},
        "resnet101",
        epochs=50,
        batch_size=32,
        learning_rate=0.01,
        milestones=(25 / 50, 35 / 50),
    ),
    # Section 4.4; batch, image size, milestones, initial weights and what the paper leaves open of
    # the network are those of its authors' Chainer code.
    "multitask-abn-celeba": {
        **_attention_preset(
            {"dataset": "celeba", "image_size": (224, 224), "resize": "squeeze", "flip": False},
            "resnet101",
            epochs=10,
            batch_size=8,
            learning_rate=0.01,
            milestones=(4 / 10, 8 / 10),
        ),
        "model": {
            "name": "multitask_abn",
            "backbone": "resnet101",
            "weights": "imagenet",
            "attention_mechanism": "product",
            "map_activation": "linear",
            "task_units": 2,
        },
    },
}

# Of a network, where neither the preset nor a flag says.
BEGUN_WITH: dict[str, dict[str, Any]] = {"multitask_abn": {"backbone": "resnet18"}}


def preset_for(name: str, model: str | None = None) -> dict[str, dict[str, Any]]:
    """Returns a preset as a network can have it: `paper` has masks and losses, `baseline` none.

    Args:
        name: Key of `PRESETS`.
        model: Key of `systems.MODELS`; None for the preset's own.
    """
    preset = PRESETS[choose("preset", name, PRESETS)]
    if model is None:
        model = preset.get("model", {}).get("name", ModelConfig.name)
    used = used_settings(preset, model)
    own = {
        name: value
        for name, value in preset.get("model", {}).items()
        if name in used.get("model", {}) or name not in SUBNETWORKS
    }
    return preset | {"loss": used.get("loss", {}), "model": own}
