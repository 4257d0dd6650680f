"""The augmentation of a recipe: which transforms it is, in which order, of which classes."""

import re

import numpy as np
import pytest
import tensorflow as tf
from register import run

from keras_fcn.data.transforms import MixingTransform, random_flip
from keras_fcn.label_spaces import CAMVID, generic
from keras_fcn.training import Recipe
from keras_fcn.training.augmentation import transforms
from keras_fcn.training.recipe import replace
from keras_fcn.training.splits import Split, open_splits

pytestmark = pytest.mark.any_backend

NO_FLIP = {"num_classes": 11, "flip": False}


def names(**settings):
    return [function.__name__ for function in transforms(Recipe(**NO_FLIP, **settings), CAMVID)]


def test_the_order_is_places_then_classes_then_colours_then_what_is_erased():
    assert names() == []
    everything = {"crop": (8, 8), "random_scale": (0.5, 2.0), "rotation": 5, "jitter": True}
    everything |= {"class_mix": ["pole"], "blur": 1, "noise": 0.1, "cutout": (3, 3)}
    order = ["scale", "rotate", "crop", "paste_classes", "jitter", "blur", "add_noise", "erase"]
    assert names(**everything) == order
    assert names(random_resized_crop=(8, 8)) == ["crop"]


def test_extra_transforms_follow_those_of_the_recipe():
    def own(image, label_map, seed):
        return image, label_map

    recipe = Recipe(num_classes=11, jitter=True)
    assert transforms(recipe, CAMVID, [own])[0] is random_flip
    assert transforms(recipe, CAMVID, [own])[-1] is own


LABEL_MAP = np.zeros((40, 50), "int32")
LABEL_MAP[20, 30] = CAMVID.class_id("pole")
IMAGE = np.full((40, 50, 3), 100, "uint8")


class TestCropClasses:
    @pytest.mark.parametrize("name", ["pole", "2"])
    def test_windows_hold_a_class_by_name_or_id(self, name):
        settings = {"crop": (4, 4), "crop_classes": [name], "crop_classes_share": 1}
        (crop,) = transforms(Recipe(**NO_FLIP, **settings), CAMVID)
        assert all((run(crop, IMAGE, LABEL_MAP, (seed, 0))[1] == 2).any() for seed in range(20))

    def test_ids_may_be_numbers_in_toml(self):
        recipe = replace(Recipe(), num_classes=3, crop=[4, 4], crop_classes=[2])
        assert recipe.crop_classes == ("2",)
        assert recipe.crop_classes_share == pytest.approx(1 / 3)

    @pytest.mark.parametrize("setting", ["crop_classes", "class_mix"])
    def test_a_class_that_is_not_there_is_refused_with_the_closest(self, setting):
        settings = {"num_classes": 11, "crop": (4, 4), setting: ["Pole", "bicylist"]}
        message = (
            f"`{setting}` must hold classes of the data: 'Pole' is no class. Did you mean pole?"
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            transforms(Recipe(**settings), CAMVID)
        with pytest.raises(ValueError, match=r"'11' is no class\. The classes are sky, .*0 to 10"):
            transforms(Recipe(**(settings | {setting: ["11"]})), CAMVID)

    def test_it_is_refused_before_anything_is_read(self, tmp_path):
        recipe = Recipe(
            images=str(tmp_path / "none"),
            labels="none",
            num_classes=3,
            crop=(4, 4),
            crop_classes=["class 7"],
        )
        with pytest.raises(ValueError, match="`crop_classes` must hold classes of the data"):
            open_splits(recipe)


def test_each_setting_reaches_its_transform():
    def one(label_map=LABEL_MAP, image=IMAGE, **settings):
        (transform,) = transforms(Recipe(**NO_FLIP, **settings), CAMVID)
        return [run(transform, image, label_map, (seed, 0)) for seed in range(8)]

    rotated = one(rotation=10)
    assert all((labels == CAMVID.ignore_class).any() for _, labels in rotated)
    assert all((labels == CAMVID.ignore_class).mean() < 0.2 for _, labels in rotated)
    assert 10 < max(image.std() for image, _ in one(noise=0.1)) < 26
    step = IMAGE.copy()
    step[:, 25:] = 200
    assert max(len(np.unique(image)) for image, _ in one(image=step, blur=2.0)) > 6
    step[0] = 0
    erased = [(image != step).any(axis=-1).sum() for image, _ in one(image=step, cutout=(3, 5))]
    assert max(erased) == 15
    resized = one(random_resized_crop=(8, 9), random_resized_crop_area=(0.5, 0.5))
    assert {image.shape for image, _ in resized} == {(8, 9, 3)}


def test_class_mix_pastes_its_classes_on_its_share():
    settings = {"class_mix": ["pole"], "class_mix_share": 1}
    (transform,) = transforms(Recipe(**NO_FLIP, **settings), CAMVID)
    assert isinstance(transform, MixingTransform)
    other = IMAGE + 1, LABEL_MAP
    image, label_map = transform(*map(tf.constant, (IMAGE, LABEL_MAP * 0, (0, 0), *other)))
    np.testing.assert_array_equal(label_map, LABEL_MAP)
    assert image.numpy()[20, 30].tolist() == [101] * 3


@pytest.mark.parametrize("settings", [{"rotation": 5}, {"crop": (4, 4)}])
def test_new_pixels_need_an_ignored_class(settings):
    with pytest.raises(ValueError, match="must be used with an `ignore_class` for"):
        transforms(Recipe(num_classes=3, **settings), generic(3))


def test_a_split_passes_extra_transforms_on():
    examples = tf.data.Dataset.from_tensor_slices(
        {"image": np.zeros((4, 2, 2, 3), "uint8"), "label_map": np.zeros((4, 2, 2), "int32")}
    )
    split = Split(examples, generic(3, 255))
    recipe = Recipe(num_classes=3, batch_size=2, class_mix=["1"])

    def brighter(image, label_map, seed):
        return image + 7, label_map

    batches = split.training_batches(recipe, epoch=0, first_step=1, extra=[brighter])
    assert [int(images.numpy().min()) for images, _ in batches] == [7]
