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
from helpers import NARROW_FILTERS

import keras_fcn
from keras_fcn.spec import VGG16_FILTERS

VARIANTS = ("FCN32s", "FCN16s", "FCN8s")
PADDINGS = ("paper", "same")
# One pixel, odd sides, and a side on either side of a multiple of the stride.
SMALL_SIZES = ((1, 1), (37, 53), (64, 65))
LARGE_SIZES = ((224, 224), (97, 500))
NUM_CLASSES = 5
FC_UNITS = 16
IGNORE_CLASS = 255
LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4


def cases(filters, sizes, marks=()):
    """The variants stand together, since they share the oracle's trunk."""
    return [
        pytest.param(
            (variant, padding, filters, size),
            marks=marks,
            id=f"{max(filters)}-{padding}-{size[0]}x{size[1]}-{variant}",
        )
        for padding, size, variant in itertools.product(PADDINGS, sizes, VARIANTS)
    ]


CASES = [
    *cases(NARROW_FILTERS, SMALL_SIZES),
    *cases(VGG16_FILTERS, [(37, 53)], pytest.mark.gate),
    *cases(VGG16_FILTERS, LARGE_SIZES, pytest.mark.slow),
]


def has_quick_gradients(variant, padding, filters, size):
    """FCN-8s has all of the trunk; JAX compiles for seconds for every further size."""
    if filters == VGG16_FILTERS and size not in LARGE_SIZES:
        return variant == "FCN8s"
    is_further = size == (64, 65) or (padding, size) == ("paper", (1, 1))
    return keras.backend.backend() != "jax" or variant == "FCN8s" or not is_further


GRADIENT_CASES = [
    case
    if has_quick_gradients(*case.values[0])
    else pytest.param(*case.values, marks=pytest.mark.slow, id=case.id)
    for case in CASES
]


@pytest.fixture(scope="module", autouse=True)
def _forget_what_is_cached():
    yield
    for function in (_model, _variables, _oracle_trunk, _trunk_clear_of_kinks):
        function.cache_clear()


class TestEveryPaddingAndSize:
    @pytest.mark.parametrize("case", CASES)
    def test_logits_equal_the_reference(self, case):
        variant, padding, filters, size = case
        image, _ = _image_and_label_map(size)
        trunk = _oracle_trunk(padding, filters, size)
        variables = _variables(variant, filters)
        expected = reference.logits_of_trunk(variables, trunk, size, variant, padding).numpy()
        model = _model(variant, padding, filters)
        helpers.assign(model, variables)
        assert expected.shape == (1, *size, NUM_CLASSES)
        assert _relative_error(_logits(model, image), expected) <= LOGITS_TOLERANCE

    @pytest.mark.parametrize("case", GRADIENT_CASES)
    def test_gradients_with_ignored_pixels_equal_the_reference(self, case):
        variant, padding, filters, size = case
        variables, image, label_map = _clear_of_kinks(variant, padding, size, filters)
        _, expected = reference.logits_and_gradients(
            variables, image, label_map, variant, padding, dtype="float32"
        )
        model = _model(variant, padding, filters)
        helpers.assign(model, variables)
        gradients = helpers.gradients(model, image, label_map, IGNORE_CLASS)
        _assert_gradients_equal(gradients, expected)


class TestChannelsFirst:
    size = (20, 29)

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_logits_equal_the_reference(self, variant):
        model = _model(variant, "same", NARROW_FILTERS, data_format="channels_first")
        variables = _variables(variant, NARROW_FILTERS)
        helpers.assign(model, variables)
        image, _ = _image_and_label_map(self.size)
        expected = reference.fcn_logits(variables, image, variant, "same").numpy()
        logits = np.moveaxis(_logits(model, np.moveaxis(image, -1, 1)), 1, -1)
        assert _relative_error(logits, expected) <= LOGITS_TOLERANCE

    def test_gradients_equal_the_reference(self):
        model = _model("FCN8s", "same", NARROW_FILTERS, data_format="channels_first")
        variables, image, label_map = _clear_of_kinks("FCN8s", "same", self.size)
        helpers.assign(model, variables)
        _, expected = reference.logits_and_gradients(variables, image, label_map, "FCN8s", "same")
        image = np.moveaxis(image, -1, 1)
        gradients = helpers.gradients(model, image, label_map, IGNORE_CLASS, axis=1)
        _assert_gradients_equal(gradients, expected)


class TestOptions:
    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_logits_with_fc6_of_one_pixel_equal_the_reference(self, variant, padding):
        model = _model(variant, padding, NARROW_FILTERS, fc6_kernel_size=1)
        helpers.randomize(model, seed=0)
        image, _ = _image_and_label_map((37, 53))
        variables = helpers.variables_as_numpy(model)
        expected = reference.fcn_logits(variables, image, variant, padding, fc6_kernel_size=1)
        assert _relative_error(_logits(model, image), expected.numpy()) <= LOGITS_TOLERANCE

    @pytest.mark.parametrize("variant", ["FCN16s", "FCN8s"])
    def test_logits_with_at_once_skip_scales_equal_the_reference(self, variant):
        scales = keras_fcn.AT_ONCE_SKIP_SCALES
        model = _model(variant, "same", NARROW_FILTERS, skip_scales=scales)
        variables = _variables(variant, NARROW_FILTERS)
        helpers.assign(model, variables)
        image, _ = _image_and_label_map((64, 65))
        expected = reference.fcn_logits(variables, image, variant, "same", skip_scales=scales)
        assert _relative_error(_logits(model, image), expected.numpy()) <= LOGITS_TOLERANCE

    def test_gradients_with_at_once_skip_scales_equal_the_reference(self):
        scales = keras_fcn.AT_ONCE_SKIP_SCALES
        model = _model("FCN8s", "same", NARROW_FILTERS, skip_scales=scales)
        variables, image, label_map = _clear_of_kinks("FCN8s", "same", (64, 65))
        helpers.assign(model, variables)
        _, expected = reference.logits_and_gradients(
            variables, image, label_map, "FCN8s", "same", skip_scales=scales
        )
        gradients = helpers.gradients(model, image, label_map, IGNORE_CLASS)
        _assert_gradients_equal(gradients, expected)

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({"filters": NARROW_FILTERS, "fc_units": FC_UNITS}, id="narrow"),
            pytest.param({}, id="4096 fc_units", marks=[pytest.mark.gate, pytest.mark.any_backend]),
        ],
    )
    def test_logits_of_two_images_equal_the_reference(self, options):
        model = keras_fcn.FCN8s(NUM_CLASSES, padding="same", **options)
        helpers.randomize(model, seed=0)
        variables = helpers.variables_as_numpy(model)
        if not options:
            assert variables["fc6/kernel"].shape == (7, 7, 512, 4096)
        images = np.concatenate([_image_and_label_map((37, 53), seed)[0] for seed in (0, 1)])
        expected = reference.fcn_logits(variables, images, "FCN8s", "same").numpy()
        assert np.abs(expected[0] - expected[1]).max() > 0.1 * np.abs(expected).max()
        assert _relative_error(_logits(model, images), expected) <= LOGITS_TOLERANCE


@functools.cache
def _model(variant, padding, filters, **options):
    return getattr(keras_fcn, variant)(
        NUM_CLASSES,
        padding=padding,
        filters=filters,
        fc_units=FC_UNITS,
        trainable_upsampling=True,
        **options,
    )


@functools.cache
def _variables(variant, filters):
    """Random weights; those of equally named layers are equal in all variants."""
    model = _model(variant, "same", filters)
    helpers.randomize(model, seed=0)
    return helpers.variables_as_numpy(model)


@functools.lru_cache(maxsize=1)
def _oracle_trunk(padding, filters, size):
    image, _ = _image_and_label_map(size)
    return reference.pools_and_fc7(_variables("FCN8s", filters), image, padding)


def _clear_of_kinks(variant, padding, size, filters=NARROW_FILTERS):
    """Variables, image and label map."""
    variables = _variables(variant, filters) | _trunk_clear_of_kinks(padding, filters, size)
    return variables, *_image_and_label_map(size)


@functools.lru_cache(maxsize=1)
def _trunk_clear_of_kinks(padding, filters, size):
    image, _ = _image_and_label_map(size)
    variables = reference.clear_of_kinks(_variables("FCN8s", filters), image, padding)
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
    # Not compiled, JAX would compile each of some hundred operations by itself.
    call = model.predict_on_batch if keras.backend.backend() == "jax" else model
    return keras.ops.convert_to_numpy(call(images))


def _assert_gradients_equal(gradients, expected):
    assert gradients.keys() == expected.keys()
    # Otherwise the layers that are dead would be equal whatever is computed.
    assert [name for name, gradient in expected.items() if not gradient.any()] == []
    errors = {name: _relative_error(gradients[name], expected[name]) for name in expected}
    assert {n: error for n, error in errors.items() if not error <= GRADIENT_TOLERANCE} == {}


def _relative_error(actual, expected):
    """The largest difference, relative to the largest magnitude expected."""
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()
