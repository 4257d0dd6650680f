"""The enlarged image, compared with Pillow's bilinear enlargement and means by hand."""

from fractions import Fraction

import helpers
import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS
from PIL import Image

from keras_fcn import FCN8s
from keras_fcn.alignment import coordinate_maps
from keras_fcn.models.deep_supervision import with_coarser_heads
from keras_fcn.models.prediction_memory import prediction_bytes

OPTIONS = {"num_classes": 3, "filters": NARROW_FILTERS, "fc_units": 8, "fc6_kernel_size": 3}
SIZE = (21, 34)


def small(**arguments):
    model = FCN8s(**{**OPTIONS, **arguments})
    helpers.randomize(model, seed=0)
    return model


def image(seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (1, *SIZE, 3)).astype("float32")


def enlarged(images, factor):
    """Pillow enlarges every channel in floating point."""
    size = images.shape[2] * factor, images.shape[1] * factor
    channels = [
        np.asarray(Image.fromarray(images[0, :, :, c]).resize(size, Image.Resampling.BILINEAR))
        for c in range(3)
    ]
    return np.stack(channels, axis=-1)[None]


def means(logits, factor):
    batch, height, width, classes = logits.shape
    blocks = (batch, height // factor, factor, width // factor, factor, classes)
    return logits.reshape(blocks).mean(axis=(2, 4))


@pytest.mark.parametrize(("factor", "padding"), [(2, "same"), (3, "same"), (2, "paper")])
def test_logits_are_the_means_over_those_of_the_enlarged_image(factor, padding):
    model, plain = small(padding=padding, input_upsampling=factor), small(padding=padding)
    expected = means(plain.predict(enlarged(image(), factor), verbose=0), factor)
    logits = model.predict(image(), verbose=0)
    assert logits.shape == (1, *SIZE, 3)
    assert abs(logits - expected).max() < 1e-4 * abs(expected).max()
    assert expected.std() > 0.01


def test_so_are_those_of_the_coarser_heads():
    heads = with_coarser_heads(small(padding="same", input_upsampling=2))
    plain = with_coarser_heads(small(padding="same"))
    for logits, of_enlarged in zip(
        heads.predict(image(), verbose=0),
        plain.predict(enlarged(image(), 2), verbose=0),
        strict=True,
    ):
        expected = means(of_enlarged, 2)
        assert abs(logits - expected).max() < 1e-4 * abs(expected).max()


def test_channels_first_and_a_saved_copy_give_the_same(tmp_path):
    model = small(padding="same", input_upsampling=2)
    first = small(padding="same", input_upsampling=2, data_format="channels_first")
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    logits = model.predict(image(), verbose=0)
    np.testing.assert_array_equal(copy.predict(image(), verbose=0), logits)
    of_first = first.predict(image().transpose(0, 3, 1, 2), verbose=0).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(of_first, logits, atol=1e-5 * abs(logits).max())


def test_images_of_many_sizes_follow_each_other():
    model, plain = small(padding="same", input_upsampling=2), small(padding="same")
    for height, width in ((7, 9), (16, 5), (33, 20)):
        images = np.random.default_rng(height).uniform(0, 255, (1, height, width, 3))
        images = images.astype("float32")
        expected = means(plain.predict(enlarged(images, 2), verbose=0), 2)
        logits = model.predict(images, verbose=0)
        assert abs(logits - expected).max() < 1e-4 * abs(expected).max()


def test_it_trains():
    model = small(padding="same", input_upsampling=2, dropout_rate=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-5), loss)
    label_map = np.random.default_rng(1).integers(0, 3, (1, *SIZE))
    losses = [float(np.ravel(model.train_on_batch(image(), label_map))[0]) for _ in range(4)]
    assert losses[-1] < losses[0]


@pytest.mark.any_backend
def test_the_maps_are_finer_by_the_factor():
    maps = coordinate_maps(small(padding="same", input_upsampling=2))
    assert maps["score_fr"].height.stride == 16
    assert maps["score_pool3"].height.stride == 4
    # The centre of the first enlarged pixel lies a quarter of a pixel before that of the image's.
    assert maps["input_upsampling"].height.offset == Fraction(-1, 4)
    assert (maps["head"].height.stride, maps["head"].height.offset) == (1, 0)


@pytest.mark.any_backend
def test_a_prediction_needs_the_memory_of_the_enlarged_image():
    plain, finer = small(padding="same"), small(padding="same", input_upsampling=2)
    assert prediction_bytes(finer, 1, 100, 60) == prediction_bytes(plain, 1, 200, 120)


@pytest.mark.any_backend
@pytest.mark.parametrize("factor", [0, 1.5, True])
def test_the_factor_is_a_positive_integer(factor):
    with pytest.raises(ValueError, match=r"`input_upsampling` must be a positive integer\."):
        small(input_upsampling=factor)
