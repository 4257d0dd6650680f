import ast
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_fcn.data import reader
from keras_fcn.data.batches import evaluation_batches, places_of_batch, training_batches
from keras_fcn.data.files import Pair, find_pairs
from keras_fcn.data.loading import from_pairs
from keras_fcn.data.transforms import random_crop, random_flip, random_scale

any_backend = pytest.mark.any_backend

CAMVID = Path(__file__).resolve().parents[3] / "shared" / "camvid"
HEIGHT, WIDTH = 6, 8


def make_pairs(folder, count, size_of=lambda index: (HEIGHT, WIDTH)):
    """Files whose image tells the index (red) and, pixel by pixel, the label map (green)."""
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for index in range(count):
        label_map = np.random.default_rng(index).integers(0, 3, size_of(index)).astype("uint8")
        image = np.stack(
            [np.full_like(label_map, index + 1), label_map * 50 + 1, label_map * 0], axis=-1
        )
        Image.fromarray(image).save(folder / "images" / f"{index:03}.png")
        Image.fromarray(label_map).save(folder / "labels" / f"{index:03}.png")
    return find_pairs(folder / "images", folder / "labels")


def original(index, size=(HEIGHT, WIDTH)):
    return np.random.default_rng(index).integers(0, 3, size)


def epoch(dataset):
    """[(index of the pair, its label map)] in the order of the dataset."""
    seen = []
    for images, label_maps in dataset.as_numpy_iterator():
        np.testing.assert_array_equal(images[..., 1], label_maps * 50 + 1)
        seen += zip((images[:, 0, 0, 0] - 1).tolist(), label_maps, strict=True)
    return seen


def indices(seen):
    return [index for index, _ in seen]


def flips(seen):
    """Which pairs are mirrored; fails on any other change."""
    result = {}
    for index, label_map in seen:
        result[index] = not np.array_equal(label_map, original(index))
        if result[index]:
            np.testing.assert_array_equal(label_map, np.fliplr(original(index)))
    return result


def to_pairs(pairs):
    return pairs


@pytest.fixture(params=[to_pairs, from_pairs], ids=["pairs", "dataset"])
def source(request):
    """Both kinds of examples that batches are made of."""
    return request.param


def train(pairs, **changes):
    options = {"num_classes": 3, "ignore_class": 255, "batch_size": 4, "seed": 0}
    return training_batches(pairs, **{**options, **changes})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"), 30)


@pytest.fixture(scope="module")
def unbroken(pairs):
    """The first three epochs of `train`, of both kinds of examples."""
    keras.utils.set_random_seed(1)
    runs = {}
    for source in (to_pairs, from_pairs):
        dataset = train(source(pairs))
        runs[source] = [epoch(dataset) for _ in range(3)]
    return runs


@pytest.fixture(scope="module")
def mixed_pairs(tmp_path_factory):
    """Pairs whose height and width grow, from 6x8 on."""
    folder = tmp_path_factory.mktemp("mixed")
    return make_pairs(folder, 5, lambda index: (HEIGHT + index, WIDTH + 2 * index))


@any_backend
class TestBatches:
    @pytest.mark.parametrize("batches", [training_batches, evaluation_batches])
    def test_shapes_and_types(self, pairs, batches):
        options = {"seed": 0} if batches is training_batches else {}
        dataset = batches(pairs, num_classes=3, ignore_class=None, batch_size=4, **options)
        assert dataset.element_spec == (
            tf.TensorSpec((None, None, None, 3), tf.uint8),
            tf.TensorSpec((None, None, None), tf.int32),
        )
        images, label_maps = next(dataset.as_numpy_iterator())
        assert (images.shape, images.dtype) == ((4, HEIGHT, WIDTH, 3), np.uint8)
        assert (label_maps.shape, label_maps.dtype) == ((4, HEIGHT, WIDTH), np.int32)

    def test_channels_first_moves_the_channels_of_the_image(self, pairs):
        last = evaluation_batches(pairs, num_classes=3, ignore_class=255)
        first = evaluation_batches(
            pairs, num_classes=3, ignore_class=255, data_format="channels_first"
        )
        assert first.element_spec[0].shape.as_list() == [None, 3, None, None]
        image, label_map = next(last.as_numpy_iterator())
        moved, same_label_map = next(first.as_numpy_iterator())
        np.testing.assert_array_equal(moved, np.moveaxis(image, -1, 1))
        np.testing.assert_array_equal(same_label_map, label_map)

    @pytest.mark.parametrize(("batch_size", "steps"), [(4, 8), (30, 1), (64, 1)])
    def test_number_of_batches_is_known_and_the_last_may_be_smaller(self, pairs, batch_size, steps):
        dataset = train(pairs, batch_size=batch_size)
        assert dataset.cardinality().numpy() == steps
        sizes = [len(images) for images, _ in dataset.as_numpy_iterator()]
        assert len(sizes) == steps
        assert sum(sizes) == 30

    def test_evaluation_keeps_order_and_pixels(self, pairs):
        dataset = evaluation_batches(pairs, num_classes=3, ignore_class=255, batch_size=4)
        for _ in range(2):
            seen = epoch(dataset)
            assert indices(seen) == list(range(30))
            assert not any(flips(seen).values())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pairs": []}, "`pairs` must hold at least one pair"),
            ({"num_classes": 1}, "`num_classes` must be an integer of at least 2"),
            ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
            ({"seed": -1}, "`seed` must be an integer of at least 0"),
            ({"seed": None}, "`seed` must be an integer of at least 0"),
            ({"data_format": "NCHW"}, "`data_format` must be one of"),
            ({"first_epoch": -1}, "`first_epoch` must be an integer of at least 0"),
            ({"first_step": -1}, "`first_step` must be an integer of at least 0"),
            ({"shuffle_buffer": 0}, "`shuffle_buffer` must be an integer of at least 1"),
            ({"on_error": "ignore"}, "`on_error` must be one of"),
            ({"shard": (2, 2)}, r"`shard` must be two integers \(rank, world_size\)"),
            ({"shard": 2}, "`shard` must be two integers"),
            ({"shard": (0, 31)}, "at least one example per shard"),
            ({"shard": (0, 2), "on_error": "skip"}, "`on_error` must be 'raise' with more"),
            (
                {"drop_remainder": True, "batch_size": 31},
                "`batch_size` must be at most .*, 30 examples",
            ),
            ({"pad_to": 0}, "`pad_to` must be an integer of at least 1, a size"),
            ({"pad_to": (8, 8, 8)}, "`pad_to` must be an integer of at least 1, a size"),
            ({"pad_to": []}, "`pad_to` must be an integer of at least 1, a size"),
            ({"pad_to": 8, "ignore_class": None}, "`pad_to` must be None without"),
        ],
    )
    def test_refuses_arguments_that_do_not_fit(self, pairs, change, message):
        with pytest.raises(ValueError, match=message):
            train(**{"pairs": pairs, **change})


@any_backend
class TestTrainingOrder:
    def test_another_seed_another_order_and_other_flips(self, pairs, unbroken):
        first, second = unbroken[to_pairs][0], epoch(train(pairs, seed=1))
        assert indices(first) != indices(second)
        assert flips(first) != flips(second)

    def test_batch_size_changes_neither_order_nor_flips(self, pairs, unbroken):
        first, second = unbroken[to_pairs][0], epoch(train(pairs, batch_size=7))
        assert indices(first) == indices(second)
        assert flips(first) == flips(second)

    def test_about_half_of_the_examples_are_flipped(self, unbroken):
        count = sum(sum(flips(seen).values()) for seen in unbroken[to_pairs])
        # Four standard deviations, sqrt(90) / 2, either way.
        assert 26 <= count <= 64

    def test_without_flip_nothing_is_mirrored(self, pairs):
        assert not any(flips(epoch(train(pairs, transforms=()))).values())


@any_backend
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


@any_backend
class TestBadFiles:
    def test_a_value_out_of_range_names_the_file_while_iterating(self, tmp_path):
        pairs = make_pairs(tmp_path, 3)
        Image.fromarray(np.full((HEIGHT, WIDTH), 3, "uint8")).save(pairs[1].label_map)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"ValueError: .*001\.png holds the value 3 at"
        ):
            epoch(train(pairs))


@any_backend
class TestEpochs:
    def test_a_restart_goes_on_where_the_run_ended(self, pairs, source, unbroken):
        third = unbroken[source][2]
        restarted = epoch(train(source(pairs), first_epoch=2))
        assert indices(third) == indices(restarted)
        assert flips(third) == flips(restarted)

    def test_a_restart_goes_on_within_an_epoch_and_stays_in_it(self, pairs, source, unbroken):
        second = unbroken[source][1]
        rest = train(source(pairs), first_epoch=1, first_step=3)
        assert int(rest.cardinality()) == 5
        for _ in range(2):
            seen = epoch(rest)
            assert indices(seen) == indices(second)[12:]
            assert flips(seen) == flips(second[12:])
        assert epoch(train(source(pairs), first_epoch=1, first_step=8)) == []

    def test_the_places_of_a_batch_are_those_that_it_was_made_of(self, pairs, source, unbroken):
        options = {"num_classes": 3, "ignore_class": 255, "batch_size": 4, "seed": 0}
        seen = indices(unbroken[source][2])
        for step in (0, 3, 7):
            places = places_of_batch(source(pairs), **options, epoch=2, step=step)
            assert places == seen[4 * step : 4 * step + 4]

    def test_every_epoch_is_whole_and_another_whatever_the_global_seed(
        self, pairs, source, unbroken
    ):
        keras.utils.set_random_seed(2)
        dataset = train(source(pairs))
        first, second = epoch(dataset), epoch(dataset)
        for seen, expected in zip((first, second), unbroken[source], strict=False):
            assert indices(seen) == indices(expected)
            assert flips(seen) == flips(expected)
            assert sorted(indices(seen)) == list(range(30))
        assert indices(first) != indices(second)
        assert flips(first) != flips(second)

    def test_a_look_at_the_first_batch_does_not_count(self, pairs, unbroken):
        dataset = train(pairs)
        for _ in range(2):
            next(dataset.as_numpy_iterator())
        assert indices(epoch(dataset)) == indices(unbroken[to_pairs][0])

    def test_an_epoch_left_later_counts(self, pairs, unbroken):
        dataset = train(pairs)
        for step, _ in enumerate(dataset):
            if step == 1:
                break
        assert indices(epoch(dataset)) == indices(unbroken[to_pairs][1])

    def test_a_single_batch_is_an_epoch(self, pairs):
        dataset = train(pairs, batch_size=30)
        assert indices(epoch(dataset)) != indices(epoch(dataset))


@any_backend
class TestTransforms:
    def test_they_follow_each_other(self, pairs):
        transforms = [
            lambda image, label_map, seed: (image + 1, label_map),
            lambda image, label_map, seed: (image * 2, label_map),
        ]
        dataset = train(pairs, transforms=transforms)
        reds = sorted(
            red for images, _ in dataset.as_numpy_iterator() for red in images[:, 0, 0, 0]
        )
        assert reds == [2 * (index + 2) for index in range(30)]

    def test_seeds_differ_between_examples_transforms_and_epochs(self, pairs, source):
        seeds = seeds_of(source(pairs), epochs=3)
        assert len(seeds) == 3 * 30
        assert len({seed for both in seeds.values() for seed in both}) == 3 * 30 * 2

    def test_seeds_depend_on_neither_batches_nor_shards(self, pairs, source):
        whole = seeds_of(source(pairs), batch_size=7)
        halves = [seeds_of(source(pairs), shard=(rank, 2)) for rank in range(2)]
        assert [len(half) for half in halves] == [15, 15]
        assert halves[0] | halves[1] == whole

    def test_scale_and_crop_make_batches_of_one_size(self, mixed_pairs, source):
        transforms = [random_flip, random_scale(0.5, 2.0), random_crop(6, 10, ignore_class=255)]
        dataset = train(source(mixed_pairs), transforms=transforms, batch_size=5)
        assert dataset.element_spec[0].shape.as_list() == [None, 6, 10, 3]
        assert next(dataset.as_numpy_iterator())[1].shape == (5, 6, 10)

    def test_crops_need_no_ignore_class_in_the_batches(self, mixed_pairs):
        dataset = train(mixed_pairs, transforms=[random_crop(4, 4, 0)], ignore_class=None)
        assert [len(label_maps) for _, label_maps in dataset] == [4, 1]

    def test_evaluation_takes_transforms_that_are_the_same_each_time(self, pairs):
        dataset = evaluation_batches(
            pairs, num_classes=3, ignore_class=255, transforms=[random_flip], batch_size=7
        )
        first, second = flips(epoch(dataset)), flips(epoch(dataset))
        assert first == second
        assert 5 < sum(first.values()) < 25


def seeds_of(source, epochs=1, **options):
    """(epoch, index) -> the seeds that two transforms got."""
    seeds = {}
    number = 0

    def note(image, label_map, seed):
        def write(red, seed):
            seeds.setdefault((number, int(red) - 1), set()).add(tuple(seed.tolist()))
            return np.int32(0)

        with tf.control_dependencies([tf.numpy_function(write, [image[0, 0, 0], seed], tf.int32)]):
            return tf.identity(image), label_map

    dataset = train(source, transforms=[note, note], **options)
    for number in range(epochs):  # noqa: B007
        epoch(dataset)
    assert all(len(both) == 2 for both in seeds.values())
    return {key: frozenset(both) for key, both in seeds.items()}


@any_backend
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


@any_backend
class TestShards:
    def test_training_is_disjoint_with_equally_many_steps(self, pairs, source):
        shards = [train(source(pairs), shard=(rank, 4), batch_size=3) for rank in range(4)]
        for _ in range(2):
            parts = [indices(epoch(shard)) for shard in shards]
            assert [len(part) for part in parts] == [7] * 4
            assert len({index for part in parts for index in part}) == 4 * 7
        assert {int(shard.cardinality()) for shard in shards} == {3}

    def test_what_one_epoch_leaves_out_another_holds(self, pairs):
        shards = [train(pairs[:3], shard=(rank, 2)) for rank in range(2)]
        seen = {index for _ in range(4) for shard in shards for index in indices(epoch(shard))}
        assert seen == {0, 1, 2}

    @pytest.mark.parametrize(("number", "world_size"), [(30, 4), (2, 3)])
    def test_evaluation_sees_each_example_exactly_once(self, pairs, source, number, world_size):
        options = {"num_classes": 3, "ignore_class": 255, "batch_size": 2}
        seen = []
        for rank in range(world_size):
            shard = {"shard": (rank, world_size)}
            seen += indices(epoch(evaluation_batches(source(pairs[:number]), **shard, **options)))
        assert sorted(seen) == list(range(number))

    def test_a_dataset_must_tell_its_number(self, pairs):
        unknown = from_pairs(pairs).filter(lambda example: True)
        with pytest.raises(ValueError, match=r"number must be known.*assert_cardinality"):
            train(unknown, shard=(0, 2))
        known = unknown.apply(tf.data.experimental.assert_cardinality(30))
        assert len(epoch(train(known, shard=(0, 2)))) == 15


@any_backend
class TestRemainder:
    def test_drop_remainder_leaves_out_the_last_smaller_batch(self, pairs, source):
        dataset = train(source(pairs), drop_remainder=True)
        assert dataset.cardinality().numpy() == 7
        assert [len(images) for images, _ in dataset] == [4] * 7


@pytest.fixture
def reads(monkeypatch):
    """Files that were decoded, one entry per time."""
    seen = []

    def read(pair, *rules):
        seen.append(pair.image.name)
        return read_example(pair, *rules)

    read_example = reader.read_example
    monkeypatch.setattr(reader, "read_example", read)
    return seen


@any_backend
class TestCache:
    @pytest.mark.parametrize("place", ["memory", "disk"])
    def test_files_are_read_once_and_epochs_stay_as_without(
        self, pairs, source, reads, unbroken, place, tmp_path
    ):
        cached = train(source(pairs), cache=place if place == "memory" else tmp_path / "cache")
        if place == "memory" or source is to_pairs:
            reads.clear()
            next(cached.as_numpy_iterator())
        for seen in unbroken[source][:2]:
            again = epoch(cached)
            assert indices(again) == indices(seen)
            assert flips(again) == flips(seen)
        if source is to_pairs:
            assert sorted(reads) == [f"{index:03}.png" for index in range(30)]
        reads.clear()
        epoch(cached)
        assert reads == []

    @pytest.mark.parametrize("batches", ["train", "evaluate"])
    def test_a_folder_serves_the_next_run(self, pairs, source, reads, batches, tmp_path):
        def run():
            if batches == "train":
                return epoch(train(source(pairs), cache=tmp_path / "new" / "cache"))
            options = {"num_classes": 3, "ignore_class": 255, "cache": tmp_path / "cache"}
            return epoch(evaluation_batches(source(pairs), **options))

        first = run()
        reads.clear()
        second = run()
        assert reads == []
        assert indices(first) == indices(second)
        for (_, one), (_, other) in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_changed_files_and_other_rules_are_read_anew(self, tmp_path, reads):
        pairs = make_pairs(tmp_path, 3)

        def label_maps(**options):
            reads.clear()
            options = {"num_classes": 3, "ignore_class": 255, "cache": tmp_path / "c", **options}
            return [labels[0].numpy() for _, labels in evaluation_batches(pairs, **options)]

        label_maps()
        Image.fromarray(np.full((HEIGHT, WIDTH), 2, "uint8")).save(pairs[1].label_map)
        assert (label_maps()[1] == 2).all()
        assert reads == ["001.png"]
        label_maps(num_classes=4)
        assert len(reads) == 3

    def test_a_damaged_file_of_the_cache_is_replaced(self, tmp_path):
        pairs = make_pairs(tmp_path, 3)
        options = {"num_classes": 3, "ignore_class": 255, "cache": tmp_path / "cache"}
        expected = [labels.numpy() for _, labels in evaluation_batches(pairs, **options)]
        for file in (tmp_path / "cache").iterdir():
            file.write_bytes(file.read_bytes()[:100])
        again = [labels.numpy() for _, labels in evaluation_batches(pairs, **options)]
        np.testing.assert_array_equal(again, expected)

    def test_threads_read_it_without_the_parser_of_python(self, tmp_path, monkeypatch):
        """Python 3.11's parser fails in several threads: https://github.com/python/cpython/issues/106905"""
        batches = evaluation_batches(
            make_pairs(tmp_path, 3), num_classes=3, ignore_class=255, cache=tmp_path / "cache"
        )
        expected = [labels.numpy() for _, labels in batches]

        def parse(*_, **__):
            raise SystemError("AST constructor recursion depth mismatch (before=30, after=26)")

        monkeypatch.setattr(ast, "literal_eval", parse)
        again = [labels.numpy() for _, labels in batches]
        np.testing.assert_array_equal(again, expected)

    @pytest.mark.parametrize("values", [(0, 255), (-1, 2), (0, 40000)])
    @pytest.mark.parametrize("place", ["memory", "disk"])
    def test_keeps_every_value(self, tmp_path, values, place):
        label_map = np.array([values] * 2, "int32")
        (tmp_path / "a.png").touch()
        (tmp_path / "b.png").touch()
        pair = Pair(tmp_path / "a.png", tmp_path / "b.png")
        keep = {
            "memory": reader._cached_in_memory,
            "disk": lambda read: reader._cached_on_disk(read, tmp_path / "cache", ()),
        }[place](lambda pair: (np.zeros((2, 2, 3), "uint8"), label_map))
        for _ in range(2):
            result = keep(pair)[1]
            assert result.dtype == np.int32
            np.testing.assert_array_equal(result, label_map)


@pytest.fixture
def broken(tmp_path):
    """Six pairs: the image of 1 is cut off, 3 is gone, and 4 has a wrong label."""
    pairs = make_pairs(tmp_path, 6)
    pairs[1].image.write_bytes(pairs[1].image.read_bytes()[:60])
    pairs[3].label_map.unlink()
    Image.fromarray(np.full((HEIGHT, WIDTH), 3, "uint8")).save(pairs[4].label_map)
    return pairs


@any_backend
class TestSkip:
    @pytest.mark.parametrize("cache", [None, "memory"])
    def test_every_epoch_goes_without_them_and_names_them_at_its_end(self, broken, cache):
        dataset = train(broken, on_error="skip", cache=cache)
        for _ in range(2):
            with pytest.warns(UserWarning, match="left out 3 of 6 examples") as warned:
                assert sorted(indices(epoch(dataset))) == [0, 2, 5]
            (message,) = [str(warning.message) for warning in warned]
            lines = message.splitlines()
            assert len(lines) == 4
            assert "001.png cannot be read as an image" in lines[1]
            assert "003.png" in lines[2]
            assert "004.png holds the value 3" in lines[3]

    def test_seeds_and_order_of_the_others_stay(self, broken):
        with pytest.warns(UserWarning, match="left out 3 of 6"):
            seen = epoch(train(broken, on_error="skip", first_epoch=4))
        order = np.random.default_rng((0, 4)).permutation(6)
        assert indices(seen) == [index for index in order if index not in (1, 3, 4)]

    def test_evaluation_and_from_pairs_skip_too(self, broken):
        options = {"num_classes": 3, "ignore_class": 255}
        with pytest.warns(UserWarning, match="left out 3 of 6"):
            seen = epoch(evaluation_batches(broken, on_error="skip", **options))
        assert indices(seen) == [0, 2, 5]
        with pytest.warns(UserWarning, match="left out 2 of 6"):
            assert len(list(from_pairs(broken, on_error="skip"))) == 4

    def test_without_broken_files_there_is_no_warning(self, pairs):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(epoch(train(pairs, on_error="skip"))) == 30

    def test_a_dataset_is_skipped_where_it_is_read(self, pairs):
        with pytest.raises(
            ValueError, match="must be None and `on_error` 'raise' if `examples` is"
        ):
            train(from_pairs(pairs), on_error="skip")


@any_backend
class TestDatasets:
    def test_values_are_checked(self, pairs):
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=r"ValueError: Label map \d+ of the dataset holds the value 2 at",
        ):
            epoch(train(from_pairs(pairs), num_classes=2))

    def test_other_integers_become_int32_and_other_features_are_passed_over(self, pairs):
        dataset = from_pairs(pairs).map(
            lambda example: {
                "image": example["image"],
                "label_map": tf.cast(example["label_map"], tf.uint8),
                "file_name": "a",
            }
        )
        assert train(dataset).element_spec[1].dtype == tf.int32
        assert sorted(indices(epoch(train(dataset)))) == list(range(30))

    def test_the_buffer_bounds_how_far_an_example_moves_forward(self, pairs):
        order = indices(epoch(train(from_pairs(pairs), shuffle_buffer=5)))
        assert sorted(order) == list(range(30))
        assert order != sorted(order)
        assert all(index < place + 5 for place, index in enumerate(order))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda example: example["image"], "must be a dataset of dictionaries"),
            (lambda example: {"image": example["image"]}, "'image' and 'label_map'"),
            (
                lambda example: {name: value[None] for name, value in example.items()},
                "single examples, whose image has 3 axes",
            ),
            (
                lambda example: {**example, "image": tf.cast(example["image"], tf.float32)},
                "must hold images in uint8",
            ),
        ],
    )
    def test_refuses_other_elements(self, pairs, change, message):
        with pytest.raises(ValueError, match=message):
            train(from_pairs(pairs).map(change))

    def test_refuses_none(self, pairs):
        with pytest.raises(ValueError, match="at least one example"):
            train(from_pairs(pairs).take(0))


def tiny_model():
    """Compiled model that can read the class of a pixel off its green value."""
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Rescaling(1 / 25, offset=-2),
            keras.layers.Conv2D(3, 1),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(keras.optimizers.Adam(0.1), loss)
    return model


class TestInFit:
    """Each backend has its own trainer around the same batches."""

    @pytest.mark.parametrize(
        ("source", "options"),
        [(to_pairs, {}), (to_pairs, {"cache": "memory"}), (from_pairs, {"pad_to": 8})],
        ids=["pairs", "cache", "dataset-pad_to"],
    )
    def test_fit_and_evaluate_take_the_batches(self, pairs, source, options):
        model = tiny_model()
        held_out = evaluation_batches(
            source(pairs), num_classes=3, ignore_class=255, batch_size=10, **options
        )
        before = model.evaluate(held_out, verbose=0)
        dataset = train(source(pairs), batch_size=10, **options)
        history = model.fit(dataset, epochs=3, validation_data=held_out, shuffle=False, verbose=0)
        assert history.history["val_loss"][-1] < before

    def test_fit_trains_on_the_first_epoch_first(self, pairs, unbroken):
        dataset = train(pairs)
        tiny_model().fit(dataset, epochs=2, shuffle=False, verbose=0)
        assert indices(epoch(dataset)) == indices(unbroken[to_pairs][2])

    def test_a_file_cut_off_reaches_the_caller_of_fit_by_name(self, tmp_path):
        pairs = make_pairs(tmp_path, 3)
        pairs[1].image.write_bytes(pairs[1].image.read_bytes()[:60])
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"ValueError: .*001\.png cannot be read as an"
        ):
            tiny_model().fit(train(pairs), shuffle=False, verbose=0)

    def test_fit_goes_on_without_broken_files(self, broken):
        with pytest.warns(UserWarning, match="left out 3 of 6"):
            history = tiny_model().fit(
                train(broken, on_error="skip", batch_size=1), epochs=2, shuffle=False, verbose=0
            )
        assert len(history.history["loss"]) == 2


@any_backend
def test_camvid_batches():
    if not CAMVID.is_dir():
        pytest.skip(f"{CAMVID} is absent")
    pairs = find_pairs(CAMVID / "train", CAMVID / "trainannot")
    dataset = train(pairs, num_classes=11, ignore_class=11)
    assert dataset.cardinality().numpy() == 92
    images, label_maps = next(dataset.as_numpy_iterator())
    assert images.shape == (4, 360, 480, 3)
    assert label_maps.shape == (4, 360, 480)
    assert set(np.unique(label_maps)) <= set(range(12))
    # Roads lie below the sky.
    rows = np.arange(360)[None, :, None] * np.ones_like(label_maps)
    assert rows[label_maps == 3].mean() > rows[label_maps == 0].mean()
