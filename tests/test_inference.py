import numpy as np
import pytest
from helpers import randomize

from keras_fcn import FCN8s
from keras_fcn.inference import predict_label_map


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_label_map_is_the_largest_logit_at_the_size_of_the_image(data_format):
    model = FCN8s(num_classes=4, fc_units=4, padding="same", data_format=data_format)
    randomize(model, seed=0)
    image = np.random.default_rng(0).integers(0, 256, (37, 22, 3), dtype="uint8")
    label_map = predict_label_map(model, image)
    batch = image[None].transpose(0, 3, 1, 2) if data_format == "channels_first" else image[None]
    logits = np.asarray(model.predict(batch, verbose=0))[0]
    expected = logits.argmax(0 if data_format == "channels_first" else -1)
    assert label_map.dtype == "int32"
    assert len(np.unique(label_map)) > 1
    np.testing.assert_array_equal(label_map, expected)


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match="`image` must be"):
        predict_label_map(FCN8s(2, fc_units=4, padding="same"), np.zeros((1, 4, 4, 3)))
