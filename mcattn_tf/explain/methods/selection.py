"""A network above its features, for one chosen attribute an image and no more than that takes."""

import keras
from keras import KerasTensor, layers, ops

from mcattn_tf.errors import UserError
from mcattn_tf.layers import MaskedPooling, softmax_average
from mcattn_tf.models.multitask_abn import task_logits

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


class SelectedSubnetwork(keras.layers.Layer):
    """Runs one sub-network of a trained MCAttn an image (Kimura & Tanaka 2019, eq. 2).

    Args:
        model: as `build_mcattn` makes it.

    Input: features (P, h, w, C) and attributes (P,), indices.
    Output: logits (P,), those that the model itself has for these attributes.
    """

    def __init__(self, model: keras.Model, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.masked_pooling = model.get_layer("masked_pooling")
        self.averages = isinstance(self.masked_pooling, MaskedPooling)
        names = {layer.name for layer in model.layers}
        self.head = model.get_layer("attribute_logits") if self.averages else None
        self.hidden = model.get_layer("hidden") if "hidden" in names else None

    def call(self, features: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        """Returns the logits."""
        kernel = ops.take(self.masked_pooling.kernel, attributes, axis=3)  # (s, s, C, P, C)
        size, _, channels, _, made = kernel.shape  # 1 instead of C where all channels share a mask
        kernel = ops.reshape(
            ops.transpose(kernel, (3, 0, 1, 2, 4)), (-1, size * size * channels, made)
        )
        patches = features
        if size > 1:
            patches = ops.image.extract_patches(features, size, strides=1, padding="same")
        bias = ops.take(self.masked_pooling.bias, attributes, axis=0)
        masks = ops.sigmoid(ops.einsum("phwi,pio->phwo", patches, kernel) + bias[:, None, None])
        masked = (1.0 + masks) * features
        logits = self._of_averages if self.averages else self._of_softmax_pooling
        return logits(masked, attributes)

    def _of_averages(self, masked: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        pooled = ops.mean(masked, axis=(1, 2))  # (P, C)
        if self.hidden is not None:
            weights = ops.take(self.hidden.kernel, attributes, axis=0)
            biases = ops.take(self.hidden.bias, attributes, axis=0)
            pooled = ops.relu(ops.einsum("pc,pcu->pu", pooled, weights) + biases)
        head = ops.take(self.head.kernel, attributes, axis=0)
        return ops.sum(pooled * head, axis=-1) + ops.take(self.head.bias, attributes, axis=0)

    def _of_softmax_pooling(self, masked: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        _, height, width, channels = masked.shape
        head = ops.take(self.masked_pooling.head, attributes, axis=0)
        cells = ops.reshape(masked, (-1, height * width, channels))
        evidence = ops.matmul(cells, head[:, :, None])[:, :, 0]
        pooled = softmax_average(evidence, self.masked_pooling.sharpness)
        return pooled + ops.take(self.masked_pooling.head_bias, attributes, axis=0)


class SelectedTask(keras.layers.Layer):
    """Runs the perception branch of a trained multi-task ABN for one attribute an image.

    Source: Fukui et al. 2019, eq. 4 and 5.

    Args:
        model: as `build_multitask_abn` makes it.

    Input: features (P, h, w, C) and attributes (P,), indices.
    Output: logits (P,), those that the model itself has for these attributes.
    """

    def __init__(self, model: keras.Model, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        folded = model.get_layer("folded_tasks")
        features, weights = folded.input
        self.attention_branch = keras.Model(features, weights)
        self.perception_branch = folded.branch
        self.head = model.get_layer("perception_scores")

    def call(self, features: KerasTensor, attributes: KerasTensor) -> KerasTensor:
        """Returns the logits."""
        every = self.attention_branch(features)
        own = ops.take_along_axis(every, attributes[:, None, None, None], axis=3)
        pooled = ops.mean(self.perception_branch(features * own), axis=(1, 2))
        kernel = ops.take(self.head.kernel, attributes, axis=0)  # (P, C, u)
        scores = ops.einsum("pc,pcu->pu", pooled, kernel)
        scores = scores + ops.take(self.head.bias, attributes, axis=0)
        return task_logits(scores)


def inlined(model: keras.Model) -> keras.Model:
    """Returns a network without models inside of it, so that every layer can be reached by name.

    Args:
        model: a functional model.

    Returns:
        The model itself; where there are models inside of it, a copy with their layers in their
        place, which later changes of the model's weights do not reach.
    """
    if not any(isinstance(layer, keras.Model) for layer in model.layers):
        return model
    copies = []

    def copy(operation: keras.Operation) -> keras.Operation:
        if isinstance(operation, keras.Model):
            return operation
        copies.append((operation, operation.__class__.from_config(operation.get_config())))
        return copies[-1][1]

    def call(operation: keras.Operation, *inputs, **arguments) -> KerasTensor:
        if isinstance(operation, keras.Sequential):
            [x] = inputs
            for layer in operation.layers:
                x = call(copy(layer), x)
            return x
        if isinstance(operation, keras.Model):
            # As `clone_model` itself does; the model called as a whole would be one layer again.
            return operation._run_through_graph(inputs, operation_fn=copy, call_fn=call)
        return operation(*inputs, **arguments)

    flat = keras.models.clone_model(model, clone_function=copy, call_function=call)
    for original, made in copies:
        if isinstance(original, keras.Layer):
            made.set_weights(original.get_weights())
    return flat


def features_of(model: keras.Model) -> KerasTensor:
    """Returns the grid of features that maps are made of, (B, h, w, C).

    Args:
        model: a functional model without models inside of it.

    Returns:
        The output of the layer `features`, or of the last convolution where there is none.

    Raises:
        UserError: if there is no convolution either.
    """
    named = [layer for layer in model.layers if layer.name == "features"]
    convolutions = [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]
    if not named and not convolutions:
        raise UserError(
            f"model {model.name!r} has no convolution, so there is no grid of features that a map "
            "such as Grad-CAM's could be made of"
        )
    return (named or convolutions)[-1].output


def build_selected_logits(model: keras.Model, output: str) -> keras.Model:
    """Builds the part of a model above its features, for one attribute an image.

    Args:
        model: a network with a convolution, without models inside of it.
        output: name of an output, whose layer makes probabilities of logits (B, K).

    Returns:
        A model from [features (P, h, w, C), images (P, H, W, 3), attributes (P,)] to logits (P,).
        Few networks look at the images again above their features; GCM multiplies by them.
    """
    # What the sigmoid or softmax of the output is taken of.
    return _build_selected(model, output, model.get_layer(output).input)


def build_selected_probabilities(model: keras.Model, output: str) -> keras.Model:
    """Builds the same as `build_selected_logits`, but to probabilities (P,)."""
    layer = model.get_layer(output)
    if layer.activation is keras.activations.softmax:  # of all logits
        return _build_selected(model, output, layer.output)
    selected = build_selected_logits(model, output)
    activation = layers.Activation(layer.activation, dtype="float32")
    return keras.Model(selected.input, activation(selected.output))


def _build_selected(model: keras.Model, output: str, values: KerasTensor) -> keras.Model:
    grid = features_of(model)
    features = keras.Input(grid.shape[1:], name="features")
    images = keras.Input(model.input.shape[1:], name="images")
    attributes = keras.Input((), dtype="int32", name="attributes")
    names = {layer.name for layer in model.layers}
    if output == "attributes" and "masked_pooling" in names:
        chosen = SelectedSubnetwork(model)(features, attributes)
    elif output == "perception" and "folded_tasks" in names:
        chosen = SelectedTask(model)(features, attributes)
    else:
        every = keras.Model([grid, model.input], values)([features, images])
        chosen = ops.take_along_axis(every, attributes[:, None], axis=1)[:, 0]
    return keras.Model([features, images, attributes], chosen)
