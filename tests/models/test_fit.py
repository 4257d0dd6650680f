import functools
import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import NARROW_FILTERS

from keras_fcn import FCN8s, FCN32s
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.metrics import MeanIoU

BACKEND = keras.backend.backend()
SIZES = {
    "each another size": ((32, 32), (33, 40), (40, 33)),
    "the third differs": ((32, 32), (32, 32), (33, 40)),
}
# Keras on TensorFlow takes what the first two batches agree in for constant: the harder case.
only_in_the_gate = pytest.mark.slow if BACKEND == "jax" else pytest.mark.gate
# On PyTorch, its compiler of C++ takes one to two minutes more than the tracing of the step.
COMPILERS = ["aot_eager", pytest.param(None, marks=pytest.mark.slow)]
COMPILERS = COMPILERS if BACKEND == "torch" else [None]
# TensorFlow takes 2 s to trace a step, and JAX would compile each operation by itself.
EAGERLY = {"run_eagerly": BACKEND == "tensorflow"}


def compiled_model(cls=FCN32s, axis=-1, run_eagerly=False, **arguments):
    model = cls(num_classes=3, filters=NARROW_FILTERS, fc_units=16, padding="same", **arguments)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=SparseCategoricalCrossentropy(from_logits=True, ignore_class=255, axis=axis),
        metrics=[MeanIoU(num_classes=3, ignore_class=255, axis=axis)],
        run_eagerly=run_eagerly,
    )
    return model


def batch(size, seed=0, channels_first=False):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (2, *size, 3)).astype("uint8")
    label_maps = generator.integers(0, 3, (2, *size)).astype("int32")
    label_maps[:, 0] = 255
    return images.transpose(0, 3, 1, 2) if channels_first else images, label_maps


class Batches(keras.utils.PyDataset):
    def __init__(self, sizes, **arguments):
        super().__init__(**arguments)
        self.sizes = sizes
        self.epochs = 0

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return batch(self.sizes[index], seed=index)

    def on_epoch_end(self):
        self.epochs += 1


def dataset(sizes):
    return tf.data.Dataset.from_generator(
        lambda: (batch(size, seed) for seed, size in enumerate(sizes)),
        output_signature=(
            tf.TensorSpec((None, None, None, 3), tf.uint8),
            tf.TensorSpec((None, None, None), tf.int32),
        ),
    )


def assert_trained(model, history):
    assert np.isfinite(history.history["loss"]).all()
    assert 0 <= history.history["mean_iou"][-1] <= 1
    assert keras.ops.convert_to_numpy(model.get_layer("score_fr").kernel).any()


def test_fit_from_numpy_arrays():
    images, label_maps = batch((32, 40))
    model = compiled_model(FCN8s, **EAGERLY)
    assert_trained(model, model.fit(images, label_maps, batch_size=1, epochs=1, verbose=0))


def test_fit_from_numpy_arrays_of_channels_first():
    images, label_maps = batch((32, 40), channels_first=True)
    model = compiled_model(FCN8s, axis=1, data_format="channels_first", **EAGERLY)
    assert_trained(model, model.fit(images, label_maps, batch_size=1, epochs=1, verbose=0))


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_weights_of_one_label_per_image_are_refused(method):
    # Keras would weight each row of a square label map by the column of its largest class id.
    model = compiled_model(**EAGERLY)
    with pytest.raises(ValueError, match=r"class_weights=\.\.\."):
        getattr(model, method)(*batch((32, 32)), class_weight={0: 1.0, 1: 2.0, 2: 3.0})
    # All arguments before it, and it, by position.
    before = {"fit": (None, 1, 0, None, 0.0, None, True), "train_on_batch": (None,)}[method]
    with pytest.raises(ValueError, match=r"class_weights=\.\.\."):
        getattr(model, method)(*batch((32, 32)), *before, {0: 1.0, 1: 2.0, 2: 3.0})


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "__call__"])
@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}], ids=str)
def test_images_of_other_channels_are_refused_instead_of_broadcast(method, options):
    images, label_maps = batch((32, 40))
    model = compiled_model(**options, **EAGERLY)
    labelled = (label_maps,) if method in ("fit", "evaluate") else ()
    quiet = {"verbose": 0} if method != "__call__" else {"training": True}
    with pytest.raises(ValueError, match=r"must have the shape .*3\) of .*Received: .* 1\)"):
        getattr(model, method)(images[..., :1], *labelled, **quiet)


@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")
def test_images_in_a_dictionary_may_lie_next_to_other_entries():
    model = compiled_model(**EAGERLY)
    images, label_maps = batch((32, 40))
    entries = {"image": images, "image_id": np.arange(len(images))}
    predicted = model.predict(entries, verbose=0)
    np.testing.assert_array_equal(predicted, model.predict(images, verbose=0))
    assert np.isfinite(model.train_on_batch(entries, label_maps)).all()
    with pytest.raises(ValueError, match=r"must have the shape .*3\) of .*Received: .* 1\)"):
        model.predict(entries | {"image": images[..., :1]}, verbose=0)


def test_grey_images_may_lack_the_axis_of_the_channel():
    model = compiled_model(input_shape=(None, None, 1), data_format="channels_last", **EAGERLY)
    images = batch((32, 40))[0][..., :1]
    expected = model.predict(images, verbose=0)
    np.testing.assert_array_equal(model.predict(images[..., 0], verbose=0), expected)


def test_colour_images_are_refused_by_a_model_of_grey_images():
    model = compiled_model(input_shape=(None, None, 1), **EAGERLY)
    with pytest.raises(ValueError, match=r"must have the shape .*1\) of .*Received: .* 3\)"):
        model.predict(batch((32, 40))[0], verbose=0)


@pytest.mark.parametrize(
    "sizes",
    ["the third differs", pytest.param("each another size", marks=only_in_the_gate)],
)
def test_fit_from_tf_data_of_changing_size(sizes):
    model = compiled_model()
    history = model.fit(dataset(SIZES[sizes]), epochs=1, shuffle=False, verbose=0)
    assert_trained(model, history)


@pytest.mark.parametrize(
    ("sizes", "workers"),
    [
        ("the third differs", 1),
        pytest.param("the third differs", 2, marks=pytest.mark.gate),
        pytest.param("each another size", 1, marks=only_in_the_gate),
    ],
)
def test_fit_from_py_dataset_of_changing_size(sizes, workers):
    model, data = compiled_model(), Batches(SIZES[sizes], workers=workers)
    history = model.fit(data, validation_data=Batches(SIZES[sizes]), epochs=1, verbose=0)
    assert_trained(model, history)
    assert np.isfinite(history.history["val_loss"]).all()
    assert data.epochs >= 1


@pytest.mark.gate
@pytest.mark.skipif(BACKEND == "torch", reason="Keras 3.15 raises on PyTorch")
@pytest.mark.parametrize("sizes", [[(32, 40)] * 5, [(32, 40)] * 3 + [(40, 32)] * 2], ids=str)
def test_steps_per_execution_changes_no_weight_and_no_prediction(sizes):
    weights, predictions = [], []
    for steps in (1, 2):
        keras.utils.set_random_seed(0)
        model = compiled_model(dropout_rate=0.0)
        model.compile("sgd", model.loss, steps_per_execution=steps)
        model.fit(Batches(sizes), epochs=1, shuffle=False, verbose=0)
        weights.append(model.get_weights())
        images = np.concatenate([batch((32, 40), seed)[0] for seed in range(5)])
        predictions.append(model.predict(images, batch_size=2, verbose=0))
    assert predictions[0].shape == (10, 32, 40, 3)
    np.testing.assert_allclose(predictions[1], predictions[0], atol=1e-6)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(*weights, strict=True))


def test_evaluate_from_a_generator_of_changing_size():
    model = compiled_model()
    sizes = SIZES["the third differs"]
    batches = (batch(size, seed) for seed, size in enumerate(sizes))
    assert np.isfinite(model.evaluate(batches, verbose=0, return_dict=True)["loss"])


@pytest.mark.gate
def test_fit_and_evaluate_from_a_torch_data_loader_of_changing_size():
    data = pytest.importorskip("torch.utils.data")
    sizes = SIZES["the third differs"]
    examples = [tuple(a[0] for a in batch(size, seed)) for seed, size in enumerate(sizes)]
    loader = data.DataLoader(examples, batch_size=1)
    model = compiled_model(run_eagerly=BACKEND == "tensorflow")
    model.fit(loader, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == len(sizes)
    found = model.evaluate(loader, verbose=0, return_dict=True)
    batches = ((image[None], label_map[None]) for image, label_map in examples)
    assert found == pytest.approx(model.evaluate(batches, verbose=0, return_dict=True))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Of TensorFlow's datasets")
def test_predict_of_arrays_has_no_tuner_to_wait_for(monkeypatch):
    from keras.src.backend.tensorflow import trainer

    images = batch((33, 40))[0]
    model = compiled_model()
    expected = model.predict_on_batch(images)
    iterators = []

    class Iterator(trainer.TFEpochIterator):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            iterators.append(self)

    monkeypatch.setattr(trainer, "TFEpochIterator", Iterator)
    logits = model.predict(images, batch_size=1, verbose=0)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    (iterator,) = iterators
    assert iterator.num_batches == 2
    assert iterator._distributed_dataset.options().autotune.enabled is False


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Of tf.function")
def test_a_first_step_is_traced_once_and_a_trained_model_leaves_no_graph(monkeypatch):
    def graphs():
        gc.collect()
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    def count_traces_of_a_step():
        model = compiled_model()
        call, traces = model.call, []
        with monkeypatch.context() as context:
            context.setattr(model, "call", lambda *x, **y: traces.append(1) or call(*x, **y))
            model.train_on_batch(*batch((32, 32)))
        return len(traces)

    before = graphs()
    assert count_traces_of_a_step() == 1
    assert graphs() == before


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_step_in_half_precision(policy):
    model = compiled_model(dtype=policy, **EAGERLY)
    images, label_maps = batch((32, 32))
    assert np.isfinite(model.train_on_batch(images, label_maps)[0])


# Operation by operation JAX compiles for 20 s; its steps are compared with the reference, too.
@only_in_the_gate
@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_compiled_step_equals_the_uncompiled_one(compiler, monkeypatch):
    if compiler is not None:
        import torch

        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=compiler))
    images, label_maps = batch((32, 32))
    results = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        model = compiled_model(dropout_rate=0.0)
        model.compile("sgd", model.loss, jit_compile=jit_compile)
        losses = [np.ravel(model.train_on_batch(images, label_maps))[0] for _ in range(2)]
        results.append(losses)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)


class TestPythonDataOnTensorFlow:
    """Generators and DataLoaders become tf.data datasets there; elsewhere these are Keras's."""

    pytestmark = pytest.mark.skipif(
        keras.config.backend() != "tensorflow", reason="TensorFlow's datasets"
    )

    @staticmethod
    def network():
        model = FCN32s(3, filters=NARROW_FILTERS, fc_units=2, padding="same")
        loss = SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-3), loss)
        return model

    def test_an_empty_generator_is_one_sentence(self):
        with pytest.raises(ValueError, match="generator must yield at least one batch"):
            self.network().fit(batch for batch in ())

    def test_a_generator_without_label_maps_is_one_sentence(self):
        images = np.zeros((2, 8, 9, 3), "float32")
        with pytest.raises(ValueError, match="must yield tuples of"):
            self.network().fit(images for _ in range(2))
        predicted = self.network().predict((images for _ in range(2)), verbose=0)
        assert predicted.shape == (4, 8, 9, 3)

    def test_an_error_of_the_generator_is_the_users_own(self):
        def batches():
            for _ in range(2):
                yield np.zeros((2, 8, 9, 3), "float32"), np.zeros((2, 8, 9), "int32")
            raise KeyError("no such photo")

        with pytest.raises(KeyError, match="no such photo"):
            self.network().fit(batches(), verbose=0)

    def test_an_iterable_dataset_needs_no_length(self):
        data = pytest.importorskip("torch.utils.data")

        class Examples(data.IterableDataset):
            def __iter__(self):
                for size in (8, 9, 10):
                    yield np.zeros((size, 9, 3), "float32"), np.zeros((size, 9), "int32")

        history = self.network().fit(data.DataLoader(Examples()), verbose=0).history
        assert np.isfinite(history["loss"]).all()
