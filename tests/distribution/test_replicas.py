"""Losses and dropout on two replicas, simulated with threads, as TensorFlow runs them."""

import keras
import numpy as np
import pytest
from distribution.threads import as_replicas
from helpers import NARROW_FILTERS

from keras_fcn import FCN8s, losses
from keras_fcn.layers import Dropout

if keras.backend.backend() != "tensorflow":
    pytest.skip("only TensorFlow has replicas in one process", allow_module_level=True)

import tensorflow as tf

NUM_CLASSES, IGNORED = 3, 255
GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.standard_normal((4, 5, 6, NUM_CLASSES)).astype("float32")
LABEL_MAPS = GENERATOR.integers(0, NUM_CLASSES, (4, 5, 6)).astype("int32")
LABEL_MAPS[0, :4] = IGNORED
LABEL_MAPS[1, :2] = IGNORED
# The first replica has three of four images, or all.
SHARDS = {"uneven": (slice(0, 3), slice(3, 4)), "empty": (slice(0, 4), slice(4, 4))}


def value_and_gradient(loss, rows=slice(None)):
    logits = tf.constant(LOGITS[rows])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(tf.constant(LABEL_MAPS[rows]), logits)
    return value.numpy(), tape.gradient(value, logits).numpy()


def on_two_replicas(loss, shards, monkeypatch):
    """The losses as Keras logs them, multiplied by the number of replicas, and the gradient."""
    with monkeypatch.context() as patch:
        threads = as_replicas(patch)
        found = threads.run(lambda rank: value_and_gradient(loss, shards[rank]))
    values, gradients = zip(*found, strict=True)
    return 2 * np.array(values), np.concatenate(gradients)


def cross_entropy_by_hand():
    """Sum over the valid pixels, their number, and the gradient of the sum."""
    valid = LABEL_MAPS != IGNORED
    one_hot = np.eye(NUM_CLASSES)[np.where(valid, LABEL_MAPS, 0)]
    exponentials = np.exp(LOGITS.astype("float64"))
    softmax = exponentials / exponentials.sum(-1, keepdims=True)
    total = -np.sum(valid[..., None] * one_hot * np.log(softmax))
    return total, valid.sum(), valid[..., None] * (softmax - one_hot)


@pytest.mark.parametrize("shards", SHARDS.values(), ids=SHARDS)
class TestLosses:
    @pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size"])
    def test_cross_entropy_is_that_of_the_whole_batch(self, reduction, shards, monkeypatch):
        loss = losses.SparseCategoricalCrossentropy(True, IGNORED, reduction=reduction)
        values, gradient = on_two_replicas(loss, shards, monkeypatch)
        total, count, wanted = cross_entropy_by_hand()
        count = 1 if reduction == "sum" else count
        np.testing.assert_allclose(values, total / count, rtol=1e-5)
        np.testing.assert_allclose(gradient, wanted / count, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(
        "loss",
        [
            losses.Focal(ignore_class=IGNORED),
            losses.OHEM(0.05, 0.3, ignore_class=IGNORED),
            losses.Dice(IGNORED),
            losses.LovaszSoftmax(IGNORED),
            losses.WeightedSum(
                [losses.Focal(ignore_class=IGNORED), losses.Dice(IGNORED)], [1, 0.5]
            ),
        ],
        ids=lambda loss: type(loss).__name__,
    )
    def test_other_losses_equal_those_of_one_device(self, loss, shards, monkeypatch):
        values, gradient = on_two_replicas(loss, shards, monkeypatch)
        value, wanted = value_and_gradient(loss)
        np.testing.assert_allclose(values, value, rtol=1e-5)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)
        assert np.abs(wanted).max() > 1e-3


def test_replicas_drop_different_units(monkeypatch):
    layer = Dropout(0.5, seed=3)
    layer.build((1, 256))
    with monkeypatch.context() as patch:
        found = as_replicas(patch).run(lambda rank: layer(tf.ones((1, 256)), training=True))
    first, second = (mask.numpy() > 0 for mask in found)
    assert (first != second).mean() == pytest.approx(0.5, abs=0.15)


def test_a_replica_without_examples_gives_no_logits_and_no_error():
    model = FCN8s(3, filters=NARROW_FILTERS, fc_units=4, padding="same")
    model._distribute_strategy = object()

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def logits(images):
        return model(images)

    assert logits(tf.zeros((0, 32, 40, 3))).shape == (0, 32, 40, 3)
    assert logits(tf.zeros((2, 32, 40, 3))).shape == (2, 32, 40, 3)
