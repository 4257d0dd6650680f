import warnings

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, randomize

import keras_fcn
from keras_fcn import FCN8s, FCN32s, FCNAlexNet, MultimodalFCN32s
from keras_fcn.training.start_checks import warn_of_bad_start

SMALL = {"num_classes": 3, "filters": NARROW_FILTERS, "fc_units": 8, "padding": "same"}


@pytest.fixture
def trained():
    model = FCN8s(**SMALL)
    bilinear = {
        layer.name: layer.get_weights() for layer in model.layers if "upscore" in layer.name
    }
    randomize(model, seed=0)
    for name, values in bilinear.items():
        model.get_layer(name).set_weights(values)
    return model


def problems(model):
    return {finding.problem: finding.layers for finding in keras_fcn.diagnose(model)}


def test_a_sound_model_has_no_findings(trained):
    assert problems(trained) == {}


@pytest.mark.parametrize(("rate", "is_too_high"), [(1e-3, True), (9e-4, False)])
def test_a_rate_that_spoils_pretrained_layers_is_named_before_the_first_step(
    trained, rate, is_too_high
):
    trained.compile(keras.optimizers.AdamW(rate), "mse")
    found = problems(trained).get("high_rate", ())
    assert (len(found) == 15) is is_too_high  # VGG-16's convolutions, fc6 and fc7.
    trained.optimizer.iterations.assign(1)
    assert "high_rate" not in problems(trained)


def test_random_and_frozen_layers_bear_any_rate(trained):
    random = FCN8s(**SMALL)
    random.compile("adamw", "mse")
    assert "high_rate" not in problems(random)
    for layer in trained.layers:
        layer.trainable = layer.name == "block5_conv3" or layer.name.startswith("score")
    trained.compile("adamw", "mse")
    assert problems(trained)["high_rate"] == ("block5_conv3",)


@pytest.mark.any_backend
@pytest.mark.parametrize(("head", "layers"), [("conv", "head_conv"), ("fc", "fc6, fc7")])
def test_the_random_head_of_a_backbone_needs_no_other_start(head, layers):
    image = keras.Input((None, None, 3))
    x = image
    for number in range(5):
        x = keras.layers.Conv2D(16, 3, strides=2, padding="same", name=f"c{number}")(x)
    backbone = keras.Model(image, x)
    model = FCN32s(3, backbone=backbone, head=head, fc_units=64)

    def texts():
        return [str(finding) for finding in keras_fcn.diagnose(model)]

    of_head = f"{layers}: random initial values, as the head of a backbone has before training"
    assert any(text.startswith("c0, c1, c2, c3, c4: random initial values;") for text in texts())
    assert any(text.startswith(of_head) for text in texts())
    # Of a backbone with trained weights, `keras-fcn train` has nothing to warn of.
    randomize(model.get_layer("backbone"), seed=0)
    assert next(text for text in texts() if "random" in text).startswith(of_head)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warn_of_bad_start(model, 1e-4)


@pytest.mark.any_backend
def test_initial_values_and_zero_scores_are_named():
    found = problems(FCN32s(**{**SMALL, "fc_units": 64}))
    assert found["random"][-2:] == ("fc6", "fc7")
    assert len(found["random"]) == 15
    assert found["zero"] == ("score_fr",)


@pytest.mark.any_backend
@pytest.mark.parametrize("network", ["AlexNet", "slim VGG-16", "VGG-16", "another"])
def test_imagenet_is_proposed_only_where_it_can_be_loaded(network):
    image = keras.Input((None, None, 3))
    convolution = keras.layers.Conv2D(64, 3, name="mine")
    model = {
        "AlexNet": lambda: FCNAlexNet(3, filters=(8, 8, 8, 8, 8), fc_units=64),
        "slim VGG-16": lambda: FCN32s(3, filters=NARROW_FILTERS, fc_units=64),
        "VGG-16": lambda: FCN32s(3, fc_units=64),
        "another": lambda: keras.Model(image, convolution(image)),
    }[network]()
    (finding,) = (found for found in keras_fcn.diagnose(model) if found.problem == "random")
    assert ("'imagenet'" in str(finding)) is (network == "VGG-16")
    if network in ("AlexNet", "slim VGG-16"):  # Indeed they cannot.
        with pytest.raises(ValueError, match="'imagenet'"):
            type(model)(3, filters=model.get_config()["filters"], fc_units=64, weights="imagenet")


@pytest.mark.any_backend
def test_the_mean_of_two_streams_scores_is_no_layer_that_cannot_learn():
    found = problems(MultimodalFCN32s(modalities=("image", "depth"), **SMALL))
    assert found["zero"] == ("score_fr_image", "score_fr_depth")
    assert "dead_input" not in found


@pytest.mark.any_backend
def test_weights_of_a_model_inside_a_model_are_checked(trained):
    image = keras.Input((None, None, 3))
    outer = keras.Model(image, keras.layers.Softmax()(trained(image)))
    assert problems(outer) == {}
    layer = trained.get_layer("block3_conv2")
    layer.kernel.assign(np.full(layer.kernel.shape, np.nan))
    assert problems(outer) == {"not_finite": ("block3_conv2",)}
    outer.compile(keras.optimizers.AdamW(1e-3), "mse")
    assert len(problems(outer)["high_rate"]) == 14


@pytest.mark.any_backend
def test_layers_without_a_kernel_and_of_one_name_are_checked():
    image = keras.Input((8, 8, 3))
    streams = []
    for name, variance in (("first", np.nan), ("second", 1.0)):
        inputs = keras.Input((8, 8, 3))
        norm = keras.layers.BatchNormalization(name="norm")
        streams.append(keras.Model(inputs, norm(inputs), name=name)(image))
        norm.moving_variance.assign(np.full(3, variance))
    assert problems(keras.Model(image, keras.layers.add(streams))) == {"not_finite": ("norm",)}


@pytest.mark.any_backend
@pytest.mark.parametrize("model", [3, keras.Sequential([keras.layers.Dense(2)])])
def test_what_holds_no_weights_is_refused(model):
    with pytest.raises(ValueError, match=r"`model` must be a `keras\.Model` that is built"):
        keras_fcn.diagnose(model)


@pytest.mark.any_backend
def test_fc6_and_fc7_that_no_classifier_gave_are_named(shared):
    with pytest.warns(UserWarning, match="start random"):
        model = FCN8s(
            num_classes=3,
            fc_units=64,
            padding="same",
            weights=shared / "weights" / "vgg16_imagenet_notop_fp16.weights.h5",
        )
    assert problems(model)["random"] == ("fc6", "fc7")
    # The loading has warned; a training does not warn again.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warn_of_bad_start(model, 1e-4)


@pytest.mark.any_backend
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(trained, value):
    layer = trained.get_layer("block4_conv2")
    kernel, bias = layer.get_weights()
    bias[3] = value
    layer.set_weights([kernel, bias])
    assert problems(trained) == {"not_finite": ("block4_conv2",)}


@pytest.mark.any_backend
def test_upsampling_that_is_not_bilinear_is_named(trained):
    layer = trained.get_layer("upscore8")
    (kernel,) = layer.get_weights()
    kernel[0, 0, 1, 2] = 0.5
    layer.set_weights([kernel])
    assert problems(trained) == {"not_bilinear": ("upscore8",)}


def test_a_score_layer_without_input_is_named(trained):
    layer = trained.get_layer("fc7")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, np.full_like(bias, -1e9)])
    (finding,) = keras_fcn.diagnose(trained)
    assert (finding.problem, finding.layers) == ("dead_input", ("score_fr",))
    assert str(finding).startswith("score_fr: the layer before it returns zero")


@pytest.mark.any_backend
def test_a_layer_of_zeros_is_named_and_what_follows_from_it(trained):
    layer = trained.get_layer("fc7")
    layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
    assert problems(trained) == {"zero": ("fc7",), "dead_input": ("score_fr",)}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_every_data_format_and_fixed_sizes_are_diagnosed(data_format):
    shape = (3, 40, 33) if data_format == "channels_first" else (40, 33, 3)
    model = FCN32s(**SMALL, data_format=data_format, input_shape=shape)
    assert "zero" in problems(model)


def test_random_fc6_and_fc7_alone_are_told_with_what_leaves_them_so(trained):
    for name in ("fc6", "fc7"):
        layer = trained.get_layer(name)
        layer.kernel.assign(np.random.default_rng(0).uniform(-1, 1, layer.kernel.shape))
    (finding,) = keras_fcn.diagnose(trained)
    assert (finding.problem, finding.layers) == ("random", ("fc6", "fc7"))
    assert "need fc_units=4096" in finding.meaning
