import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from data.builders.fakes import save_grey_png, save_image, save_small_nyudv2

from keras_fcn import label_spaces
from keras_fcn.data.builders.camvid import camvid_dataset_builder
from keras_fcn.data.builders.nyudv2 import nyudv2_dataset_builder
from keras_fcn.data.catalog import label_space_of
from keras_fcn.data.named import example_names, load_named

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:camvid is built without its split test"),
]


@pytest.fixture
def camvid(tmp_path):
    """The folder of SegNet's copy, without test frames."""
    for split, count in {"train": 4, "val": 2}.items():
        for index in range(count):
            file = f"{split}_{index}.png"
            save_image(tmp_path / "camvid" / split / file, seed=index)
            save_grey_png(
                tmp_path / "camvid" / f"{split}annot" / file, [[index, 11, 0], [10, 1, 2]]
            )
    return tmp_path / "camvid"


@pytest.fixture
def nyudv2(tmp_path, monkeypatch):
    root = tmp_path / "manual"
    save_small_nyudv2(root)
    names = {"train": ["1"], "val": ["2"], "test": ["3"]}
    monkeypatch.setattr(nyudv2_dataset_builder, "read_names", lambda path: names[path.stem])
    return root


def in_tfds(features):
    """Stands in for what TFDS would have built: one example of these features."""

    def as_dataset(self, *args, decoders, **kwargs):
        example = {
            name: tf.constant(value, None if isinstance(value, bytes) else "uint8")
            for name, value in features.items()
        }
        files = {name: tf.io.encode_png(example[name]) for name in decoders}
        return tf.data.Dataset.from_tensors({**example, **files})

    return tfds.testing.mock_data(as_dataset_fn=as_dataset)


def only(dataset):
    (example,) = tfds.as_numpy(dataset)
    return example


class TestOurs:
    def test_void_is_255_on_disk_and_in_the_label_space(self, camvid, tmp_path):
        dataset = load_named("camvid", "validation", data_dir=tmp_path, manual_dir=camvid)
        found = [example["label_map"].tolist() for example in tfds.as_numpy(dataset)]
        assert sorted(found) == [[[0, 255, 0], [10, 1, 2]], [[1, 255, 0], [10, 1, 2]]]
        space = label_space_of("camvid")
        assert space.ignore_class == 255
        assert space.class_names == label_spaces.CAMVID.class_names

    def test_what_tfds_says_of_building_is_no_result(self, camvid, tmp_path, capsys):
        load_named("camvid", "train", data_dir=tmp_path, manual_dir=camvid)
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "preparing dataset" in printed.err

    def test_examples_are_an_image_and_a_label_map_of_two_dimensions(self, camvid, tmp_path):
        dataset = load_named("camvid", "train", data_dir=tmp_path, manual_dir=str(camvid))
        assert dataset.element_spec == {
            "image": tf.TensorSpec((None, None, 3), tf.uint8),
            "label_map": tf.TensorSpec((None, None), tf.uint8),
        }

    def test_the_order_is_the_same_every_time(self, camvid, tmp_path):
        load = {"data_dir": tmp_path, "manual_dir": camvid}
        first, second = (
            [example["image"].tolist() for example in tfds.as_numpy(dataset)]
            for dataset in (load_named("camvid", "train", **load) for _ in range(2))
        )
        assert len(first) == 4
        assert first == second

    @pytest.mark.parametrize(
        ("split", "count"), [("train[:3]", 3), ("train+validation", 6), ("validation[50%:]", 1)]
    )
    def test_takes_parts_and_sums_of_splits(self, camvid, tmp_path, split, count):
        dataset = load_named("camvid", split, data_dir=tmp_path, manual_dir=camvid)
        assert len(list(dataset)) == count

    def test_two_processes_may_build_at_the_same_time(self, camvid, tmp_path, monkeypatch):
        """The other one begins later and ends first."""
        builder, load = camvid_dataset_builder.Builder, {"manual_dir": camvid}
        generate, others = builder._split_generators, []

        def build_twice(self, manager):
            if not others:
                others.append(None)
                others[:] = [load_named("camvid", "train", data_dir=tmp_path, **load)]
            return generate(self, manager)

        monkeypatch.setattr(builder, "_split_generators", build_twice)
        both = [load_named("camvid", "train", data_dir=tmp_path, **load), *others]
        assert [len(list(dataset)) for dataset in both] == [4, 4]
        assert len(load_named("camvid", "train", data_dir=tmp_path, shard=(0, 2))) == 2

    def test_what_is_built_needs_no_download(self, camvid, tmp_path):
        load_named("camvid", "train", data_dir=tmp_path, manual_dir=camvid)
        dataset = load_named("camvid", "train", data_dir=tmp_path, download=False)
        assert len(list(dataset)) == 4

    def test_a_tilde_is_the_home_folder(self, camvid, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(camvid)
        load_named("camvid", "train", data_dir="~/data", manual_dir="~/camvid")
        assert not (camvid / "~").exists()
        assert (tmp_path / "data" / "camvid" / "1.0.0").is_dir()

    def test_what_is_built_needs_its_archives_no_more(self, camvid, tmp_path):
        load_named("camvid", "train", data_dir=tmp_path, manual_dir=camvid)
        gone = tmp_path / "gone"
        assert len(load_named("camvid", "train", data_dir=tmp_path, manual_dir=gone)) == 4

    def test_further_features_come_on_demand(self, nyudv2, tmp_path):
        load = {"data_dir": tmp_path, "manual_dir": nyudv2}
        assert set(only(load_named("nyudv2", "train", **load))) == {"image", "label_map"}
        example = only(load_named("nyudv2", "train", features=("depth", "hha"), **load))
        assert set(example) == {"image", "label_map", "depth", "hha"}
        assert example["label_map"].tolist() == [[255, 0, 1], [39, 38, 255]]
        assert example["depth"].tolist() == [[1, 2, 3], [4, 5, 60000]]
        assert example["hha"].shape == (2, 3, 3)


class TestErrors:
    @pytest.mark.parametrize("name", ["voc", "voc_segmentation", "camvid/2011", ""])
    def test_an_unknown_name_is_answered_with_the_known_ones(self, name):
        message = r"`name` must be one of voc_segmentation/2011, .*, camvid, .*scene_parse150"
        with pytest.raises(ValueError, match=message):
            load_named(name, "train")
        with pytest.raises(ValueError, match=message):
            label_space_of(name)

    @pytest.mark.parametrize("split", ["val", "train+val", "val[:3]", "seg11valid", ""])
    def test_an_unknown_split_is_answered_before_anything_is_built(self, split, tmp_path):
        message = r"`split` must combine the splits of camvid: train, validation, test\."
        with pytest.raises(ValueError, match=message):
            load_named("camvid", split, data_dir=tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_split_that_was_absent_when_built_is_named(self, camvid, tmp_path):
        message = r"camvid was built with in .*: train, validation\. Received: .*'test' were mis"
        with pytest.raises(ValueError, match=message):
            load_named("camvid", "test", data_dir=tmp_path, manual_dir=camvid)

    @pytest.mark.parametrize("features", ["depth", ("depth",), ["image", "depth"]])
    def test_an_unknown_feature_is_answered_with_the_known_ones(self, features, tmp_path):
        with pytest.raises(ValueError, match=r"of camvid: image, label_map, file_name\. Received"):
            load_named("camvid", "train", data_dir=tmp_path, features=features)

    def test_a_missing_manual_dir_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"`manual_dir` must be a folder.*nowhere"):
            load_named("camvid", "train", data_dir=tmp_path, manual_dir=tmp_path / "nowhere")

    def test_a_folder_that_cannot_be_written_is_named(self, camvid, tmp_path, monkeypatch):
        message = r"`data_dir` must be a folder that can be written, to build camvid.* Received: {}"
        place = tmp_path / "file"
        place.write_bytes(b"")
        with pytest.raises(OSError, match=message.format(place)):
            load_named("camvid", "train", data_dir=place, manual_dir=camvid)
        # Root may write everywhere but to a file system that is mounted so.
        monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
        with pytest.raises(OSError, match=message.format(tmp_path)):
            load_named("camvid", "train", data_dir=tmp_path / "new", manual_dir=camvid)

    def test_without_download_what_is_not_built_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"camvid is not in .*`download` is False"):
            load_named("camvid", "train", data_dir=tmp_path, download=False)

    def test_tfds_says_which_files_of_cityscapes_belong_where(self, tmp_path):
        (tmp_path / "manual").mkdir()
        with pytest.raises(FileNotFoundError, match=r"(?s)cityscapes cannot be built.*leftImg8bit"):
            load_named("cityscapes", "train", data_dir=tmp_path, manual_dir=tmp_path / "manual")


class TestOfTfds:
    def test_pets_are_counted_from_0(self):
        mask = [[[1], [2]], [[3], [1]]]
        with in_tfds({"image": np.zeros((2, 2, 3)), "segmentation_mask": mask, "label": 3}):
            example = only(load_named("oxford_iiit_pet", "train"))
        assert set(example) == {"image", "label_map"}
        assert example["label_map"].tolist() == [[0, 1], [2, 0]]
        assert label_space_of("oxford_iiit_pet").class_names == ("pet", "background", "border")

    def test_label_ids_of_cityscapes_become_classes_of_the_benchmark(self):
        # Rows: unlabeled ... parking; rail track ... polegroup; traffic light ... train and behind.
        image, label_ids = np.ones((1024, 2048, 3)), np.zeros((1024, 2048, 1))
        label_ids[0, :36, 0] = np.arange(36)
        void = 255
        expected = [
            *(void, void, void, void, void, void, void, 0, 1, void, void, 2, 3, 4, void, void),
            *(void, 5, void, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, void, void, 16, 17, 18),
            *(void, void),
        ]
        with in_tfds({"image_left": image, "segmentation_label": label_ids}):
            example = only(load_named("cityscapes", "validation"))
        assert example["label_map"][0, :36].tolist() == expected
        np.testing.assert_array_equal(example["image"], image)

    def test_instance_classes_of_scene_parse150_become_those_of_ade20k(self):
        # Red is the class, green counts instances. Of the instance task's list: 1 bed,
        # 2 windowpane, 4 person, 9 car, 58 television, 85 screen, 100 flag; 0 is void.
        red = [[0, 1, 2, 4], [9, 58, 85, 100]]
        annotation = np.stack([red, np.full((2, 4), 77), np.zeros((2, 4))], axis=-1)
        with (
            in_tfds({"image": np.zeros((2, 4, 3)), "annotation": annotation}),
            pytest.warns(UserWarning, match="only 100 of the 150 classes"),
        ):
            example = only(load_named("scene_parse150", "test"))
        names = (*label_spaces.ADE20K.class_names, *[None] * 105, "void")
        assert [[names[class_id] for class_id in row] for row in example["label_map"]] == [
            ["void", "bed", "windowpane", "person"],
            ["car", "television", "screen", "flag"],
        ]
        assert example["label_map"][1, 3] == 149

    @pytest.mark.parametrize(
        ("name", "features", "expected"),
        [
            ("oxford_iiit_pet", {"file_name": b"cat_1.jpg", "label": 3}, "cat_1.jpg"),
            ("cityscapes", {"image_id": b"bochum_1"}, "bochum_1"),
            ("scene_parse150", {"annotation": np.zeros((1, 1, 3))}, "000000"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:scene_parse150")
    def test_names_of_examples(self, name, features, expected):
        pictures = {
            "oxford_iiit_pet": {"segmentation_mask": np.ones((1, 1, 1))},
            "cityscapes": {"image_left": np.zeros((1, 1, 3)), "segmentation_label": [[[7]]]},
            "scene_parse150": {},
        }[name]
        with in_tfds({"image": np.zeros((1, 1, 3)), **pictures, **features}):
            assert example_names(name, "train") == [expected]

    def test_there_are_100_classes_with_instances(self):
        annotation = np.repeat(np.arange(256).reshape(1, 256, 1), 3, axis=-1)
        with (
            in_tfds({"image": np.zeros((1, 256, 3)), "annotation": annotation}),
            pytest.warns(UserWarning, match="scene_parse150"),
        ):
            (found,) = only(load_named("scene_parse150", "train"))["label_map"].tolist()
        assert found[0] == 255
        assert found[1:101] == sorted(set(found[1:101]))
        assert set(found[101:]) == {255}
