"""FCN-32s, FCN-16s and FCN-8s against the independent oracle of `reference.py`.

Every weight is random and not zero, so that no layer can be missing, misplaced or misnamed.
"""

import functools
import itertools

import helpers
import keras
import numpy as np
import pytest
import reference

import keras_fcn

VARIANTS = ("FCN32s", "FCN16s", "FCN8s")
DATA_FORMATS = ("channels_last", "channels_first")
SIZES = ((1, 1), (37, 53), (64, 65), (224, 224), (97, 500))
# JAX takes about 15 s to compile the gradients for every further size: the others are marked slow.
QUICK_GRADIENT_CASES = (
    ("paper", (37, 53)),
    ("same", (1, 1)),
    ("same", (64, 65)),
)
GRADIENT_CASES = [
    pytest.param(
        (case, variant),
        marks=() if case in QUICK_GRADIENT_CASES else pytest.mark.slow,
        id=f"{case[0]}-{case[1][0]}x{case[1][1]}-{variant}",
    )
    for case in itertools.product(("paper", "same"), SIZES)
    for variant in VARIANTS
]
NUM_CLASSES = 5
FC_UNITS = 16
IGNORE_CLASS = 255
LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4


@pytest.fixture(
    scope="module",
    # The variants stand together, since they share the oracle's trunk.
    params=itertools.product(("paper", "same"), SIZES, VARIANTS),
    ids=lambda case: f"{case[0]}-{case[1][0]}x{case[1][1]}-{case[2]}",
)
def logits_case(request):
    """A variant, padding and image with the oracle's logits."""
    padding, size, variant = request.param
    image, _ = _image_and_label_map(size)
    trunk = _oracle_trunk(padding, size)
    expected = reference.logits_of_trunk(_variables(variant), trunk, size, variant, padding)
    return variant, padding, image, expected.numpy()


@pytest.fixture(scope="module", params=GRADIENT_CASES)
def gradient_case(request):
    """A variant, padding, image and label map, weights clear of kinks, the oracle's gradients."""
    (padding, size), variant = request.param
    image, label_map = _image_and_label_map(size)
    variables = _variables(variant) | _trunk_clear_of_kinks(padding, size)
    _, expected = reference.logits_and_gradients(
        variables, image, label_map, variant, padding, dtype="float32"
    )
    return variant, padding, image, label_map, variables, expected


@pytest.fixture(scope="module", autouse=True)
def _forget_what_is_cached():
    yield
    for function in (_model, _variables, _oracle_trunk, _trunk_clear_of_kinks):
        function.cache_clear()


class TestEverySizePaddingAndDataFormat:
    @pytest.mark.parametrize("data_format", DATA_FORMATS)
    def test_logits_equal_the_reference(self, logits_case, data_format):
        variant, padding, image, expected = logits_case
        model = _model(variant, padding, data_format)
        helpers.assign(model, _variables(variant))
        assert expected.shape == (*image.shape[:3], NUM_CLASSES)
        assert _relative_error(_logits(model, image), expected) <= LOGITS_TOLERANCE

    @pytest.mark.parametrize("data_format", DATA_FORMATS)
    def test_gradients_with_ignored_pixels_equal_the_reference(self, gradient_case, data_format):
        variant, padding, image, label_map, variables, expected = gradient_case
        model = _model(variant, padding, data_format)
        helpers.assign(model, variables)
        _assert_gradients_equal(_gradients(model, image, label_map), expected)


class TestOptions:
    @pytest.mark.parametrize("padding", ["paper", "same"])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_logits_with_fc6_of_one_pixel_equal_the_reference(self, variant, padding):
        model = getattr(keras_fcn, variant)(
            NUM_CLASSES, padding=padding, fc_units=FC_UNITS, fc6_kernel_size=1
        )
        helpers.randomize(model, seed=0)
        image, _ = _image_and_label_map((37, 53))
        variables = helpers.variables_as_numpy(model)
        expected = reference.fcn_logits(variables, image, variant, padding, fc6_kernel_size=1)
        assert _relative_error(_logits(model, image), expected.numpy()) <= LOGITS_TOLERANCE

    @pytest.mark.parametrize("variant", ["FCN16s", "FCN8s"])
    def test_at_once_skip_scales_equal_the_reference(self, variant):
        skip_scales = keras_fcn.AT_ONCE_SKIP_SCALES
        model = getattr(keras_fcn, variant)(
            NUM_CLASSES,
            padding="same",
            fc_units=FC_UNITS,
            skip_scales=skip_scales,
            trainable_upsampling=True,
        )
        size = (64, 65)
        variables = _variables(variant) | _trunk_clear_of_kinks("same", size)
        helpers.assign(model, variables)
        image, label_map = _image_and_label_map(size)
        expected_logits, expected_gradients = reference.logits_and_gradients(
            variables, image, label_map, variant, "same", skip_scales=skip_scales
        )
        assert _relative_error(_logits(model, image), expected_logits) <= LOGITS_TOLERANCE
        _assert_gradients_equal(_gradients(model, image, label_map), expected_gradients)

    def test_logits_of_two_images_with_4096_fc_units_equal_the_reference(self):
        model = keras_fcn.FCN8s(NUM_CLASSES, padding="same")
        helpers.randomize(model, seed=0)
        variables = helpers.variables_as_numpy(model)
        assert variables["fc6/kernel"].shape == (7, 7, 512, 4096)
        images = np.concatenate([_image_and_label_map((37, 53), seed)[0] for seed in (0, 1)])
        expected = reference.fcn_logits(variables, images, "FCN8s", "same").numpy()
        assert _relative_error(_logits(model, images), expected) <= LOGITS_TOLERANCE


@functools.cache
def _model(variant, padding, data_format):
    return getattr(keras_fcn, variant)(
        NUM_CLASSES,
        padding=padding,
        fc_units=FC_UNITS,
        trainable_upsampling=True,
        data_format=data_format,
    )


@functools.cache
def _variables(variant):
    """Random weights; those of equally named layers are equal in all variants."""
    model = _model(variant, "same", "channels_last")
    helpers.randomize(model, seed=0)
    return helpers.variables_as_numpy(model)


@functools.lru_cache(maxsize=1)
def _oracle_trunk(padding, size):
    image, _ = _image_and_label_map(size)
    return reference.pools_and_fc7(_variables("FCN8s"), image, padding)


@functools.lru_cache(maxsize=1)
def _trunk_clear_of_kinks(padding, size):
    image, _ = _image_and_label_map(size)
    variables = reference.clear_of_kinks(_variables("FCN8s"), image, padding)
    return {name: value for name, value in variables.items() if name.startswith(("block", "fc"))}


def _image_and_label_map(size, seed=0):
    """One random image, and labels of which a fifth, though not the first, is ignored."""
    generator = np.random.default_rng([*size, seed])
    image = generator.uniform(0, 255, (1, *size, 3)).astype("float32")
    label_map = generator.integers(NUM_CLASSES, size=(1, *size))
    ignored = generator.uniform(size=label_map.shape) < 0.2
    ignored[0, 0, 0] = False
    return image, np.where(ignored, IGNORE_CLASS, label_map)


def _logits(model, images):
    """Channels-last logits of channels-last images."""
    if model.data_format == "channels_last":
        return keras.ops.convert_to_numpy(model(images, training=False))
    logits = model(np.moveaxis(images, -1, 1), training=False)
    return np.moveaxis(keras.ops.convert_to_numpy(logits), 1, -1)


def _gradients(model, images, label_map):
    if model.data_format == "channels_last":
        return helpers.gradients(model, images, label_map, IGNORE_CLASS)
    images = np.moveaxis(images, -1, 1)
    return helpers.gradients(model, images, label_map, IGNORE_CLASS, axis=1)


def _assert_gradients_equal(gradients, expected):
    assert gradients.keys() == expected.keys()
    errors = {name: _relative_error(gradients[name], expected[name]) for name in expected}
    assert {n: error for n, error in errors.items() if not error <= GRADIENT_TOLERANCE} == {}


def _relative_error(actual, expected):
    """The largest difference, relative to the largest magnitude expected."""
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()
