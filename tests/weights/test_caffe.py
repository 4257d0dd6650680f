import cv2
import keras
import numpy as np
import pytest
from caffe import bytes_field, layer, number_field, paper_layers, prototxt, varint, write_caffemodel
from helpers import NARROW_FILTERS, assert_equal_weights, randomize, variables_as_numpy

from keras_fcn import AT_ONCE_SKIP_SCALES, FCN8s, FCN16s, FCN32s, weights
from keras_fcn.weights import open_file

pytestmark = pytest.mark.any_backend

# Its threads wait by spinning, which costs minutes where other processes want the cores.
cv2.setNumThreads(1)

SMALL = {
    "num_classes": 5,
    "filters": NARROW_FILTERS,
    "fc_units": 8,
    "include_preprocessing": False,
}
SIZE = (61, 44)
AT_ONCE = {"skip_scales": AT_ONCE_SKIP_SCALES}
MODELS = {
    "fcn32s": (FCN32s, 32, {}),
    "fcn16s": (FCN16s, 16, {}),
    "fcn8s": (FCN8s, 8, {}),
    "at once": (FCN8s, 8, AT_ONCE),
}


def layers_of(model, at_once=False):
    layers = paper_layers(variables_as_numpy(model))
    if at_once:
        layers["scale_pool4"] = [np.full(16, 0.01, "float32")]
        layers["scale_pool3"] = [np.full(8, 0.0001, "float32")]
    return layers


@pytest.fixture(scope="module")
def small_fcn8s():
    model = FCN8s(**SMALL)
    randomize(model, seed=3)
    return model


class TestEveryNetwork:
    @pytest.mark.parametrize("name", MODELS)
    def test_opencv_and_this_package_read_the_same_network(self, name, tmp_path):
        make, stride, options = MODELS[name]
        source = make(**SMALL, **options)
        randomize(source, seed=7)
        path = tmp_path / "net.caffemodel"
        write_caffemodel(path, layers_of(source, at_once=bool(options)))
        model = make(**SMALL, **options, data_format="channels_last", weights=path)
        assert_equal_weights(model, source)

        sizes = {"num_classes": 5, "filters": NARROW_FILTERS, "fc_units": 8, "size": SIZE}
        text = prototxt(stride, **sizes, at_once=bool(options))
        (tmp_path / "net.prototxt").write_text(text)
        theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(path))
        image = np.random.default_rng(1).uniform(-120, 120, (1, *SIZE, 3)).astype("float32")
        theirs.setInput(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
        expected = theirs.forward("logits").transpose(0, 2, 3, 1)
        logits = keras.ops.convert_to_numpy(model(image))
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())

    @pytest.mark.parametrize("v1", [True, False], ids=["V1", "V2"])
    @pytest.mark.parametrize("legacy", [True, False], ids=["legacy shapes", "shapes"])
    @pytest.mark.parametrize("double", [True, False], ids=["double", "float"])
    def test_every_form_of_the_file_is_read(self, small_fcn8s, v1, legacy, double, tmp_path):
        path = tmp_path / "net.caffemodel"
        layers = layers_of(small_fcn8s)
        write_caffemodel(path, layers, v1=v1, legacy=legacy, double=double)
        model = FCN8s(**SMALL, weights=path)
        assert_equal_weights(model, small_fcn8s)

    @pytest.mark.parametrize("raw", ["<f2", "<f4"])
    def test_opencv_and_this_package_read_the_raw_values_of_nvidias_fork(self, raw, tmp_path):
        source = FCN32s(**SMALL)
        randomize(source, seed=7)
        path = tmp_path / "net.caffemodel"
        write_caffemodel(path, layers_of(source), raw=raw)
        model = FCN32s(**SMALL, data_format="channels_last", weights=path)
        sizes = {"num_classes": 5, "filters": NARROW_FILTERS, "fc_units": 8, "size": SIZE}
        (tmp_path / "net.prototxt").write_text(prototxt(32, **sizes, at_once=False))
        theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(path))
        for name, ours in (("conv1_1", "block1_conv1"), ("fc7", "fc7"), ("score_fr", "score_fr")):
            kernel, bias = model.get_layer(ours).get_weights()
            expected = theirs.getParam(name, 0)
            assert np.ptp(expected) > 0
            np.testing.assert_array_equal(kernel, expected.transpose(2, 3, 1, 0))
            np.testing.assert_array_equal(bias, theirs.getParam(name, 1).ravel())

    def test_raw_values_of_double_precision_are_read(self, small_fcn8s, tmp_path):
        write_caffemodel(tmp_path / "net.caffemodel", layers_of(small_fcn8s), raw="<f8")
        assert_equal_weights(FCN8s(**SMALL, weights=tmp_path / "net.caffemodel"), small_fcn8s)

    def test_a_classifier_of_caffe_sets_fc6_and_fc7_from_its_matrices(
        self, narrow_classifier, tmp_path
    ):
        values = variables_as_numpy(narrow_classifier)
        layers = paper_layers({name: values[name] for name in values if name.startswith("block")})
        fc6, fc7 = (
            np.arange(8 * inputs, dtype="float32").reshape(8, inputs) for inputs in (16 * 7 * 7, 8)
        )
        layers |= {"fc6": [fc6, np.ones(8)], "fc7": [fc7, np.full(8, 2.0)]}
        layers["fc8"] = [np.zeros((1000, 8)), np.zeros(1000)]
        write_caffemodel(tmp_path / "vgg16.caffemodel", layers, v1=True, legacy=True)
        values = variables_as_numpy(FCN32s(**SMALL, weights=tmp_path / "vgg16.caffemodel"))
        assert values["fc6/kernel"].shape == (7, 7, 16, 8)
        np.testing.assert_array_equal(
            values["fc6/kernel"][3, 5, 10], fc6.reshape(8, 16, 7, 7)[:, 10, 3, 5]
        )
        np.testing.assert_array_equal(values["fc7/kernel"][0, 0], fc7.T)
        assert values["fc6/bias"].tolist() == [1] * 8
        assert values["fc7/bias"].tolist() == [2] * 8

    @pytest.mark.slow
    def test_vgg16_of_caffe_sets_the_classifiers_layers_from_its_matrices(self, tmp_path):
        layers = paper_layers(variables_as_numpy(FCN32s(2, fc_units=1)))
        fc6, fc7 = (
            np.arange(4096 * inputs, dtype="float32").reshape(4096, inputs)
            for inputs in (512 * 7 * 7, 4096)
        )
        layers["fc6"], layers["fc7"] = [fc6, np.ones(4096)], [fc7, np.ones(4096)]
        layers["fc8"] = [np.zeros((1000, 4096)), np.zeros(1000)]
        del layers["score_fr"], layers["upscore"]
        write_caffemodel(tmp_path / "vgg16.caffemodel", layers, v1=True, legacy=True)
        model = FCN32s(2, weights=tmp_path / "vgg16.caffemodel")
        kernel = keras.ops.convert_to_numpy(model.get_layer("fc6").kernel)
        np.testing.assert_array_equal(kernel[3, 5, 100], fc6.reshape(4096, 512, 7, 7)[:, 100, 3, 5])
        kernel = keras.ops.convert_to_numpy(model.get_layer("fc7").kernel)
        np.testing.assert_array_equal(kernel[0, 0], fc7.T)


class TestSkipScales:
    def test_a_file_trained_at_once_wants_its_scales(self, small_fcn8s, tmp_path):
        write_caffemodel(tmp_path / "net.caffemodel", layers_of(small_fcn8s, at_once=True))
        with pytest.raises(ValueError, match=r"scales pool4 by 0\.01\. Received: 1.*--at-once"):
            weights.load(small_fcn8s, tmp_path / "net.caffemodel")

    def test_a_file_trained_in_stages_does_not_fit_a_model_with_scales(self, small_fcn8s, tmp_path):
        write_caffemodel(tmp_path / "net.caffemodel", layers_of(small_fcn8s))
        with pytest.raises(ValueError, match=r"scales pool4 by 1\. Received: 0\.01"):
            FCN8s(**SMALL, **AT_ONCE, weights=tmp_path / "net.caffemodel")

    def test_vgg16_and_other_classes_have_no_scales_to_compare(self, small_fcn8s, tmp_path):
        layers = layers_of(small_fcn8s, at_once=True)
        write_caffemodel(tmp_path / "net.caffemodel", layers)
        with pytest.warns(UserWarning, match="has 5 classes, the model 3"):
            FCN8s(**{**SMALL, "num_classes": 3}, weights=tmp_path / "net.caffemodel")
        vgg16 = {name: layers[name] for name in layers if name.startswith("conv")}
        write_caffemodel(tmp_path / "vgg16.caffemodel", vgg16)
        with pytest.warns(UserWarning, match="fc6 and fc7 start random"):
            FCN8s(**SMALL, **AT_ONCE, weights=tmp_path / "vgg16.caffemodel")

    @pytest.mark.parametrize("scale", [np.full((2, 3), 0.5), np.array(0.5), np.zeros(0)])
    def test_scales_of_any_shape_are_compared(self, small_fcn8s, scale, tmp_path):
        path = tmp_path / "net.CAFFEMODEL"
        write_caffemodel(path, {**layers_of(small_fcn8s), "scale_pool4": [scale]})
        with pytest.raises(ValueError, match=r"`skip_scales` must be those of .*CAFFEMODEL"):
            weights.load(small_fcn8s, path)

    def test_scales_are_a_field_and_no_array(self, small_fcn8s, tmp_path):
        write_caffemodel(tmp_path / "once.caffemodel", layers_of(small_fcn8s, at_once=True))
        write_caffemodel(tmp_path / "stages.caffemodel", layers_of(small_fcn8s))
        with (
            open_file(tmp_path / "once.caffemodel") as once,
            open_file(tmp_path / "stages.caffemodel") as stages,
        ):
            assert once.entries.keys() == stages.entries.keys()
            assert once.skip_scales == {
                pool: pytest.approx((scale,))
                for pool, scale in zip(("pool4", "pool3"), AT_ONCE_SKIP_SCALES, strict=True)
            }
            assert stages.skip_scales == {"pool4": (1,), "pool3": (1,)}

    def test_one_channel_of_another_scale_is_refused(self, small_fcn8s, tmp_path):
        scales = np.ones(16)
        scales[5] = 0.5
        write_caffemodel(
            tmp_path / "net.caffemodel", {**layers_of(small_fcn8s), "scale_pool4": [scales]}
        )
        with pytest.raises(ValueError, match=r"scales pool4 by 0\.5, 1\. Received: 1"):
            weights.load(small_fcn8s, tmp_path / "net.caffemodel")

    def test_more_scales_than_channels_of_any_network_are_not_read(self, small_fcn8s, tmp_path):
        layers = {**layers_of(small_fcn8s), "scale_pool4": [np.ones(2**16 + 1)]}
        write_caffemodel(tmp_path / "net.caffemodel", layers)
        with pytest.raises(ValueError, match="'scale_pool4' holds 65537 scales"):
            weights.load(small_fcn8s, tmp_path / "net.caffemodel")


class TestAllOrNothing:
    @pytest.mark.parametrize(
        "missing", ["score_fr", "score_pool4", "score_pool3", "upscore2", "upscore8", "fc6"]
    )
    def test_no_layer_may_be_missing(self, small_fcn8s, missing, tmp_path):
        layers = layers_of(small_fcn8s)
        del layers[missing]
        write_caffemodel(tmp_path / "net.caffemodel", layers)
        with pytest.raises(ValueError, match=f"{missing}/kernel .*: missing in the file"):
            weights.load(small_fcn8s, tmp_path / "net.caffemodel")

    def test_half_of_an_fcn8s_is_no_fcn32s(self, small_fcn8s, tmp_path):
        layers = layers_of(small_fcn8s)
        for name in ("score_pool4", "score_pool3", "upscore8"):
            del layers[name]
        write_caffemodel(tmp_path / "net.caffemodel", layers)
        with pytest.raises(ValueError, match=r"score_pool3/bias .*: missing in the file"):
            weights.load(small_fcn8s, tmp_path / "net.caffemodel")

    def test_everything_that_does_not_fit_is_listed_and_the_model_untouched(
        self, small_fcn8s, tmp_path
    ):
        layers = layers_of(small_fcn8s)
        del layers["conv3_2"]
        layers["fc7"][0] = np.zeros((8, 9, 1, 1), "float32")
        layers["extra"] = [np.zeros(3, "float32")]
        write_caffemodel(tmp_path / "net.caffemodel", layers)
        before = small_fcn8s.get_weights()
        with pytest.raises(ValueError, match=r"net\.caffemodel must fit") as error:
            weights.load(small_fcn8s, tmp_path / "net.caffemodel")
        message = str(error.value)
        assert "block3_conv2/kernel (3, 3, 8, 8): missing in the file" in message
        assert "block3_conv2/bias (8,): missing in the file" in message
        assert "fc7/kernel (1, 1, 8, 8): has shape (1, 1, 9, 8) in the file" in message
        assert "extra/kernel (3,) of the file: not in the model" in message
        for new, old in zip(small_fcn8s.get_weights(), before, strict=True):
            np.testing.assert_array_equal(new, old)


def shape_field(*sizes):
    return bytes_field(7, bytes_field(1, b"".join(varint(size) for size in sizes)))


GOOD = layer("conv1_1", "Convolution", [np.ones((2, 3)), np.ones(2)])
HOSTILE = {
    "empty": (b"", "empty"),
    "text": (b"not a network at all", "net.caffemodel"),
    "truncated": (GOOD[:-1], r"claims \d+ bytes, \d+ are left"),
    "no layers": (bytes_field(1, b"name"), "no layers"),
    "layers without blobs": (layer("relu", "ReLU", []), "none of its layers"),
    "a length of 2 to the 60": (varint(100 << 3 | 2) + varint(2**60) + b"abc", f"claims {2**60}"),
    "an endless number": (b"\xff" * 30, "longer than 10 bytes"),
    "a million tiny layers": (bytes_field(100, b"") * 1_000_000, "more than 100000 fields"),
    "a million tiny blobs": (
        bytes_field(100, bytes_field(7, b"") * 1_000_000),
        "more than 100000 fields",
    ),
    "a group": (b"\x0b\x0c", "unknown wire type"),
    "a shape without values": (
        bytes_field(100, bytes_field(7, shape_field(2**40, 2**20))),
        "and 0",
    ),
    "a negative shape": (bytes_field(100, bytes_field(7, shape_field(2**64 - 1))), r"\(-1,\)"),
    "a million axes": (
        bytes_field(100, bytes_field(7, shape_field(*[1] * 1_000_000))),
        "more than 32 axes",
    ),
    "half a value": (
        bytes_field(100, bytes_field(7, shape_field(1) + bytes_field(5, b"abc"))),
        "net.caffemodel",
    ),
    "values that are not packed": (
        bytes_field(100, bytes_field(7, shape_field(1) + varint(5 << 3 | 5) + b"\0\0\x80\x3f")),
        "0 values",
    ),
    "the same layer twice": (GOOD * 2, "'conv1_1' twice"),
    "raw integers of NVIDIA's fork": (
        layer("conv", "Convolution", [np.ones(2)], raw="<i4"),
        "type 3",
    ),
    "a damaged layer": (bytes_field(100, bytes_field(7, varint(5 << 3 | 2) + b"\x7f")), "caffe"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_one_sentence(name, tmp_path):
    content, reason = HOSTILE[name]
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with (
        pytest.raises(ValueError, match=f"must be a whole .caffemodel file.*({reason})"),
        open_file(path),
    ):
        pass


def test_unknown_fields_and_other_forms_of_them_are_passed_over(tmp_path):
    path = tmp_path / "net.caffemodel"
    fields = number_field(9, 300) + varint(10 << 3 | 5) + b"1234" + varint(11 << 3 | 1) + b"8" * 8
    path.write_bytes(fields + GOOD + fields)
    with open_file(path) as contents:
        kernel, bias = (contents.entries["block1_conv1", name] for name in ("kernel", "bias"))
        assert kernel.read().tolist() == np.ones((2, 3)).tolist()
        assert bias.shape == (2,)
