"""Folders that hold links, and names whose letters Unicode writes in two ways."""

import os
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
from helpers import write_pairs
from PIL import Image

from keras_fcn.data import evaluation_batches, find_pairs, read_pairs_file, training_batches
from keras_fcn.data.check import match_pairs
from keras_fcn.data.files import Pair

pytestmark = pytest.mark.any_backend
COMPOSED = unicodedata.normalize("NFC", "Grün")
DECOMPOSED = unicodedata.normalize("NFD", "Grün")


def names(pairs, folder):
    return [str(pair.image.relative_to(folder)) for pair in pairs]


def both(images, labels):
    """What training and what the check of a data set find."""
    found, (checked, problems) = (
        find_pairs(images, labels, recursive=True),
        match_pairs(images, labels),
    )
    assert found == checked
    assert problems == []
    return names(found, images)


class TestLinks:
    def test_a_folder_that_links_to_itself_counts_once(self, tmp_path):
        images, labels = write_pairs(tmp_path, "ab")
        os.symlink(images, images / "again")
        assert both(images, labels) == ["a.png", "b.png"]

    def test_linked_folders_are_looked_into(self, tmp_path):
        for name in ("images", "labels"):
            (tmp_path / "set" / name).mkdir(parents=True)
        write_pairs(tmp_path / "elsewhere", "a")
        for name in ("images", "labels"):
            os.symlink(tmp_path / "elsewhere" / name, tmp_path / "set" / name / "oslo")
        assert both(tmp_path / "set" / "images", tmp_path / "set" / "labels") == ["oslo/a.png"]

    def test_a_folder_has_its_own_name_and_not_that_of_a_link_beside_it(self, tmp_path):
        write_pairs(tmp_path / "z", "a")
        for name in ("images", "labels"):
            (tmp_path / name).mkdir()
            (tmp_path / "z" / name).rename(tmp_path / name / "z")
        os.symlink(tmp_path / "images" / "z", tmp_path / "images" / "a")
        assert both(tmp_path / "images", tmp_path / "labels") == ["z/a.png"]

    def test_a_pair_that_links_repeat_counts_once(self, tmp_path):
        images, labels = write_pairs(tmp_path, "a")
        for folder in (images, labels):
            os.symlink(folder / "a.png", folder / "b.png")
        assert both(images, labels) == ["a.png"]

    def test_images_may_share_a_label_map(self, tmp_path):
        images, labels = write_pairs(tmp_path, "ab")
        (labels / "b.png").unlink()
        os.symlink(labels / "a.png", labels / "b.png")
        assert both(images, labels) == ["a.png", "b.png"]


class TestNames:
    def test_composed_and_decomposed_letters_are_one_name(self, tmp_path):
        images, labels = write_pairs(tmp_path, "a")
        (images / "a.png").rename(images / f"{DECOMPOSED}.png")
        (labels / "a.png").rename(labels / f"{COMPOSED}.png")
        assert both(images, labels) == [f"{DECOMPOSED}.png"]
        (tmp_path / "pairs.txt").write_text(
            f"images/{COMPOSED}.png\tlabels/{DECOMPOSED}.png\n", encoding="utf-8"
        )
        (pair,) = read_pairs_file(tmp_path / "pairs.txt")
        assert pair == Pair(images / f"{DECOMPOSED}.png", labels / f"{COMPOSED}.png")

    def test_both_in_one_folder_are_one_name_twice(self, tmp_path):
        images, labels = write_pairs(tmp_path, "ab")
        for name, letters in (("a", DECOMPOSED), ("b", COMPOSED)):
            (images / f"{name}.png").rename(images / f"{letters}.png")
        with pytest.raises(ValueError, match="must hold one file per name"):
            find_pairs(images, labels)


class TestPairs:
    def test_tuples_of_paths_are_pairs(self, tmp_path):
        images, labels = write_pairs(tmp_path, "ab")
        pairs = [(str(images / f"{name}.png"), labels / f"{name}.png") for name in "ab"]
        for batches in (
            evaluation_batches(pairs, num_classes=3, ignore_class=255),
            training_batches(pairs, num_classes=3, ignore_class=255, batch_size=1, seed=0),
        ):
            assert len(list(batches)) == 2

    @pytest.mark.parametrize("pair", ["street.png", ("a.png",), ("a.png", 3), None])
    def test_what_has_not_two_paths_is_named(self, pair):
        with pytest.raises(ValueError, match="A pair must be the path of an image and"):
            evaluation_batches([pair], num_classes=3, ignore_class=255)


class TestTransforms:
    def batches(self, folder, transform, **options):
        pairs = find_pairs(*write_pairs(folder, "ab"))
        return training_batches(
            pairs,
            num_classes=3,
            ignore_class=255,
            batch_size=2,
            seed=0,
            transforms=[transform],
            **options,
        )

    def test_through_numpy_its_shapes_are_restored(self, tmp_path):
        def mirrored(image, label_map, seed):
            return tf.numpy_function(
                lambda x, y: (x[:, ::-1], y[:, ::-1]), [image, label_map], [tf.uint8, tf.int32]
            )

        ((images, label_maps),) = self.batches(tmp_path, mirrored)
        assert images.shape[3] == 3
        for index, image in enumerate(images.numpy()):
            found = [
                np.array_equal(image, np.asarray(Image.open(path))[:, ::-1])
                for path in (tmp_path / "images").iterdir()
            ]
            assert any(found), index
        assert label_maps.shape == images.shape[:3]

    @pytest.mark.parametrize(
        ("transform", "message"),
        [
            (lambda image, label_map, seed: image, "must return an image and its label map"),
            (lambda image, label_map, seed: (image[0], label_map), "Received shapes"),
            (
                lambda image, label_map, seed: (image, tf.cast(label_map, tf.float32)),
                "of integers for the latter. Received: float32",
            ),
        ],
    )
    def test_one_that_returns_something_else_is_named(self, tmp_path, transform, message):
        with pytest.raises(ValueError, match=message):
            list(self.batches(tmp_path, transform))
