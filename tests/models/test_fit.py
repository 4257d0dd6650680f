import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fcn import FCN8s, FCN32s
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.metrics import MeanIoU

pytestmark = pytest.mark.usefixtures("narrow_blocks")

SIZES = {
    "each another size": ((32, 32), (33, 40), (40, 33)),
    "the third differs": ((32, 32), (32, 32), (33, 40)),
}


def compiled_model(cls=FCN32s, axis=-1, **arguments):
    model = cls(num_classes=3, fc_units=16, padding="same", **arguments)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=SparseCategoricalCrossentropy(from_logits=True, ignore_class=255, axis=axis),
        metrics=[MeanIoU(num_classes=3, ignore_class=255, axis=axis)],
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


@pytest.mark.parametrize("channels_first", [False, True])
def test_fit_from_numpy_arrays(channels_first):
    data_format = "channels_first" if channels_first else "channels_last"
    model = compiled_model(FCN8s, axis=1 if channels_first else -1, data_format=data_format)
    images, label_maps = batch((32, 40), channels_first=channels_first)
    history = model.fit(images, label_maps, batch_size=1, epochs=1, verbose=0)
    assert_trained(model, history)


@pytest.mark.parametrize("sizes", SIZES)
def test_fit_from_tf_data_of_changing_size(sizes):
    model = compiled_model()
    history = model.fit(dataset(SIZES[sizes]), epochs=1, shuffle=False, verbose=0)
    assert_trained(model, history)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sizes", SIZES)
def test_fit_from_py_dataset_of_changing_size(sizes, workers):
    if workers == 2 and sizes == "each another size":
        pytest.skip("several workers matter for the tensor specification alone")
    model, data = compiled_model(), Batches(SIZES[sizes], workers=workers)
    history = model.fit(data, validation_data=Batches(SIZES[sizes]), epochs=1, verbose=0)
    assert_trained(model, history)
    assert np.isfinite(history.history["val_loss"]).all()
    assert data.epochs >= 1


def test_evaluate_from_a_generator_of_changing_size():
    model = compiled_model()
    sizes = SIZES["the third differs"]
    batches = (batch(size, seed) for seed, size in enumerate(sizes))
    assert np.isfinite(model.evaluate(batches, verbose=0, return_dict=True)["loss"])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Of TensorFlow's datasets")
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


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Of tf.function")
def test_a_first_step_is_traced_once(monkeypatch):
    model = compiled_model()
    traces = []
    call = model.call
    monkeypatch.setattr(
        model, "call", lambda *args, **kwargs: traces.append(1) or call(*args, **kwargs)
    )
    model.train_on_batch(*batch((32, 32)))
    assert len(traces) == 1


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_step_in_half_precision(policy):
    model = compiled_model(dtype=policy)
    images, label_maps = batch((32, 32))
    assert np.isfinite(model.train_on_batch(images, label_maps)[0])


def test_a_compiled_step_equals_the_uncompiled_one():
    images, label_maps = batch((32, 32))
    results = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        model = compiled_model(dropout_rate=0.0)
        model.compile("sgd", model.loss, jit_compile=jit_compile)
        losses = [np.ravel(model.train_on_batch(images, label_maps))[0] for _ in range(2)]
        results.append(losses)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Of TensorFlow's graphs")
def test_a_trained_model_leaves_no_graph():
    def graphs():
        gc.collect()
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    before = graphs()
    compiled_model().train_on_batch(*batch((32, 32)))
    assert graphs() == before
