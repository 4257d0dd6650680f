"""Coordinate maps that are read off a graph, against gradients and shifted images."""

from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import NARROW_FILTERS
from keras import layers

from keras_fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.alignment import (
    IMAGE,
    CoordinateMap,
    convolution,
    coordinate_maps,
    vgg16_pool_maps,
)

pytestmark = pytest.mark.any_backend
of_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="what a row touches is found by TensorFlow's gradients, in float64",
)

# Of networks whose squeeze-and-excitation sees the whole image, all but that is compared.
UNBOUNDED = ("MobileNetV3Small", "EfficientNetV2B0")
MISALIGNED = ("Xception",)
QUICK = ("VGG16", "MobileNetV2", "MobileNetV3Small")
# Those whose first layer brings [0, 255] to [-1, 1], below which ReLU has no slope.
RESCALED = (*UNBOUNDED, "ConvNeXtTiny")
GATE = ("ResNet50", "EfficientNetV2B0", "Xception")
NETWORKS = [*QUICK, *(pytest.param(name, marks=pytest.mark.gate) for name in GATE)]
SIZES = [
    *(("VGG16", 0), ("MobileNetV2", 13), ("MobileNetV3Small", 13)),
    *(pytest.param(name, 13, marks=pytest.mark.gate) for name in GATE),
    *(
        pytest.param(name, 0, marks=pytest.mark.slow)
        for name in ("MobileNetV2", "MobileNetV3Small", *GATE)
    ),
]
# Of receptive fields of 2071 and 1688 pixels, at an odd and at an even size.
LARGE = [
    pytest.param(name, odd, marks=pytest.mark.slow)
    for name in ("ResNet50V2", "DenseNet121", "ConvNeXtTiny")
    for odd in (0, 13)
]


class Nothing(layers.GlobalAveragePooling2D):
    """Global pooling of which the network learns nothing."""

    def call(self, inputs):
        return 0 * super().call(inputs)


def positive(name, pool=layers.AveragePooling2D):
    """A network in float64 without pretrained weights, whose every path has a gradient.

    The gradient of a maximum is that of one pixel, so that pools take the mean.
    """

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, layers.MaxPooling2D):
            return pool.from_config(config)
        kind = Nothing if isinstance(layer, layers.GlobalAveragePooling2D) else type(layer)
        return kind.from_config(config)

    floatx = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        network = getattr(keras.applications, name)(
            include_top=False, weights=None, input_shape=(None, None, 3)
        )
        network = keras.models.clone_model(network, clone_function=clone)
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(floatx)
    generator = np.random.default_rng(0)
    for variable in network.trainable_variables:
        if len(variable.shape) > 1:
            # Small, so that sums stay where ReLU6 has a slope.
            weights = generator.uniform(0.5, 1, variable.shape)
            variable.assign(0.2 * weights / np.prod(variable.shape[:-1]))
    return network


def image(name, height, width=32):
    low, high = (200, 255) if name in RESCALED else (0.5, 1)
    return np.random.default_rng(1).uniform(low, high, (1, height, width, 3))


def touched_rows(network, name, height, row, width=32):
    """The first and the last row of the image that a row of the output has a gradient from."""
    x = tf.constant(image(name, height, width))
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(network(x)[:, row])
    rows = np.flatnonzero(np.any(tape.gradient(total, x).numpy() != 0, axis=(0, 2, 3)))
    return rows[0], rows[-1]


def last_map(network, name, known=None, height=2048):
    misaligned = "first" if name in MISALIGNED else "raise"
    maps = coordinate_maps(network, known, misaligned, (height, 32))
    last = list(maps.values())[-1]
    assert (1, *last.size) == network.compute_output_shape((1, height, 32, 3))[:3]
    return last.height


def without_global_pools(network):
    return {layer.name: None for layer in network.layers if isinstance(layer, Nothing)}


@of_tensorflow
@pytest.mark.parametrize(("name", "odd"), [*SIZES, *LARGE])
def test_a_gradient_touches_the_receptive_field_and_nothing_else(name, odd):
    network = positive(name)
    assert np.isinf(last_map(network, name).receptive_field) == (name in UNBOUNDED)
    known = without_global_pools(network)
    height = -(-(int(last_map(network, name, known).receptive_field) + 64) // 64) * 64 + odd
    found, row = last_map(network, name, known, height), height // 64
    first, last = touched_rows(network, name, height, row)
    assert (first, last) == (found.stride * row + found.first, found.stride * row + found.last)
    if name not in MISALIGNED:
        assert (first + last) / 2 == found.stride * row + found.offset


@pytest.mark.gate
@of_tensorflow
def test_a_gradient_touches_the_receptive_field_of_a_block_with_keras_own_layer():
    network = positive("InceptionResNetV2")
    block = keras.Model(network.input, network.get_layer("block35_1_ac").output)
    found = list(coordinate_maps(block, image_size=(299, 100)).values())[-1].height
    first, last = touched_rows(block, "InceptionResNetV2", 299, 16, width=100)
    assert (first, last) == (16 * found.stride + found.first, 16 * found.stride + found.last)
    assert (first + last) / 2 == 16 * found.stride + found.offset


@of_tensorflow
@pytest.mark.parametrize("name", NETWORKS)
def test_shifting_the_image_by_the_stride_shifts_the_output_by_one(name):
    network = positive(name, pool=layers.MaxPooling2D)
    found = last_map(network, name, without_global_pools(network))
    assert found.stride == 32
    height = -(-(int(found.receptive_field) + 128) // 64) * 64
    pixels = tf.constant(image(name, height + 32))
    one, other = network(pixels[:, :-32]).numpy(), network(pixels[:, 32:]).numpy()
    row = height // 64
    np.testing.assert_allclose(one[:, row + 1], other[:, row], rtol=1e-9)
    assert abs(one[:, row + 1] - one[:, row]).max() > 1e-9 * abs(one).max() > 0


def of_layer(layer, height=16):
    """The map of a layer, and the rows that its output rows 2 and 3 touch, by gradients."""
    inputs = keras.Input((None, None, 1))
    network = keras.Model(inputs, layer(inputs))
    for variable in network.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    x = tf.constant(np.random.default_rng(0).uniform(1, 2, (1, height, height, 1)), "float32")
    found = []
    for row in (2, 3):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(network(x)[:, row])
        rows = np.flatnonzero(np.any(tape.gradient(total, x).numpy() != 0, axis=(0, 2, 3)))
        found.append((rows[0], rows[-1]))
    return coordinate_maps(network)[layer.name].height, found


LAYERS = [
    layers.Conv2D(1, 3, dilation_rate=2, padding="same"),
    layers.Conv2D(1, 5, strides=2, padding="same"),
    layers.Conv2D(1, 4, strides=3),
    layers.DepthwiseConv2D(3, strides=2, padding="same"),
    layers.SeparableConv2D(1, 3, strides=2),
    layers.Conv2DTranspose(1, 4, 2),
    layers.Conv2DTranspose(1, 4, 2, padding="same"),
    layers.Conv2DTranspose(1, 5, 3, padding="same"),
    layers.AveragePooling2D(3, 2, padding="same"),
    layers.AveragePooling2D(3, 2),
    layers.ZeroPadding2D(((2, 1), (0, 0))),
    layers.Cropping2D(((2, 1), (0, 0))),
    layers.UpSampling2D(2),
    layers.UpSampling2D(3),
    layers.UpSampling2D(2, interpolation="bilinear"),
    layers.UpSampling2D(3, interpolation="bilinear"),
]


@of_tensorflow
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.name}")
def test_every_layer_touches_what_its_map_says(layer):
    found, touched = of_layer(layer)
    for row, (first, last) in zip((2, 3), touched, strict=True):
        low = -(-(found.stride * row + found.first) // 1)
        high = (found.stride * row + found.last) // 1
        # Bilinear weights are 0 where a pixel lies exactly on another one.
        assert low <= first <= last <= high
        if "up_sampling" not in layer.name:
            assert (first, last) == (max(low, 0), high)


@pytest.mark.parametrize("padding", ["paper", "same"])
@pytest.mark.parametrize("network", [FCN32s, FCN16s, FCN8s])
def test_an_fcn_is_aligned_with_its_image(network, padding):
    fcn = network(2, filters=NARROW_FILTERS, fc_units=2, padding=padding)
    maps = coordinate_maps(fcn)
    assert (maps["head"].height.stride, maps["head"].height.offset) == (1, 0)
    for name, expected in vgg16_pool_maps(99 if padding == "paper" else 0).items():
        if name in ("pool4", "pool5"):
            found = maps[f"block{name[-1]}_pool"].height
            assert (found.stride, found.offset) == (expected.stride, expected.offset)
    # Known of fc6 on VGG-16: 404 pixels.
    assert maps["fc6"].width.receptive_field == 404


def test_branches_of_other_offsets_are_an_error_with_both_maps():
    inputs = keras.Input((None, None, 3))
    one = layers.Conv2D(4, 1, strides=2, padding="same")(inputs)
    two = layers.MaxPooling2D(3, 2, padding="same")(layers.Conv2D(4, 1)(inputs))
    model = keras.Model(inputs, layers.Add(name="sum")([one, two]))
    with pytest.raises(ValueError, match=r"Layer 'sum' \(Add\).*offset 0.*and.*offset 1"):
        coordinate_maps(model)
    assert coordinate_maps(model, misaligned="first")["sum"].height == CoordinateMap(
        Fraction(2), Fraction(0), Fraction(0), Fraction(2)
    )


def test_a_padding_of_keras_ops_is_read_like_the_layer():
    inputs = keras.Input((None, None, 3))
    padded = keras.ops.pad(inputs, [[0, 0], [2, 1], [3, 0], [0, 0]])
    network = keras.Model(inputs, layers.Conv2D(2, 3, strides=2, name="conv")(padded))
    x = layers.ZeroPadding2D(((2, 1), (3, 0)))(inputs)
    of_layer = keras.Model(inputs, layers.Conv2D(2, 3, strides=2, name="conv")(x))
    assert coordinate_maps(network)["conv"] == coordinate_maps(of_layer)["conv"]
    mirrored = keras.Model(
        inputs, keras.ops.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]], "reflect")
    )
    with pytest.raises(ValueError, match=r"\(Pad\) cannot be read unless .* mode='constant'"):
        coordinate_maps(mirrored)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_exchange_of_channels_in_a_preprocessing_changes_no_positions(data_format):
    shape = (None, None, 3) if data_format == "channels_last" else (3, None, None)
    image = keras.Input(shape)
    x = keras.applications.vgg16.preprocess_input(image, data_format=data_format)
    x = layers.Conv2D(2, 3, strides=2, data_format=data_format, name="conv")(x)
    found = coordinate_maps(keras.Model(image, x))["conv"]
    assert found.height == found.width == convolution(3, 2)


@pytest.mark.parametrize("index", [np.s_[:, 1:], np.s_[:, :, ::-1], np.s_[:, 0]])
def test_an_index_of_rows_or_columns_is_not_read(index):
    image = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match=r"\(GetItem\) cannot be read"):
        coordinate_maps(keras.Model(image, image[index]))


def test_a_layer_that_cannot_be_read_is_declared():
    inputs = keras.Input((None, None, 3))
    x = layers.Lambda(lambda x: x[:, 1:-1, 1:-1], name="cut")(inputs)
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="conv")(x))
    with pytest.raises(ValueError, match=r"Layer 'cut' \(Lambda\) cannot be read.*known="):
        coordinate_maps(model)
    found = coordinate_maps(model, known={"cut": CoordinateMap(Fraction(1), Fraction(1))})
    assert found["conv"].height == convolution(3, padding=-1)
    assert coordinate_maps(model, known={"cut": IMAGE})["conv"].height == convolution(3)


def test_a_layer_that_is_called_twice_has_the_map_of_its_first_call():
    """Receptive fields: 2 pixels, then 2 + 2 * 2, then another 2."""
    pool = layers.MaxPooling2D(2, name="pool")
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(1, 3, name="conv")(pool(inputs))
    maps = coordinate_maps(keras.Model(inputs, layers.ReLU(name="last")(pool(x))))
    assert [maps[name].height.stride for name in ("pool", "conv", "last")] == [2, 2, 4]
    assert [maps[name].height.receptive_field for name in ("pool", "conv", "last")] == [2, 6, 8]


def test_models_inside_are_read_and_layout_changes_followed():
    backbone = keras.Sequential(
        [
            keras.Input((3, None, None)),
            layers.Conv2D(2, 3, strides=2, data_format="channels_first", name="conv"),
        ],
        name="inner",
    )
    inputs = keras.Input((None, None, 3))
    x = backbone(layers.Permute((3, 1, 2))(inputs))
    x = layers.Permute((2, 3, 1), name="back")(x)
    x = layers.Conv2D(1, 3, data_format="channels_last", name="last")(x)
    model = keras.Model(inputs, x)
    maps = coordinate_maps(model)
    assert maps["inner/conv"].height == convolution(3, 2)
    assert maps["inner/conv"].rows_axis == 2
    assert maps["last"].height == convolution(3, 2).then(convolution(3))


@pytest.mark.parametrize(
    "layer", [layers.BatchNormalization(axis=1), layers.LayerNormalization(axis=(1, 2, 3))]
)
def test_what_mixes_positions_is_refused(layer):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 3, data_format="channels_last")(inputs)
    with pytest.raises(ValueError, match="mixes positions"):
        coordinate_maps(keras.Model(inputs, layer(x)))


OPERATIONS = {
    name: getattr(keras.ops, name)
    for name in (
        *("log", "log1p", "log2", "log10", "exp2", "expm1", "arctan", "arcsinh", "sin", "cos"),
        *("tan", "cbrt", "rsqrt", "reciprocal", "ceil", "floor", "round", "sign", "erf"),
        *("isfinite", "leaky_relu", "selu", "celu", "hard_tanh", "log_sigmoid", "softsign"),
    )
} | {
    "where": lambda x: keras.ops.where(x > 0.5, keras.ops.log(x), 0.0),
    "arctan2": lambda x: keras.ops.arctan2(x, 1.0 - x),
    "mod": lambda x: keras.ops.mod(7.0 * x, 2.0),
    "logaddexp": lambda x: keras.ops.logaddexp(x, 2.0 * x),
    "divide_no_nan": lambda x: keras.ops.divide_no_nan(x, 1.0 + x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_on_each_value_change_no_positions(name):
    image = keras.Input((3, 4, 2))
    output = OPERATIONS[name](image)
    model = keras.Model(image, output)
    pixels = np.random.default_rng(0).uniform(0.1, 0.9, (1, 3, 4, 2)).astype("float32")
    other = pixels.copy()
    other[0, 1, 2] = 2.7 - pixels[0, 1, 2]
    results = [keras.ops.convert_to_numpy(model(values)) for values in (pixels, other)]
    changed = (results[0] != results[1]).any(axis=-1)[0]
    changed[1, 2] = False
    assert not changed.any()  # Measured: each value depends on its own alone.
    found = coordinate_maps(keras.Model(image, keras.layers.Conv2D(1, 3, name="conv")(output)))
    assert found["conv"].height == convolution(3)
    assert found["conv"].width == convolution(3)
