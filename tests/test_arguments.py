"""Wrong arguments are one sentence: the argument, what it must be, and the value received."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_fcn import alignment, label_spaces, layers, losses, metrics
from keras_fcn.arguments import boolean, integer, number
from keras_fcn.data import transforms

pytestmark = pytest.mark.any_backend

ARRAY = np.array([1, 2])
NOT_AN_INTEGER = (1.5, float("nan"), float("inf"), "1", True, [1], ARRAY, 10**12, 1j, object())
NOT_A_NUMBER = (float("nan"), float("inf"), "0.5", None, [0.5], ARRAY, np.array([0.5]), 1j, 10**400)
NOT_A_BOOLEAN = ("False", None, 2, 1, [], np.array([True, False]))
NOT_A_SEQUENCE = (5, "12", True, None, {1: 2})
NOT_A_DATA_FORMAT = ("a", 1, "", 0, True, ["channels_last"], np.array(["channels_last"]))


def crop_offsets(skips=("pool4",), padding=0):
    return alignment.fcn_crop_offsets(
        skips, input_padding=99, fc6_kernel_size=7, fc6_padding=padding
    )


INTEGERS = [
    (lambda v: losses.Focal(ignore_class=v), "ignore_class"),
    (lambda v: losses.Dice(axis=v), "axis"),
    (lambda v: metrics.MeanIoU(v), "num_classes"),
    (lambda v: metrics.confusion_matrix([0], [1], v), "num_classes"),
    (lambda v: metrics.boundary_band(np.eye(2), v), "width"),
    (lambda v: layers.ConvolutionalizedDense(v, 3), "units"),
    (lambda v: layers.ConvolutionalizedDense(4, v), "kernel_size"),
    (lambda v: layers.CropToReference(v), "offset"),
    (lambda v: layers.EmptyBorder(99, v, 64), "stride"),
    (lambda v: layers.LocalResponseNormalization(v), "size"),
    (lambda v: layers.PadToStride(32, v), "padding"),
    (lambda v: layers.Surround(99, v, 5, 0), "stride"),
    (lambda v: layers.Bilinear()((v, v, 1, 1)), "shape"),
    (lambda v: transforms.random_crop(v, 4, 255), "height"),
    (lambda v: transforms.random_crop(4, 4, v), "ignore_class"),
    (lambda v: transforms.random_crop(4, 4, 255, classes=[v]), "classes"),
    (lambda v: transforms.class_mix([v]), "classes"),
    (lambda v: transforms.cutout(4, 4, number=v), "number"),
    (lambda v: transforms.as_transform(lambda image, label_map: 0, num_classes=v), "num_classes"),
    (lambda v: alignment.convolution(v), "kernel_size"),
    (lambda v: alignment.transposed_convolution(3, v), "stride"),
    (lambda v: crop_offsets(padding=v), "fc6_padding"),
    (lambda v: label_spaces.generic(v), "num_classes"),
    (lambda v: label_spaces.generic(2, v), "ignore_class"),
    (lambda v: label_spaces.voc_palette(v), "num_classes"),
    (lambda v: label_spaces.colour_blind_palette(v), "num_classes"),
]
NUMBERS = [
    (lambda v: losses.Focal(v), "gamma"),
    (lambda v: losses.OHEM(v), "threshold"),
    (lambda v: losses.OHEM(min_kept=v), "min_kept"),
    (lambda v: layers.LocalResponseNormalization(alpha=v), "alpha"),
    (lambda v: layers.LocalResponseNormalization(beta=v), "beta"),
    (lambda v: transforms.random_scale(v, 2), "minimum"),
    (lambda v: transforms.random_scale(1, v), "maximum"),
    (lambda v: transforms.random_rotation(v, 2, 255), "minimum"),
    (lambda v: transforms.random_resized_crop(4, 4, smallest_area=v), "smallest_area"),
    (lambda v: transforms.random_resized_crop(4, 4, stretch=v), "stretch"),
    (lambda v: transforms.random_crop(4, 4, 255, share=v), "share"),
    (lambda v: transforms.gaussian_noise(0, v), "maximum"),
    (lambda v: transforms.gaussian_blur(v, 2), "minimum"),
    (lambda v: transforms.gaussian_blur(1, v), "maximum"),
    (lambda v: transforms.class_mix(probability=v), "probability"),
    (lambda v: transforms.photometric_jitter(hue=v), "hue"),
]
BOOLEANS = [
    (lambda v: losses.SparseCategoricalCrossentropy(v), "from_logits"),
    (lambda v: layers.VGGPreprocessing(reverse_channels=v), "reverse_channels"),
]
SEQUENCES = [
    (lambda v: losses.WeightedSum(v, [1]), "losses"),
    (lambda v: losses.WeightedSum([losses.Dice()], v), "weights"),
    (lambda v: layers.VGGPreprocessing(v), "mean"),
    (lambda v: transforms.random_crop(4, 4, 255, classes=v), "classes"),
    (lambda v: crop_offsets(v), "skips"),
    (lambda v: label_spaces.LabelSpace(("a", "b"), v), "palette"),
    (lambda v: label_spaces.LabelSpace(v, ((0, 0, 0),) * 2), "class_names"),
]
DATA_FORMATS = [
    lambda v: layers.ConvolutionalizedDense(4, 3, data_format=v),
    lambda v: layers.CropToReference(1, data_format=v),
    lambda v: layers.EmptyBorder(99, 8, 64, data_format=v),
    lambda v: layers.LocalResponseNormalization(data_format=v),
    lambda v: layers.PadToStride(32, data_format=v),
    lambda v: layers.Surround(99, 8, 5, 0, data_format=v),
    lambda v: layers.VGGPreprocessing(data_format=v),
]


def cases(calls, values):
    return [(call, name, value) for (call, name), value in itertools.product(calls, values)]


def sentence(name):
    return rf"^`{name}` must (be|hold) .*\. Received: "


@pytest.mark.parametrize(
    ("call", "name", "value"),
    [
        *cases(INTEGERS, NOT_AN_INTEGER),
        *cases(NUMBERS, NOT_A_NUMBER),
        *cases(BOOLEANS, NOT_A_BOOLEAN),
        *cases(SEQUENCES, NOT_A_SEQUENCE),
        *cases([(call, "data_format") for call in DATA_FORMATS], NOT_A_DATA_FORMAT),
    ],
)
def test_a_wrong_value_is_one_sentence(call, name, value):
    with pytest.raises(ValueError, match=sentence(name)) as error:
        call(value)
    assert str(error.value).count("\n") <= repr(value).count("\n")


def test_numbers_of_numpy_are_numbers():
    assert integer("units", np.uint8(3)) == 3
    assert integer("seed", 2**40, most=2**63 - 1) == 2**40
    assert (number("gamma", np.float32(0.5)), number("gamma", np.array(2))) == (0.5, 2.0)
    assert boolean("flip", np.True_) is True


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (2.5, "an integer of at least 1"),
        (0, "an integer of at least 1"),
        (2**31, "an integer from 1 to 2147483647"),
    ],
)
def test_the_rule_is_the_one_that_is_broken(value, rule):
    with pytest.raises(
        ValueError, match=rf"^`stride` must be {rule}\. Received: stride={value}\.$"
    ):
        layers.PadToStride(value)


@pytest.mark.parametrize("matrix", [None, 5, [1, 2], [[1, 2]], [[1], [2, 3]], [["a", "b"]] * 2])
@pytest.mark.parametrize("score", [metrics.mean_iou, metrics.class_iou, metrics.pixel_accuracy])
def test_what_is_no_confusion_matrix_has_no_score(score, matrix):
    with pytest.raises(ValueError, match=sentence("matrix")):
        score(matrix)


def test_the_bins_of_a_metric_fit_int32():
    """46341 classes squared are 2147488281, more than 2**31 - 1."""
    assert 46340**2 + 259 < 2**31 <= 46341**2
    with pytest.raises(ValueError, match="`num_classes` must be"):
        metrics.confusion_matrix([0], [0], 46341)


def test_a_metric_has_a_name_and_a_dtype_of_fractions():
    with pytest.raises(ValueError, match="`dtype` must be a floating-point dtype"):
        metrics.MeanIoU(3, dtype="int32")
    with pytest.raises(ValueError, match="`name` must be a text or None"):
        metrics.MeanIoU(3, name=1)


def test_names_of_classes_have_an_order():
    """That of a set differs from process to process; the values of a dictionary may be the ids."""
    for names in ({"a", "b"}, {"a": 1, "b": 0}):
        with pytest.raises(ValueError, match="in their order"):
            label_spaces.LabelSpace(names, ((0, 0, 0), (1, 1, 1)))


def test_a_factor_beyond_all_sizes_does_not_give_one_pixel():
    scale = transforms.random_scale(1e12, 1e12)
    with pytest.raises(tf.errors.InvalidArgumentError, match="overflow"):
        scale(np.zeros((2, 2, 3), "uint8"), np.zeros((2, 2), "int32"), (0, 0))
