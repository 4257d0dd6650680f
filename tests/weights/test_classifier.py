import keras
import numpy as np

from keras_fcn import FCN32s


def test_the_whole_of_vgg16_sets_fc6_and_fc7(tmp_path):
    vgg16 = keras.applications.VGG16(include_top=True, weights=None, classes=10)
    vgg16.save_weights(tmp_path / "vgg16.weights.h5")
    model = FCN32s(num_classes=2, padding="same", weights=tmp_path / "vgg16.weights.h5")
    for ours, theirs in (("fc6", "fc1"), ("fc7", "fc2")):
        kernel, bias = vgg16.get_layer(theirs).get_weights()
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(model.get_layer(ours).kernel).reshape(kernel.shape), kernel
        )
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer(ours).bias), bias)
