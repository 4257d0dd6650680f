import re

import helpers
import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS

import keras_fcn
from keras_fcn import (
    FCN4s,
    FCN8s,
    FCN16s,
    FCN32s,
    FCNAlexNet,
    MultimodalFCN32s,
    MultitaskFCN8s,
)

BACKEND = keras.backend.backend()
MODELS = (FCN32s, FCN16s, FCN8s)

# PyTorch compiles C++ for every layer, for a minute and more; test_fit.py has a compiled step.
slow_on_torch = pytest.mark.slow if BACKEND == "torch" else lambda test: test


def small(cls=FCN8s, **arguments):
    options = {"num_classes": 5, "filters": NARROW_FILTERS, "fc_units": 16, "padding": "same"}
    return cls(**{**options, **arguments})


def call(model, images):
    # Not compiled, JAX would compile each of some hundred operations by itself.
    return model.predict_on_batch(images) if BACKEND == "jax" else model(images)


def logits_of(model, images):
    return keras.ops.convert_to_numpy(call(model, images))


def shape_of_logits(model, images):
    if BACKEND == "jax":  # Which finds the shape without compiling anything.
        import jax

        return jax.eval_shape(model, images).shape
    return tuple(model(images).shape)


class TestShapes:
    @pytest.mark.parametrize("padding", ["paper", "same"])
    @pytest.mark.parametrize("cls", MODELS)
    def test_logits_have_the_size_of_the_image(self, cls, padding):
        model = small(cls, padding=padding, data_format="channels_last")
        for height, width in ((2, 3), (45, 32)):
            images = np.zeros((2, height, width, 3), "uint8")
            assert shape_of_logits(model, images) == (2, height, width, 5)

    def test_channels_first(self):
        model = small(data_format="channels_first")
        assert model.input_shape == (None, 3, None, None)
        assert model.output_shape == (None, 5, None, None)
        assert shape_of_logits(model, np.zeros((1, 3, 9, 6), "uint8")) == (1, 5, 9, 6)

    def test_data_format_follows_keras(self):
        keras.config.set_image_data_format("channels_first")
        try:
            model = small()
        finally:
            keras.config.set_image_data_format("channels_last")
        assert model.input_shape == (None, 3, None, None)

    @pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
    def test_images_of_any_dtype_give_the_same_logits(self, dtype):
        model = small()
        helpers.randomize(model, seed=0)
        image = np.random.default_rng(0).integers(0, 256, (1, 20, 24, 3))
        expected = logits_of(model, image.astype("float32"))
        assert expected.any()
        np.testing.assert_array_equal(logits_of(model, image.astype(dtype)), expected)

    def test_other_channel_counts(self):
        model = small(input_shape=(None, None, 4), include_preprocessing=False)
        assert shape_of_logits(model, np.zeros((1, 8, 8, 4))) == (1, 8, 8, 5)


class TestArguments:
    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_classes": 1}, "`num_classes` must be an integer of at least 2"),
            ({"num_classes": 10**12}, "`num_classes` must be an integer from 2 to 46340"),
            ({"padding": "valid"}, "`padding` must be 'paper' or 'same'"),
            ({"filters": (8, 8, 8, 16)}, "`filters` must be five positive integers"),
            ({"filters": (8, 8, 0, 16, 16)}, "`filters` must be five positive integers"),
            ({"weights": "imagenet"}, r"`filters` must be \(64, 128, 256, 512, 512\)"),
            ({"weights": "pascal_voc"}, r"`filters` must be \(64, 128, 256, 512, 512\)"),
            ({"fc_units": 0}, "`fc_units` must be a positive integer"),
            ({"fc6_kernel_size": 4}, "`fc6_kernel_size` must be a positive odd integer"),
            ({"dropout_rate": 1.0}, "`dropout_rate` must be a number of at least 0"),
            ({"dropout_rate": "a"}, "`dropout_rate` must be .* Received: dropout_rate='a'"),
            ({"trainable_upsampling": 1}, "`trainable_upsampling` must be True or False"),
            ({"include_preprocessing": "no"}, "`include_preprocessing` must be True or False"),
            ({"gradient_checkpointing": 0}, "`gradient_checkpointing` must be True or False"),
            ({"classifier_activation": "sofmax"}, "`classifier_activation` must be the name"),
            ({"label_space": {}}, "`label_space` must be `None` or a label space"),
            ({"skip_scales": (1.0,)}, "`skip_scales` must be two numbers"),
            ({"mean": (1, 2)}, "`mean` must be 3 numbers, blue"),
            ({"mean": (1, 2, float("nan"))}, "`mean` must be 3 numbers, blue"),
            ({"skip_scales": (float("inf"), 1)}, "`skip_scales` must be two numbers"),
            ({"skip_scales": ("1", 1)}, "`skip_scales` must be two numbers"),
            ({"data_format": "NCHW"}, "`data_format` must be"),
            ({"input_shape": 5}, r"`input_shape` must be \(height, width, channels\)"),
            (
                {"input_shape": np.array([8, 9])},
                r"`input_shape` must be \(height, width, channels\)",
            ),
            ({"input_shape": (8, 9)}, r"`input_shape` must be \(height, width, channels\)"),
            ({"input_shape": (None, None, None)}, "`input_shape` must be of a known number"),
            ({"input_shape": (None, None, 4), "mean": (1, 2, 3)}, "`mean` must be 4 numbers, one"),
            ({"input_shape": (0, 8, 3)}, "each a positive integer or None"),
            ({"filters": 8}, "`filters` must be a tuple"),
            ({"mean": 8}, "`mean` must be a tuple"),
            ({"skip_scales": 0.1}, "`skip_scales` must be a tuple"),
            ({"label_space": "pascal_voc"}, "`label_space` must be a LabelSpace, such as"),
            ({"head": "fc"}, "`head` must keep its default, 'conv', without a `backbone`"),
            ({"skips": {}}, "`skips` must keep its default, None, without"),
            ({"preprocessing": keras.ops.abs}, "`preprocessing` must keep its default"),
            ({"freeze_batch_norm": True}, "`freeze_batch_norm` must keep its default"),
        ],
    )
    def test_bad_arguments_are_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            small(**arguments)

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        ("network", "argument", "message"),
        [
            (FCN8s, "pading", "FCN8s has no argument 'pading'. Did you mean padding?"),
            (FCN4s, "fc_unit", "FCN4s has no argument 'fc_unit'."),
            (FCNAlexNet, "input_shape", "FCNAlexNet has no argument 'input_shape'."),
            (MultimodalFCN32s, "stack", "Did you mean stacked?"),
            (MultitaskFCN8s, "label_space", "Did you mean label_spaces?"),
        ],
    )
    def test_an_unknown_argument_is_named(self, network, argument, message):
        """Keras ignores it."""
        backbone = {"backbone": keras.Sequential()} if network is FCN4s else {}
        with pytest.raises(TypeError, match=re.escape(message)):
            network(3, **backbone, **{argument: 8})

    def test_softmax_over_the_classes_in_both_data_formats(self):
        image = np.random.default_rng(0).uniform(0, 255, (1, 9, 8, 3)).astype("float32")
        for data_format, axis in (("channels_last", -1), ("channels_first", 1)):
            model = small(classifier_activation="softmax", data_format=data_format)
            model.get_layer("score_fr").bias.assign(np.arange(5))
            inputs = image if axis == -1 else image.transpose(0, 3, 1, 2)
            outputs = logits_of(model, inputs)
            np.testing.assert_allclose(outputs.sum(axis=axis), 1, rtol=1e-5)
            assert (outputs.argmax(axis=axis) == 4).all()

    def test_preprocessing_can_be_left_to_the_caller(self):
        inside = small(mean=(10, 20, 30))
        outside = small(include_preprocessing=False)
        helpers.randomize(inside, seed=0)
        outside.set_weights(inside.get_weights())
        rgb = np.random.default_rng(0).uniform(0, 255, (1, 12, 12, 3)).astype("float32")
        bgr = rgb[..., ::-1] - np.array([10, 20, 30], "float32")
        logits = logits_of(inside, rgb)
        np.testing.assert_allclose(logits_of(outside, bgr), logits, rtol=1e-4, atol=1e-4)
        assert np.abs(logits_of(outside, rgb) - logits).max() > 0.01

    @pytest.mark.parametrize("fc6_kernel_size", [1, 3, 5, 9])
    def test_any_odd_window_of_fc6_fits_images_of_every_remainder(self, fc6_kernel_size):
        model = small(padding="paper", fc6_kernel_size=fc6_kernel_size)
        for size in (1, 12):
            assert shape_of_logits(model, np.zeros((1, size, size, 3))) == (1, size, size, 5)


class TestLayers:
    @pytest.mark.any_backend
    def test_layers_are_those_of_keras_applications(self):
        vgg16 = keras.applications.VGG16(include_top=False, weights=None)
        model = FCN8s(num_classes=5, fc_units=4, padding="same")
        for layer in vgg16.layers[1:]:
            ours = model.get_layer(layer.name)
            assert isinstance(ours, type(layer))
            assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in layer.weights]
            differences = {
                key for key, value in layer.get_config().items() if ours.get_config()[key] != value
            }
            # A pool rounds up, and each backend has the layout that it computes in.
            allowed = {"data_format"} | ({"padding"} if "pool" in layer.name else set())
            assert differences <= allowed

    @pytest.mark.any_backend
    def test_filters_are_the_outputs_of_the_blocks_convolutions(self):
        model = small(filters=(2, 3, 4, 5, 6))
        outputs = {
            layer.name: layer.kernel.shape[-1]
            for layer in model.layers
            if layer.name.startswith("block") and layer.weights
        }
        assert len(outputs) == 13
        assert {name: int(name[5]) + 1 for name in outputs} == outputs
        assert shape_of_logits(model, np.zeros((1, 9, 8, 3))) == (1, 9, 8, 5)

    def test_upsampling_starts_bilinear_and_frozen_in_a_full_kernel(self):
        import reference

        model = small()
        for name, size in (("upscore2", 4), ("upscore_pool4", 4), ("upscore8", 16)):
            layer = model.get_layer(name)
            assert isinstance(layer, keras.layers.Conv2DTranspose)
            assert not layer.trainable
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            np.testing.assert_allclose(kernel, reference.bilinear_kernel(size, 5), atol=1e-6)

    def test_upsampling_can_be_trained(self):
        model = small(trainable_upsampling=True)
        assert any(
            variable is model.get_layer("upscore8").kernel for variable in model.trainable_variables
        )

    def test_scores_start_at_zero(self):
        image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3))
        assert not logits_of(small(), image).any()

    @pytest.mark.any_backend
    def test_skip_scales_of_all_at_once(self):
        assert keras_fcn.AT_ONCE_SKIP_SCALES == (0.01, 0.0001)
        model = small(skip_scales=keras_fcn.AT_ONCE_SKIP_SCALES)
        assert model.get_layer("scale_pool4").scale == 0.01
        assert model.get_layer("scale_pool3").scale == 0.0001

    @pytest.mark.any_backend
    def test_building_twice_gives_the_same_names(self):
        first, second = small(), small()
        assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
        assert first.name == second.name == "fcn8s"

    def test_dropout_only_in_training(self):
        model = small(FCN32s)
        helpers.randomize(model, seed=0)
        image = np.random.default_rng(0).integers(0, 256, (1, 33, 33, 3)).astype("float32")
        np.testing.assert_array_equal(logits_of(model, image), logits_of(model, image))
        dropped = keras.ops.convert_to_numpy(model(image, training=True))
        assert np.abs(dropped - logits_of(model, image)).max() > 0

    @pytest.mark.any_backend
    def test_summary_names_every_layer(self):
        lines = []
        small().summary(print_fn=lines.append, line_length=150)
        assert all(name in "\n".join(lines) for name in ("fc6", "score_pool3", "upscore8"))


class TestPrecision:
    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_logits_are_float32_and_close_to_full_precision(self, policy):
        image = np.random.default_rng(0).integers(0, 256, (1, 40, 48, 3)).astype("float32")
        full, half = small(), small(dtype=policy)
        helpers.randomize(full, seed=0)
        half.set_weights(full.get_weights())
        expected, logits = logits_of(full, image), call(half, image)
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"
        error = np.abs(keras.ops.convert_to_numpy(logits) - expected).max()
        assert error < 0.05 * np.abs(expected).max()

    def test_policy_is_kept_by_the_model(self):
        model = small(dtype="mixed_bfloat16")
        assert model.dtype_policy.name == "mixed_bfloat16"
        assert model.get_layer("fc6").compute_dtype == "bfloat16"
        assert model.get_layer("fc6").variable_dtype == "float32"
        assert FCN8s.from_config(model.get_config()).dtype_policy.name == "mixed_bfloat16"

    @slow_on_torch
    def test_compiled_prediction_equals_the_eager_one(self):
        model = small(FCN32s)
        helpers.randomize(model, seed=0)
        model.compile(jit_compile=True)
        image = np.random.default_rng(0).integers(0, 256, (1, 24, 20, 3)).astype("float32")
        np.testing.assert_allclose(
            model.predict_on_batch(image), logits_of(model, image), rtol=1e-4, atol=1e-3
        )

    @pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="XLA is TensorFlow's choice"
    )
    def test_tensorflow_on_a_cpu_does_without_xla_unless_asked(self):
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            pytest.skip("there is a GPU")
        model = small()
        assert model.jit_compile is False
        model.compile(jit_compile=True)
        assert model.jit_compile is True


def test_each_dropout_has_a_seed_of_its_own_that_a_checkpoint_can_keep():
    """Without one, PyTorch draws from the random numbers of the process."""
    seeds = [small().get_layer(name).seed for name in ("drop6", "drop7")]
    assert None not in seeds
    assert seeds[0] != seeds[1]
