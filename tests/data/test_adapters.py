"""Augmentation of others as transforms: functions, the real Albumentations, Keras's layers."""

import os
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from register import assert_in_register, blocks, run

from keras_fcn.data.transforms import as_transform

# It asks a server for its newest release otherwise.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations

any_backend = pytest.mark.any_backend
IMAGE, LABEL_MAP = blocks(60, 80)


def as_bytes(result):
    return b"".join(part.tobytes() for part in result)


def in_parallel(transform, count=24):
    """The results of seeds 0, 1, ..., as a pipeline of several threads computes them."""
    dataset = tf.data.Dataset.range(count).map(
        lambda seed: transform(tf.constant(IMAGE), tf.constant(LABEL_MAP), tf.stack([seed, 5])),
        num_parallel_calls=8,
    )
    return [as_bytes(result) for result in dataset.as_numpy_iterator()]


def one_by_one(transform, count=24):
    """The same, last seed first."""
    seeds = reversed(range(count))
    return [as_bytes(run(transform, IMAGE, LABEL_MAP, np.int64([s, 5]))) for s in seeds][::-1]


def assert_repeats(augmenter, **options):
    results = in_parallel(as_transform(augmenter, **options))
    assert len(set(results)) > 1
    assert one_by_one(as_transform(augmenter, **options)) == results


def mirror(image, label_map, rng):
    if rng.uniform() < 0.5:
        return image[:, ::-1], label_map[:, ::-1]
    return image, label_map


@any_backend
class TestFunctions:
    def test_arrays_and_types_are_those_of_the_docstring(self):
        def check(image, label_map):
            assert (image.shape, image.dtype) == ((60, 80, 3), np.uint8)
            assert (label_map.shape, label_map.dtype) == ((60, 80), np.int32)
            image += 1  # Its own copy.
            return image, label_map[..., None]

        image, label_map = run(as_transform(check), IMAGE, LABEL_MAP)
        np.testing.assert_array_equal(image, IMAGE + 1)
        np.testing.assert_array_equal(label_map, LABEL_MAP)

    def test_a_function_with_rng_repeats_in_any_number_of_threads(self):
        assert_repeats(mirror)

    def test_seeds_may_be_negative(self):
        run(as_transform(mirror), IMAGE, LABEL_MAP, np.int64([-5, 2**62]))

    def test_a_function_without_rng_runs_in_one_thread_at_a_time(self):
        inside, most = [], []

        def slow(image, label_map):
            inside.append(1)
            time.sleep(0.002)
            most.append(len(inside))
            inside.pop()
            return image, label_map

        in_parallel(as_transform(slow))
        assert max(most) == 1

    def test_names_of_arguments_do_not_matter_and_a_dictionary_may_come_back(self):
        def flipped(image, mask):
            return {"image": image[::-1], "mask": mask[::-1]}

        image, label_map = run(as_transform(flipped), IMAGE, LABEL_MAP)
        np.testing.assert_array_equal(image, IMAGE[::-1])
        np.testing.assert_array_equal(label_map, LABEL_MAP[::-1])

    def test_sizes_may_change_and_the_channels_are_known(self):
        transform = as_transform(lambda image, label_map: (image[:9], label_map[:9]))
        spec = (tf.TensorSpec((None, None, 4), tf.uint8), tf.TensorSpec((None, None), tf.int32))
        shapes = tf.function(transform).get_concrete_function(*spec, (0, 1)).output_shapes
        assert [shape.as_list() for shape in shapes] == [[None, None, 4], [None, None]]
        assert run(transform, IMAGE, LABEL_MAP)[1].shape == (9, 80)

    @pytest.mark.parametrize("augmenter", [3, lambda image: image, lambda: None])
    def test_what_cannot_be_called_is_refused(self, augmenter):
        with pytest.raises(ValueError, match="`augmenter` must"):
            as_transform(augmenter)


def interpolated(image, label_map):
    return image, (label_map + np.roll(label_map, 1, axis=1)) / 2


def of_a_new_class(image, label_map):
    label_map[0, 0] = 77
    return image, label_map


@any_backend
class TestChecks:
    @pytest.mark.parametrize(
        ("augmenter", "message"),
        [
            (interpolated, "interpolated must return labels of the label map that it gets.* 0.5"),
            (of_a_new_class, "of_a_new_class must return labels.*Received: 77. Label maps must be"),
            (lambda i, m: (i[:5], m), r"<lambda> must return an image \(height, width, 3\)"),
            (lambda i, m: (i.transpose(2, 0, 1), m), r"Received shapes: \(3, 60, 80\)"),
            (lambda i, m: (i / 255, m), "must return images in uint8.*Received: float64"),
            (lambda i, m: i, "must return an image and its label map"),
            (lambda i, m: None, "must return an image and its label map. Received: NoneType"),
            (lambda i, m: {"image": i}, r"Received shapes: \(60, 80, 3\) and \(\)"),
        ],
    )
    def test_what_comes_back_is_checked_in_one_sentence_that_names_the_augmenter(
        self, augmenter, message
    ):
        with pytest.raises(ValueError, match=message):
            run(as_transform(augmenter, ignore_class=255), IMAGE, LABEL_MAP)

    def test_a_pipeline_names_it_too(self):
        message = "of_a_new_class must return labels"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            in_parallel(as_transform(of_a_new_class))

    def test_labels_of_all_classes_are_allowed_where_objects_are_pasted(self):
        run(as_transform(of_a_new_class, num_classes=78), IMAGE, LABEL_MAP)
        run(as_transform(of_a_new_class, ignore_class=77), IMAGE, LABEL_MAP)


class Protocol:
    """What another library of augmentation may look like: called by keyword, without a seed."""

    def __init__(self):
        self.threads = set()

    def __call__(self, *, image, mask):
        self.threads.add(threading.get_ident())
        return {"image": image[:, ::-1], "mask": mask[:, ::-1]}


@any_backend
class TestAlbumentations:
    def test_it_repeats_in_any_number_of_threads(self):
        compose = albumentations.Compose(
            [
                albumentations.HorizontalFlip(p=0.5),
                albumentations.Rotate(limit=30, p=1, fill_mask=255),
                albumentations.GaussNoise(p=0.5),
            ]
        )
        assert_repeats(compose, ignore_class=255)

    @pytest.mark.parametrize(
        "augmenter",
        [
            albumentations.Affine(rotate=(-30, 30), scale=(0.8, 1.2), fill_mask=255, p=1),
            albumentations.RandomCrop(40, 50, p=1),
            albumentations.GridDistortion(fill_mask=255, p=1),
        ],
        ids=lambda augmenter: type(augmenter).__name__,
    )
    def test_single_ones_stay_in_register(self, augmenter):
        transform = as_transform(augmenter, ignore_class=255)
        for seed in range(5):
            assert_in_register(*run(transform, IMAGE, LABEL_MAP, (seed, 0)), margin=2)

    def test_normalized_images_are_refused(self):
        transform = as_transform(albumentations.Normalize())
        with pytest.raises(ValueError, match="Normalize must return images in"):
            run(transform, IMAGE, LABEL_MAP)

    def test_an_object_without_a_seed_is_called_too(self):
        augmenter = Protocol()
        image, label_map = run(as_transform(augmenter), IMAGE, LABEL_MAP)
        assert augmenter.threads
        np.testing.assert_array_equal(image, IMAGE[:, ::-1])
        np.testing.assert_array_equal(label_map, LABEL_MAP[:, ::-1])


LAYERS = {
    "flip": lambda: keras.layers.RandomFlip("horizontal"),
    "rotation": lambda: keras.layers.RandomRotation(0.1, fill_mode="constant", fill_value=255),
    "zoom": lambda: keras.layers.RandomZoom(0.3),
    "translation": lambda: keras.layers.RandomTranslation(0.2, 0.2),
    "perspective": lambda: keras.layers.RandomPerspective(1.0, scale=0.4, fill_value=255),
    "brightness": lambda: keras.layers.RandomBrightness(0.1),
    "pipeline": lambda: keras.layers.Pipeline(
        [keras.layers.RandomFlip(), keras.layers.RandomShear(0.2, 0.2)]
    ),
}


class TestLayersOfKeras:
    @pytest.mark.parametrize("name", LAYERS)
    def test_label_maps_stay_in_register(self, name):
        transform = as_transform(LAYERS[name](), ignore_class=255)
        results = set()
        for seed in range(6):
            image, label_map = run(transform, IMAGE, LABEL_MAP, (seed, 0))
            image[(image > 250).all(axis=-1)] = 0  # White, the new pixels.
            assert_in_register(image, label_map, margin=2)
            results.add(as_bytes((image, label_map)))
        assert len(results) > 1

    def test_it_repeats_in_any_number_of_threads(self):
        layer = LAYERS["pipeline"]()
        results = in_parallel(as_transform(layer), count=8)
        assert len(set(results)) > 1
        layer({"images": np.float32(IMAGE)})  # Its counters have moved on.
        assert one_by_one(as_transform(layer), count=8) == results

    def test_a_layer_that_draws_twice_is_refused(self):
        layers = [keras.layers.RandomFlip(), keras.layers.RandomElasticTransform(0.5)]
        with pytest.raises(ValueError, match="`augmenter` must not hold RandomElasticTransform"):
            as_transform(keras.layers.Pipeline(layers))

    def test_interpolated_label_maps_are_refused(self):
        # A crop of a larger size resizes, the label map as bilinearly as the image.
        transform = as_transform(keras.layers.RandomCrop(90, 100))
        with pytest.raises(ValueError, match="RandomCrop must return labels"):
            run(transform, IMAGE, LABEL_MAP)
