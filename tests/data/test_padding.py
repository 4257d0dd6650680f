"""Batches of images of different sizes."""

import numpy as np
import pytest
import tensorflow as tf
from data.numbered_pairs import HEIGHT, WIDTH, make_pairs, original, train

from keras_fcn.data.batches import evaluation_batches

pytestmark = pytest.mark.any_backend


class TestDifferentSizes:
    def test_smaller_ones_are_padded_at_the_bottom_and_right(self, mixed_pairs):
        dataset = evaluation_batches(mixed_pairs, num_classes=3, ignore_class=255, batch_size=3)
        (images, label_maps), (_, last_label_maps) = dataset.as_numpy_iterator()
        assert images.shape == (3, 8, 12, 3)
        assert last_label_maps.shape == (2, 10, 16)
        for index in range(3):
            height, width = HEIGHT + index, WIDTH + 2 * index
            expected = np.full((8, 12), 255)
            expected[:height, :width] = original(index, (height, width))
            np.testing.assert_array_equal(label_maps[index], expected)
            assert (images[index, :height, :width, 0] == index + 1).all()
            assert (images[index, height:] == 0).all()
            assert (images[index, :, width:] == 0).all()

    def test_flips_happen_before_the_padding(self, mixed_pairs):
        dataset = train(mixed_pairs, batch_size=5)
        for images, label_maps in (next(dataset.as_numpy_iterator()) for _ in range(4)):
            assert (images[:, 0, 0, 0] > 0).all()
            assert (label_maps[:, 0, 0] != 255).all()

    def test_without_ignore_class_they_need_a_batch_size_of_1(self, mixed_pairs):
        with pytest.raises(
            ValueError,
            match=r"000\.png 8x6, .*001\.png 10x7\. Pass `batch_size=1` .*--ignore-class 255",
        ):
            train(mixed_pairs, ignore_class=None)
        dataset = train(mixed_pairs, ignore_class=None, batch_size=1)
        shapes = sorted(label_map.shape for _, label_map in dataset.as_numpy_iterator())
        assert shapes == [(1, HEIGHT + index, WIDTH + 2 * index) for index in range(5)]


class TestPadTo:
    def shapes(self, pairs, **options):
        """Shapes of the batches; fails where the pixels of an example are not at the top left."""
        options = {"num_classes": 3, "ignore_class": 255, "batch_size": 2, **options}
        found = []
        for images, label_maps in evaluation_batches(pairs, **options).as_numpy_iterator():
            assert images.shape[:3] == label_maps.shape
            found.append(label_maps.shape)
            for image, label_map in zip(images, label_maps, strict=True):
                index = int(image[0, 0, 0]) - 1
                height, width = HEIGHT + index, WIDTH + 2 * index
                expected = np.full(label_map.shape, 255)
                expected[:height, :width] = original(index, (height, width))
                np.testing.assert_array_equal(label_map, expected)
                assert image[:height, :width, 0].min() == index + 1
                assert image.sum(dtype=int) == image[:height, :width].sum(dtype=int)
        return found

    # The sizes are 6x8, 7x10, 8x12, 9x14 and 10x16.
    @pytest.mark.parametrize(
        ("pad_to", "expected"),
        [
            (None, [(2, 7, 10), (2, 9, 14), (1, 10, 16)]),
            ((12, 20), [(2, 12, 20), (2, 12, 20), (1, 12, 20)]),
            ([10, 16], [(2, 10, 16), (2, 10, 16), (1, 10, 16)]),
            (8, [(2, 8, 16), (2, 16, 16), (1, 16, 16)]),
            (1, [(2, 7, 10), (2, 9, 14), (1, 10, 16)]),
            ([(10, 16), (7, 12)], [(2, 7, 12), (2, 10, 16), (1, 10, 16)]),
        ],
    )
    def test_sizes_worked_by_hand(self, mixed_pairs, source, pad_to, expected):
        assert self.shapes(source(mixed_pairs), pad_to=pad_to) == expected

    def test_one_by_one_nothing_is_padded(self, mixed_pairs):
        expected = [(1, HEIGHT + index, WIDTH + 2 * index) for index in range(5)]
        assert self.shapes(mixed_pairs, batch_size=1) == expected

    def test_a_bounded_number_of_shapes(self, tmp_path):
        generator = np.random.default_rng(0)
        sizes = generator.integers(1, 100, (36, 2))
        many = make_pairs(tmp_path, 36, lambda index: tuple(sizes[index]))

        def count(pad_to):
            dataset = train(many, pad_to=pad_to, drop_remainder=True, batch_size=2)
            return len(
                {images.shape for _ in range(2) for images, _ in dataset.as_numpy_iterator()}
            )

        assert count(None) > 25
        # Heights and widths below 100 round up to 32, 64, 96 or 128.
        assert count(32) <= 4 * 4
        assert count([(100, 50), (50, 100), (100, 100)]) <= 3
        assert count((100, 100)) == 1

    def test_a_fixed_size_and_whole_batches_are_known_beforehand(self, pairs):
        dataset = train(pairs, pad_to=(8, 8), drop_remainder=True)
        assert dataset.element_spec == (
            tf.TensorSpec((4, 8, 8, 3), tf.uint8),
            tf.TensorSpec((4, 8, 8), tf.int32),
        )

    def test_an_image_that_fits_nowhere_is_refused_by_its_size(self, mixed_pairs):
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=r"(?s)`pad_to` must hold every batch.*pad_to=\[\(9, 20\)\].*\[10 16\]",
        ):
            self.shapes(mixed_pairs, pad_to=(9, 20))
