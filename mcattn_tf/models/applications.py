"""Networks of `keras.applications`, cut into the same stages as those of `backbones`."""

import functools

import keras
import numpy as np
from keras import KerasTensor

from mcattn_tf.errors import UserError, reason_of
from mcattn_tf.settings.backbones import Backbone

# Last layer of a stage, and the one before its pooling, by the number of the stage (`next`: one
# more) and of its blocks. ResNets have a stride instead of a pooling.
ENDS = {
    "ResNet": ("conv{next}_block{blocks}_out", "conv{next}_block{blocks}_out"),
    "DenseNet": ("pool{next}_pool", "pool{next}_conv"),
    "VGG": ("block{stage}_pool", "block{stage}_conv{blocks}"),
}
# Input of the trained weights: images in [0, 1] minus means of red, green and blue, divided by
# deviations; and whether the order of the colours is reversed.
CAFFE = ((0.48502, 0.45796, 0.40760), (1 / 255,) * 3, True)
TORCH = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False)
EXPECTED = {"ResNet": CAFFE, "DenseNet": TORCH, "VGG": CAFFE}
SCALE = 4.0  # scales images to about the variance that the other backbones see


def _family(backbone: Backbone) -> str:
    return next(name for name in ENDS if backbone.application.startswith(name))


def _network(backbone: Backbone, shape: tuple[int, ...], **source: object) -> keras.Model:
    """Returns the network without its head, for images of `shape` (H, W, 3)."""
    build = getattr(keras.applications, backbone.application)
    return build(include_top=False, input_shape=shape, **source)


def _end(network: keras.Model, backbone: Backbone, stage: str, keep_grid: bool) -> KerasTensor:
    """Returns the output of a stage."""
    index, family = backbone.stages.index(stage), _family(backbone)
    if stage == backbone.stages[-1] and family == "DenseNet":
        return network.output  # no transition follows it
    numbers = {"stage": index + 1, "next": index + 2, "blocks": backbone.blocks[index]}
    return network.get_layer(ENDS[family][keep_grid].format(**numbers)).output


def build_backbone(images: KerasTensor, backbone: Backbone, until: str) -> KerasTensor:
    """Adds the network up to a stage; see `backbones.build_backbone`."""
    mean, *_ = EXPECTED[_family(backbone)]
    x = (images - np.array(mean, np.float32)) * SCALE
    network = _network(backbone, images.shape[1:], weights=None, input_tensor=x)
    return _end(network, backbone, until, keep_grid=False)


def build_stage(
    x: KerasTensor, backbone: Backbone, stage: str, prefix: str = "", keep_grid: bool = False
) -> KerasTensor:
    """Adds a stage of the network, not the first; see `backbones.build_stage`."""
    before = backbone.stages[backbone.stages.index(stage) - 1]
    side = 2 * backbone.strides()[-1]  # any size will do
    network = _network(backbone, (side, side, 3), weights=None)
    start = _end(network, backbone, before, keep_grid=False)
    template = keras.Model(start, _end(network, backbone, stage, keep_grid))

    @functools.cache
    def copy(operation: keras.Operation) -> keras.Operation:
        settings = operation.get_config() | {"name": prefix + operation.name}
        if keep_grid and "strides" in settings:
            settings["strides"] = 1
        return operation.__class__.from_config(settings)

    # `clone_model` does the same; a call of the template would be one layer.
    return template._run_through_graph(x, operation_fn=copy)


def require_imagenet(backbone: Backbone) -> None:
    """Raises a UserError if the ImageNet weights of a backbone are not to be had."""
    _with_imagenet(backbone, (2 * backbone.strides()[-1],) * 2)  # any size will do


def _with_imagenet(backbone: Backbone, image_size: tuple[int, int]) -> keras.Model:
    try:
        return _network(backbone, (*image_size, 3), weights="imagenet")
    except Exception as error:  # urllib's, or Keras' for a damaged file
        raise UserError(
            f"cannot get the ImageNet weights of {backbone.application}: {reason_of(error)}; "
            "begin with random ones by --set model.weights=null, or put the file into "
            "~/.keras/models"
        ) from None


def load_imagenet(model: keras.Model, backbone: Backbone) -> None:
    """Loads ImageNet weights into a network built here; a UserError if they are not to be had."""
    copy_weights(_with_imagenet(backbone, model.input_shape[1:3]), model, backbone)


def copy_weights(trained: keras.Model, model: keras.Model, backbone: Backbone) -> None:
    """Copies weights into the layers of the same name, and into those of the attention branch.

    The first convolution absorbs the preprocessing that the trained network expects.
    """
    own = {layer.name: layer for layer in model.layers}
    if "folded_tasks" in own:
        own |= {layer.name: layer for layer in own["folded_tasks"].branch.layers}
    _, deviations, reversed_colors = EXPECTED[_family(backbone)]
    for layer in trained.layers:
        for name in {layer.name, f"attention_{layer.name}"} & own.keys():
            own[name].set_weights(layer.get_weights())
    first = next(own[x.name] for x in trained.layers if isinstance(x, keras.layers.Conv2D))
    kernel, *bias = first.get_weights()
    kernel = kernel[:, :, ::-1] if reversed_colors else kernel
    factors = 1 / (np.array(deviations) * SCALE)
    first.set_weights([kernel * factors[:, None], *bias])
