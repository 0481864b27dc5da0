"""Methods of explanation: one file and one row of `METHODS` each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from mcattn_tf.errors import UserError, choose
from mcattn_tf.explain.methods.attention_map import AttentionMap
from mcattn_tf.explain.methods.cam import Cam
from mcattn_tf.explain.methods.center import Center
from mcattn_tf.explain.methods.centered_contributions import CenteredContributions
from mcattn_tf.explain.methods.contribution_maps import ContributionMaps
from mcattn_tf.explain.methods.contributions import Contributions
from mcattn_tf.explain.methods.foreign import dressed
from mcattn_tf.explain.methods.grad_cam import GradCam
from mcattn_tf.explain.methods.grad_cam_plus_plus import GradCamPlusPlus
from mcattn_tf.explain.methods.guided_backprop import GuidedBackprop
from mcattn_tf.explain.methods.guided_grad_cam import GuidedGradCam
from mcattn_tf.explain.methods.hires_cam import HiResCam
from mcattn_tf.explain.methods.inlining import inlined
from mcattn_tf.explain.methods.integrated_gradients import IntegratedGradients
from mcattn_tf.explain.methods.local_probabilities import LocalProbabilities
from mcattn_tf.explain.methods.mask_mean import MaskMean
from mcattn_tf.explain.methods.method import Batch, Method, Network, Pairs, on_whole_pixels
from mcattn_tf.explain.methods.occlusion import Occlusion
from mcattn_tf.explain.methods.random import Random
from mcattn_tf.explain.methods.rise import Rise
from mcattn_tf.explain.methods.smooth_grad import SmoothGrad
from mcattn_tf.explain.methods.top_channel_masks import TopChannelMasks
from mcattn_tf.explain.methods.weight_maps import WeightMaps
from mcattn_tf.settings.systems import FOREIGN, system_of

YARDSTICKS = ("random", "center")  # no explanations: others are compared with them
ANY_SIZE = 256  # of images whose size a network leaves open; nothing is computed on them


class Row(NamedTuple):
    """A method, as far as it is known without a network."""

    kind: type[Method]
    output: str | None = None  # probabilities that it explains; None: the network's first output
    parts: tuple[str, ...] = ()  # names in `System.parts`; a network needs one of them, if any
    # Negative values are evidence against the attribute: the map of its absence is minus this one.
    signed: bool = False
    on_request: bool = False  # left out where all methods are asked for


# The default method of a network is the first that applies to it.
METHODS: dict[str, Row] = {
    "contributions": Row(Contributions, "attributes", ("subnetworks",), signed=True),
    "centered_contributions": Row(CenteredContributions, "attributes", ("subnetworks",), True),
    "mask_mean": Row(MaskMean, "attributes", ("subnetworks",)),
    "top_channel_masks": Row(TopChannelMasks, "attributes", ("subnetworks",)),
    "contribution_maps": Row(ContributionMaps, "probabilities", ("weight_maps",), signed=True),
    "weight_maps": Row(WeightMaps, "probabilities", ("weight_maps",), signed=True),
    "attention_map": Row(AttentionMap, "perception", ("attention_map", "task_maps")),
    "cam": Row(Cam, signed=True),
    "local_probabilities": Row(LocalProbabilities),
    "grad_cam": Row(GradCam, signed=True),
    "guided_backprop": Row(GuidedBackprop),
    "guided_grad_cam": Row(GuidedGradCam),
    "grad_cam_plus_plus": Row(GradCamPlusPlus, on_request=True),
    "hires_cam": Row(HiResCam, signed=True, on_request=True),
    "integrated_gradients": Row(IntegratedGradients, signed=True, on_request=True),
    "smooth_grad": Row(SmoothGrad, on_request=True),
    "occlusion": Row(Occlusion, signed=True, on_request=True),
    "rise": Row(Rise, on_request=True),
    "random": Row(Random),
    "center": Row(Center),
}


def methods_of(model: keras.Model, on_request: bool = False) -> tuple[str, ...]:
    """Returns the names of the methods that explain a model, the default one first.

    Args:
        model: network that `explain` takes, with weights.
        on_request: whether to name those too that are slow or newer, and are left out of "all".

    Raises:
        UserError: for a network that cannot be read, or that has not seen images yet.
    """
    if isinstance(model, keras.Function) and system_of(model) is not FOREIGN:
        return applicable(inlined(model), on_request)
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    shape = inputs[0].shape if inputs else (model.get_build_config() or {}).get("input_shape")
    if shape is None:
        raise UserError(f"model {model.name!r} has no inputs yet; call it on images first")
    return applicable(dressed(model, [side or ANY_SIZE for side in shape[1:]])[0], on_request)


def applicable(model: keras.Model, on_request: bool = False) -> tuple[str, ...]:
    """Returns the `methods_of` a network without nested models and with named probabilities."""
    parts = {*system_of(model).parts}
    return tuple(
        name
        for name, row in METHODS.items()
        if (not row.parts or parts & {*row.parts})
        and (on_request or not row.on_request)
        and (keras.backend.backend() == "tensorflow" or not row.kind.needs_gradients)
        and row.kind.explains(model)
    )


def has_negative_values(model: keras.Model, method: str) -> bool:
    """Returns whether maps of a method may be negative; figures draw those in two colours."""
    return METHODS[method].signed or METHODS[method].kind.may_be_negative(model)


class Attributor:
    """Explains one model by several methods, with one shared forward pass.

    Args:
        model: network with a convolution.
        methods: names from `applicable(model)`; None for all.

    Attributes:
        methods: names of the methods.
        model: the network, with nested models inlined.
        grid: height and width (h, w) of the feature grid.
        output: name of the model's first probabilities.

    Raises:
        UserError: for a method that does not explain this model, a model without a convolution,
            or guided backpropagation without a ReLU that it can replace.
    """

    def __init__(self, model: keras.Model, methods: Sequence[str] | None = None) -> None:
        self.model = model = inlined(model)
        possible = applicable(model, on_request=True)
        names = applicable(model) if methods is None else methods
        backend, gradients = keras.backend.backend(), "needs Keras' TensorFlow backend"
        for name in {*names} & METHODS.keys() - {*possible}:
            if METHODS[name].kind.needs_gradients and backend != "tensorflow":
                raise UserError(f"{name} {gradients}; take occlusion or rise. Received: {backend}")
        self.methods = tuple(choose("methods", name, possible) for name in names)
        network = Network(model)
        self.grid, self.output = network.grid, network.output
        self._methods = {name: network.share(METHODS[name].kind) for name in self.methods}
        outputs, means = {"probabilities": model.output[self.output]}, {}
        for method in self._methods.values():
            outputs |= method.outputs
            means |= method.means
        self._forward = keras.Model(model.input, outputs)
        self._means = keras.Model(model.input, means) if means else None

    def output_of(self, name: str) -> str:
        """Returns the name of the model's output that a method explains."""
        return self._methods[name].output or METHODS[name].output or self.output

    def threshold_of(self, name: str) -> float | None:
        """Returns the value above which a method marks a cell; None for the middle of its range."""
        return self._methods[name].threshold

    def adapt(self, batches: Iterable[np.ndarray]) -> None:
        """Gives methods their means over batches of images, (B, H, W, 3) in [0, 1]."""
        if self._means is None:
            return
        sums, count = dict.fromkeys(self._means.output, 0.0), 0
        for images in batches:
            for name, values in self._means.predict_on_batch(images).items():
                sums[name] = sums[name] + values.sum(axis=0, dtype=np.float64)
            count += len(images)
        for method in self._methods.values():
            method.adapt({name: sums[name] / count for name in method.means})

    def forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what `maps` needs, and `probabilities` (B, K), the model's first output."""
        return self._forward.predict_on_batch(images)

    def maps(
        self,
        images: np.ndarray,
        outputs: Mapping[str, np.ndarray],
        pairs: Pairs,
        report: Callable[[str], object] = lambda name: None,
        whole_pixels: bool = True,
    ) -> dict[str, np.ndarray]:
        """Explains pairs of images and attributes.

        Args:
            images: (B, H, W, 3), in [0, 1].
            outputs: result of `forward` for these images.
            pairs: P pairs.
            report: Function that is called with each method's name before its maps are made.
            whole_pixels: Whether maps whose size does not divide (H, W) are enlarged to it.

        Returns:
            {method: maps}: (P, h, w) on the feature grid, (P, H, W) in pixels, or a size between
            that divides (H, W). High values are evidence for what the pair's sign asks for; maps
            without a sign are the same for presence and absence.

        Raises:
            UserError: if a map is not finite.
        """
        batch, maps = Batch(images, outputs, pairs), {}
        for name, method in self._methods.items():
            report(name)
            values = batch.once(method.maps)
            if METHODS[name].signed:
                values = values * pairs.signs[:, None, None].astype(np.float32)
            if not np.all(np.isfinite(values)):
                raise UserError(
                    f"the map of {name} is not a number somewhere; do the weights hold NaN?"
                )
            maps[name] = on_whole_pixels(values, batch.size) if whole_pixels else values
        return maps

    def visual_maps(
        self, images: np.ndarray, outputs: Mapping[str, np.ndarray], pairs: Pairs
    ) -> dict[str, np.ndarray]:
        """Returns {method: maps} as table 8 of the GCM paper averages them.

        Grad-CAM is its positive part; guided methods have a value for each colour, (P, H, W, 3).
        """
        batch = Batch(images, outputs, pairs)
        return {name: batch.once(x.visual_maps) for name, x in self._methods.items()}
