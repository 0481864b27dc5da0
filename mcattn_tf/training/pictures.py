"""Pictures and curves of a training in TensorBoard, beside its scalars."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboard.plugins.pr_curve import summary

from mcattn_tf.data import Split
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.evaluation.ranking import average_precision, roc_auc, steps_of
from mcattn_tf.explain.methods import Attributor, Pairs, has_negative_values, methods_of
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.figures.mean_masks import clustered_mean_masks_figure
from mcattn_tf.figures.panels import (
    ROW_SCALE_LABEL,
    answers_of,
    headings_of,
    overview_figure,
    readable,
)
from mcattn_tf.models import is_exclusive, label_outputs
from mcattn_tf.settings.systems import system_of

IMAGES = 4  # images drawn, the same every time
CURVE_IMAGES = 2000  # images of the precision-recall curves
BATCH_SIZE = 64
THRESHOLDS = 101
ATTRIBUTES = 8  # labels drawn of each image


def _write(tag: str, figure: Figure) -> None:
    """Writes a figure as a picture for TensorBoard."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    tf.summary.image(tag, np.asarray(canvas.buffer_rgba())[None])


class LogPictures(keras.callbacks.Callback):
    """Writes maps and precision-recall curves for TensorBoard every few epochs and at the end.

    It writes `METHOD`, the maps of the network's default method for the most probable labels of
    the first 4 validation images; for a network with masks `mean_masks`, their means over these
    images, labels by channels; and for each label, over the first 2,000 validation images,
    `OUTPUT/LABEL`, the precision-recall curve, `average_precision/OUTPUT/LABEL` and
    `roc_auc/OUTPUT/LABEL`.

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
        images, labels = next(evaluation_batches(self._validation, IMAGES).as_numpy_iterator())
        writer = tf.summary.create_file_writer(str(self._directory))
        with writer.as_default(step=epoch):
            self._write_maps(images, labels)
            if self._masks is not None:
                self._write_masks(images)
            self._write_curves()
        writer.close()

    def _write_maps(self, images: np.ndarray, labels: np.ndarray) -> None:
        outputs = self._attributor.forward(images)
        probabilities, maps, headings = outputs["probabilities"], [], []
        answers = answers_of(probabilities, is_exclusive(self.model))
        for index, row in enumerate(probabilities):
            best = np.argsort(-row, kind="stable")[:ATTRIBUTES]
            names = [self._attributes[k] for k in best]
            numbers = [f"p = {row[k]:.2f}" for k in best]
            headings.append(headings_of(names, numbers, answers[index, best], labels[index, best]))
            pairs = Pairs(np.full(len(best), index), best, np.ones(len(best), int))
            maps.append(self._attributor.maps(images, outputs, pairs)[self._method])
        title = f"{readable(self._method)} of the most probable labels of {len(images)} images"
        signed = has_negative_values(self.model, self._method)
        figure = overview_figure(images, np.stack(maps), headings, ROW_SCALE_LABEL, title, signed)
        _write(self._method, figure)

    def _write_masks(self, images: np.ndarray) -> None:
        means = self._masks.predict_on_batch(images).mean(axis=0)
        title = f"Mean mask of each of {means.shape[1]} channels over {len(images)} images"
        _write("mean_masks", clustered_mean_masks_figure(means, self._attributes, title))

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
