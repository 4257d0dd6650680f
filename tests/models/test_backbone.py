"""FCN heads on other backbones than VGG-16."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_fcn import FCN4s, FCN8s, FCN16s, FCN32s
from keras_fcn.alignment import coordinate_maps
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.models.channels import with_channels
from keras_fcn.weights import load

OTHERS = (pytest.mark.gate, pytest.mark.any_backend)
# Compiling each of them for each size takes JAX a second: one network on every backend.
NETWORKS = [
    pytest.param(network, marks=() if network is FCN8s else OTHERS)
    for network in (FCN32s, FCN16s, FCN8s, FCN4s)
]
SIZES = [pytest.param((320, 352), marks=pytest.mark.any_backend), (331, 325)]


def pyramid(pool, *, offset=0):
    """A backbone whose features are pooled images, five pools of stride 2.

    Args:
        pool: Function of a stride that returns the layer.
        offset: Pixels of padding before the image.
    """
    x = inputs = keras.Input((None, None, 2))
    if offset:
        x = layers.ZeroPadding2D(((offset, offset), (offset, offset)), data_format="channels_last")(
            x
        )
    for number in range(5):
        x = pool(f"pool{number + 1}")(x)
    return keras.Model(inputs, x)


def mean_of_two(name):
    return layers.AveragePooling2D(2, name=name, padding="same", data_format="channels_last")


def every_other(name):
    """A convolution of 1x1 with stride 2, as in ResNet: offset 0 at every stride."""
    kernel = keras.initializers.Constant(np.eye(2)[None, None].tolist())
    return layers.Conv2D(
        2, 1, 2, kernel_initializer=kernel, use_bias=False, name=name, data_format="channels_last"
    )


def mean_of_three(name):
    return layers.AveragePooling2D(3, 2, padding="same", name=name, data_format="channels_last")


def shrinking(name):
    """At stride 32 a window without padding follows, so that scores begin inside the skips."""
    pool = mean_of_two(name)
    if name != "pool5":
        return pool
    window = layers.AveragePooling2D(3, 1, name="window", data_format="channels_last")
    return lambda x: window(pool(x))


def with_weights_of_scores(model, seed=None):
    """Sets the score layers: to equal parts of each feature, or at random."""
    names = [layer.name for layer in model.layers if layer.name.startswith("score_")]
    for name in names:
        kernel, bias = model.get_layer(name).get_weights()
        if seed is None:
            kernel[0, 0] = np.eye(2) / len(names)
        else:
            kernel = np.random.default_rng(seed).normal(0, 10, kernel.shape)
        model.get_layer(name).set_weights([kernel, bias])
    return model


def coordinates(height, width):
    """An image whose channels are the row and the column of every pixel."""
    return np.stack(np.mgrid[:height, :width], axis=-1)[None].astype("float32")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pool", [mean_of_two, every_other, mean_of_three, shrinking])
@pytest.mark.parametrize("size", SIZES)
def test_logits_lie_where_the_image_does(network, pool, size):
    """Means and bilinear upsampling keep a linear image, if and only if they are aligned."""
    model = network(2, backbone=pyramid(pool), head=None, input_shape=(None, None, 2))
    with_weights_of_scores(model)
    logits = model.predict(coordinates(*size), verbose=0)
    assert logits.shape == (1, *size, 2)
    # Away from the border, which the padding changes.
    inside = (slice(None), slice(96, 192), slice(96, 192))
    np.testing.assert_allclose(logits[inside], coordinates(*size)[inside], atol=0.01)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (33, 31), (64, 65)])
def test_every_size_has_logits_of_its_size(network, size):
    model = network(
        2, backbone=pyramid(shrinking, offset=3), fc_units=2, input_shape=(None, None, 2)
    )
    assert model.predict(coordinates(*size), verbose=0).shape == (1, *size, 2)


def mobilenet(**options):
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=None, input_shape=(None, None, 3)
    )
    return with_weights_of_scores(FCN8s(3, backbone=backbone, fc_units=4, **options), seed=0)


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3)).astype("float32")
LABEL_MAPS = np.random.default_rng(1).integers(0, 3, (2, 40, 50))


def test_the_logits_are_aligned_and_the_layers_those_of_the_strides():
    model = mobilenet()
    maps = coordinate_maps(model)
    assert (maps["head"].height.stride, maps["head"].height.offset) == (1, 0)
    assert model.get_layer("backbone").output_names == [
        "out_relu",
        "block_13_expand_relu",
        "block_6_expand_relu",
    ]


def test_the_preprocessing_is_that_of_the_network():
    model = mobilenet()
    preprocessed = model.get_layer("preprocessing").predict(IMAGES, verbose=0)
    expected = keras.applications.mobilenet_v2.preprocess_input(IMAGES.copy())
    np.testing.assert_allclose(preprocessed, expected, atol=1e-6)


def test_an_own_preprocessing_is_saved_with_the_model(tmp_path):
    backbone = pyramid(mean_of_two)
    model = FCN16s(
        2,
        backbone=backbone,
        head=None,
        input_shape=(None, None, 2),
        preprocessing=lambda image: 2 * image,
    )
    with_weights_of_scores(model)
    expected = model.predict(coordinates(64, 64), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(coordinates(64, 64), verbose=0), expected)
    inside = expected[0, 32, 32]
    np.testing.assert_allclose(inside, (64, 64), atol=0.01)


@pytest.mark.parametrize("copy", ["saved", pytest.param("cloned", marks=pytest.mark.gate)])
def test_a_copy_predicts_the_same(copy, tmp_path):
    model = mobilenet(freeze_batch_norm=True)
    model.get_layer("backbone").get_layer("Conv1").trainable = False
    expected = model.predict(IMAGES, verbose=0)
    assert np.ptp(expected) > 1e-3
    if copy == "saved":
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
    else:
        again = keras.models.clone_model(model)
        again.set_weights(model.get_weights())
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), expected, atol=1e-6)
    names = [[v.path.split("/")[-2:] for v in m.trainable_variables] for m in (model, again)]
    assert names[0] == names[1]


@pytest.mark.any_backend
@pytest.mark.parametrize("suffix", [None, ".keras", ".weights.h5"])
def test_a_backbone_that_is_built_again_takes_the_weights_of_the_first(suffix, tmp_path):
    """Keras gives its unnamed layers other numbers, which pass from one digit to two."""

    def network():
        x = inputs = keras.Input((None, None, 2))
        for number in range(12):
            x = layers.Conv2D(2, 1, strides=2 if number < 5 else 1)(x)
        return FCN32s(2, backbone=keras.Model(inputs, x), head=None, input_shape=(None, None, 2))

    keras.utils.clear_session()
    first, second = with_weights_of_scores(network(), seed=0), network()
    names = [[x.name for x in each.get_layer("backbone").layers] for each in (first, second)]
    assert "conv2d_9" in names[0]
    assert "conv2d_12" in names[1]
    source = first
    if suffix:
        source = tmp_path / f"model{suffix}"
        first.save(source) if suffix == ".keras" else first.save_weights(source)
    load(second, source, partial=False)
    image = coordinates(40, 33)
    expected = first.predict(image, verbose=0)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_array_equal(second.predict(image, verbose=0), expected)


@pytest.mark.parametrize("freeze", [False, True])
def test_frozen_batch_normalization_keeps_statistics_and_weights(freeze):
    def pool(name):
        layer = mean_of_two(name)
        if name == "pool1":
            return lambda x: layer(layers.BatchNormalization(axis=-1, name="norm")(x))
        return layer

    model = FCN32s(
        2,
        backbone=pyramid(pool),
        fc_units=2,
        input_shape=(None, None, 2),
        freeze_batch_norm=freeze,
        dropout_rate=0,
    )
    with_weights_of_scores(model)
    norm, conv = model.get_layer("backbone").get_layer("norm"), model.get_layer("head_conv")
    # Else the ReLU may pass no gradient, depending on the seed.
    conv.kernel.assign(np.abs(conv.get_weights()[0]))
    before, head = norm.get_weights(), conv.get_weights()[0]
    model.compile(keras.optimizers.SGD(0.1), SparseCategoricalCrossentropy(from_logits=True))
    loss = model.train_on_batch(coordinates(40, 50), np.ones((1, 40, 50), "int32"))
    assert np.isfinite(loss)
    kept = [np.array_equal(a, b) for a, b in zip(before, norm.get_weights(), strict=True)]
    assert kept == [freeze] * 4
    assert not np.array_equal(conv.get_weights()[0], head)


def test_the_papers_head_is_fc6_and_fc7():
    """A fc6 that takes the mean of 3x3 pixels and a fc7 that copies keep a linear image."""
    model = FCN32s(
        2,
        backbone=pyramid(mean_of_two),
        head="fc",
        fc_units=2,
        fc6_kernel_size=3,
        input_shape=(None, None, 2),
    )
    with_weights_of_scores(model)
    for name, size in (("fc6", 3), ("fc7", 1)):
        kernel = np.broadcast_to(np.eye(2) / size**2, (size, size, 2, 2))
        model.get_layer(name).set_weights([kernel, np.zeros(2)])
    logits = model.predict(coordinates(320, 352), verbose=0)
    inside = (slice(None), slice(96, 192), slice(96, 192))
    np.testing.assert_allclose(logits[inside], coordinates(320, 352)[inside], atol=0.01)


class TestChannels:
    @pytest.mark.parametrize("channels", [1, 2, 6])
    def test_the_same_picture_in_other_channels_has_the_same_features(self, channels):
        """Grey as one channel, and a colour image twice, do what they do as RGB."""
        x = inputs = keras.Input((None, None, 3))
        for number in range(5):
            x = layers.Conv2D(3, 3, 2, padding="same", name=f"conv{number}")(x)
        backbone = keras.Model(inputs, x)
        with pytest.warns(UserWarning, match=f"kernel of conv0 for 3 channels was .* {channels}"):
            model = FCN32s(2, backbone=backbone, fc_units=2, input_shape=(None, None, channels))
        features = model.get_layer("backbone")
        rgb = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype("float32")
        if channels == 6:
            image = np.concatenate([rgb, rgb], axis=-1)
        elif channels == 1:
            image, rgb = rgb[..., :1], np.repeat(rgb[..., :1], 3, axis=-1)
        else:
            kernel = features.get_layer("conv0").get_weights()[0]
            expected = backbone.get_layer("conv0").get_weights()[0][:, :, :2] * 1.5
            np.testing.assert_allclose(kernel, expected, rtol=1e-6)
            return
        expected = backbone.predict(rgb, verbose=0)
        np.testing.assert_allclose(
            features.predict(image, verbose=0), expected, atol=1e-5 * np.abs(expected).max()
        )

    def test_constants_of_normalization_are_repeated(self):
        inputs = keras.Input((None, None, 3))
        x = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])(inputs)
        x = layers.Rescaling([1.0, 2.0, 4.0])(x)
        normalized = with_channels(keras.Model(inputs, x), 4)
        found = normalized.predict(np.full((1, 1, 1, 4), 5.0), verbose=0)
        np.testing.assert_allclose(found.ravel(), [4, 3, 8 / 3, 4], rtol=1e-5)

    def test_what_cannot_be_changed_is_named(self):
        inputs = keras.Input((None, None, 3))
        backbone = keras.Model(inputs, layers.DepthwiseConv2D(3, name="first")(inputs))
        with pytest.raises(ValueError, match=r"4 channels .*'first' is a DepthwiseConv2D"):
            with_channels(backbone, 4)

    def test_another_number_of_channels_than_the_images_is_refused(self):
        with pytest.raises(ValueError, match="`backbone` must take the 3 channels"):
            FCN32s(2, backbone=pyramid(mean_of_two))

    @pytest.mark.filterwarnings("ignore:The pretrained kernel")
    def test_a_preprocessing_of_rgb_is_refused(self):
        backbone = keras.applications.ResNet50(
            include_top=False, weights=None, input_shape=(None, None, 3)
        )
        with pytest.raises(ValueError, match="`preprocessing` must take 4 channels"):
            FCN32s(2, backbone=backbone, input_shape=(None, None, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skips": {"stride8": "pool4"}}, "`skips` must name a layer of stride 8"),
        ({"skips": {"stride3": "pool4"}}, "`skips` must have keys among"),
        ({"padding": "same"}, "`padding` must keep its default with `backbone`"),
        ({"weights": "imagenet"}, "`weights` must keep its default"),
        ({"head": "dense"}, "`head` must be one of"),
        ({"skips": ["pool4"]}, r"`skips` must be a dictionary .* Received: skips=\['pool4'\]"),
        ({"preprocessing": "caffe"}, "`preprocessing` must be a layer or .*='caffe'"),
        ({"freeze_batch_norm": "no"}, "`freeze_batch_norm` must be True or False"),
        ({"fc6_kernel_size": 3}, "`fc6_kernel_size` must keep its default"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FCN8s(2, backbone=pyramid(mean_of_two), **{"input_shape": (None, None, 2), **options})


@pytest.mark.parametrize(
    "backbone",
    [
        "ResNet50",
        keras.applications.ResNet50,
        keras.Sequential([layers.Conv2D(2, 3)]),
        keras.Sequential([keras.Input((4,)), layers.Dense(2)]),
    ],
    ids=["name", "constructor", "without a shape", "no image"],
)
def test_a_backbone_that_is_no_functional_model_of_an_image_is_refused(backbone):
    with pytest.raises(ValueError, match="`backbone` must be a functional model of an image"):
        FCN8s(2, backbone=backbone)


def test_a_backbone_without_a_stride_is_refused():
    inputs = keras.Input((None, None, 3))
    backbone = keras.Model(inputs, layers.Conv2D(2, 3, 2, data_format="channels_last")(inputs))
    with pytest.raises(ValueError, match=r"must have a layer of output stride 32.*\[1, 2\]"):
        FCN8s(2, backbone=backbone)
    with pytest.raises(ValueError, match="`backbone` must be a model for FCN4s"):
        FCN4s(2)


def shared(last_of_each_stride=None):
    """A pyramid whose pool is one layer called five times, each followed by another layer."""
    pool = layers.AveragePooling2D(2, name="pool", data_format="channels_last")
    x = inputs = keras.Input((None, None, 2))
    for number in range(5):
        x = pool(x)
        if last_of_each_stride is not None:
            x = last_of_each_stride(name=f"last{number}")(x)
    return keras.Model(inputs, x)


@pytest.mark.any_backend
def test_a_layer_may_be_called_several_times():
    backbone = shared(layers.Identity)
    model = FCN8s(2, backbone=backbone, head=None, input_shape=(None, None, 2))
    with_weights_of_scores(model)
    logits = model.predict(coordinates(320, 352), verbose=0)
    inside = (slice(None), slice(96, 192), slice(96, 192))
    np.testing.assert_allclose(logits[inside], coordinates(320, 352)[inside], atol=0.01)


def two_inputs():
    image, other = keras.Input((None, None, 2)), keras.Input((None, None, 2))
    return keras.Model([image, other], pyramid(mean_of_two)(layers.add([image, other])))


def inside_another():
    image = keras.Input((None, None, 2))
    return keras.Model(image, pyramid(mean_of_two)(layers.Rescaling(1 / 255)(image)))


def padded(columns):
    image = keras.Input((None, None, 2))
    pad = layers.ZeroPadding2D(((0, 0), columns), data_format="channels_last")
    x = pad(image)
    for number in range(5):
        x = mean_of_two(f"pool{number + 1}")(x)
    return keras.Model(image, x)


def of_one_size():
    image = keras.Input((64, 64, 2))
    x = image
    for number in range(5):
        x = mean_of_two(f"pool{number + 1}")(x)
    return keras.Model(image, x)


def narrow():
    """Rows have the stride 32, columns 16."""
    x = image = keras.Input((None, None, 2))
    for strides in [(2, 2)] * 4 + [(2, 1)]:
        x = layers.AveragePooling2D(strides, padding="same", data_format="channels_last")(x)
    return keras.Model(image, x)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (shared, "stride 32 that is called once. Received: 'pool', which is called 5 times"),
        (two_inputs, "must have one input, an image. Received: .* with 2 inputs"),
        (inside_another, r"stride 16.*\[1, 32\]. Layers of a model inside it are not taken"),
        (lambda: padded((1, 0)), "same padding along rows and columns"),
        (lambda: padded((32, 0)), "same padding along rows and columns"),
        (lambda: padded((0, 32)), "same padding along rows and columns"),
        (of_one_size, r"must take images of .*\(None, None, 2\). Received: .*\(64, 64, 2\)"),
        (narrow, r"stride 32. Received: .* with the strides \[1, 2, 4, 8, 16\]"),
    ],
)
def test_a_backbone_that_cannot_be_aligned_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        FCN8s(2, backbone=make(), input_shape=(None, None, 2))


@pytest.mark.any_backend
@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("branch", "joining"),
    [
        # With padding "same" at even sizes, pixel o of a 3x3 kernel of stride 2 lies at 2o + 1, of
        # a 1x1 kernel at 2o; so does that of a 3x3 kernel behind a row and column of zeros.
        (lambda x: layers.Conv2D(4, 1, 2, padding="same")(x), ["join1", "join2"]),
        (lambda x: layers.Conv2D(4, 3, 2)(layers.ZeroPadding2D(1)(x)), ["join1", "join2"]),
        (lambda x: layers.Conv2D(4, 5, 2, padding="same")(x), []),
    ],
)
def test_branches_that_are_not_aligned_are_warned_of(branch, joining):
    x = image = keras.Input((None, None, 3))
    for number in range(5):
        one = layers.Conv2D(4, 3, 2, padding="same")(x)
        if number in (1, 2):
            join = layers.Add if number == 1 else layers.Concatenate
            x = join(name=f"join{number}")([one, branch(x)])
        else:
            x = one
    backbone = keras.Model(image, x, name="mine")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FCN8s(2, backbone=backbone, fc_units=4)
    found = [str(w.message) for w in caught if "not aligned" in str(w.message)]
    assert len(found) == bool(joining)
    for message in found:
        assert f"'mine' joins feature maps that are not aligned, in {', '.join(joining)}" in message


def test_a_backbone_of_one_size_takes_images_of_that_size():
    model = FCN8s(2, backbone=of_one_size(), fc_units=2, input_shape=(50, 64, 2))
    assert model(np.zeros((1, 50, 64, 2))).shape == (1, 50, 64, 2)
