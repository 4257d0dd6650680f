from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_fcn.data import find_pairs, from_directory, from_pairs, load, loading
from keras_fcn.data.batches import training_batches
from keras_fcn.label_spaces import LabelSpace

pytestmark = pytest.mark.any_backend

SPACE = LabelSpace(
    ("road", "car", "sky"), ((128, 64, 128), (64, 0, 128), (0, 0, 255)), ignore_class=255
)


def label_map_of(index, height=5, width=7):
    return np.random.default_rng(index).integers(0, 3, (height, width)).astype("uint8")


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def make(images, labels, names=("a", "b", "c"), colours=False):
    """Files whose image is black but for the number of its name in red."""
    for index, name in enumerate(names):
        label_map = label_map_of(index)
        image = np.zeros((*label_map.shape, 3), "uint8")
        image[..., 0] = index
        save(image, images / f"{name}.png")
        label_map = np.array(SPACE.palette, "uint8")[label_map] if colours else label_map
        save(label_map, labels / f"{name}.png")


def assert_holds(dataset, indices=(0, 1, 2)):
    assert dataset.element_spec == {
        "image": tf.TensorSpec((None, None, 3), tf.uint8),
        "label_map": tf.TensorSpec((None, None), tf.int32),
    }
    examples = list(dataset.as_numpy_iterator())
    assert [int(example["image"][0, 0, 0]) for example in examples] == list(indices)
    for index, example in zip(indices, examples, strict=True):
        np.testing.assert_array_equal(example["label_map"], label_map_of(index))


@pytest.fixture
def folders(tmp_path):
    make(tmp_path / "images", tmp_path / "labels")
    return tmp_path / "images", tmp_path / "labels"


class TestFromDirectory:
    def test_yields_examples_in_the_order_of_their_names_again_and_again(self, folders):
        dataset = from_directory(*folders)
        assert int(dataset.cardinality()) == 3
        for _ in range(2):
            assert_holds(dataset)

    def test_recursive(self, tmp_path):
        make(tmp_path / "i", tmp_path / "l", names=("a", "x/b", "x/y/c"))
        assert_holds(from_directory(tmp_path / "i", tmp_path / "l", recursive=True))

    def test_colours_are_those_of_the_label_space(self, tmp_path):
        make(tmp_path / "i", tmp_path / "l", colours=True)
        assert_holds(from_directory(tmp_path / "i", tmp_path / "l", SPACE))

    def test_a_palette_adds_void(self, tmp_path):
        make(tmp_path / "i", tmp_path / "l", colours=True)
        save(np.zeros((5, 7, 3), "uint8"), tmp_path / "l" / "b.png")
        palette = {**dict(zip(SPACE.palette, range(3), strict=True)), (0, 0, 0): 255}
        dataset = from_directory(tmp_path / "i", tmp_path / "l", SPACE, palette=palette)
        label_maps = [example["label_map"] for example in dataset.as_numpy_iterator()]
        assert (label_maps[1] == 255).all()
        np.testing.assert_array_equal(label_maps[2], label_map_of(2))

    def test_values_are_checked_against_the_label_space(self, folders):
        save(np.full((5, 7), 3, "uint8"), folders[1] / "b.png")
        assert len(list(from_directory(*folders))) == 3
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"ValueError: .*b\.png holds the value 3 at"
        ):
            list(from_directory(*folders, SPACE))

    @pytest.mark.parametrize("kind", [0, 1])
    def test_a_file_that_is_gone_is_named(self, folders, kind):
        dataset = from_directory(*folders)
        (folders[kind] / "b.png").unlink()
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"ValueError: .*b\.png"):
            list(dataset)

    def test_skip_leaves_out_and_names(self, folders):
        (folders[0] / "b.png").write_bytes(b"GIF")
        dataset = from_directory(*folders, on_error="skip")
        for _ in range(2):
            with pytest.warns(UserWarning, match=r"left out 1 of 3 examples:\n  .*b\.png cannot"):
                assert_holds(dataset, indices=(0, 2))

    def test_refuses_another_word_for_on_error(self, folders):
        with pytest.raises(ValueError, match="`on_error` must be one of"):
            from_directory(*folders, on_error="ignore")

    def test_a_name_in_place_of_a_label_space_is_one_sentence(self, folders):
        with pytest.raises(
            ValueError, match=r"must be a LabelSpace.* Received: label_space='camvid'"
        ):
            from_directory(*folders, "camvid")

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"modalities": ("image", "depth")}, "modalities"),
            ({"modalities": "image"}, "modalities"),
            ({"tasks": None}, "tasks"),
            ({"split": 5}, "split"),
        ],
    )
    def test_load_names_what_a_folder_does_not_have(self, folders, options, name):
        with pytest.raises(ValueError, match=f"^`{name}` must be"):
            load(folders[0], **options)

    @pytest.mark.parametrize("value", [5, None])
    def test_what_is_no_path_is_named(self, folders, value):
        with pytest.raises(ValueError, match=r"^`labels` must be a path"):
            from_directory(folders[0], value)
        with pytest.raises(ValueError, match=r"^`name_or_directory` must be a path"):
            load(value)

    def test_from_pairs_keeps_the_order_of_the_pairs(self, folders):
        assert_holds(from_pairs(find_pairs(*folders)[::-1]), indices=(2, 1, 0))

    def test_from_pairs_refuses_none(self):
        with pytest.raises(ValueError, match="`pairs` must hold at least one pair"):
            from_pairs([])

    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
    def test_formats_and_modes_of_images(self, tmp_path, suffix, mode):
        if (suffix, mode) in {("jpg", "RGBA"), ("jpg", "I;16"), ("webp", "I;16"), ("webp", "L")}:
            pytest.skip(f"{suffix} holds no {mode}")
        image = Image.new("L", (7, 5), 100)
        if mode == "I;16":
            image = Image.fromarray(np.full((5, 7), 100 * 257, "uint16"))
        elif mode != "L":
            image = image.convert(mode)
        (tmp_path / "i").mkdir()
        image.save(tmp_path / "i" / f"a.{suffix}")
        save(label_map_of(0), tmp_path / "l" / "a.png")
        (example,) = from_directory(tmp_path / "i", tmp_path / "l").as_numpy_iterator()
        assert example["image"].shape == (5, 7, 3)
        # JPEG and WebP may err by a little.
        assert abs(example["image"].astype(int) - 100).max() <= 2

    def test_feeds_training(self, folders):
        dataset = from_directory(*folders, SPACE)
        batches = training_batches(
            dataset, num_classes=3, ignore_class=255, batch_size=2, seed=0, transforms=()
        )
        assert [images.shape for images, _ in batches] == [(2, 5, 7, 3), (1, 5, 7, 3)]


class TestLoadDirectory:
    @pytest.mark.parametrize(
        ("images", "labels"),
        [("train", "trainannot"), ("images/train", "labels/train")],
    )
    def test_layouts_with_splits(self, tmp_path, images, labels):
        make(tmp_path / images, tmp_path / labels)
        make(tmp_path / images.replace("train", "val"), tmp_path / labels.replace("train", "val"))
        assert_holds(load(tmp_path, "train"))
        assert_holds(load(str(tmp_path), "val", label_space=SPACE))

    def test_layout_without_splits(self, tmp_path):
        make(tmp_path / "images", tmp_path / "labels")
        assert_holds(load(tmp_path))

    def test_subfolders_of_a_split_are_part_of_it(self, tmp_path):
        make(
            tmp_path / "images" / "train", tmp_path / "labels" / "train", ("oslo/a", "oslo/b", "x")
        )
        assert_holds(load(tmp_path, "train"))

    def test_names_what_was_tried_and_what_is_there(self, tmp_path):
        make(tmp_path / "val", tmp_path / "valannot")
        with pytest.raises(
            FileNotFoundError,
            match=r"folders train with trainannot or images/train with labels/train "
            r"or train/images with train/labels\. Received: "
            r"split='train'; the folder holds val, valannot\..*`from_directory`",
        ):
            load(tmp_path, "train")
        with pytest.raises(
            FileNotFoundError, match=r"images with labels\. Received: split=None; .*Pass a `split`"
        ):
            load(tmp_path)

    def test_skip_and_colours_reach_the_files(self, tmp_path):
        make(tmp_path / "images", tmp_path / "labels", colours=True)
        (tmp_path / "images" / "a.png").write_bytes(b"")
        dataset = load(tmp_path, palette=SPACE.palette, on_error="skip")
        with pytest.warns(UserWarning, match="left out 1 of 3"):
            assert_holds(dataset, indices=(1, 2))

    def test_a_folder_that_does_not_exist_is_no_name(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"that exists or one of .*camvid.*nowhere\."):
            load(tmp_path / "nowhere", "train")
        with pytest.raises(FileNotFoundError, match=r"Received: data/nowhere"):
            load("data/nowhere", "train")

    def test_camvid(self, shared):
        dataset = load(shared / "camvid", "val")
        assert int(dataset.cardinality()) == 101
        example = next(dataset.as_numpy_iterator())
        assert example["image"].shape == (360, 480, 3)
        assert set(np.unique(example["label_map"])) <= set(range(12))


class TestLoadName:
    @pytest.fixture
    def calls(self, monkeypatch):
        """What reaches the data sets by name, which have label maps in uint8."""
        seen = []

        def load_named(*args, **options):
            seen.append((args, options))
            example = {"image": np.zeros((1, 2, 2, 3), "uint8"), "label_map": [[[0, 255]] * 2]}
            dataset = tf.data.Dataset.from_tensor_slices(example)
            return dataset.map(
                lambda example: {**example, "label_map": tf.cast(example["label_map"], tf.uint8)}
            )

        monkeypatch.setattr(loading, "load_named", load_named)
        return seen

    def test_names_go_to_the_data_sets_with_their_folders(self, calls):
        dataset = load("camvid", "train")
        assert {name: spec.dtype for name, spec in dataset.element_spec.items()} == {
            "image": tf.uint8,
            "label_map": tf.int32,
        }
        assert next(dataset.as_numpy_iterator())["label_map"].tolist() == [[0, 255]] * 2
        load(
            "voc_segmentation/2012",
            "train",
            data_dir="d",
            manual_dir="m",
            download=False,
            shard=(0, 2),
        )
        assert calls == [
            (
                ("camvid", "train"),
                {
                    "features": (),
                    "data_dir": None,
                    "manual_dir": None,
                    "download": True,
                    "shard": None,
                },
            ),
            (
                ("voc_segmentation/2012", "train"),
                {
                    "features": (),
                    "data_dir": "d",
                    "manual_dir": "m",
                    "download": False,
                    "shard": (0, 2),
                },
            ),
        ]

    def test_a_name_is_no_folder_but_a_path_is(self, calls, tmp_path, monkeypatch):
        make(tmp_path / "camvid" / "train", tmp_path / "camvid" / "trainannot")
        monkeypatch.chdir(tmp_path)
        load("camvid", "train")
        assert len(calls) == 1
        assert_holds(load("./camvid", "train"))
        assert_holds(load(Path("camvid"), "train"))
        assert len(calls) == 1

    @pytest.mark.parametrize(
        "options", [{"label_space": SPACE}, {"palette": SPACE.palette}, {"on_error": "skip"}]
    )
    def test_refuses_what_is_for_folders(self, calls, options):
        with pytest.raises(
            ValueError, match=r"must be left out for a data set by name.*'\./camvid'"
        ):
            load("camvid", "train", **options)
        assert calls == []

    def test_needs_a_split(self, calls):
        with pytest.raises(ValueError, match="`split` must be given for a data set by name"):
            load("camvid")
        assert calls == []
