"""Images in the space of features, with and without the attention map (t-SNE)."""

from collections.abc import Iterable

import keras
import numpy as np
from keras import layers

from mcattn_tf.errors import UserError
from mcattn_tf.settings.systems import system_of

FEWEST = 10  # images of a scatter
PERPLEXITY = 30.0  # as van der Maaten & Hinton 2008 recommend, less for few images


def build_pooled_features(model: keras.Model) -> keras.Model:
    """Builds the averages over positions of the features that a network classifies.

    Source: Fukui et al. 2019, fig. 6. The model returns `perception` (B, N) and the features (B, C)
    of the last stage, `without the map` and `with the map` before the perception branch; for a
    network without attention, `features`.
    """
    features = model.get_layer("features").output
    spaces = {"features": features}
    if "attention_map" in system_of(model).parts:
        branch = keras.Model(model.get_layer("attended").output, features)
        unweighted = branch(model.get_layer("extracted").output)
        spaces = {"without the map": unweighted, "with the map": features}
    pooled = {name: layers.GlobalAveragePooling2D(dtype="float32")(x) for name, x in spaces.items()}
    return keras.Model(model.input, {"perception": model.output["perception"], **pooled})


def scatter(
    model: keras.Model, batches: Iterable[np.ndarray], seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Places images in the plane by t-SNE (van der Maaten & Hinton 2008) of their features.

    Args:
        model: network from `build_abn`.
        batches: batches of images, (B, H, W, 3) in [0, 1]; P in all.
        seed: seed of the random start.

    Returns:
        {name as in `build_pooled_features`: (P, 2)}, each embedded separately, and the most
        probable class of each image, (P,).

    Raises:
        UserError: if scikit-learn is not installed or the images are too few.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise UserError(
            "feature_space needs scikit-learn; install it by: pip install --editable '.[tsne]'"
        ) from None
    pooled = build_pooled_features(model)
    outputs = [pooled.predict_on_batch(images) for images in batches]
    joined = {name: np.concatenate([x[name] for x in outputs]) for name in outputs[0]}
    classes = joined.pop("perception").argmax(axis=1)
    if len(classes) < FEWEST:
        raise UserError(f"feature_space needs at least {FEWEST} images. Received: {len(classes)}")
    perplexity = min(PERPLEXITY, (len(classes) - 1) / 3)
    embedding = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return {name: embedding.fit_transform(values) for name, values in joined.items()}, classes
