"""Pasting classes of a second example: by hand, and which example is the second in a run."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from register import assert_in_register, blocks

from keras_fcn.data.batches import evaluation_batches, training_batches
from keras_fcn.data.files import find_pairs
from keras_fcn.data.loading import from_pairs
from keras_fcn.data.transforms import MixingTransform, class_mix, random_crop, random_flip

pytestmark = pytest.mark.any_backend

COUNT = 11


def mixed(transform, first, second, seed=(0, 0)):
    """The mixed example of two (image, label_map)."""
    arguments = [*map(tf.constant, first), tf.constant(seed), *map(tf.constant, second)]
    image, label_map = transform(*arguments)
    assert (image.dtype, label_map.dtype) == (tf.uint8, tf.int32)
    return image.numpy(), label_map.numpy()


class TestClassMix:
    def test_pixels_of_the_classes_replace_both_at_their_place(self):
        label_map, other = np.array([[0, 1], [2, 2]], "int32"), np.array([[3, 1], [4, 3]], "int32")
        image, other_image = (np.full((2, 2, 3), n, "uint8") for n in (10, 90))
        result = mixed(class_mix([3, 5], probability=1), (image, label_map), (other_image, other))
        assert result[1].tolist() == [[3, 1], [2, 3]]
        assert result[0][..., 1].tolist() == [[90, 10], [10, 90]]

    @pytest.mark.parametrize("size", [(90, 60), (50, 100), (70, 84), (20, 20)])
    @pytest.mark.parametrize("classes", [[1, 4], None])
    def test_images_of_other_sizes_stay_in_register(self, size, classes):
        first, second = blocks(70, 84), blocks(*size, seed=1)
        for seed in range(5):
            result = mixed(class_mix(classes, probability=1), first, second, (seed, 0))
            assert result[1].shape == (70, 84)
            assert_in_register(*result, margin=0)
        height, width = min(70, size[0]), min(84, size[1])
        if classes:
            pasted = np.isin(second[1][:height, :width], classes)
            expected = np.where(pasted, second[1][:height, :width], first[1][:height, :width])
            np.testing.assert_array_equal(result[1][:height, :width], expected)

    def test_half_of_the_classes_are_chosen_but_never_what_is_ignored(self):
        first = np.zeros((1, 7, 3), "uint8"), np.full((1, 7), 9, "int32")
        second = first[0] + 1, np.array([[0, 1, 2, 3, 4, 255, 255]], "int32")
        transform = class_mix(probability=1, ignore_class=255)
        chosen = set()
        for seed in range(40):
            label_map = mixed(transform, first, second, (seed, 0))[1][0].tolist()
            pasted = tuple(label for label in label_map if label != 9)
            assert len(pasted) == 2  # Five classes, rounded down.
            chosen.add(pasted)
        # Ten pairs of five classes; one is missed in 40 draws with a chance of 15 in 100.
        assert len(chosen) >= 9
        assert not any(255 in pair for pair in chosen)

    def test_a_share_of_the_images_is_pasted_on(self):
        first, second = blocks(4, 4, side=1), blocks(4, 4, side=1, seed=1)
        transform = class_mix([0, 1, 2, 3, 4, 5], probability=0.3)
        results = [mixed(transform, first, second, (seed, 1))[1] for seed in range(100)]
        count = sum(np.array_equal(result, second[1]) for result in results)
        assert all(any(np.array_equal(r, e[1]) for e in (first, second)) for r in results)
        assert 30 - 19 <= count <= 30 + 19  # Four standard deviations.

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"classes": []}, "`classes` must hold at least one class id, or be None"),
            ({"classes": ["pole"]}, "`classes` must be an integer of at least 0"),
            ({"probability": 2}, "`probability` must be a number from 0 to 1"),
            ({"ignore_class": 0.5}, "`ignore_class` must be an integer"),
        ],
    )
    def test_refuses_what_is_no_class(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            class_mix(**arguments)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Images of one row whose every value is their index."""
    folder = tmp_path_factory.mktemp("pairs")
    for index in range(COUNT):
        for name, array in (
            ("images", np.full((2, 6, 3), index + 1, "uint8")),
            ("labels", np.array([range(6)] * 2, "uint8")),
        ):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(folder / name / f"{index:02}.png")
    return find_pairs(folder / "images", folder / "labels")


@pytest.fixture(params=["pairs", "dataset", "cached"])
def source(request, pairs):
    """What `training_batches` gets: the examples, and the cache."""
    examples = pairs if request.param == "pairs" else from_pairs(pairs)
    return {"examples": examples, "cache": "memory" if request.param == "cached" else None}


@MixingTransform
def both(image, label_map, seed, other_image, other_label_map):
    """The first column shows the example, the others the second one."""
    image = tf.concat([image[:, :1], other_image[:, 1:]], axis=1)
    return image, tf.concat([label_map[:, :1], other_label_map[:, 1:]], axis=1)


def train(source, transforms=(both,), **options):
    options = {"batch_size": 2, "seed": 3, **options}
    return training_batches(
        **source, num_classes=6, ignore_class=255, transforms=transforms, **options
    )


def epoch(dataset):
    """[(index of the example, index of the second one)]."""
    images = np.concatenate([images for images, _ in dataset.as_numpy_iterator()])
    return [(int(image[0, 0, 0]) - 1, int(image[0, 1, 0]) - 1) for image in images]


class TestSecondExample:
    def test_it_is_the_next_of_the_epoch_and_each_is_once(self, source):
        dataset = train(source)
        epochs = [epoch(dataset) for _ in range(3)]
        for seen in epochs:
            order = [index for index, _ in seen]
            assert sorted(order) == list(range(COUNT))
            assert [other for _, other in seen] == [*order[1:], order[0]]
        assert len({tuple(seen) for seen in epochs}) == 3
        plain = train(source, transforms=[])
        assert [index for index, _ in epoch(plain)] == [index for index, _ in epochs[0]]

    def test_a_run_that_resumes_within_an_epoch_has_the_same(self, source):
        dataset = train(source)
        _, second = epoch(dataset), epoch(dataset)
        assert epoch(train(source, first_epoch=1, first_step=2)) == second[4:]

    def test_it_depends_neither_on_the_number_of_processes_nor_on_batches(self, source):
        whole = epoch(train(source))
        parts = [epoch(train(source, shard=(rank, 2), batch_size=1)) for rank in range(2)]
        assert [len(part) for part in parts] == [COUNT // 2] * 2
        assert set(parts[0]) | set(parts[1]) == set(whole[:-1])

    def test_it_went_through_the_transforms_before_with_numbers_of_its_own(self, pairs):
        """Labels count the columns: whether each of the two was mirrored is read off them."""
        dataset = train({"examples": pairs}, transforms=[random_flip, both, lambda i, m, s: (i, m)])
        flips = []
        for _ in range(12):
            for _, label_maps in dataset.as_numpy_iterator():
                flips += [(row[0] == 5, row[1] == 4) for row in label_maps[:, 0]]
        own, other = np.mean(flips, axis=0)
        assert own == pytest.approx(0.5, abs=0.18)
        assert other == pytest.approx(0.5, abs=0.18)
        assert np.mean([a == b for a, b in flips]) == pytest.approx(0.5, abs=0.18)

    def test_crops_before_make_the_sizes_equal(self, pairs):
        transforms = [random_crop(2, 4, 255), class_mix([1, 2]), random_flip]
        dataset = train({"examples": pairs}, transforms=transforms)
        assert dataset.element_spec[0].shape.as_list() == [None, 2, 4, 3]
        for images, label_maps in dataset.as_numpy_iterator():
            assert images.shape[1:] == (2, 4, 3)
            assert label_maps.max() < 6

    def test_the_only_example_is_its_own_second_one(self, pairs):
        assert epoch(train({"examples": pairs[:1]})) == [(0, 0)]

    def test_several_get_the_same_second_one(self, pairs):
        def add(image, label_map, seed, other_image, other_label_map):
            return image + other_image, label_map

        sums = [
            int(image[0, 0, 0])
            for images, _ in train({"examples": pairs}, [MixingTransform(add)] * 2)
            for image in images.numpy()
        ]
        expected = [a + 1 + 2 * (b + 1) for a, b in epoch(train({"examples": pairs}))]
        assert sums == expected


class TestRefusals:
    def test_files_that_are_skipped_cannot_be_mixed(self, pairs):
        with pytest.raises(ValueError, match="`on_error` must be 'raise' with a transform that"):
            train({"examples": pairs}, on_error="skip")

    def test_evaluation_mixes_nothing(self, pairs):
        with pytest.raises(ValueError, match="must not mix two examples in an evaluation"):
            evaluation_batches(pairs, num_classes=6, ignore_class=255, transforms=[both])

    def test_a_wrong_result_names_the_function(self, pairs):
        @MixingTransform
        def forgetful(image, label_map, seed, other_image, other_label_map):
            return image

        with pytest.raises(ValueError, match="The transform forgetful must return an image"):
            train({"examples": pairs}, [forgetful])
