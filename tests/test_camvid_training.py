"""The augmentation of `benchmarks.camvid`, which trained the packaged weights, and its file."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("the program runs on JAX", allow_module_level=True)

# The benchmarks are not installed; last, since the package that is tested is.
sys.path.append(str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp

from benchmarks import camvid, camvid_augmentation

SIZE = (48, 64)
SETTINGS = {"rare": 0.5, "smallest": 0.6, "largest": 2.0, "rotation": 6.0}


def windows(count):
    """Windows of a picture of 36 flat rectangles, each of whose grey is ten times its class."""
    label_map = np.kron(np.arange(36).reshape(6, 6) % 11, np.ones((15, 20))).astype("uint8")
    image = np.repeat(10 * label_map[..., None], 3, axis=-1)
    pixels = camvid_augmentation.rare_pixels(label_map[None], np.random.default_rng(0))[0]
    window = jax.jit(
        lambda key: camvid_augmentation.window(
            key, jnp.asarray(image), jnp.asarray(label_map), jnp.asarray(pixels), SIZE, SETTINGS
        )
    )
    return [map(np.asarray, window(jax.random.key(seed))) for seed in range(count)]


def test_image_and_label_map_stay_in_register():
    different = set()
    for image, labels in windows(8):
        assert image.shape == (*SIZE, 3)
        assert labels.shape == SIZE
        counted = labels != camvid.IGNORED
        # Bilinear interpolation mixes rectangles within a pixel of their edges; scales reach 2.2.
        inside = counted.copy()
        for axis in (0, 1):
            for shift in range(-3, 4):
                inside &= np.roll(labels, shift, axis) == labels
        inside[:3] = inside[-3:] = inside[:, :3] = inside[:, -3:] = False
        assert inside.sum() > 0.1 * labels.size
        np.testing.assert_allclose(image[inside, 0], 10 * labels[inside], atol=1e-3)
        different.add(labels.tobytes())
    assert len(different) == 8


def test_rare_pixels_are_those_of_rare_classes():
    label_map = np.zeros((60, 80), "uint8")
    label_map[50:52, 70:72] = camvid_augmentation.RARE_CLASSES[0]
    pixels = camvid_augmentation.rare_pixels(label_map[None], np.random.default_rng(0))[0]
    assert {tuple(pixel) for pixel in pixels} == {(y, x) for y in (50, 51) for x in (70, 71)}


def test_colours_stay_in_range_and_strength_0_changes_nothing():
    image = np.random.default_rng(0).uniform(0, 255, (20, 30, 3)).astype("float32")
    recolour = jax.jit(camvid_augmentation.recolour)
    changed = np.asarray(recolour(jax.random.key(0), image, 1.0))
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert abs(changed - image).mean() > 1
    np.testing.assert_allclose(recolour(jax.random.key(0), image, 0.0), image, atol=1e-3)


def test_weights_are_written_in_half_precision(tmp_path):
    model = camvid.keras_fcn.FCN8s(3, filters=(2, 2, 2, 2, 2), fc_units=3, padding="same")
    camvid.write_weights(model, tmp_path / "half.weights.h5")
    copy = camvid.keras_fcn.FCN8s(3, filters=(2, 2, 2, 2, 2), fc_units=3, padding="same")
    copy.load_weights(tmp_path / "half.weights.h5")
    kernel = np.asarray(model.get_layer("fc6").kernel)
    np.testing.assert_array_equal(copy.get_layer("fc6").kernel, kernel.astype("float16"))
