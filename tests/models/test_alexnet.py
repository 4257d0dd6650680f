"""FCN-AlexNet against the oracle in `reference` and OpenCV's reader of a `.caffemodel`."""

import keras
import numpy as np
import pytest
import reference
from caffe import alexnet_prototxt, paper_layers, write_caffemodel
from helpers import randomize, variables_as_numpy
from models.release import IMAGE, SIZE, assert_close, opencv

from keras_fcn import FCNAlexNet
from keras_fcn.alignment import coordinate_maps
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.models.from_file import model_from_file

ALEXNET_FILTERS = (8, 12, 6, 10, 4)


class TestAlexNet:
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        model = FCNAlexNet(5, filters=ALEXNET_FILTERS, fc_units=8)
        randomize(model, seed=2)
        return model

    def test_its_logits_are_those_of_the_release(self, model, tmp_path):
        values = variables_as_numpy(model)
        image = IMAGE[..., ::-1] - np.array(model.get_layer("preprocessing").mean)
        sizes = {"num_classes": 5, "filters": ALEXNET_FILTERS, "fc_units": 8, "size": SIZE}
        text = alexnet_prototxt(**sizes)
        assert_close(model(IMAGE), reference.alexnet_logits(values, image))
        assert_close(model(IMAGE), opencv(tmp_path, text, paper_layers(values), {"data": image}))

        again = model_from_file(tmp_path / "net.caffemodel")
        assert isinstance(again, FCNAlexNet)
        assert_close(again(IMAGE), keras.ops.convert_to_numpy(model(IMAGE)))

    @pytest.mark.any_backend
    def test_kernel_and_crop_follow_from_the_coordinate_maps(self, model):
        upscore, crop = model.get_layer("upscore"), model.get_layer("crop_logits")
        assert (upscore.kernel_size, crop.offset) == ((63, 63), 18)
        maps = coordinate_maps(model)
        assert (maps["head"].height.stride, maps["head"].height.offset) == (1, 0)

    @pytest.mark.gate
    @pytest.mark.any_backend
    @pytest.mark.parametrize("size", [(1, 1), (2, 31), (32, 33), (64, 97)])
    def test_every_size_has_logits_of_its_size(self, model, size):
        assert model(np.zeros((1, *size, 3))).shape == (1, *size, 5)

    @pytest.mark.any_backend
    def test_a_classifier_of_caffe_is_convolutionalized(self, model, tmp_path):
        layers = paper_layers(variables_as_numpy(model))
        del layers["score_fr"], layers["upscore"]
        fc6, fc7 = (layers[name][0] for name in ("fc6", "fc7"))
        layers["fc6"][0], layers["fc7"][0] = fc6.reshape(8, -1), fc7.reshape(8, 8)
        layers["fc8"] = [np.zeros((1000, 8)), np.zeros(1000)]
        write_caffemodel(tmp_path / "caffenet.caffemodel", layers)
        path = tmp_path / "caffenet.caffemodel"
        again = FCNAlexNet(5, filters=ALEXNET_FILTERS, fc_units=8, weights=path)
        expected, found = variables_as_numpy(model), variables_as_numpy(again)
        for name in ("conv1", "conv4", "fc6", "fc7"):
            np.testing.assert_array_equal(found[f"{name}/kernel"], expected[f"{name}/kernel"])
        assert not found["score_fr/kernel"].any()

    @pytest.mark.any_backend
    def test_a_file_without_one_of_its_convolutions_is_refused(self, model, tmp_path):
        layers = paper_layers(variables_as_numpy(model))
        del layers["conv2"]
        path = tmp_path / "net.caffemodel"
        write_caffemodel(path, layers)
        with pytest.raises(ValueError, match="conv2"):
            model_from_file(path)

    @pytest.mark.gate
    def test_it_is_saved_and_trains(self, model, tmp_path):
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert_close(again(IMAGE), keras.ops.convert_to_numpy(model(IMAGE)))
        loss = SparseCategoricalCrossentropy(from_logits=True)
        again.compile(keras.optimizers.SGD(1e-3), loss)
        before = variables_as_numpy(again)["conv4/kernel"]
        assert np.isfinite(again.train_on_batch(IMAGE, np.zeros((1, *SIZE), "int32")))
        assert not np.array_equal(variables_as_numpy(again)["conv4/kernel"], before)

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"filters": (8, 8, 8, 8, 7)}, "`filters` must be five positive even integers"),
            ({"mean": (1, 2)}, "`mean` must be 3 numbers"),
            ({"weights": "pascal_voc"}, "must be loaded into FCN32s, FCN16s, FCN8s"),
            ({"weights": "imagenet"}, "must be loaded into one network on it"),
        ],
    )
    def test_bad_arguments_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            FCNAlexNet(5, **{"filters": ALEXNET_FILTERS, "fc_units": 8, **options})
