"""Pictures and curves of a training in TensorBoard, beside its scalars."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.pr_curve import summary

from mcattn_tf.data import Split
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.evaluation.ranking import average_precision, roc_auc, steps_of
from mcattn_tf.explain.methods import Attributor, Pairs, has_negative_values, methods_of
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.figures.panels import MASK_COLORS, channel_grids, limit_of, overlaid, scale_of
from mcattn_tf.models import label_outputs
from mcattn_tf.settings.systems import system_of

IMAGES = 4  # images drawn, the same every time
CURVE_IMAGES = 2000  # images of the precision-recall curves
BATCH_SIZE = 64
THRESHOLDS = 101
CELL = 12  # pixels of a channel in a grid


class LogPictures(keras.callbacks.Callback):
    """Writes maps and precision-recall curves for TensorBoard every few epochs and at the end.

    For each label it writes `METHOD/LABEL`, the maps of the network's default method over the
    first 4 validation images, on one scale for each image; for a network with masks
    `mean_masks/LABEL`, their means over these images as a grid of channels, on one scale for all
    labels; and over the first 2,000 validation images `OUTPUT/LABEL`, the precision-recall curve,
    `average_precision/OUTPUT/LABEL` and `roc_auc/OUTPUT/LABEL`.

    Args:
        directory: folder of TensorBoard's files; these go into `pictures` inside of it.
        validation: validation images.
        attributes: names of the K attributes or classes.
        every: number of epochs between two writes.
        epochs: number of epochs of the whole training.
    """

    def __init__(
        self, directory: Path, validation: Split, attributes: Sequence[str], every: int, epochs: int
    ) -> None:
        super().__init__()
        self._directory = directory / "pictures"
        self._validation, self._attributes = validation, attributes
        self._every, self._epochs = every, epochs

    def set_model(self, model: keras.Model) -> None:
        """Builds the explainers of the network."""
        super().set_model(model)
        # Separate models: the network itself may be divided among several devices.
        outputs = {name: model.output[name] for name in label_outputs(model)}
        self._answers = keras.Model(model.input, outputs)
        self._method = methods_of(model)[0]
        self._attributor = Attributor(model, [self._method])
        self._masks = None
        if "subnetworks" in system_of(model).parts:
            explainer = build_explainer(model, range(len(self._attributes)))
            self._masks = keras.Model(explainer.input, explainer.output["mask_mean"])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes if `every` epochs have passed or the training ends."""
        ended = getattr(self.model, "stop_training", False)  # Keras sets it when training begins
        last = epoch + 1 == self._epochs or ended
        if (epoch + 1) % self._every and not last:
            return
        images, _ = next(evaluation_batches(self._validation, IMAGES).as_numpy_iterator())
        writer = tf.summary.create_file_writer(str(self._directory))
        with writer.as_default(step=epoch):
            self._write_maps(images)
            if self._masks is not None:
                self._write_masks(images)
            self._write_curves()
        writer.close()

    def _write_maps(self, images: np.ndarray) -> None:
        count = len(self._attributes)
        pairs = Pairs.product(len(images), range(count))
        maps = self._attributor.maps(images, self._attributor.forward(images), pairs)[self._method]
        maps = maps.reshape(len(images), count, *maps.shape[1:])
        limits = np.array([limit_of(values) for values in maps])[:, None, None, None]
        scale = scale_of(1.0, has_negative_values(self.model, self._method))
        for name, values in zip(self._attributes, (maps / limits).swapaxes(0, 1), strict=True):
            pictures = [overlaid(*pair, scale) for pair in zip(images, values, strict=True)]
            tf.summary.image(f"{self._method}/{name}", np.stack(pictures), max_outputs=IMAGES)

    def _write_masks(self, images: np.ndarray) -> None:
        masks = self._masks.predict_on_batch(images).mean(axis=0)
        grids = channel_grids(masks / max(masks.max(), 1e-9)).repeat(CELL, 1).repeat(CELL, 2)
        for name, grid in zip(self._attributes, grids, strict=True):
            tf.summary.image(f"mean_masks/{name}", MASK_COLORS(grid)[None])

    def _write_curves(self) -> None:
        batches = evaluation_batches(self._validation.take(CURVE_IMAGES), BATCH_SIZE)
        answers = [
            (labels, self._answers.predict_on_batch(images))
            for images, labels in batches.as_numpy_iterator()
        ]
        every = np.concatenate([labels for labels, _ in answers])
        for name in answers[0][1]:
            shares = np.concatenate([outputs[name] for _, outputs in answers])
            for attribute, steps in zip(self._attributes, steps_of(every, shares), strict=True):
                if not steps.one_sided:
                    tf.summary.scalar(f"roc_auc/{name}/{attribute}", roc_auc(steps))
                    precision = average_precision(steps)
                    tf.summary.scalar(f"average_precision/{name}/{attribute}", precision)
            for attribute, labels, values in zip(self._attributes, every.T, shares.T, strict=True):
                known = labels >= 0
                columns = labels[known] > 0.5, values[known]
                curve = summary.pb(f"{name}/{attribute}", *columns, THRESHOLDS)
                tf.summary.experimental.write_raw_pb(curve.SerializeToString())
