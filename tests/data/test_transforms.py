import colorsys

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from register import assert_in_register, blocks, run

from keras_fcn.data.transforms import (
    cutout,
    gaussian_blur,
    gaussian_noise,
    photometric_jitter,
    random_crop,
    random_flip,
    random_resized_crop,
    random_rotation,
    random_scale,
    resize_keeping_aspect,
)

pytestmark = pytest.mark.any_backend

LABEL_MAP = np.arange(12, dtype="int32").reshape(3, 4)
IMAGE = np.stack([LABEL_MAP, LABEL_MAP + 20, LABEL_MAP + 40], axis=-1).astype("uint8")


def flipped(seed):
    """Whether `random_flip` mirrors for this seed; fails on any other change."""
    image, label_map = (result.numpy() for result in random_flip(IMAGE, LABEL_MAP, seed))
    mirrored = not np.array_equal(label_map, LABEL_MAP)
    np.testing.assert_array_equal(label_map, np.fliplr(LABEL_MAP) if mirrored else LABEL_MAP)
    np.testing.assert_array_equal(image, np.fliplr(IMAGE) if mirrored else IMAGE)
    return mirrored


class TestRandomFlip:
    def test_keeps_shapes_and_types(self):
        image, label_map = random_flip(tf.constant(IMAGE), tf.constant(LABEL_MAP), (1, 2))
        assert (image.shape, image.dtype) == ((3, 4, 3), tf.uint8)
        assert (label_map.shape, label_map.dtype) == ((3, 4), tf.int32)

    def test_keeps_what_is_known_of_the_shape_in_a_graph(self):
        spec = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((None, None), tf.int32))
        graph = tf.function(random_flip).get_concrete_function(*spec, (0, 1))
        assert [shape.as_list() for shape in graph.output_shapes] == [[None, None, 3], [None, None]]

    def test_mirrors_image_and_label_map_together_about_half_the_time(self):
        count = sum(flipped((seed, 7)) for seed in range(200))
        # Four standard deviations, sqrt(200) / 2, either way.
        assert 72 <= count <= 128

    @pytest.mark.parametrize("seed", [(0, 0), (0, 1), (2**31 - 1, 5)])
    def test_the_seed_alone_decides(self, seed):
        tf.random.set_seed(1)
        first = flipped(seed)
        tf.random.set_seed(2)
        assert [flipped(seed) for _ in range(3)] == [first] * 3


SCALES = (0.37, 0.5, 0.73, 1.0, 1.31, 2.0, 2.9)


# Transforms, and how far from the border of a block their image may be blurred.
TRANSFORMS = {
    "flip": (random_flip, 0),
    "scale": (random_scale(0.4, 2.5), 1),
    "crop": (random_crop(40, 90, ignore_class=255), 0),
    "jitter": (photometric_jitter(0.05, 0.1, 0.1, 0.01), 0),
    "resize": (resize_keeping_aspect(shorter=55), 1),
    "rare crop": (random_crop(40, 90, ignore_class=255, classes=[3, 5]), 0),
    "resized crop": (random_resized_crop(60, 50, smallest_area=0.4), 2),
    "rotation": (random_rotation(-40, 40, ignore_class=255), 1),
    "noise": (gaussian_noise(0.0, 0.05), 0),
    "blur": (gaussian_blur(0.0, 1.5), 3),
    "cutout": (cutout(20, 30, number=2, ignore_class=255), 0),
}


class TestEveryTransform:
    @pytest.mark.parametrize("name", TRANSFORMS)
    def test_image_and_label_map_stay_in_register_and_no_class_is_new(self, name):
        transform, margin = TRANSFORMS[name]
        image, label_map = blocks(70, 84)
        for seed in range(12):
            new_image, new_label_map = run(transform, image, label_map, (seed, 3))
            assert_in_register(new_image, new_label_map, margin, erases=name == "cutout")
            assert set(np.unique(new_label_map)) <= {*np.unique(label_map), 255}

    @pytest.mark.parametrize("name", TRANSFORMS)
    def test_shapes_are_known_in_a_graph_and_all_channels_are_changed(self, name):
        transform, _ = TRANSFORMS[name]
        if name == "jitter":
            return
        spec = (tf.TensorSpec((None, None, 5), tf.uint8), tf.TensorSpec((None, None), tf.int32))
        shapes = tf.function(transform).get_concrete_function(*spec, (0, 1)).output_shapes
        assert (shapes[0].rank, shapes[1].rank, shapes[0][-1]) == (3, 2, 5)

    def test_all_in_a_row(self):
        image, label_map = blocks(70, 84)
        for seed in range(12):
            result = image, label_map
            for name in ("flip", "scale", "crop", "jitter", "resize"):
                result = run(TRANSFORMS[name][0], *result, seed=(seed, 5))
            assert_in_register(*result, margin=2)

    @pytest.mark.parametrize("name", TRANSFORMS)
    def test_the_seed_alone_decides(self, name):
        transform, _ = TRANSFORMS[name]
        image, label_map = blocks(30, 30)
        results = []
        for global_seed in (1, 2):
            tf.random.set_seed(global_seed)
            in_graph = tf.function(transform)
            results += [run(transform, image, label_map, (7, 8)) for _ in range(2)]
            results += [run(in_graph, image, label_map, (7, 8))]
        for other in results[1:]:
            np.testing.assert_array_equal(other[0], results[0][0])
            np.testing.assert_array_equal(other[1], results[0][1])

    @pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "resize"])
    def test_seeds_differ(self, name):
        transform, _ = TRANSFORMS[name]
        image, label_map = blocks(70, 110)
        results = {run(transform, image, label_map, (seed, 0))[0].tobytes() for seed in range(20)}
        assert len(results) >= 2 if name == "flip" else len(results) > 15

    def test_parallel_maps_give_what_single_calls_give(self):
        image, label_map = blocks(30, 40)
        scale = random_scale(0.5, 2.0)
        seeds = tf.data.Dataset.range(40).map(lambda index: tf.stack([index, 9]))
        dataset = seeds.map(
            lambda seed: scale(tf.constant(image), tf.constant(label_map), seed),
            num_parallel_calls=8,
        )
        for index, (new_image, new_label_map) in enumerate(dataset.as_numpy_iterator()):
            expected = run(scale, image, label_map, (index, 9))
            np.testing.assert_array_equal(new_image, expected[0])
            np.testing.assert_array_equal(new_label_map, expected[1])


class TestRandomScale:
    def test_nearest_label_by_hand(self):
        # Centres of 3 pixels in 5: 5/6, 15/6, 25/6 fall into the pixels 0, 2, 4. At 2 in 5 they
        # are 5/4 and 15/4, in the pixels 1 and 3; without half pixels it would be 0 and 2.
        label_map = np.arange(5, dtype="int32")[None].repeat(5, axis=0)
        image = np.zeros((5, 5, 3), "uint8")
        assert run(random_scale(0.6, 0.6), image, label_map)[1][0].tolist() == [0, 2, 4]
        assert run(random_scale(0.4, 0.4), image, label_map)[1][0].tolist() == [1, 3]
        doubled = run(random_scale(2, 2), image, label_map)[1][0].tolist()
        assert doubled == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]

    def test_bilinear_image_by_hand(self):
        # Centres at 1/4, 3/4, 5/4, 7/4 of pixels with centres at 1/2 and 3/2.
        image = np.array([[[0], [100]]] * 2, "uint8").repeat(3, axis=-1)
        result = run(random_scale(2, 2), image, np.zeros((2, 2), "int32"))[0]
        assert result[0, :, 0].tolist() == [0, 25, 75, 100]

    @pytest.mark.parametrize("factor", SCALES)
    def test_agrees_with_opencv_and_pillow(self, factor):
        generator = np.random.default_rng(0)
        label_map = generator.integers(0, 200, (37, 53)).astype("int32")
        image = generator.integers(0, 256, (37, 53, 3), dtype="uint8")
        new_image, new_label_map = run(random_scale(factor, factor), image, label_map)
        size = round(53 * factor), round(37 * factor)
        assert new_label_map.shape == size[::-1]
        exact = cv2.resize(label_map.astype("uint8"), size, interpolation=cv2.INTER_NEAREST_EXACT)
        np.testing.assert_array_equal(new_label_map, exact)
        pillow = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        assert abs(new_image.astype(int) - pillow).max() <= 1

    @pytest.mark.parametrize(("factor", "is_antialiased"), [(0.8, True), (1, False), (2, False)])
    def test_antialiasing_takes_no_time_where_it_changes_nothing(
        self, monkeypatch, factor, is_antialiased
    ):
        image, label_map = blocks(30, 40)
        resize, antialiased = tf.image.resize, []

        def watched(images, size, method, antialias=False):
            antialiased.append(antialias)
            return resize(images, size, method, antialias=antialias)

        monkeypatch.setattr(tf.image, "resize", watched)
        run(random_scale(factor, factor), image, label_map)
        assert any(antialiased) == is_antialiased

    @pytest.mark.parametrize("factor", SCALES)
    def test_stays_in_register(self, factor):
        image, label_map = blocks(61, 83, side=20)
        new_image, new_label_map = run(random_scale(factor, factor), image, label_map)
        assert_in_register(new_image, new_label_map, margin=1)

    def test_a_factor_of_1_changes_nothing(self):
        image, label_map = blocks(13, 17, side=2)
        new_image, new_label_map = run(random_scale(1, 1), image, label_map)
        np.testing.assert_array_equal(new_image, image)
        np.testing.assert_array_equal(new_label_map, label_map)

    def test_factors_fill_the_range_evenly_and_keep_the_aspect(self):
        image, label_map = blocks(40, 80)
        scale = random_scale(0.5, 1.5)
        shapes = np.array([run(scale, image, label_map, (seed, 0))[1].shape for seed in range(200)])
        assert abs(shapes[:, 1] - 2 * shapes[:, 0]).max() <= 1
        factors = shapes[:, 1] / 80
        assert factors.min() >= 0.5
        assert factors.max() <= 1.5
        # Four standard errors of the mean of 200 numbers, even in an interval of length 1.
        assert abs(factors.mean() - 1) < 4 / np.sqrt(12 * 200)

    def test_at_least_one_pixel_remains(self):
        image, label_map = blocks(2, 30)
        assert run(random_scale(0.1, 0.1), image, label_map)[1].shape == (1, 3)

    @pytest.mark.parametrize(("minimum", "maximum"), [(0, 1), (-1, 1), (2, 1)])
    def test_refuses_factors_out_of_order(self, minimum, maximum):
        with pytest.raises(ValueError, match="`minimum` must be greater than 0 and at most"):
            random_scale(minimum, maximum)


class TestRandomCrop:
    def test_is_a_window_of_both(self):
        label_map = np.arange(30 * 40, dtype="int32").reshape(30, 40)
        image = np.stack([label_map // 40, label_map % 40, label_map * 0], axis=-1).astype("uint8")
        places = set()
        for seed in range(60):
            new_image, new_label_map = run(random_crop(28, 37, 255), image, label_map, (seed, 1))
            top, left = divmod(int(new_label_map[0, 0]), 40)
            expected = label_map[top : top + 28, left : left + 37]
            np.testing.assert_array_equal(new_label_map, expected)
            np.testing.assert_array_equal(new_image, image[top : top + 28, left : left + 37])
            places.add((top, left))
        # 3 x 4 places; that one of 12 is missed in 60 draws has a chance of 6 in 100.
        assert len(places) >= 11
        assert {top for top, _ in places} == {0, 1, 2}
        assert {left for _, left in places} == {0, 1, 2, 3}

    def test_pads_at_the_bottom_and_right_where_the_image_is_too_small(self):
        image, label_map = blocks(5, 9, side=2)
        new_image, new_label_map = run(random_crop(8, 9, ignore_class=-1), image, label_map)
        np.testing.assert_array_equal(new_image[:5], image)
        np.testing.assert_array_equal(new_label_map[:5], label_map)
        assert (new_image[5:] == 0).all()
        assert (new_label_map[5:] == -1).all()

    def test_pads_one_side_and_crops_the_other(self):
        image, label_map = blocks(5, 90)
        new_image, new_label_map = run(random_crop(8, 20, ignore_class=255), image, label_map)
        assert new_image.shape == (8, 20, 3)
        assert_in_register(new_image, new_label_map, margin=0)

    def test_size_is_known_in_a_graph(self):
        spec = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((None, None), tf.int32))
        crop = tf.function(random_crop(4, 5, 255)).get_concrete_function(*spec, (0, 1))
        assert [shape.as_list() for shape in crop.output_shapes] == [[4, 5, 3], [4, 5]]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((0, 4, 255), "`height` must be an integer of at least 1"),
            ((4, 2.5, 255), "`width` must be an integer of at least 1"),
            ((4, 4, None), "`ignore_class` must be an integer"),
        ],
    )
    def test_refuses_what_is_no_window(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            random_crop(*arguments)


class TestResizeKeepingAspect:
    @pytest.mark.parametrize(
        ("size", "side", "expected"),
        [
            ((30, 40), {"shorter": 60}, (60, 80)),
            ((30, 40), {"longer": 20}, (15, 20)),
            ((40, 30), {"shorter": 15}, (20, 15)),
            ((40, 30), {"longer": 80}, (80, 60)),
            ((375, 500), {"longer": 512}, (384, 512)),
            ((7, 7), {"longer": 7}, (7, 7)),
            ((2, 300), {"longer": 30}, (1, 30)),
        ],
    )
    def test_sizes(self, size, side, expected):
        image, label_map = run(resize_keeping_aspect(**side), *blocks(*size))
        assert image.shape == (*expected, 3)
        assert label_map.shape == expected

    @pytest.mark.parametrize("sides", [{}, {"shorter": 4, "longer": 5}])
    def test_refuses_none_or_both(self, sides):
        with pytest.raises(ValueError, match="One of `shorter` and `longer` must be given"):
            resize_keeping_aspect(**sides)

    def test_refuses_a_length_of_0(self):
        with pytest.raises(ValueError, match="`longer` must be an integer of at least 1"):
            resize_keeping_aspect(longer=0)


def jittered(image, seed, **limits):
    limits = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, **limits}
    label_map = np.zeros(image.shape[:2], "int32")
    return run(photometric_jitter(**limits), image, label_map, (seed, 0))[0].astype(int)


class TestPhotometricJitter:
    # Values far enough from 0 and 255 for nothing to be cut off below.
    IMAGE = np.random.default_rng(0).integers(90, 160, (6, 7, 3), dtype="uint8")

    def test_the_label_map_stays(self):
        _, label_map = blocks(6, 7, side=2)
        result = run(photometric_jitter(), self.IMAGE, label_map, (1, 2))[1]
        np.testing.assert_array_equal(result, label_map)

    def test_limits_of_0_change_nothing(self):
        image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype="uint8")
        np.testing.assert_array_equal(jittered(image, seed=0), image)

    def test_brightness_adds_the_same_everywhere(self):
        added = [jittered(self.IMAGE, seed, brightness=0.3) - self.IMAGE for seed in range(40)]
        assert all(values.max() - values.min() == 0 for values in added)
        amounts = np.array([values.flat[0] for values in added])
        assert abs(amounts).max() <= round(0.3 * 255)
        assert amounts.min() < -40
        assert amounts.max() > 40

    def test_brightness_stops_at_0_and_255(self):
        image = np.array([[[0, 128, 255]]], "uint8")
        for seed in range(20):
            black, grey, white = jittered(image, seed, brightness=0.4)[0, 0]
            assert (black, white) in ((0, 255 + grey - 128), (grey - 128, 255))

    def test_contrast_multiplies_the_distance_to_the_mean_of_the_channel(self):
        distance = self.IMAGE - self.IMAGE.mean(axis=(0, 1))
        factors = []
        for seed in range(20):
            result = jittered(self.IMAGE, seed, contrast=0.5)
            new_distance = result - self.IMAGE.mean(axis=(0, 1))
            factor = (distance * new_distance).sum() / (distance**2).sum()
            assert abs(new_distance - factor * distance).max() < 0.6
            factors.append(factor)
        assert min(factors) >= 0.49
        assert max(factors) <= 1.51
        assert max(factors) - min(factors) > 0.4

    @pytest.mark.parametrize(("part", "limits"), [(0, {"hue": 0.1}), (1, {"saturation": 0.3})])
    def test_hue_and_saturation_are_those_of_hsv(self, part, limits):
        image = np.array([[[200, 100, 80], [60, 120, 180], [90, 160, 70]]], "uint8")
        changes = []
        for seed in range(20):
            result = jittered(image, seed, **limits)
            before = np.array([colorsys.rgb_to_hsv(*pixel / 255) for pixel in image[0]])
            after = np.array([colorsys.rgb_to_hsv(*pixel / 255) for pixel in result[0]])
            if part == 0:
                change = (after[:, 0] - before[:, 0] + 0.5) % 1 - 0.5
            else:
                change = after[:, 1] / before[:, 1] - 1
            # One value for all pixels, up to the rounding of the colours to integers.
            assert np.ptp(change) < 0.02
            others = [other for other in range(3) if other != part]
            assert abs(after - before)[:, others].max() < 0.01
            changes.append(change.mean())
        limit = next(iter(limits.values()))
        assert max(map(abs, changes)) < limit + 0.02
        assert max(changes) > limit / 2
        assert min(changes) < -limit / 2

    @pytest.mark.parametrize("limits", [{"contrast": -0.1}, {"brightness": 1.1}, {"hue": 0.6}])
    def test_refuses_limits_out_of_range(self, limits):
        with pytest.raises(ValueError, match=f"`{next(iter(limits))}` must be a number from 0 to"):
            photometric_jitter(**limits)
