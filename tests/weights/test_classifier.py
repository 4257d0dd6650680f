import keras
import numpy as np
import pytest
from helpers import write_legacy_h5

from keras_fcn import FCN32s

pytestmark = pytest.mark.any_backend


def test_the_whole_of_vgg16_sets_fc6_and_fc7(tmp_path, monkeypatch):
    vgg16 = keras.applications.VGG16(include_top=True, weights=None, classes=10)
    write_legacy_h5(tmp_path / "vgg16.h5", vgg16)
    from_file = FCN32s(num_classes=2, padding="same", weights=tmp_path / "vgg16.h5")
    assert_holds(from_file, vgg16)

    def downloaded(include_top=True, weights="imagenet"):
        if weights is None:
            return vgg16_without_top
        assert include_top
        return vgg16

    vgg16_without_top = keras.applications.VGG16(include_top=False, weights=None)
    monkeypatch.setattr(keras.applications, "VGG16", downloaded)
    assert_holds(FCN32s(num_classes=2, padding="same", weights="imagenet"), vgg16)


def assert_holds(model, vgg16):
    for ours, theirs in (("fc6", "fc1"), ("fc7", "fc2"), ("block5_conv3", "block5_conv3")):
        kernel, bias = vgg16.get_layer(theirs).get_weights()
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(model.get_layer(ours).kernel).reshape(kernel.shape), kernel
        )
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer(ours).bias), bias)
