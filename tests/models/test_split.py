"""The parts of an FCN compute what the FCN computes."""

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, randomize
from keras import layers

from keras_fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.models.split import split

NARROW = {"filters": NARROW_FILTERS, "fc_units": 8}
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 45, 60, 3)).astype("float32")


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (FCN8s, {}),
        (FCN16s, {"padding": "same", "data_format": "channels_first"}),
        (FCN32s, {"padding": "same", "input_upsampling": 2}),
        (FCN8s, {"padding": "same", "dtype": "mixed_bfloat16"}),
        (FCN8s, {"padding": "same", "classifier_activation": "softmax"}),
    ],
)
def test_parts_joined_equal_the_model(network, options, tmp_path):
    model = network(4, **NARROW, **options)
    randomize(model, seed=0)
    image = IMAGE.transpose(0, 3, 1, 2) if model.data_format == "channels_first" else IMAGE
    parts = split(model)
    assert split(model) is parts
    features, *skips = keras.tree.flatten(parts.trunk.predict_on_batch(image))
    scores = parts.classifier.predict_on_batch(features)
    joined = parts.decoder.predict_on_batch([np.zeros_like(image), scores, *skips])
    expected = model.predict_on_batch(image)
    # In bfloat16, TensorFlow rounds less often where it merges operations.
    tolerance = 2e-2 if options.get("dtype") == "mixed_bfloat16" else 1e-6
    np.testing.assert_allclose(joined, expected, atol=tolerance * abs(expected).max())
    assert len(np.unique(expected)) > 100
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.predict_on_batch(image), expected)


@pytest.mark.any_backend
def test_other_models_have_no_parts():
    image = keras.Input((None, None, 3))
    assert split(keras.Model(image, layers.Conv2D(2, 1, name="score_fr")(image))) is None
