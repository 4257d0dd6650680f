import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, assert_equal_weights, write_legacy_h5

from keras_fcn import FCN8s, FCN32s

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_a_classifier_sets_fc6_and_fc7(narrow_classifier, suffix, tmp_path):
    path = tmp_path / f"vgg16{suffix}"
    if suffix == ".h5":
        write_legacy_h5(path, narrow_classifier)
    elif suffix == ".keras":
        narrow_classifier.save(path)
    else:
        narrow_classifier.save_weights(path)
    model = FCN32s(2, filters=NARROW_FILTERS, fc_units=8, padding="same", weights=path)
    assert_holds(model, narrow_classifier)


def test_imagenet_without_the_classifier_sets_the_convolutions(monkeypatch):
    vgg16 = keras.applications.VGG16(include_top=False, weights=None)
    calls = []
    monkeypatch.setattr(
        keras.applications, "VGG16", lambda **options: calls.append(options) or vgg16
    )
    with pytest.warns(UserWarning, match="fc6 and fc7 start random"):
        model = FCN8s(num_classes=2, fc_units=4, padding="same", weights="imagenet")
    assert calls == [{"include_top": False, "weights": "imagenet"}]
    assert_equal_weights(model, vgg16)


@pytest.mark.gate
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
