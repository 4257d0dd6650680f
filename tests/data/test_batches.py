from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_fcn.data.batches import evaluation_batches, training_batches
from keras_fcn.data.examples import find_pairs

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


def train(pairs, **changes):
    options = {"num_classes": 3, "ignore_class": 255, "batch_size": 4, "seed": 0}
    return training_batches(pairs, **{**options, **changes})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"), 30)


@pytest.fixture(scope="module")
def mixed_pairs(tmp_path_factory):
    """Pairs whose height and width grow, from 6x8 on."""
    folder = tmp_path_factory.mktemp("mixed")
    return make_pairs(folder, 5, lambda index: (HEIGHT + index, WIDTH + 2 * index))


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

    @pytest.mark.parametrize(("batch_size", "steps"), [(1, 30), (4, 8), (30, 1), (64, 1)])
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
        ],
    )
    def test_refuses_arguments_that_do_not_fit(self, pairs, change, message):
        with pytest.raises(ValueError, match=message):
            train(**{"pairs": pairs, **change})


class TestTrainingOrder:
    def test_every_epoch_holds_every_pair_once(self, pairs):
        dataset = train(pairs)
        for _ in range(3):
            assert sorted(indices(epoch(dataset))) == list(range(30))

    def test_epochs_differ_in_order_and_in_flips(self, pairs):
        dataset = train(pairs)
        first, second = epoch(dataset), epoch(dataset)
        assert indices(first) != indices(second)
        assert flips(first) != flips(second)

    def test_same_seed_same_epochs_whatever_the_global_seed(self, pairs):
        runs = []
        for global_seed in (1, 2):
            keras.utils.set_random_seed(global_seed)
            dataset = train(pairs, seed=5)
            runs.append([(indices(seen), flips(seen)) for seen in (epoch(dataset), epoch(dataset))])
        assert runs[0] == runs[1]

    def test_another_seed_another_order_and_other_flips(self, pairs):
        first, second = epoch(train(pairs, seed=0)), epoch(train(pairs, seed=1))
        assert indices(first) != indices(second)
        assert flips(first) != flips(second)

    def test_batch_size_changes_neither_order_nor_flips(self, pairs):
        first, second = epoch(train(pairs, batch_size=1)), epoch(train(pairs, batch_size=7))
        assert indices(first) == indices(second)
        assert flips(first) == flips(second)

    def test_about_half_of_the_examples_are_flipped(self, pairs):
        dataset = train(pairs)
        count = sum(sum(flips(epoch(dataset)).values()) for _ in range(4))
        # Four standard deviations, sqrt(120) / 2, either way.
        assert 38 <= count <= 82

    def test_without_flip_nothing_is_mirrored(self, pairs):
        assert not any(flips(epoch(train(pairs, flip=False))).values())


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


class TestBadFiles:
    def test_a_value_out_of_range_names_the_file_while_iterating(self, tmp_path):
        pairs = make_pairs(tmp_path, 3)
        Image.fromarray(np.full((HEIGHT, WIDTH), 3, "uint8")).save(pairs[1].label_map)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"ValueError: .*001\.png holds the value 3 at"
        ):
            epoch(train(pairs))

    def test_a_file_cut_off_reaches_the_caller_of_fit_by_name(self, tmp_path):
        pairs = make_pairs(tmp_path, 3)
        pairs[1].image.write_bytes(pairs[1].image.read_bytes()[:60])
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"ValueError: .*001\.png cannot be read as an"
        ):
            tiny_model().fit(train(pairs), shuffle=False, verbose=0)


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


def test_fit_and_evaluate_take_the_batches(pairs):
    keras.utils.set_random_seed(0)
    model = tiny_model()
    held_out = evaluation_batches(pairs, num_classes=3, ignore_class=255, batch_size=10)
    before = model.evaluate(held_out, verbose=0)
    dataset = train(pairs, batch_size=10)
    history = model.fit(dataset, epochs=3, validation_data=held_out, shuffle=False, verbose=0)
    assert history.history["val_loss"][-1] < before


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
