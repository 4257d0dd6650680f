"""The same gradients, and the same predictions, with less memory."""

import functools
import gc

import helpers
import keras
import numpy as np
import pytest
import reference
from helpers import NARROW_FILTERS

import keras_fcn

BACKEND = keras.backend.backend()


def small(**arguments):
    options = {"filters": NARROW_FILTERS, "fc_units": 16, "dropout_rate": 0}
    model = keras_fcn.FCN8s(5, **{**options, "data_format": "channels_last", **arguments})
    helpers.randomize(model, seed=0)
    return model


def batch(size=(40, 33)):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2, *size, 3)).astype("float32")
    return images, generator.integers(0, 5, (2, *size)).astype("int32")


def call(model, images, **options):
    if BACKEND == "jax":  # Which else would compile every operation by itself.
        import jax

        run = jax.jit(functools.partial(model.stateless_call, **options))
        values = (
            [v.value for v in part]
            for part in (model.trainable_variables, model.non_trainable_variables)
        )
        return np.asarray(run(*values, images)[0])
    return keras.ops.convert_to_numpy(model(images, **options))


@pytest.mark.parametrize(
    "run_eagerly",
    [
        pytest.param(True, marks=pytest.mark.skipif(BACKEND == "jax", reason="JAX compiles")),
        pytest.param(False, marks=pytest.mark.gate),
    ],
)
def test_a_step_goes_along_the_gradients_of_the_reference(run_eagerly):
    model = small(trainable_upsampling=True, gradient_checkpointing=True)
    images, label_maps = batch()
    variables = reference.clear_of_kinks(helpers.variables_as_numpy(model), images, "paper")
    helpers.assign(model, variables)
    logits, gradients = reference.logits_and_gradients(
        variables, images, label_maps, "FCN8s", "paper"
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss, run_eagerly=run_eagerly)
    found = model.train_on_batch(images, label_maps)
    expected = reference.summed_cross_entropy(logits, label_maps) / label_maps.size
    np.testing.assert_allclose(np.ravel(found)[0], expected, rtol=1e-5)
    after = helpers.variables_as_numpy(model)
    for name, gradient in gradients.items():
        step = gradient / label_maps.size
        tolerance = 1e-4 * np.abs(step).max() + 1e-6 * np.abs(variables[name]).max()
        assert np.abs(step).max() > 10 * tolerance, name
        np.testing.assert_allclose(
            after[name], variables[name] - step, rtol=0, atol=tolerance, err_msg=name
        )


def test_the_backward_pass_keeps_less():
    # As in VGG-16, each block is twice as wide as the one before.
    options = {"padding": "same", "filters": (8, 16, 32, 64, 64)}
    kept, kept_again = (
        _bytes_kept(small(**options, gradient_checkpointing=again)) for again in (False, True)
    )
    assert kept_again < 0.8 * kept


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch alone keeps tensors by Python's references")
def test_a_step_leaves_no_map_to_the_garbage_collector():
    import torch

    model = small(padding="same", gradient_checkpointing=True)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, label_maps = batch()
    gc.collect()
    gc.disable()
    try:
        model.train_on_batch(images, label_maps)
        shape = (2, 8, *images.shape[1:3])  # Of block 1's maps.
        left = [x for x in gc.get_objects() if type(x) is torch.Tensor and x.shape == shape]
    finally:
        gc.enable()
    assert not left


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch alone predicts layer after layer")
def test_a_prediction_frees_the_maps_of_a_block_behind_it(monkeypatch):
    import torch

    model = small(padding="same")
    images, _ = batch()
    shapes = ((2, 8, 40, 33), (2, 8, 20, 17))  # Of block 1's maps and of its pool.
    alive = {}
    for name in ("block1_pool", "fc6"):
        layer = model.get_layer(name)

        def call(x, name=name, call=layer.call):
            maps = [y for y in gc.get_objects() if type(y) is torch.Tensor and y.shape in shapes]
            alive[name] = len({y.data_ptr() for y in maps})
            return call(x)

        monkeypatch.setattr(layer, "call", call)
    model.predict(images, verbose=0)
    assert alive["block1_pool"] >= 1
    assert alive["fc6"] == 0


def test_every_call_reads_the_variables_again():
    images, _ = batch()
    model = small(padding="same", gradient_checkpointing=True)
    before = call(model, images, training=True)
    helpers.randomize(model, seed=1)
    after = call(model, images, training=True)
    model.gradient_checkpointing = False
    np.testing.assert_allclose(after, call(model, images, training=True), rtol=1e-5, atol=1e-5)
    assert np.abs(after - before).max() > 1e-2


def test_dropout_drops_the_same_units():
    images, _ = batch()
    drawn = []
    for again in (False, True):
        keras.utils.set_random_seed(0)
        model = small(padding="same", dropout_rate=0.5, gradient_checkpointing=again)
        drawn.append(call(model, images, training=True))
    np.testing.assert_allclose(*drawn, rtol=1e-5, atol=1e-5)
    assert np.abs(drawn[0] - call(model, images)).max() > 1e-2


def test_images_of_bytes_without_preprocessing():
    model = small(padding="same", include_preprocessing=False)
    images = batch()[0].astype("uint8")
    expected = call(model, images, training=True)
    model.gradient_checkpointing = True
    found = call(model, images, training=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_it_is_saved_with_the_model(tmp_path):
    model = small(gradient_checkpointing=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.gradient_checkpointing
    images, _ = batch()
    np.testing.assert_allclose(call(loaded, images), call(model, images), rtol=1e-5, atol=1e-5)


def test_prediction_does_not_change():
    model = small()
    images, _ = batch()
    expected = call(model, images)
    again = small(gradient_checkpointing=True)
    np.testing.assert_array_equal(call(again, images), expected)


def _bytes_kept(model):
    """What the forward pass leaves in memory, measured by the backend's own means."""
    images, label_maps = batch((320, 320))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if BACKEND == "torch":
        import torch

        kept = {}

        def keep(tensor):
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss(label_maps, model(images, training=True))
        return sum(kept.values())
    if BACKEND == "jax":
        import jax

        from keras_fcn.backends.jax_kernels import memory_options

        def compute(trainable, others):
            logits, _ = model.stateless_call(trainable, others, images, training=True)
            return loss(label_maps, logits)

        variables = [
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        options = memory_options(model.gradient_checkpointing)
        compiled = jax.jit(jax.grad(compute)).lower(*variables).compile(options)
        return compiled.memory_analysis().temp_size_in_bytes
    import tensorflow as tf

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            value = loss(label_maps, model(images, training=True))
        return tape.gradient(value, model.trainable_variables)

    graph = gradients.get_concrete_function().graph
    # The forward pass is what bears the model's name; the backward one and what is computed again
    # within it read from there.
    kept = {}
    for op in graph.get_operations():
        if not op.name.startswith(model.name):
            for tensor in op.inputs:
                if tensor.op.name.startswith(model.name) and tensor.shape.is_fully_defined():
                    kept[tensor.name] = tensor.shape.num_elements() * tensor.dtype.size
    return sum(kept.values())
