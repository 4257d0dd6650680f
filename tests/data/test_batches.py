from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from data.numbered_pairs import HEIGHT, WIDTH, epoch, flips, indices, make_pairs, to_pairs, train
from PIL import Image

from keras_fcn.data.batches import evaluation_batches, places_of_batch, training_batches
from keras_fcn.data.files import find_pairs
from keras_fcn.data.loading import from_pairs
from keras_fcn.data.transforms import random_crop, random_flip, random_scale

any_backend = pytest.mark.any_backend

CAMVID = Path(__file__).resolve().parents[3] / "shared" / "camvid"


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
            ({"pad_to": 1.5}, "`pad_to` must be an integer of at least 1, a size"),
            ({"pad_to": True}, "`pad_to` must be an integer of at least 1, a size"),
            ({"pairs": 5}, "`examples` must be a tuple"),
            ({"ignore_class": "1"}, "`ignore_class` must be an integer"),
            ({"ignore_class": 1.5}, "`ignore_class` must be an integer"),
            ({"batch_size": 10**12}, "`batch_size` must be an integer from 1 to"),
            ({"seed": 2**63}, "`seed` must be an integer from 0 to"),
            ({"drop_remainder": "False"}, "`drop_remainder` must be True or False"),
            ({"transforms": random_flip}, "`transforms` must be a tuple"),
            (
                {"transforms": [random_scale]},
                r"`transforms` must be functions of \(image, label_map",
            ),
            ({"transforms": ["flip"]}, r"`transforms` must be functions of \(image, label_map"),
            ({"channels": "3"}, "`channels` must be an integer of at least 1"),
            ({"cache": 5}, "`cache` must be a path"),
            ({"palette": 5}, "`palette` must be at least one colour"),
            ({"palette": [(0, 0, 300)]}, "`palette` must hold colours of three integers"),
            ({"palette": {(0, 0, 0): 1.5}}, r"`palette\[\(0, 0, 0\)\]` must be an integer"),
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

    def test_a_buffer_for_more_than_the_examples_takes_no_memory_and_keeps_the_order(self, pairs):
        """TensorFlow would allocate 48 GiB for the second one."""
        orders = [
            indices(epoch(train(from_pairs(pairs), shuffle_buffer=size)))
            for size in (len(pairs), 2**31 - 1)
        ]
        assert orders[0] == orders[1]

    def test_about_half_of_the_examples_are_flipped(self, unbroken):
        count = sum(sum(flips(seen).values()) for seen in unbroken[to_pairs])
        # Four standard deviations, sqrt(90) / 2, either way.
        assert 26 <= count <= 64

    def test_without_flip_nothing_is_mirrored(self, pairs):
        assert not any(flips(epoch(train(pairs, transforms=()))).values())


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
