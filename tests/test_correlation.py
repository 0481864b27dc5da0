"""Running correlations against NumPy's on arrays that are kept whole."""

import numpy as np
import pytest
from conftest import NAMES, randomise_weights, tiny_config

from mcattn_tf import models
from mcattn_tf.explain.contributions import build_explainer
from mcattn_tf.explain.correlation import analyze

RANDOM = np.random.default_rng(0)
LABELS = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 1]], np.float32)


@pytest.fixture(scope="module", params=[{}, {"pooling_sharpness": 0.0, "head": "mlp"}])
def model(request):
    return randomise_weights(models.build(tiny_config(model=request.param)))


def in_batches(images, labels=LABELS):
    """6 images as 4 and 2."""
    return [(images[:4], labels[:4]), (images[4:], labels[4:])]


def by_numpy(values):
    """Correlation of the K attributes of (N, K, C) over images and channels."""
    return np.corrcoef(values.swapaxes(0, 1).reshape(values.shape[1], -1))


def test_an_analysis_equals_numpy_on_the_stored_arrays(model, images):
    explained = build_explainer(model, range(3)).predict_on_batch(images)
    masks = explained["masks"].mean(axis=(1, 2), dtype=np.float64)  # (B, K, C)
    contributions = explained["channel_contributions"].astype(np.float64)
    analysis = analyze(model, NAMES, in_batches(images))
    assert analysis.images == 6
    close = {"rtol": 0, "atol": 1e-5}
    np.testing.assert_allclose(analysis.mean_masks, masks.mean(axis=0), **close)
    np.testing.assert_allclose(analysis.mean_contributions, contributions.mean(axis=0), **close)
    np.testing.assert_allclose(analysis.importance, np.abs(contributions).mean(axis=0), **close)
    channels = analysis.channel_correlation()
    np.testing.assert_allclose(channels, np.corrcoef(masks.reshape(-1, 5).T), **close)
    found = analysis.correlations()
    expected = {
        "masks": by_numpy(masks),
        "contributions": by_numpy(contributions),
        "logits": np.corrcoef(contributions.sum(axis=2).T),
        "labels": np.corrcoef(LABELS.T),
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, **close, err_msg=name)
