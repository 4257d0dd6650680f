"""The coarser heads of an FCN against FCN-16s and FCN-32s of the same weights."""

import helpers
import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS

from keras_fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.models.deep_supervision import with_coarser_heads

BACKEND = keras.backend.backend()
slow_on_jax = pytest.mark.slow if BACKEND == "jax" else ()
COARSER = {FCN8s: (FCN16s, FCN32s), FCN16s: (FCN32s,)}
NUM_CLASSES = 3
OPTIONS = {"num_classes": NUM_CLASSES, "filters": NARROW_FILTERS, "fc_units": 8}


def small(cls=FCN8s, **arguments):
    """A model of random weights in which every layer matters, scores included."""
    model = cls(**{**OPTIONS, "padding": "same", **arguments})
    helpers.randomize(model, seed=0)
    return model


def examples(size, count=1, channels_first=False):
    generator = np.random.default_rng(size)
    images = generator.uniform(0, 255, (count, *size, 3)).astype("float32")
    label_maps = generator.integers(0, NUM_CLASSES, (count, *size)).astype("int32")
    label_maps[:, 0] = 255
    return images.transpose(0, 3, 1, 2) if channels_first else images, label_maps


def compiled(model, loss_weights, axis=-1, **arguments):
    """The coarser heads of `model`, ready to train with a weight for the loss of each."""
    heads = with_coarser_heads(model)
    loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=255, axis=axis)
    optimizer = keras.optimizers.SGD(1e-3)
    # TensorFlow takes 2 s to trace a step, and JAX would compile each operation by itself.
    arguments = {"run_eagerly": BACKEND == "tensorflow", **arguments}
    heads.compile(optimizer, [loss] * len(loss_weights), loss_weights, **arguments)
    return heads


def call(model, images):
    # Not compiled, JAX would compile each of some hundred operations by itself.
    return model.predict_on_batch(images) if BACKEND == "jax" else model(images)


def outputs_like_those_of(model, images):
    """What has their shapes and dtypes; JAX finds these without compiling anything."""
    if BACKEND == "jax":
        import jax

        return jax.eval_shape(model, images)
    return model(images)


class Batches(keras.utils.PyDataset):
    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        images, label_maps = examples(self.sizes[index])
        return images, (label_maps,) * 3


class TestLogits:
    @pytest.mark.parametrize(
        ("cls", "padding", "size"),
        [
            (FCN8s, "paper", (37, 53)),
            (FCN16s, "same", (37, 53)),
            pytest.param(FCN8s, "same", (37, 53), marks=slow_on_jax),
            pytest.param(FCN8s, "paper", (1, 1), marks=slow_on_jax),
            pytest.param(FCN8s, "same", (1, 1), marks=slow_on_jax),
            pytest.param(FCN16s, "paper", (37, 53), marks=slow_on_jax),
            pytest.param(FCN16s, "paper", (1, 1), marks=slow_on_jax),
            pytest.param(FCN16s, "same", (1, 1), marks=slow_on_jax),
        ],
    )
    def test_each_head_is_the_coarser_model_of_the_same_weights(self, cls, padding, size):
        self.check(cls, size, padding=padding)

    def test_each_head_is_the_coarser_model_with_channels_first(self):
        self.check(FCN8s, (12, 33), data_format="channels_first")

    def check(self, cls, size, **options):
        arguments = {**options, "skip_scales": (0.5, 0.25)}
        model = small(cls, **arguments)
        images, _ = examples(size, channels_first=model.data_format == "channels_first")
        logits = call(with_coarser_heads(model), images)
        assert len(logits) == 1 + len(COARSER[cls])
        assert_close(logits[0], call(model, images))
        for head, coarser in zip(logits[1:], COARSER[cls], strict=True):
            alone = small(coarser, **arguments)
            values = helpers.variables_as_numpy(alone)
            values |= helpers.variables_as_numpy(model)
            upsampling = alone.get_layer("upscore" if coarser is FCN32s else "upscore16")
            values[f"{upsampling.name}/kernel"] = bilinear_kernel(upsampling.strides[0])
            helpers.assign(alone, values)
            assert_close(head, call(alone, images))

    @pytest.mark.parametrize("fc6_kernel_size", [1, 3, 9])
    def test_every_window_of_fc6(self, fc6_kernel_size):
        model = small(padding="paper", fc6_kernel_size=fc6_kernel_size)
        images, _ = examples((12, 33))
        for logits in outputs_like_those_of(with_coarser_heads(model), images):
            assert tuple(logits.shape) == (1, 12, 33, NUM_CLASSES)

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_logits_are_float32_in_half_precision(self, policy):
        model = small(dtype=policy)
        heads = with_coarser_heads(model)
        assert heads.get_layer("upscore").compute_dtype == policy.removeprefix("mixed_")
        for logits in outputs_like_those_of(heads, examples((12, 33))[0]):
            assert keras.backend.standardize_dtype(logits.dtype) == "float32"

    def test_layers_carry_the_papers_names(self):
        names = {layer.name for layer in with_coarser_heads(small()).layers}
        assert {"upscore8", "upscore16", "upscore"} <= names
        names = {layer.name for layer in with_coarser_heads(small(FCN16s)).layers}
        assert {"upscore16", "upscore"} <= names
        assert with_coarser_heads(small()).output_names == ["head", "head16", "head32"]


class TestTraining:
    def test_a_step_changes_the_inner_model_but_no_bilinear_kernel(self):
        model = small()
        heads = compiled(model, [1.0, 0.5, 0.5])
        before = helpers.variables_as_numpy(heads)
        images, label_maps = examples((32, 40), count=2)
        assert np.isfinite(heads.train_on_batch(images, [label_maps] * 3)[0])
        changed = {
            name
            for name, value in helpers.variables_as_numpy(heads).items()
            if (value != before[name]).any()
        }
        assert changed == {
            f"{layer.name}/{v.name}" for layer in model.layers for v in trained(layer)
        }
        assert {"score_fr/kernel", "score_pool3/kernel", "block1_conv1/kernel"} <= changed

    def test_the_coarsest_head_alone_teaches_score_fr_and_no_skip(self):
        model = small()
        heads = compiled(model, [0.0, 0.0, 1.0])
        before = helpers.variables_as_numpy(model)
        images, label_maps = examples((32, 40))
        heads.train_on_batch(images, [label_maps] * 3)
        after = helpers.variables_as_numpy(model)
        assert (after["score_fr/kernel"] != before["score_fr/kernel"]).any()
        for name in ("score_pool4/kernel", "score_pool3/kernel"):
            np.testing.assert_array_equal(after[name], before[name])

    def test_heads_stay_frozen_when_the_models_upsampling_learns(self):
        heads = with_coarser_heads(small(trainable_upsampling=True))
        trainable = {id(variable) for variable in heads.trainable_variables}
        assert id(heads.get_layer("upscore8").kernel) in trainable
        for name in ("upscore16", "upscore"):
            assert id(heads.get_layer(name).kernel) not in trainable

    def test_fit_with_channels_first(self):
        heads = compiled(small(data_format="channels_first"), [1.0, 0.5, 0.5], axis=1)
        images, label_maps = examples((16, 24), count=2, channels_first=True)
        history = heads.fit(images, [label_maps] * 3, batch_size=1, verbose=0).history
        assert np.isfinite(history["loss"]).all()

    @pytest.mark.gate
    def test_fit_from_a_py_dataset_of_changing_size(self):
        heads = compiled(small(), [1.0, 0.5, 0.5], run_eagerly=False)
        data = Batches(((32, 32), (32, 32), (33, 40)))
        history = heads.fit(data, shuffle=False, verbose=0).history
        assert np.isfinite(history["loss"]).all()

    def test_half_precision_scales_the_loss_as_for_the_model(self):
        heads = compiled(small(dtype="mixed_float16"), [1.0, 0.5, 0.5])
        assert isinstance(heads.optimizer, keras.optimizers.LossScaleOptimizer)

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA is TensorFlow's choice")
    def test_tensorflow_on_a_cpu_does_without_xla_unless_asked(self):
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            pytest.skip("there is a GPU")
        for asked, expected in (("auto", False), (True, True)):
            heads = compiled(small(), [1, 1, 1], run_eagerly=False, jit_compile=asked)
            assert heads.jit_compile is expected


class TestFiles:
    def test_the_error_of_saving_names_the_remedy(self, tmp_path):
        with pytest.raises(NotImplementedError, match="Save the FCN that it was built from"):
            with_coarser_heads(small()).save(tmp_path / "model.keras")

    def test_weights_come_back_into_the_inner_model(self, tmp_path):
        model, fresh = small(), FCN8s(**OPTIONS, padding="same")
        with_coarser_heads(model).save_weights(tmp_path / "heads.weights.h5")
        with_coarser_heads(fresh).load_weights(tmp_path / "heads.weights.h5")
        expected = helpers.variables_as_numpy(model)
        for name, value in helpers.variables_as_numpy(fresh).items():
            np.testing.assert_array_equal(value, expected[name])


class TestRefusals:
    @pytest.mark.parametrize(
        "model",
        [
            lambda: small(FCN32s),
            lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]),
        ],
        ids=["FCN-32s", "no FCN"],
    )
    def test_models_without_a_coarser_head(self, model):
        with pytest.raises(ValueError, match="`model` must be an FCN-16s or FCN-8s"):
            with_coarser_heads(model())

    def test_models_on_another_backbone(self):
        image = x = keras.Input((None, None, 3))
        for _ in range(5):
            x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
        model = FCN8s(NUM_CLASSES, backbone=keras.Model(image, x), fc_units=4)
        with pytest.raises(ValueError, match="`model` must be an FCN on VGG-16"):
            with_coarser_heads(model)

    def test_models_that_give_probabilities(self):
        model = small(classifier_activation="softmax")
        with pytest.raises(
            ValueError, match=r"must return logits.*classifier_activation='softmax'"
        ):
            with_coarser_heads(model)


def trained(layer):
    return [] if layer.name.startswith("upscore") else layer.trainable_variables


def bilinear_kernel(stride):
    import reference

    return reference.bilinear_kernel(2 * stride, NUM_CLASSES)


def assert_close(logits, expected):
    logits, expected = (keras.ops.convert_to_numpy(x) for x in (logits, expected))
    assert logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
