"""FCN-32s, FCN-16s and FCN-8s against the independent oracle of `reference.py`.

Every weight is random and not zero, so that no layer can be missing, misplaced or misnamed.
"""

import functools
import itertools
import types

import helpers
import keras
import numpy as np
import pytest
import reference

import keras_fcn

VARIANTS = ("FCN32s", "FCN16s", "FCN8s")
SIZES = ((1, 1), (37, 53), (64, 65), (224, 224), (97, 500))
NUM_CLASSES = 5
FC_UNITS = 16
IGNORE_CLASS = 255
LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4


@pytest.fixture(
    scope="module",
    # Cases of equal padding and size stand together: they share `_clear_trunk`.
    params=itertools.product(("paper", "same"), SIZES, VARIANTS),
    ids=lambda case: f"{case[0]}-{case[1][0]}x{case[1][1]}-{case[2]}",
)
def case(request):
    """A variant, padding and size with the oracle's logits and gradients."""
    padding, size, variant = request.param
    image, label_map = _image_and_label_map(size)
    model = _model(variant, padding, "channels_last")
    helpers.randomize(model, seed=0)
    trunk_variables, trunk = _clear_trunk(padding, size)
    variables = helpers.variables_as_numpy(model) | trunk_variables
    return types.SimpleNamespace(
        variant=variant,
        padding=padding,
        image=image,
        label_map=label_map,
        variables=variables,
        logits=reference.logits_of_trunk(variables, trunk, size, variant, padding).numpy(),
        gradients=reference.logits_and_gradients(
            variables, image, label_map, variant, padding, dtype="float32"
        )[1],
    )


@pytest.fixture(scope="module", params=["channels_last", "channels_first"])
def computed(request, case):
    """The package's channels-last logits and gradients of the case, in either data format."""
    model = _model(case.variant, case.padding, request.param)
    helpers.assign(model, case.variables)
    return _logits_and_gradients(model, case.image, case.label_map)


@pytest.fixture(scope="module", autouse=True)
def _forget_models():
    yield
    _model.cache_clear()
    _clear_trunk.cache_clear()


class TestEverySizePaddingAndDataFormat:
    def test_logits_equal_the_reference(self, case, computed):
        logits, _ = computed
        assert logits.shape == (*case.image.shape[:3], NUM_CLASSES)
        assert _relative_error(logits, case.logits) <= LOGITS_TOLERANCE

    def test_gradients_with_ignored_pixels_equal_the_reference(self, case, computed):
        _, gradients = computed
        _assert_gradients_equal(gradients, case.gradients)


class TestOptions:
    @pytest.mark.parametrize("padding", ["paper", "same"])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_logits_with_fc6_of_one_pixel_equal_the_reference(self, variant, padding):
        model = getattr(keras_fcn, variant)(
            NUM_CLASSES, padding=padding, fc_units=FC_UNITS, fc6_kernel_size=1
        )
        _assert_logits_equal_the_reference(model, variant, padding, fc6_kernel_size=1)

    def test_logits_with_4096_fc_units_equal_the_reference(self):
        model = keras_fcn.FCN8s(NUM_CLASSES)
        assert model.get_layer("fc6").kernel.shape == (7, 7, 512, 4096)
        _assert_logits_equal_the_reference(model, "FCN8s", "paper")

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
        helpers.randomize(model, seed=0)
        image, label_map = _image_and_label_map((37, 53))
        variables = reference.clear_of_kinks(helpers.variables_as_numpy(model), image, "same")
        helpers.assign(model, variables)
        expected_logits, expected_gradients = reference.logits_and_gradients(
            variables, image, label_map, variant, "same", skip_scales=skip_scales
        )
        logits, gradients = _logits_and_gradients(model, image, label_map)
        assert _relative_error(logits, expected_logits) <= LOGITS_TOLERANCE
        _assert_gradients_equal(gradients, expected_gradients)


def _assert_logits_equal_the_reference(model, variant, padding, **options):
    """For a batch of two images."""
    helpers.randomize(model, seed=0)
    images = np.concatenate([_image_and_label_map((21, 30), seed)[0] for seed in (0, 1)])
    variables = helpers.variables_as_numpy(model)
    expected = reference.fcn_logits(variables, images, variant, padding, **options).numpy()
    logits = keras.ops.convert_to_numpy(model(images, training=False))
    assert _relative_error(logits, expected) <= LOGITS_TOLERANCE


@functools.cache
def _model(variant, padding, data_format):
    return getattr(keras_fcn, variant)(
        NUM_CLASSES,
        padding=padding,
        fc_units=FC_UNITS,
        trainable_upsampling=True,
        data_format=data_format,
    )


@functools.lru_cache(maxsize=1)
def _clear_trunk(padding, size):
    """Weights up to fc7 that are clear of kinks, and the oracle's pools and fc7 with them."""
    model = _model("FCN8s", padding, "channels_last")
    helpers.randomize(model, seed=0)
    image, _ = _image_and_label_map(size)
    variables = reference.clear_of_kinks(helpers.variables_as_numpy(model), image, padding)
    trunk_variables = {n: value for n, value in variables.items() if n.startswith(("block", "fc"))}
    return trunk_variables, reference.pools_and_fc7(variables, image, padding)


def _image_and_label_map(size, seed=0):
    """One random image, and labels of which a fifth, though not the first, is ignored."""
    generator = np.random.default_rng([*size, seed])
    image = generator.uniform(0, 255, (1, *size, 3)).astype("float32")
    label_map = generator.integers(NUM_CLASSES, size=(1, *size))
    ignored = generator.uniform(size=label_map.shape) < 0.2
    ignored[0, 0, 0] = False
    return image, np.where(ignored, IGNORE_CLASS, label_map)


def _logits_and_gradients(model, image, label_map):
    if model.data_format == "channels_last":
        return helpers.logits_and_gradients(model, image, label_map, IGNORE_CLASS)
    image = np.moveaxis(image, -1, 1)
    logits, gradients = helpers.logits_and_gradients(model, image, label_map, IGNORE_CLASS, axis=1)
    return np.moveaxis(logits, 1, -1), gradients


def _assert_gradients_equal(gradients, expected):
    assert gradients.keys() == expected.keys()
    errors = {name: _relative_error(gradients[name], expected[name]) for name in expected}
    assert {n: error for n, error in errors.items() if not error <= GRADIENT_TOLERANCE} == {}


def _relative_error(actual, expected):
    """The largest difference, relative to the largest magnitude expected."""
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()
